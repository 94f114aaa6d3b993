package config_test

import (
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

// monitorLog parses a monitor configuration of one log with more keys.
func monitorLog(t *testing.T, keys string) (*config.Monitor, error) {
	t.Helper()
	return config.ParseMonitor([]byte("state: s\nlogs:\n  - {origin: o, url: \"http://127.0.0.1:1\", vkey: v, policy: none"+keys+"}\n"+
		"identities: []\nnotify: {all: {jsonl: e}}\n"), "/", env(nil))
}

func TestStartIsAnEntryTheHeadOrATime(t *testing.T) {
	at := time.Date(2026, 11, 1, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]config.Start{
		"": {}, ", start: 0": {}, ", start: 17": {Index: 17}, ", start: head": {Head: true},
		", start: 2026-11-01T12:00:00Z": {Time: at}, `, start: "2026-11-01T13:00:00+01:00"`: {Time: at},
	} {
		m, err := monitorLog(t, text)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		if got := m.Logs[0].Start; got != want {
			t.Errorf("%s: got %+v", text, got)
		}
		printed, err := config.Format(m)
		if err != nil {
			t.Fatal(err)
		}
		again, err := config.ParseMonitor(printed, "/", env(nil))
		if err != nil || again.Logs[0].Start != want {
			t.Errorf("%s: printed and read again: %v\n%s", text, err, printed)
		}
	}
	for _, text := range []string{"-1", "tail", `"5"`, "2026-11-01", "1999-01-01T00:00:00Z", "[1]", "99999999999999999999"} {
		if _, err := monitorLog(t, ", start: "+text); err == nil || !strings.Contains(err.Error(), "the word head") {
			t.Errorf("start: %s: %v", text, err)
		}
	}
}

func TestMetricsAddress(t *testing.T) {
	text := "state: s\nmetrics_address: ADDRESS\nlogs:\n  - {origin: o, url: \"http://127.0.0.1:1\", vkey: v, policy: none}\nidentities: []\nnotify: {all: {jsonl: e}}\n"
	m, err := config.ParseMonitor([]byte(strings.Replace(text, "ADDRESS", "127.0.0.1:9090", 1)), "/", env(nil))
	if err != nil || m.MetricsAddress != "127.0.0.1:9090" {
		t.Errorf("got %+v, %v", m, err)
	}
	if _, err := config.ParseMonitor([]byte(strings.Replace(text, "ADDRESS", "localhost", 1)), "/", env(nil)); err == nil || !strings.Contains(err.Error(), "HOST:PORT") {
		t.Errorf("got %v", err)
	}
}

func TestFreshnessIsOrdered(t *testing.T) {
	m, err := monitorLog(t, ", freshness: {warn: 2h, critical: 3h}")
	if err != nil || m.Logs[0].Freshness != (config.Freshness{Warn: config.Duration(2 * time.Hour), Critical: config.Duration(3 * time.Hour)}) {
		t.Errorf("got %+v, %v", m, err)
	}
	for _, text := range []string{"{warn: 2h}", "{critical: 5m}", "{warn: 2h, critical: 1h}"} {
		if _, err := monitorLog(t, ", freshness: "+text); err == nil || !strings.Contains(err.Error(), "comes after") {
			t.Errorf("freshness: %s: %v", text, err)
		}
	}
}

func TestOnlookersHaveURLs(t *testing.T) {
	m, err := config.ParseMonitor([]byte("state: s\npeers: [\"https://monitor.example.org/pages\"]\nlogs:\n  - {origin: o, url: \"http://127.0.0.1:1\", vkey: v, policy: p,\n"+
		"     witnesses: [{name: w1, url: \"https://w1.example.org\"}]}\nidentities: []\nnotify: {all: {jsonl: e}}\n"), "/", env(nil))
	if err != nil || len(m.Peers) != 1 || m.Logs[0].Witnesses[0] != (config.MonitorWitness{Name: "w1", URL: "https://w1.example.org"}) {
		t.Errorf("got %+v, %v", m, err)
	}
	for keys, want := range map[string]string{
		", witnesses: [{name: w1, url: w1.example.org}]":             "not an http(s) URL",
		", witnesses: [{url: \"https://w1.example.org\"}]":           "name is missing",
		", witnesses: [{name: w1, url: \"https://w1.example.org\"}]": "knows none",
	} {
		if _, err := monitorLog(t, keys); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", keys, err)
		}
	}
}
