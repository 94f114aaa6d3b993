package stack_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/internal/stack"
)

// TestCheckAsksNoKMS checks a configuration with keys in a KMS, whose service must not hear of it.
func TestCheckAsksNoKMS(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		t.Error("the check asked a service")
	}))
	defer service.Close()
	uri := func(alias string) string {
		return "awskms:///alias/" + alias + "?region=eu-west-1&endpoint=" + service.URL
	}
	dir, _ := create(t)
	path := filepath.Join(dir, "config.yaml")
	text := strings.NewReplacer("file:keys/signatures.pem", uri("log"), "file:keys/certificates.pem", uri("ct"),
		"file:keys/certificates-note.pem", uri("note"), "file:keys/ca.pem", uri("ca"), "file:keys/tsa.pem", uri("tsa")).Replace(read(t, path))
	if strings.Count(text, service.URL) != 5 {
		t.Fatalf("the configuration does not name five keys:\n%s", text)
	}
	write(t, path, text)
	if err := stack.Check(load(t, dir)); err != nil {
		t.Error(err)
	}
	// What can be known is checked all the same.
	for name, c := range map[string]struct{ file, old, new, want string }{
		"URI":    {"config.yaml", "alias/ct?", "ct?", `"ct" is no key ID, alias or ARN`},
		"policy": {"client/policy.txt", "log log.localhost+", "# log log.localhost+", `a line "log log.localhost+…"`},
		"chain":  {"keys/ca-chain.pem", "CERTIFICATE", "NOTHING", "reading chain"},
	} {
		before := read(t, filepath.Join(dir, c.file))
		after := strings.ReplaceAll(before, c.old, c.new)
		if after == before {
			t.Fatalf("%s: the case changes nothing", name)
		}
		write(t, filepath.Join(dir, c.file), after)
		if err := stack.Check(load(t, dir)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
		write(t, filepath.Join(dir, c.file), before)
	}
}

// TestWitnessHasAKeyOfItsOwn: the key of a log is no witness's, at another path either.
func TestWitnessHasAKeyOfItsOwn(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	_, own, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteSigner(filepath.Join(dir, "keys/own.pem"), own); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "keys/signatures.pem"), filepath.Join(dir, "keys/link.pem")); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.yaml")
	text := read(t, path)
	for key, refused := range map[string]bool{"keys/link.pem": true, "./keys/signatures.pem": true, "keys/own.pem": false} {
		write(t, path, text)
		edit(t, path, "seed: file:keys/witness-1.seed", "seed: file:keys/witness-1.seed, ed25519: file:"+key)
		err := stack.Check(load(t, dir))
		if got := err != nil && strings.Contains(err.Error(), "a witness's key is nothing else's"); got != refused {
			t.Errorf("%s: %v", key, err)
		}
	}
}
