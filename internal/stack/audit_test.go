package stack_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
	"tallywood/internal/stack"
	"tallywood/monitor/rule"
)

// TestMonitorComparesWithTheCAsRecord has the CA write the record that the monitor of its certificate
// log reads, and takes one line out of it.
func TestMonitorComparesWithTheCAsRecord(t *testing.T) {
	var record string
	l := serve(t, stack.Options{}, func(dir string) {
		record = filepath.Join(dir, "issued.jsonl")
		edit(t, filepath.Join(dir, "config.yaml"), "\nca: {", "\nca: {audit_file: issued.jsonl, ")
	})
	l.ready(t)
	m, err := config.LoadMonitor(filepath.Join(l.dir, "monitor.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	m.State, m.Evidence = t.TempDir(), t.TempDir()
	m.Notify = map[string]config.Notify{"file": {JSONL: filepath.Join(t.TempDir(), "events.jsonl")}}
	m.Identities = []config.Identity{{Name: "alice", Email: "alice@example.com", Expect: config.Expect{Issuers: []string{l.url + "/dev/oidc"}},
		Rules: map[string]config.RuleParams{string(rule.XIssuedUnexplained): {File: record, Grace: 1}}}}
	watched, err := stack.OpenMonitor(m, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := watched.Init(t.Context()); err != nil {
		t.Fatal(err)
	}
	// found runs the monitor until it has read so many certificates, and returns what it found.
	found := func(want int64) (rules []rule.ID) {
		eventually(t, "certificates read", func() bool {
			r, err := watched.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			read, waiting := int64(0), 0
			for _, s := range r.Logs {
				waiting += s.Waiting
				if s.Kind == "ct" {
					read = s.Scanned
				}
			}
			for _, e := range r.Events {
				rules = append(rules, e.Rule)
			}
			return read == want && waiting == 0
		})
		return rules
	}
	for range 2 {
		if status, body := l.certificate(t); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	if got := found(2); len(got) != 0 {
		t.Errorf("found %q", got)
	}
	if status, body := l.certificate(t); status != 200 {
		t.Fatalf("%d %s", status, body)
	}
	lines := strings.SplitAfter(read(t, record), "\n")
	if len(lines) != 4 || !strings.Contains(lines[2], `"subject":"alice@example.com"`) {
		t.Fatalf("record %q", lines)
	}
	if err := os.WriteFile(record, []byte(lines[0]+lines[1]), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := found(3); len(got) != 1 || got[0] != rule.XIssuedUnexplained {
		t.Errorf("found %q", got)
	}
}
