package rule

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
)

// MatchBytes returns the names of the identities that the bytes of an entry nobody can parse seem
// to be about: they hold the identity's literal, plain or in base64. A nil Set finds nothing.
func (s *Set) MatchBytes(entry []byte) []Finding {
	if s == nil {
		return nil
	}
	texts := append(decodeRuns(entry), entry)
	for i := range texts {
		texts[i] = bytes.ToLower(texts[i])
	}
	var out []Finding
	for _, w := range s.watches {
		if !slices.ContainsFunc(texts, w.inBytes) {
			continue
		}
		r := Reason{Rule: LogMalformedEntry, Severity: Critical, Text: fmt.Sprintf("malformed entry holds what identity %q watches", w.Name)}
		out = append(out, Finding{Rule: r.Rule, Severity: r.Severity, Reasons: []Reason{r},
			Identity: w.Name, Notify: w.Identity.Notify, Expected: w.expected})
	}
	return out
}

// decodeRuns decodes every run of base64 characters in b, at each of the four alignments.
func decodeRuns(b []byte) [][]byte {
	const shortest = 16 // characters; fewer cannot hold an identity
	var out [][]byte
	standard := strings.NewReplacer("-", "+", "_", "/")
	isBase64 := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("+/-_", c)
	}
	for _, run := range bytes.FieldsFunc(b, func(c rune) bool { return !isBase64(c) }) {
		text := standard.Replace(string(run))
		for skip := 0; skip < 4 && len(text)-skip >= shortest; skip++ {
			part := text[skip:]
			if len(part)%4 == 1 { // no byte count encodes to this
				part = part[:len(part)-1]
			}
			if decoded, err := base64.RawStdEncoding.DecodeString(part); err == nil {
				out = append(out, decoded)
			}
		}
	}
	return out
}
