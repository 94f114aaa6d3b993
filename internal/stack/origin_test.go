package stack_test

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/stack"
)

// answers returns the status and the beginning of what a stack answers at a host.
func answers(s *stack.Stack, method, host, path string) (int, string) {
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, httptest.NewRequest(method, "http://"+host+path, nil))
	return w.Code, w.Body.String()
}

// What the client files name below url is there, also if a log's origin is the host of url.
func TestPartsBelowAURLAtTheOriginOfALog(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	edit(t, filepath.Join(dir, "config.yaml"), "url: http://"+here, "url: http://log.localhost:8080")
	s, _ := reloadable(t, dir)
	for _, path := range []string{
		"/api/v2/trustBundle", "/api/v1/timestamp/certchain", "/dev/oidc/.well-known/openid-configuration", "/healthz", "/peer.json", "/",
		"/ct/ct/v1/get-roots", "/logs/certificates/ct/v1/get-roots", "/logs/signatures/leader",
	} {
		if status, body := answers(s, http.MethodGet, "log.localhost:8080", path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	// What is the log's there, and all of it at another log's origin.
	for _, c := range []struct{ host, path, want string }{
		{"log.localhost:8080", "/checkpoint", "no such object in this log"},
		{"log.localhost:8080", "/tile/0/000", "no such object in this log"},
		{"log.localhost:8080", "/ct/v1/get-roots", "no such"},
		{"log.localhost:8080", "/nothing", "no such path: this log has"},
		{"ct.localhost:8080", "/api/v2/trustBundle", "no such"},
		{"ct.localhost:8080", "/healthz", "no such"},
	} {
		if status, body := answers(s, http.MethodGet, c.host, c.path); status != http.StatusNotFound || !strings.Contains(body, c.want) {
			t.Errorf("%s%s: %d %s; want 404 with %q", c.host, c.path, status, body, c.want)
		}
	}
	if status, body := answers(s, http.MethodGet, "ct.localhost:8080", "/ct/v1/get-roots"); status != http.StatusOK {
		t.Errorf("roots of the certificate log: %d %s", status, body)
	}
}

// The signing config sends entries below url, also if the host of that is the origin of the certificate log.
func TestSignaturesBelowAURLAtTheOriginOfTheCertificateLog(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	edit(t, filepath.Join(dir, "config.yaml"), "url: http://"+here, "url: http://ct.localhost:8080")
	s, _ := reloadable(t, dir)
	if status, body := answers(s, http.MethodGet, "ct.localhost:8080", "/api/v2/log/entries"); status != http.StatusMethodNotAllowed {
		t.Errorf("what takes entries: %d %s", status, body)
	}
	for _, path := range []string{"/ct/v1/get-roots", "/ct/ct/v1/get-roots"} {
		if status, body := answers(s, http.MethodGet, "ct.localhost:8080", path); status != http.StatusOK {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body := answers(s, http.MethodGet, "ct.localhost:8080", "/nothing"); status != http.StatusNotFound || strings.Contains(body, "entries") {
		t.Errorf("what nobody has: %d %s", status, body)
	}
}
