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
