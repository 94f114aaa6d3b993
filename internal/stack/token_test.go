package stack_test

import (
	"crypto/ed25519"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/internal/stack"
)

// TestReloadOfAToken replaces the token of a log of kind tlog.
func TestReloadOfAToken(t *testing.T) {
	var file string
	l := serve(t, stack.Options{}, func(dir string) {
		_, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if err := keys.WriteSigner(filepath.Join(dir, "keys", "releases.pem"), key); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, "releases.txt"), "log "+keys.VKey("releases.localhost", keys.AlgEd25519, key.Public().(ed25519.PublicKey))+"\nquorum none\n")
		file = filepath.Join(dir, "keys", "token")
		if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		edit(t, filepath.Join(dir, "config.yaml"), "\nlogs:\n", "\nlogs:\n  - {name: releases, kind: tlog, origin: releases.localhost, "+
			"key: file:keys/releases.pem, policy: releases.txt, add_token: file:keys/token, quorum_timeout: 1m}\n")
	})
	l.ready(t)
	want := func(token string, want int) {
		t.Helper()
		if status, body := send(t, l.url+"/logs/releases/add", "an entry", "Authorization", "Bearer "+token); status != want {
			t.Errorf("with %s: %d %s; want %d", token, status, body, want)
		}
	}
	want("first", 201)
	want("second", 401)
	write(t, file, "second\n")
	want("first", 201)
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("first", 401)
	want("second", 201)
	for what, text := range map[string]string{"no token": "", "two words": "a b"} {
		write(t, file, text)
		if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reloading add_token of log releases: ") {
			t.Errorf("%s: %v", what, err)
		}
		want("second", 201)
	}
	edit(t, filepath.Join(l.dir, "config.yaml"), ", add_token: file:keys/token", "")
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	want("anything", 201)
}
