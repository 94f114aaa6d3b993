package config_test

import (
	"strings"
	"testing"

	"tallywood/internal/config"
)

const pagesMonitor = `
state: /var/lib/monitor
logs: [{origin: log.example.org, url: "https://log.example.org", vkey: k, policy: none}]
identities: []
notify: {all: {jsonl: events.jsonl}}
`

func parsePages(text string) (*config.Monitor, error) {
	return config.ParseMonitor([]byte(pagesMonitor+text), "/etc/monitor", func(string) (string, bool) { return "", false })
}

func TestPagesOfAMonitor(t *testing.T) {
	m, err := parsePages("pages: {dir: ./pages}")
	if err != nil || m.Pages.Dir != "/etc/monitor/pages" || m.Pages.Handled != "/var/lib/monitor/handled.txt" {
		t.Errorf("got %+v, %v", m.Pages, err)
	}
	m, err = parsePages("pages: {dir: /srv/pages, handled: done.txt, alerts: 10}")
	if err != nil || *m.Pages != (config.MonitorPages{Dir: "/srv/pages", Handled: "/etc/monitor/done.txt", Alerts: 10}) {
		t.Errorf("got %+v, %v", m.Pages, err)
	}
	for _, u := range []string{"https://alerts.example.org", "http://127.0.0.1:8080/monitor/", "https://[::1]:80/a_b/%20c/"} {
		if m, err = parsePages("pages: {dir: p, url: \"" + u + "\"}"); err != nil || m.Pages.URL != u {
			t.Errorf("got %+v, %v; want the URL %s", m, err, u)
		}
	}
	if m, err = parsePages(""); err != nil || m.Pages != nil {
		t.Errorf("without pages: got %+v, %v", m.Pages, err)
	}
}

func TestPagesThatCannotBe(t *testing.T) {
	for text, want := range map[string]string{
		"pages: {}":                                        "dir is missing",
		"pages: {dir: p, alerts: -1}":                      "alerts is negative",
		"pages: {dir: p, handeld: x}":                      "handeld",
		"pages: {dir: p, url: pages}":                      "not that of a directory",
		"pages: {dir: p, url: \"ftp://a.example/\"}":       "not that of a directory",
		"pages: {dir: p, url: \"https://a.example/?x=1\"}": "not that of a directory",
		"pages: {dir: p, url: \"https://u:p@a.example/\"}": "not that of a directory",
		"pages: {dir: p, url: \"https://a.example/x|y>\"}": "not that of a directory",
		"pages: {dir: p, url: \"https://a.example/100%\"}": "not that of a directory",
		"pages: {dir: /var/lib}":                           "private",
		"pages: {dir: /var/lib/monitor}":                   "private",
		"pages: {dir: /}":                                  "private",
		"pages: {dir: p}\nevidence: p/proof":               "private",
	} {
		if _, err := parsePages(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v; want %q", text, err, want)
		}
	}
	taken := strings.Replace(pagesMonitor, "all:", "pages:", 1)
	if _, err := config.ParseMonitor([]byte(taken+"pages: {dir: p}"), "/", nil); err == nil || !strings.Contains(err.Error(), "name is taken") {
		t.Errorf("a sink called pages: got %v", err)
	}
}
