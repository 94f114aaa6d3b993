package stack_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

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
