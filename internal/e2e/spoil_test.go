package e2e_test

import (
	"encoding/base64"
	"strconv"
	"strings"
	"testing"
)

// flip changes the value at path: one bit of base64 in its middle, the digits of a number, or a
// letter of text.
func flip(t *testing.T, b map[string]any, path []string) {
	t.Helper()
	var at any = b
	for i, name := range path {
		last := i == len(path)-1
		switch v := at.(type) {
		case map[string]any:
			if text, ok := v[name].(string); ok && last {
				v[name] = flipText(text)
				return
			}
			at = v[name]
		case []any:
			n, err := strconv.Atoi(name)
			if err != nil || n >= len(v) {
				t.Fatalf("no element %s on the way to %v", name, path)
			}
			if text, ok := v[n].(string); ok && last {
				v[n] = flipText(text)
				return
			}
			at = v[n]
		default:
			t.Fatalf("no %s on the way to %v", name, path)
		}
	}
	t.Fatalf("%v is not a string", path)
}

func flipText(text string) string {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return strconv.FormatInt(n+1, 10)
	}
	if strings.Contains(text, "\n") { // a note: change the root hash
		lines := strings.Split(text, "\n")
		lines[2] = flipBase64(lines[2])
		return strings.Join(lines, "\n")
	}
	return flipBase64(text)
}

// flipBase64 changes one bit in the middle of the base64 at the end of a line.
func flipBase64(line string) string {
	i := strings.LastIndexByte(line, ' ') + 1
	raw, err := base64.StdEncoding.DecodeString(line[i:])
	if err != nil {
		return line + "A"
	}
	raw[len(raw)/2] ^= 1
	return line[:i] + base64.StdEncoding.EncodeToString(raw)
}

// editNote changes the lines of the bundle's checkpoint: 0 origin, 1 size, 2 root, 3 empty, then
// the signatures, the log's first.
func editNote(t *testing.T, b map[string]any, edit func([]string) []string) {
	t.Helper()
	material := b["verificationMaterial"].(map[string]any)
	entry := material["tlogEntries"].([]any)[0].(map[string]any)
	checkpoint := entry["inclusionProof"].(map[string]any)["checkpoint"].(map[string]any)
	lines := strings.Split(checkpoint["envelope"].(string), "\n")
	if len(lines) < 7 {
		t.Fatalf("the checkpoint has no cosignatures:\n%s", checkpoint["envelope"])
	}
	checkpoint["envelope"] = strings.Join(edit(lines), "\n")
}
