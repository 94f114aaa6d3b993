package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
)

const server = `
address: 127.0.0.1:8080
storage: file:./objects
logs:
  - {name: signatures, kind: rekor, origin: log.localhost, key: file:keys/log.pem, policy: client/policy.txt}
  - {name: certificates, kind: ct, origin: ct.localhost, key: file:keys/ct.pem, note_key: file:keys/ct-note.pem, policy: client/policy.txt, quorum_timeout: 500ms}
ca: {chain: ca.pem, key: file:keys/ca.pem, ct_log: certificates, issuers: issuers.yaml}
tsa: {chain: tsa.pem, key: file:keys/tsa.pem}
witnesses:
  - {name: w1.localhost, seed: file:keys/w1.seed}
monitor: {config: monitor.yaml}
dev_oidc: {path: /dev/oidc}
`

func env(vars map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
}

func TestParseResolvesPathsAndDefaults(t *testing.T) {
	c, err := config.Parse([]byte(server), "/etc/tallywood", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if c.URL != "http://127.0.0.1:8080" || c.Storage != "/etc/tallywood/objects" || c.Logs[0].Key != "/etc/tallywood/keys/log.pem" {
		t.Errorf("got url %s, storage %s, key %s", c.URL, c.Storage, c.Logs[0].Key)
	}
	if got := time.Duration(c.Logs[0].QuorumTimeout); got != config.DefaultQuorumTimeout {
		t.Errorf("default quorum_timeout %v", got)
	}
	if got := time.Duration(c.Logs[1].QuorumTimeout); got != 500*time.Millisecond {
		t.Errorf("quorum_timeout %v", got)
	}
	c.SetAddress("127.0.0.1:9")
	if c.URL != "http://127.0.0.1:9" {
		t.Errorf("after SetAddress url is %s", c.URL)
	}
	out, err := config.Format(c)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(out), "quorum_timeout: 3s") {
		t.Errorf("effective values lack the default:\n%s", out)
	}
}

