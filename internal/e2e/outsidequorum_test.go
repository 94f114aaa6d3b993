package e2e_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/witness/policy"
)

// TestWitnessOutsideTheQuorum serves a log with the policy that docs/operate.md has as an example, and
// finds the cosignature that does not count in the full checkpoint alone.
func TestWitnessOutsideTheQuorum(t *testing.T) {
	dir := t.TempDir()
	vkey := generateKey(t, dir, "releases.pem", genericOrigin)
	logs := writeFile(t, dir, "logs.txt", "logs/v0\n\nvkey "+vkey+"\nqpd 2147483647\ncontact ops@example.org\n")
	w1, w2 := newWitness(t, dir, "w1.example.org", logs), newWitness(t, dir, "w2.example.org", logs)
	var example string
	for _, b := range openPage(t, "docs/operate.md").blocks {
		if strings.HasPrefix(b.text, "witness w1 ") {
			example = b.text
		}
	}
	text := "log " + vkey + "\n" + strings.NewReplacer(
		"w1 w1.example.org+…", "w1 "+w1.vkey, "w2 w2.example.org+…", "w2 "+w2.vkey, "w1-pq w1.example.org+…", "w1-pq "+mldsaKey(t, w1),
		"https://w1.example.org", w1.url, "https://w2.example.org", w2.url).Replace(example)
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	writeFile(t, dir, "policy.txt", text)
	if err := os.WriteFile(filepath.Join(dir, "add.token"), []byte(genericToken+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	log := serveLog(t, writeFile(t, dir, "config.yaml", "address: 127.0.0.1:0\nstorage: file:./objects\nlogs:\n"+
		"  - {name: releases, kind: tlog, origin: "+genericOrigin+", key: file:releases.pem, policy: policy.txt, add_token: file:add.token}\n"))
	if body, err := insistOnPosting(log.url+"/logs/releases/add", genericToken, "entry"); err != nil || len(body) > 2000 {
		t.Errorf("adding an entry: a proof of %d bytes, %v", len(body), err)
	}
	cosigners := func(name string) (size int64, names string) {
		note, err := os.ReadFile(filepath.Join(dir, "objects/logs/releases", name))
		if err != nil {
			return 0, ""
		}
		c, err := p.Open(note)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, note)
		}
		for _, cs := range c.Cosignatures() {
			names += cs.Witness + " "
		}
		return c.Size(), names
	}
	eventually(t, "full checkpoint with all three", func() bool {
		size, names := cosigners("checkpoint.full")
		return size == 1 && names == "w1 w2 w1-pq "
	})
	eventually(t, "checkpoint of size 1", func() bool { // it is written by itself
		size, _ := cosigners("checkpoint")
		return size == 1
	})
	if _, names := cosigners("checkpoint"); names != "w1 w2 " {
		t.Errorf("the checkpoint is cosigned by %s", names)
	}
}

// mldsaKey is the other vkey of a witness.
func mldsaKey(t *testing.T, w *witnessProcess) string {
	t.Helper()
	page := get(t, w.url+"/status.json", 200)
	for _, word := range strings.Split(page, `"`) {
		if strings.HasPrefix(word, w.name+"+") && len(word) > 1000 {
			return word
		}
	}
	t.Fatalf("no ML-DSA-44 key in %s", page)
	return ""
}
