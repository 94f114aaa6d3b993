package config_test

import (
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

// withNotify is a monitor configuration with one sink.
func withNotify(sink string) []byte {
	return []byte("state: s\nlogs: [{origin: log.example.org, url: 'https://log.example.org', vkey: x, policy: none}]\nidentities: []\nnotify: {it: " + sink + "}\n")
}

func environment(name string) (string, bool) {
	v, ok := map[string]string{"TOKEN": "from the environment", "EMPTY": ""}[name]
	return v, ok
}

func TestSinksAreRead(t *testing.T) {
	m, err := config.ParseMonitor(withNotify(`{webhook: {url_file: a, secret_env: TOKEN, template: slack}, min_severity: warning}`), "/dir", environment)
	if err != nil {
		t.Fatal(err)
	}
	n := m.Notify["it"]
	if w := n.Webhook; w.URLFile != "/dir/a" || w.Secret != "from the environment" || n.Kind() != "webhook" {
		t.Errorf("webhook %+v", w)
	}
	text, err := config.Format(m)
	if err != nil || strings.Contains(string(text), "from the environment") {
		t.Errorf("printed:\n%s%v", text, err)
	}
	m, err = config.ParseMonitor(withNotify(`{jsonl: a, digest: weekly, limit: {max: 3, window: 5m}}`), "/dir", environment)
	if n := m.Notify["it"]; err != nil || time.Duration(n.Digest) != 168*time.Hour || n.Limit.Max != 3 || time.Duration(n.Limit.Window) != 5*time.Minute {
		t.Errorf("jsonl %+v, %v", n, err)
	}
	m, err = config.ParseMonitor(withNotify(`{exec: {command: [bin/hook, x]}}`), "/dir", environment)
	if err != nil || m.Notify["it"].Exec.Command[0] != "/dir/bin/hook" || m.Notify["it"].Exec.Command[1] != "x" {
		t.Errorf("exec %+v, %v", m, err)
	}
	for _, atom := range []string{`{atom: feed.xml}`, `{atom: {path: feed.xml, entries: 3}}`} {
		m, err = config.ParseMonitor(withNotify(atom), "/dir", environment)
		if err != nil || m.Notify["it"].Atom.Path != "/dir/feed.xml" {
			t.Errorf("%s: %+v, %v", atom, m, err)
		}
	}
}

func TestSinksAreChecked(t *testing.T) {
	for sink, want := range map[string]string{
		`{}`:                               "exactly one of",
		`{jsonl: a, atom: b}`:              "has jsonl and atom",
		`{jsonl: a, min_severity: loud}`:   "min_severity",
		`{web_hook: {}}`:                   `unknown key "web_hook"`,
		`{webhook: {}}`:                    "no url",
		`{webhook: {url: a, url_file: b}}`: "both url and url_file",
		`{webhook: {url: a, secret_file: b, secret_env: TOKEN}}`:                       "both secret_file and secret_env",
		`{webhook: {url: a, secret_env: NO_SUCH}}`:                                     "NO_SUCH is not set",
		`{webhook: {url: a, secret_env: EMPTY}}`:                                       "EMPTY is not set or empty",
		`{webhook: {url: a, template: slack, template_file: b}}`:                       "both template and template_file",
		`{webhook: {url: a, secret: inline}}`:                                          `unknown key "secret"`,
		`{smtp: {server: a, from: b}}`:                                                 "nobody would get mail",
		`{smtp: {from: a, to: [b]}}`:                                                   "no server",
		`{smtp: {server: a, to: [b]}}`:                                                 "no from",
		`{smtp: {server: a, from: b, to: [c], password: inline}}`:                      `unknown key "password"`,
		`{smtp: {server: a, from: b, to: [c], password_file: x, password_env: TOKEN}}`: "both password_file",
		`{jsonl: a, digest: monthly}`:                                                  "hourly, daily, weekly",
		`{jsonl: a, digest: 1s}`:                                                       "from 1m to 168h",
		`{jsonl: a, limit: {}}`:                                                        "max above 0",
		`{jsonl: a, limit: {max: -1}}`:                                                 "max above 0",
		`{jsonl: a, limit: {max: 1, off: true}}`:                                       "max above 0",
		`{jsonl: a, limit: {off: true, window: 1h}}`:                                   "has a window",
		`{github: {token_env: TOKEN}}`:                                                 "no repository",
		`{github: {repository: a/b}}`:                                                  "neither token_file nor token_env",
		`{github: {repository: a/b, token: inline}}`:                                   `unknown key "token"`,
		`{github: {repository: a/b, token_env: TOKEN, token_file: x}}`:                 "both token_file and token_env",
		`{exec: {}}`:                          "no command",
		`{exec: a}`:                           "line 4",
		`{exec: {command: [a], shell: true}}`: `unknown key "shell"`,
		`{atom: {}}`:                          "no path",
		`{atom: {path: a, size: 3}}`:          `unknown key "size"`,
		`{atom: [a]}`:                         "neither a path",
	} {
		_, err := config.ParseMonitor(withNotify(sink), "/dir", environment)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", sink, err, want)
		}
	}
}

func TestHeartbeatIsChecked(t *testing.T) {
	parse := func(heartbeat string) error {
		_, err := config.ParseMonitor(append(withNotify("{jsonl: a}"), "heartbeat: "+heartbeat+"\n"...), "/dir", environment)
		return err
	}
	if err := parse("{url: 'https://example.org/x', every: 1m, method: POST}"); err != nil {
		t.Error(err)
	}
	for heartbeat, want := range map[string]string{
		"{}":                      "one of url and url_file",
		"{url: a, url_file: b}":   "one of url and url_file",
		"{url: a, every: 10ms}":   "less than 1s",
		"{url: a, method: PATCH}": "neither GET nor POST",
		"{url: a, interval: 1m}":  `unknown key "interval"`,
	} {
		if err := parse(heartbeat); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", heartbeat, err, want)
		}
	}
}
