package config_test

import (
	"strings"
	"testing"

	"tallywood/internal/config"
)

// listedLogs parses a monitor configuration whose logs are of a trusted root.
func listedLogs(t *testing.T, keys string) (*config.Monitor, error) {
	t.Helper()
	return config.ParseMonitor([]byte("state: s\nlogs:\n  - {"+keys+"}\nidentities: []\nnotify: {all: {jsonl: e}}\n"), "/etc/m", env(nil))
}

func TestLogsOfATrustedRoot(t *testing.T) {
	m, err := listedLogs(t, `trusted_root: root.json, policy: none, urls: {a.example.org: "http://127.0.0.1:1/a"}, leave_out: [b.example.org], start: head`)
	if err != nil || m.Logs[0].TrustedRoot != "/etc/m/root.json" || !m.Logs[0].Listed() || m.Logs[0].Kind != "" {
		t.Fatalf("got %+v, %v", m, err)
	}
	m, err = listedLogs(t, `tuf: {url: "https://tuf.example.org", root: 1.root.json}, policy: policy.txt, kind: ct`)
	if err != nil || m.Logs[0].TUF.Root != "/etc/m/1.root.json" || m.Logs[0].Policy != "/etc/m/policy.txt" || m.Logs[0].Kind != "ct" {
		t.Fatalf("got %+v, %v", m, err)
	}
	printed, err := config.Format(m)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := config.ParseMonitor(printed, "/", env(nil)); err != nil || again.Logs[0].TUF.Root != "/etc/m/1.root.json" {
		t.Errorf("printed and read again: %v\n%s", err, printed)
	}
	for keys, want := range map[string]string{
		`trusted_root: r, tuf: {url: "https://t.example.org", root: r}, policy: none`: "want one",
		`trusted_root: r, policy: none, origin: o`:                                    "want none of them",
		`trusted_root: r, policy: none, kind: tlog`:                                   "is not one of a trusted root",
		`trusted_root: r, policy: none, start: 5`:                                     "different sizes",
		`trusted_root: r, policy: none, end: 2026-01-01T00:00:00Z`:                    "end comes from",
		`trusted_root: r`: "policy is missing",
		`trusted_root: r, policy: none, urls: {a: b}`:                               "not an http(s) URL",
		`tuf: {url: "https://t.example.org"}, policy: none`:                         "url or root is missing",
		`tuf: {url: "https://t.example.org", root: r, rot: x}, policy: none`:        "unknown key",
		`origin: o, url: "http://x.example", vkey: v, policy: none, leave_out: [a]`: "are for logs of tuf",
	} {
		if _, err := listedLogs(t, keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v; want an error with %q", keys, err, want)
		}
	}
}
