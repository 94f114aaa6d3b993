package config_test

import (
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

const shards = `
address: 127.0.0.1:8080
url: https://log2028.example.org
storage: file:./objects
logs:
  - {name: log2026, kind: rekor, origin: log2026.example.org, key: file:a.pem, policy: p, state: frozen, start: 2026-01-01T00:00:00Z, end: 2027-01-01T00:00:00Z, successor: log2027}
  - {name: log2027, kind: rekor, origin: log2027.example.org, key: file:b.pem, policy: p, state: frozen, end: "2028-01-01T00:00:00+01:00"}
  - {name: log2028, kind: rekor, origin: log2028.example.org, key: file:c.pem, policy: p}
  - {name: ct2026, kind: ct, origin: ct2026.example.org, key: file:d.pem, note_key: file:e.pem, policy: p, state: frozen}
  - {name: ct2027, kind: ct, origin: ct2027.example.org, key: file:f.pem, note_key: file:g.pem, policy: p, url: https://ct.example.org/2027}
ca: {chain: ca.pem, key: file:ca.key, ct_log: ct2027, issuers: issuers.yaml}
`

func TestShards(t *testing.T) {
	c, err := config.Parse([]byte(shards), "/", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]struct{ state, successor, url string }{
		"log2026": {"frozen", "log2027", "https://log2028.example.org/logs/log2026"},
		"log2027": {"frozen", "log2028", "https://log2028.example.org/logs/log2027"},
		"log2028": {"active", "", "https://log2028.example.org"}, // whose host is its origin
		"ct2026":  {"frozen", "ct2027", "https://log2028.example.org/logs/ct2026"},
		"ct2027":  {"active", "", "https://ct.example.org/2027"},
	}
	for _, l := range c.Logs {
		if w := want[l.Name]; l.State != w.state || l.Successor != w.successor || c.LogURL(l) != w.url {
			t.Errorf("%s: state %s, successor %q, url %s; want %v", l.Name, l.State, l.Successor, c.LogURL(l), w)
		}
	}
	if end := c.Logs[1].End.Format(time.RFC3339); end != "2027-12-31T23:00:00Z" {
		t.Errorf("end %s", end)
	}
	out, err := config.Format(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := config.Parse(out, "/", env(nil))
	if err != nil || !again.Logs[0].End.Equal(c.Logs[0].End.Time) || again.Logs[3].Successor != "ct2027" || !again.Logs[2].Start.IsZero() {
		t.Errorf("printed and read again: %v\n%s", err, out)
	}
}

func TestShardsRefused(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"two active":         {"policy: p, state: frozen, end: \"2028-01-01T00:00:00+01:00\"", "policy: p", "is active already"},
		"end while active":   {"key: file:c.pem, policy: p", "key: file:c.pem, policy: p, end: 2029-01-01T00:00:00Z", "for logs with state: frozen"},
		"end before start":   {"end: 2027-01-01T00:00:00Z", "end: 2025-01-01T00:00:00Z", "is before start"},
		"no time":            {"end: 2027-01-01T00:00:00Z", "end: 2027-01-01", "not a time"},
		"unknown successor":  {"successor: log2027", "successor: log2029", "not one of the logs"},
		"other kind":         {"successor: log2027", "successor: ct2027", "of kind ct, not rekor"},
		"round in a circle":  {"+01:00\"", "+01:00\", successor: log2026", "lead back"},
		"own successor":      {"successor: log2027", "successor: log2026", "lead back"},
		"frozen ct_log":      {"ct_log: ct2027", "ct_log: ct2026", "is frozen"},
		"url with a slash":   {"ct.example.org/2027", "ct.example.org/2027/", "without a slash"},
		"url without scheme": {"https://ct.example.org/2027", "ct.example.org/2027", "not http(s)"},
		"state":              {"state: frozen, start", "state: thawed, start", "not active or frozen"},
	} {
		text := strings.Replace(shards, c.old, c.new, 1)
		if text == shards {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := config.Parse([]byte(text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want an error with %q", name, err, c.want)
		}
	}
	frozen := strings.Replace(shards, "key: file:c.pem, policy: p", "key: file:c.pem, policy: p, state: frozen", 1)
	if _, err := config.Parse([]byte(frozen), "/", env(nil)); err != nil {
		t.Errorf("all signature logs frozen, which is allowed: %v", err)
	}
	brief := strings.Replace(shards, "end: 2027-01-01T00:00:00Z", "end: 2026-01-01T00:00:00Z", 1)
	if _, err := config.Parse([]byte(brief), "/", env(nil)); err != nil {
		t.Errorf("a log that was frozen in the second in which it started: %v", err)
	}
}
