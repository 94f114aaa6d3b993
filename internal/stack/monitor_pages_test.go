package stack_test

import (
	"encoding/json"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/stack"
	"tallywood/monitor"
)

// TestMonitorPagesAreServedAsTheyAre asks for pages, and for what is none.
func TestMonitorPagesAreServedAsTheyAre(t *testing.T) {
	dir := t.TempDir()
	pages := filepath.Join(dir, "pages")
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := stack.ServePages(pages)
	get := func(path string) (int, string, string) {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Header().Get("Content-Type"), w.Body.String()
	}
	if code, _, body := get("/monitor/"); code != 200 || !strings.Contains(body, "starting") {
		t.Errorf("before there is a page the answer is %d %q", code, body)
	}
	for name, text := range map[string]string{"index.html": "<h1>", "status.json": "{}", "alerts/a/entry.bin": "<script>", "checkpoints/00": "note", "feed.xml": "<feed/>", "alerts/a/.tmp-1": "x"} {
		path := filepath.Join(pages, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink(filepath.Join(dir, "secret"), filepath.Join(pages, "link.html")); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/monitor/": "text/html; charset=utf-8", "/monitor/index.html": "text/html; charset=utf-8", "/monitor/status.json": "application/json",
		"/monitor/alerts/a/entry.bin": "application/octet-stream", "/monitor/checkpoints/00": "text/plain; charset=utf-8", "/monitor/feed.xml": "application/atom+xml; charset=utf-8"} {
		if code, is, _ := get(path); code != 200 || is != want {
			t.Errorf("%s is answered with %d and type %q; want %q", path, code, is, want)
		}
	}
	for _, path := range []string{"/monitor/alerts", "/monitor/alerts/", "/monitor/none.html", "/monitor/../secret", "/monitor/%2e%2e/secret", "/monitor/link.html", "/monitor/alerts/a/.tmp-1"} {
		if code, _, body := get(path); code != 404 || strings.Contains(body, "secret\n") {
			t.Errorf("%s is answered with %d %q", path, code, body)
		}
	}
}

// TestSinksAreToldWherePagesAre tries the sinks of a configuration whose pages have a URL, and of one
// whose pages have none.
func TestSinksAreToldWherePagesAre(t *testing.T) {
	t.Parallel()
	for pages, want := range map[string]string{`{dir: pages, url: "https://alerts.example.org/tw"}`: "https://alerts.example.org/tw/index.html", "{dir: pages}": ""} {
		m, err := config.ParseMonitor([]byte(`
state: state
logs: [{origin: log.example.org, url: "https://log.example.org", vkey: k, policy: none}]
identities: []
notify: {all: {jsonl: events.jsonl}}
pages: `+pages), t.TempDir(), os.LookupEnv)
		if err != nil {
			t.Fatal(err)
		}
		routes, err := stack.OpenSinks(m, nil)
		if err != nil {
			t.Fatal(err)
		}
		if trials, _ := monitor.Try(t.Context(), routes, []string{"all"}); !trials[0].Taken {
			t.Fatalf("%+v", trials)
		}
		data, err := os.ReadFile(m.Notify["all"].JSONL)
		if err != nil {
			t.Fatal(err)
		}
		var e monitor.Event
		if err := json.Unmarshal(data, &e); err != nil || e.Page != want {
			t.Errorf("pages %s: event links to %q, want %q: %v", pages, e.Page, want, err)
		}
	}
}
