package main

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// TestWitnessFloorSet has an operator say where a witness of a server begins with a log.
func TestWitnessFloorSet(t *testing.T) {
	t.Parallel()
	const origin = "log.example.org"
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	key := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	tree := policy.Tree{Origin: origin, Size: 5, Root: sha256.Sum256([]byte("root"))}
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := signer.Sign([]byte(tree.Text()))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"five": tree.Text() + "\n" + policy.FormatSignature(origin, signer.KeyHash(), sig),
		"config.yaml": "address: 127.0.0.1:0\nstorage: file:./objects\nwitnesses:\n  - {name: w1, seed: file:seed1}\n  - {name: w2, seed: file:seed2}\n" +
			"peers:\n  - {url: 'https://log.example.org', logs: ['" + keys.VKey(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey)) + "']}\n",
	} {
		if err := os.WriteFile(file(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"seed1", "seed2"} {
		if err := keys.WriteSeed(file(name), sha256.Sum256([]byte(name))); err != nil {
			t.Fatal(err)
		}
	}
	begin := []string{"floor", "set", "--config", file("config.yaml")}
	for _, tc := range []struct {
		args []string
		code int
		want string // in what it prints
	}{
		{[]string{"floor", "get"}, exitUsage, "witness floor get: want floor set"},
		{append(begin, "--witness", "w2"), exitUsage, "--origin ORIGIN is missing"},
		{append(begin, "--origin", origin), exitUsage, "want one of w1, w2"},
		{append(begin, "--origin", origin, "--witness", "w2", "--checkpoint", file("six")), exitUsage, "opening checkpoint"},
		{append(begin, "--origin", "other.example.org", "--witness", "w2"), exitNegative, "hint: the witness knows the logs of the configuration"},
		{append(begin, "--origin", origin, "--witness", "w2"), exitNegative, "it is not frozen"},
		{append(begin, "--origin", origin, "--witness", "w2", "--checkpoint", file("five")), exitFine, origin + " goes on from size 5\n"},
		{append(begin, "--origin", origin, "--witness", "w2", "--checkpoint", file("five"), "--json"), exitFine, `{"origin":"log.example.org","size":5,"root":"`},
		{[]string{"--help"}, exitFine, "--checkpoint FILE"},
	} {
		var out bytes.Buffer
		code := run(append([]string{"witness"}, tc.args...), strings.NewReader(""), &out, &out)
		if code != tc.code || !strings.Contains(out.String(), tc.want) {
			t.Errorf("%q: exit %d, %s; want %d, %q", tc.args, code, &out, tc.code, tc.want)
		}
	}
	names, err := filepath.Glob(file("objects/state/w*/*"))
	if err != nil || len(names) != 1 || !strings.Contains(names[0], "/w2/") {
		t.Fatalf("state of %q, %v", names, err)
	}
	// State that cannot be read refuses nothing.
	if err := os.WriteFile(names[0], []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	args := append(begin, "--origin", origin, "--witness", "w2", "--checkpoint", file("five"))
	if code := run(append([]string{"witness"}, args...), strings.NewReader(""), &out, &out); code != exitOperational {
		t.Errorf("with broken state: exit %d, %s", code, &out)
	}
}