// TestParseTakesGenericLogs: any number of them, beside a signature log.
func TestParseTakesGenericLogs(t *testing.T) {
	text := strings.Replace(server, "ca: {", `  - {name: releases, kind: tlog, origin: releases.localhost, key: file:r.pem, policy: p.txt, add_token: file:r.token}
  - {name: minutes, kind: tlog, origin: minutes.localhost, key: file:m.pem, policy: p.txt}
ca: {`, 1)
	c, err := config.Parse([]byte(text), "/etc/tallywood", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Logs[2].AddToken; got != "/etc/tallywood/r.token" || c.Logs[3].AddToken != "" {
		t.Errorf("token files %q and %q", got, c.Logs[3].AddToken)
	}
	if out, err := config.Format(c); err != nil || !strings.Contains(string(out), "add_token: file:/etc/tallywood/r.token") {
		t.Errorf("printed (%v):\n%s", err, out)
	}
}

func TestParseExpandsVariablesInValuesOnly(t *testing.T) {
	text := strings.Replace(server, "file:./objects", "file:${ROOT}/objects", 1)
	c, err := config.Parse([]byte(text), "/", env(map[string]string{"ROOT": "/srv"}))
	if err != nil || c.Storage != "/srv/objects" {
		t.Errorf("got %v, %v", c, err)
	}
	if _, err := config.Parse([]byte(text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), "ROOT is not set") {
		t.Errorf("unset variable: %v", err)
	}
}

func TestParseTakesNumbersFromVariables(t *testing.T) {
	vars := map[string]string{"START": "5", "YES": "true", "DIGITS": "0123", "SPAN": "7s", "NONE": "",
		"TRICK": "8, vkey: w", "LINES": "8\n    vkey: w", "COMMENT": "8 # eight"}
	parse := func(start, name string) (*config.Monitor, error) {
		return config.ParseMonitor([]byte(`
state: monitor-state
poll: ${SPAN}
logs:
  - origin: log.localhost
    url: http://127.0.0.1:8080
    vkey: v
    policy: none
    start: `+start+`
identities:
  - name: `+name+`
    email: alice@example.com
notify:
  hook:
    webhook:
      url: http://127.0.0.1:1/
      allow_private: ${YES}
`), "/", env(vars))
	}
	m, err := parse("${START}", "${DIGITS}")
	if err != nil {
		t.Fatal(err)
	}
	if m.Logs[0].Start.Index != 5 || !m.Notify["hook"].Webhook.AllowPrivate || m.Identities[0].Name != "0123" || time.Duration(m.Poll) != 7*time.Second {
		t.Errorf("got %+v", m)
	}
	// In quotes it is a text, and a variable holds one value, whatever stands in it.
	for _, start := range []string{`"${START}"`, "${NONE}", "${TRICK}", "${LINES}", "${COMMENT}"} {
		if m, err := parse(start, "me"); err == nil {
			t.Errorf("start: %s was taken for %+v", start, m.Logs[0].Start)
		}
	}
	m, err = parse("0", "${LINES}")
	if err != nil || m.Identities[0].Name != vars["LINES"] || m.Logs[0].VKey != "v" {
		t.Errorf("got %+v, %v", m, err)
	}
}

func TestFormatIsReadAgain(t *testing.T) {
	text := strings.Replace(server, "{path: /dev/oidc}", "{path: /dev/oidc, key: file:keys/dev.pem}", 1)
	c, err := config.Parse([]byte(text), "/etc/tallywood", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	once, err := config.Format(c)
	if err != nil {
		t.Fatal(err)
	}
	if c.Storage != "/etc/tallywood/objects" || c.CA.Key != "/etc/tallywood/keys/ca.pem" {
		t.Errorf("printing changed the configuration: storage %s, ca key %s", c.Storage, c.CA.Key)
	}
	again, err := config.Parse(once, "/elsewhere", env(nil))
	if err != nil {
		t.Fatalf("%v in what was printed:\n%s", err, once)
	}
	if twice, err := config.Format(again); err != nil || string(twice) != string(once) {
		t.Errorf("printed once:\n%s\nand again (%v):\n%s", once, err, twice)
	}
	again.Dir = c.Dir
	if !reflect.DeepEqual(c, again) {
		t.Errorf("got %+v; want %+v", again, c)
	}
	m, err := config.ParseMonitor([]byte(monitor), "/m", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if once, err = config.Format(m); err != nil {
		t.Fatal(err)
	}
	same, err := config.ParseMonitor(once, "/elsewhere", env(nil))
	if err != nil {
		t.Fatalf("%v in what was printed:\n%s", err, once)
	}
	if twice, err := config.Format(same); err != nil || string(twice) != string(once) {
		t.Errorf("printed once:\n%s\nand again (%v):\n%s", once, err, twice)
	}
}

func TestParseWantsAnURLThatClientsCanReach(t *testing.T) {
	text := strings.Replace(server, "dev_oidc: {path: /dev/oidc}\n", "client_dir: ./client\n", 1)
	for _, address := range []string{`":8080"`, "0.0.0.0:8080", `"[::]:8080"`} {
		open := strings.Replace(text, "127.0.0.1:8080", address, 1)
		if _, err := config.Parse([]byte(open), "/", env(nil)); err == nil || !strings.Contains(err.Error(), "url is missing") {
			t.Errorf("address %s: %v", address, err)
		}
		c, err := config.Parse([]byte(open+"url: https://log.example.org\n"), "/", env(nil))
		if err != nil || c.URL != "https://log.example.org" {
			t.Errorf("address %s with an url: %v", address, err)
		}
		c, err = config.Parse([]byte(strings.Replace(open, "client_dir: ./client\n", "", 1)), "/", env(nil))
		if err != nil || c.URL != "http://localhost:8080" {
			t.Errorf("address %s without clients to tell: %v", address, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct{ old, new, want string }{
		"unknown key":        {"tsa:", "tsaa:", "tsaa"},
		"repeated key":       {"tsa: {", "address: 127.0.0.1:1\ntsa: {", "address"},
		"second document":    {"\ntsa:", "\n---\ntsa:", "second YAML document"},
		"bad duration":       {"500ms", "500", "not a duration"},
		"port missing":       {"127.0.0.1:8080", "127.0.0.1", "HOST:PORT"},
		"dev issuer exposed": {"127.0.0.1:8080", "0.0.0.0:8080", "loopback"},
		"origin with scheme": {"log.localhost", "https://log.localhost", "host name"},
		"kind":               {"kind: rekor", "kind: rekr", "not rekor, ct or tlog"},
		"no policy":          {"key: file:keys/log.pem, policy: client/policy.txt", "key: file:keys/log.pem, policy: ''", "quorum none"},
		"no note key":        {"note_key: file:keys/ct-note.pem, ", "", "needs a note_key"},
		"note key of rekor":  {"origin: log.localhost", "note_key: file:n.pem, origin: log.localhost", "note_key belongs to logs of kind ct"},
		"note key of tlog":   {"kind: rekor", "note_key: file:n.pem, kind: tlog", "note_key belongs to logs of kind ct"},
		"token of rekor":     {"origin: log.localhost", "add_token: file:t, origin: log.localhost", "add_token belongs to logs of kind tlog"},
		"token of ct":        {"origin: ct.localhost", "add_token: file:t, origin: ct.localhost", "add_token belongs to logs of kind tlog"},
		"token itself":       {"kind: rekor", "kind: tlog, add_token: secret", "add_token: \"secret\" has no scheme; want file:secret"},
		"long waits of tlog": {"kind: rekor", "kind: tlog, commit_interval: 3s", "shorter than quorum_timeout"},
		"unknown ct log":     {"ct_log: certificates", "ct_log: other", "not a log of kind ct"},
		"scheme":             {"file:./objects", "az://bucket", `scheme "az"`},
		"key without scheme": {"key: file:keys/tsa.pem", "key: keys/tsa.pem", "file:keys/tsa.pem"},
		"name":               {"name: signatures", "name: ../signatures", "lower-case"},
		"state":              {"policy: client/policy.txt}\n  - {name: cert", "policy: p, state: forzen}\n  - {name: cert", "not active"},
		"long intervals":     {"origin: log.localhost", "commit_interval: 1s, publish_interval: 2s, origin: log.localhost", "shorter than quorum_timeout"},
		"negative interval":  {"origin: log.localhost", "commit_interval: -1s, origin: log.localhost", "not a duration"},
		"huge intervals":     {"origin: log.localhost", "commit_interval: 1800000h, publish_interval: 1800000h, origin: log.localhost", "1800000h is longer than a hundred years"},
		"merge delay":        {"kind: ct", "publish_interval: 50s, kind: ct", "within a minute"},
		"type":               {"{path: /dev/oidc}", "[1]", "line"},
		"dev issuer's place": {"{path: /dev/oidc}", "{path: /logs}", "among those of other parts"},
		"place below one":    {"{path: /dev/oidc}", "{path: /witness/1}", "among those of other parts"},
		"no path":            {"{path: /dev/oidc}", "{path: /dev/../oidc}", "not one such as /dev/oidc"},
		"pattern":            {"{path: /dev/oidc}", "{path: '/{dev}'}", "not one such as /dev/oidc"},
		"url with password":  {"storage:", "url: 'https://me:secret@log.example.org'\nstorage:", `url "https://me:xxxxx@log.example.org" is not http(s)://HOST[:PORT]`},
		"url without host":   {"storage:", "url: 'http://:8080'\nstorage:", "is not http(s)://HOST[:PORT]"},
		"url with fragment":  {"storage:", "replica_url: 'https://log.example.org#x'\nstorage:", "is not http(s)://HOST[:PORT]"},
		"slash at the end":   {"{path: /dev/oidc}", "{path: /dev/}", "not one such as /dev/oidc"},
		"no time for quorum": {"origin: log.localhost", "quorum_timeout: 0s, origin: log.localhost", "quorum_timeout: want more than 0s"},
		"no peer":            {"dev_oidc:", "peer_quorum: 0\ndev_oidc:", "peer_quorum: want more than 0"},
	} {
		text := strings.Replace(server, c.old, c.new, 1)
		if text == server {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := config.Parse([]byte(text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want an error with %q", name, err, c.want)
		}
	}
	if _, err := config.Parse(nil, "/", env(nil)); err == nil || !strings.Contains(err.Error(), "empty") {
		t.Errorf("empty file: %v", err)
	}
	if _, err := config.Load("/nonexistent/config.yaml"); err == nil {
		t.Error("a missing file gave no error")
	}
}

const monitor = `
state: monitor-state
logs:
  - {origin: log.localhost, url: http://127.0.0.1:8080, vkey: v, policy: client/policy.txt}
identities:
  - {name: me, email: alice@example.com, expect: {issuers: [http://127.0.0.1/dev]}, rules: {id.seen: {}}, notify: [all]}
notify:
  all: {jsonl: events.jsonl}
  hook: {webhook: {url: http://127.0.0.1:1/}, min_severity: critical}
`

func TestParseMonitor(t *testing.T) {
	m, err := config.ParseMonitor([]byte(monitor), "/m", env(nil))
	if err != nil {
		t.Fatal(err)
	}
	if time.Duration(m.Poll) != 2*time.Second || m.Logs[0].Kind != "rekor" || m.Evidence != "/m/monitor-state/evidence" || m.Notify["all"].JSONL != "/m/events.jsonl" {
		t.Errorf("got %+v", m)
	}
	if _, ok := m.Identities[0].Rules["id.seen"]; !ok {
		t.Error("rule id.seen was not switched on")
	}
	for state, want := range map[string]string{"file:./state": "/m/state", "file:/var/state": "/var/state", "./s3:x": "/m/s3:x"} {
		m, err := config.ParseMonitor([]byte(strings.Replace(monitor, "state: monitor-state", "state: "+state, 1)), "/m", env(nil))
		if err != nil || m.State != want || m.Evidence != want+"/evidence" {
			t.Errorf("state %s: got %+v, %v; want %s", state, m, err, want)
		}
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"state scheme":   {"state: monitor-state", "state: s3://bucket/x", `state: scheme "s3" is not one of this version`},
		"empty state":    {"state: monitor-state", "state: 'file:'", "file: without a path"},
		"misspelt":       {"identities:", "identites:", "identites"},
		"nothing":        {"identities:\n  - {name: me, email: alice@example.com, expect: {issuers: [http://127.0.0.1/dev]}, rules: {id.seen: {}}, notify: [all]}\n", "", "nothing would be watched"},
		"unknown sink":   {"notify: [all]", "notify: [al]", `"al" is not defined`},
		"both sinks":     {"{jsonl: events.jsonl}", "{jsonl: e, webhook: {url: http://x}}", "exactly one"},
		"severity":       {"min_severity: critical", "min_severity: high", "not info"},
		"policy":         {"policy: client/policy.txt", "policy: ''", "policy: none"},
		"url":            {"url: http://127.0.0.1:8080", "url: 127.0.0.1:8080", "http(s) URL"},
		"no burst":       {"id.seen: {}", "id.burst: {max: 0}", "line 6: max: want more than 0"},
		"no time":        {"id.seen: {}", "id.burst: {window: 0m}", "line 6: window: want more than 0m"},
		"no poll":        {"state: monitor-state", "state: monitor-state\npoll: 0s", "line 3: poll: want more than 0s"},
		"negative start": {"vkey: v", "vkey: v, start: -1", "not the number of an entry"},
	} {
		text := strings.Replace(monitor, c.old, c.new, 1)
		if text == monitor {
			t.Fatalf("%s: the case changes nothing", name)
		}
		if _, err := config.ParseMonitor([]byte(text), "/", env(nil)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v; want an error with %q", name, err, c.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(server))
	f.Add([]byte(monitor))
	f.Add([]byte("a: &a [*a]"))
	f.Add([]byte("? {}\n: ${X}"))
	f.Fuzz(func(t *testing.T, data []byte) {
		get := env(map[string]string{"X": "y"})
		if c, err := config.Parse(data, "/", get); err == nil && c.Address == "" {
			t.Error("accepted without an address")
		}
		if m, err := config.ParseMonitor(data, "/", get); err == nil && len(m.Logs) == 0 {
			t.Error("accepted without logs")
		}
	})
}
