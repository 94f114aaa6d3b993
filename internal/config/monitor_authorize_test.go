package config_test

import (
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/config"
)

// authorizing is a monitor configuration with one identity of these expectations and rules.
func authorizing(kind, authorize, rules string) []byte {
	return []byte("state: s\nlogs:\n  - {origin: o, url: \"http://127.0.0.1:1\", kind: " + kind + ", vkey: v, policy: none}\n" +
		"identities:\n  - {name: me, email: me@example.org, expect: {" + authorize + "}, rules: {" + rules + "}}\nnotify: {all: {jsonl: e}}\n")
}

func TestAuthorizationsAreParsed(t *testing.T) {
	dir := t.TempDir()
	m, err := config.ParseMonitor(authorizing("rekor", `authorize: {required: true, grace: 10m, from: [r.txt, "https://example.org/r.txt"], keys: [k]}`, ""), dir, env(nil))
	if err != nil {
		t.Fatal(err)
	}
	a := m.Identities[0].Expect.Authorize
	if a.From[0] != filepath.Join(dir, "r.txt") || a.From[1] != "https://example.org/r.txt" || a.Keys[0] != filepath.Join(dir, "k") {
		t.Errorf("got %+v", a)
	}
	m, err = config.ParseMonitor(authorizing("ct", `authorize: {required: true, certificates: true, from: [r.txt], bundle: {identity: i, issuer: u, trusted_root: t, policy: none}}`, ""), dir, env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if b := m.Identities[0].Expect.Authorize.Bundle; b.TrustedRoot != filepath.Join(dir, "t") || b.Policy != "none" {
		t.Errorf("got %+v", b)
	}
	if _, err := config.ParseMonitor(authorizing("rekor", `authorize: {from: [r.txt], keys: [k]}`, "id.missing: {}"), dir, env(nil)); err != nil {
		t.Errorf("authorizations for id.missing alone: %v", err)
	}
	everywhere := append(authorizing("rekor", `authorize: {from: [r.txt], keys: [k]}`, ""), "rules: {id.missing: {}}\n"...)
	if _, err := config.ParseMonitor(everywhere, dir, env(nil)); err != nil {
		t.Errorf("authorizations for id.missing of the whole configuration: %v", err)
	}
}

func TestMeaninglessAuthorizationsAreRefused(t *testing.T) {
	for want, c := range map[string][3]string{
		"authorize does nothing":              {"rekor", "authorize: {from: [r], keys: [k]}", ""},
		"id.missing needs expect.authorize":   {"rekor", "", "id.missing: {}"},
		`want "required: true"`:               {"rekor", "authorize: {from: [r], keys: [k]}", "id.missing: {off: true}"},
		"from is empty":                       {"rekor", "authorize: {required: true, keys: [k]}", ""},
		"want either keys or bundle":          {"rekor", "authorize: {required: true, from: [r]}", ""},
		"either keys or bundle":               {"rekor", "authorize: {required: true, from: [r], keys: [k], bundle: {identity: i, issuer: u, trusted_root: t, policy: none}}", ""},
		"want identity, issuer, trusted_root": {"rekor", "authorize: {required: true, from: [r], bundle: {identity: i, trusted_root: t, policy: none}}", ""},
		"grace and certificates are for what": {"rekor", "authorize: {grace: 1h, from: [r], keys: [k]}", "id.missing: {}"},
		`"http://example.org/r" is neither`:   {"rekor", `authorize: {required: true, from: ["http://example.org/r"], keys: [k]}`, ""},
		`"ftp://127.0.0.1/r" is neither`:      {"rekor", `authorize: {required: true, from: ["ftp://127.0.0.1/r"], keys: [k]}`, ""},
		"all logs are certificate logs":       {"ct", "authorize: {required: true, from: [r], keys: [k]}", ""},
		`unknown key "requird"`:               {"rekor", "authorize: {requird: true, from: [r], keys: [k]}", ""},
		`"soon" is not a duration`:            {"rekor", "authorize: {required: true, grace: soon, from: [r], keys: [k]}", ""},
	} {
		_, err := config.ParseMonitor(authorizing(c[0], c[1], c[2]), t.TempDir(), env(nil))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want one with %q", c, err, want)
		}
	}
}
