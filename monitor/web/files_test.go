package web_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/monitor/web"
)

// TestPagesOfTwoProcesses has a monitor that runs and a check beside it tell of the same events at once.
func TestPagesOfTwoProcesses(t *testing.T) {
	dir, evidence := filepath.Join(t.TempDir(), "pages"), t.TempDir()
	if err := os.WriteFile(filepath.Join(evidence, "entry"), []byte("an entry"), 0o600); err != nil {
		t.Fatal(err)
	}
	var processes []*web.Pages
	for range 4 {
		p, err := web.New(web.Options{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		processes = append(processes, p)
	}
	for n := range 20 {
		e := monitor.Event{ID: fmt.Sprintf("%032x", n+1), Time: time.Now(), Rule: rule.IDSeen, Severity: rule.Info, Origin: "log.example.org", Evidence: evidence}
		var sending sync.WaitGroup
		for _, p := range processes {
			sending.Go(func() {
				if err := p.Send(t.Context(), e); err != nil {
					t.Error(err)
				}
			})
		}
		sending.Wait()
		if copied, err := os.ReadFile(filepath.Join(dir, "alerts", e.ID, "entry.bin")); err != nil || string(copied) != "an entry" {
			t.Errorf("the copy is %q, %v", copied, err)
		}
	}
	left, err := os.ReadDir(filepath.Join(dir, "alerts"))
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range left {
		if strings.HasPrefix(entry.Name(), ".") {
			t.Errorf("%s was left behind", entry.Name())
		}
	}
}

// TestPagesReplaceNothingOfOthers: a directory called logs is in many places, and pages that are out of
// date are removed.
func TestPagesReplaceNothingOfOthers(t *testing.T) {
	for name, refused := range map[string]bool{"index.html": true, "logs/2026/app.log": true, "status.json": true, "CNAME": false, "feed.xml": false} {
		dir := t.TempDir()
		path := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		for range 2 { // a refusal leaves nothing that the next would take for pages
			p, err := web.New(web.Options{Dir: dir})
			if err != nil {
				t.Fatal(err)
			}
			err = p.Show(t.Context(), monitor.Overview{})
			if (err != nil) != refused || refused && !strings.Contains(err.Error(), "want a directory for pages alone") {
				t.Errorf("%s: %v, want it refused: %v", name, err, refused)
			}
			e := monitor.Event{ID: fmt.Sprintf("%032x", 1), Time: time.Now(), Rule: rule.IDSeen, Origin: "log.example.org"}
			if err := p.Send(t.Context(), e); (err != nil) != refused {
				t.Errorf("%s: event: %v, want it refused: %v", name, err, refused)
			}
		}
		if data, err := os.ReadFile(path); err != nil || string(data) != "mine" {
			t.Errorf("%s is %q now: %v", name, data, err)
		}
	}
}
