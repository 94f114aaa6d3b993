package rekormonitor_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/rekormonitor"
)

var update = flag.Bool("update", false, "write what is imported now into testdata")

const vkey = "log.localhost+506a787b+ASH1fwMkQmkt9e5A4xkbqoeIrhcGtPvFij3kRv6R/bgL"

// tuf are the logs of a TUF repository.
var tuf = rekormonitor.Logs{TUFURL: "https://tuf.acme.example", TUFRoot: "root.json"}

// oneLog is a log that is named by its key.
var oneLog = rekormonitor.Logs{URL: "https://log.acme.example", VKey: vkey, Policy: "policy.txt"}

// read answers the files of authorities.
func read(path string) ([]byte, error) {
	switch path {
	case "roots.pem", "intermediates.pem":
		return []byte("the " + path + "\n"), nil
	}
	return nil, fmt.Errorf("open %s: %w", path, fs.ErrNotExist)
}

// transcript is all that came of an import.
func transcript(r *rekormonitor.Result) []byte {
	var b bytes.Buffer
	for _, w := range r.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", w)
	}
	for _, f := range r.Files {
		fmt.Fprintf(&b, "# file %s, secret %v: %q\n", f.Name, f.Secret, f.Data)
	}
	return append(b.Bytes(), r.Config...)
}

func TestConfigurationsAreImported(t *testing.T) {
	for name, o := range map[string]rekormonitor.Options{
		"person":   {Logs: oneLog, Interval: time.Hour, State: []byte("old\\n5\\nAAAA\\n\nlog.localhost\\n1234\\n+f1ZyNJ3wM=\\n\n")},
		"project":  {Logs: oneLog},
		"services": {Logs: tuf},
		"nobody":   {Logs: rekormonitor.Logs{TrustedRoot: "trusted_root.json", Policy: "policy.txt", URL: "https://log.acme.example"}},
	} {
		t.Run(name, func(t *testing.T) {
			var err error
			if o.Config, err = os.ReadFile(filepath.Join("testdata", name+".yaml")); err != nil {
				t.Fatal(err)
			}
			o.ReadFile = read
			r, err := rekormonitor.Import(o)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := config.ParseMonitor(r.Config, "/etc/monitor", func(string) (string, bool) { return "", false }); err != nil {
				t.Errorf("our monitor refuses it: %v\n%s", err, r.Config)
			}
			for _, secret := range []string{"ghp_", "hunter2", "SG.", "key-notareal"} {
				if bytes.Contains(r.Config, []byte(secret)) || strings.Contains(strings.Join(r.Warnings, "\n"), secret) {
					t.Errorf("the secret %q is told:\n%s", secret, transcript(r))
				}
			}
			golden := filepath.Join("testdata", name+".imported.yaml")
			if *update {
				if err := os.WriteFile(golden, transcript(r), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if want, err := os.ReadFile(golden); err != nil || !bytes.Equal(want, transcript(r)) {
				t.Errorf("%v; imported is\n%s\nwant\n%s", err, transcript(r), want)
			}
		})
	}
}

func TestWhatCannotBeImportedIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		config string
		logs   rekormonitor.Logs
		want   string
	}{
		"unknown key":           {"monitoredvalues: {}\n", tuf, `unknown key "monitoredvalues"`},
		"unknown identity key":  {"monitoredValues: {certIdentities: [{certSubjects: a}]}\n", tuf, `unknown key "certSubjects"`},
		"repeated key":          {"startIndex: 1\nstartIndex: 2\n", tuf, "already defined"},
		"two documents":         {"{}\n---\n{}\n", tuf, "second YAML document"},
		"no YAML":               {"a: [\n", tuf, "reading configuration of rekor-monitor"},
		"bad regex":             {"monitoredValues: {subjects: ['(']}\n", tuf, "missing closing )"},
		"closing parenthesis":   {"monitoredValues: {subjects: ['a)|(b']}\n", tuf, "unexpected )"},
		"empty subject":         {"monitoredValues: {certIdentities: [{issuers: [a]}]}\n", tuf, "certSubject is empty"},
		"bad issuer":            {"monitoredValues: {certIdentities: [{certSubject: a, issuers: ['(']}]}\n", tuf, "is not a regular expression"},
		"fingerprint of nobody": {"monitoredValues: {fingerprints: [A0B1C2D3E4F5]}\n", tuf, "it has never matched anything"},
		"unknown extension":     {"monitoredValues: {oidMatchers: {fulcioExtensions: {build-config-url: [a]}}}\n", tuf, `unknown key "build-config-url"`},
		"no value":              {"monitoredValues: {oidMatchers: {customExtensions: [{objectIdentifier: 1.2.3}]}}\n", tuf, "no value"},
		"no identifier":         {"monitoredValues: {oidMatchers: {customExtensions: [{objectIdentifier: a.b, extensionValues: [x]}]}}\n", tuf, "is not an object identifier"},
		"variable":              {"monitoredValues: {subjects: ['${HOME}x']}\n", tuf, "stands for a variable"},
		"bad format":            {"outputIdentities: a\noutputIdentitiesFormat: xml\n", tuf, `"xml" is neither text nor json`},
		"half a sink":           {"githubIssue: {repositoryOwner: a}\n", tuf, "githubIssue: repositoryName is missing"},
		"no such authorities":   {"caRootsFile: nowhere.pem\n", tuf, "nowhere.pem"},
		"intermediates alone":   {"caIntermediatesFile: intermediates.pem\n", tuf, "caRootsFile is not"},
		"a shard that is none":  {"ctShards: [ct.example.org]\n", tuf, "is not an http(s) URL"},
		"shards and one log":    {"ctShards: ['https://ct.example.org']\n", oneLog, "with --vkey one log is followed"},
		"Rekor v1":              {"{}\n", rekormonitor.Logs{URL: "https://rekor.sigstore.dev/"}, "is a Rekor v1 log"},
		"bad key":               {"{}\n", rekormonitor.Logs{URL: "https://a.example", VKey: "x", Policy: "none"}, "--vkey"},
		"no policy":             {"{}\n", rekormonitor.Logs{URL: "https://a.example", VKey: vkey}, "--vkey needs --policy"},
		"nowhere to read":       {"{}\n", rekormonitor.Logs{VKey: vkey, Policy: "none"}, "--vkey needs --url"},
	} {
		_, err := rekormonitor.Import(rekormonitor.Options{Config: []byte(tc.config), Logs: tc.logs, ReadFile: read})
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v; want %q", name, err, tc.want)
		}
	}
}

func TestACheckpointFileGivesTheFirstIndexAtMost(t *testing.T) {
	for name, tc := range map[string]struct {
		state string
		want  string
		warns string
	}{
		"good":          {"log\\n77\\nroot\\n", "start: 77}", "begins with entry 77"},
		"the last line": {"log\\n5\\nroot\\n\nlog\\n77\\nroot\\n\n", "start: 77}", "begins with entry 77"},
		"empty log":     {"log\\n0\\nroot\\n", "policy.txt\"}", "begins with entry 0"},
		"damaged":       {"log\\nmany\\nroot\\n", "policy.txt\"}", "cannot be read"},
		"JSON":          {`{"tree_size":77}`, "policy.txt\"}", "cannot be read"},
	} {
		r, err := rekormonitor.Import(rekormonitor.Options{Logs: oneLog, State: []byte(tc.state), ReadFile: read})
		if err != nil || !strings.Contains(string(r.Config), tc.want) || !strings.Contains(strings.Join(r.Warnings, "\n"), tc.warns) {
			t.Errorf("%s: %v\n%s", name, err, transcript(r))
		}
	}
	r, err := rekormonitor.Import(rekormonitor.Options{Logs: tuf, State: []byte("log\\n77\\nroot\\n"), ReadFile: read})
	if err != nil || strings.Contains(string(r.Config), "start") {
		t.Errorf("several logs: %v\n%s", err, transcript(r))
	}
}

// FuzzImport: whatever is imported, our own reader takes.
func FuzzImport(f *testing.F) {
	for _, name := range []string{"person", "project", "services", "nobody"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data, true)
		f.Add(data, false)
	}
	f.Add([]byte("monitoredValues: {subjects: [\"\\\"\\u2028\\x01: - #\"]}\n"), false)
	f.Fuzz(func(t *testing.T, data []byte, single bool) {
		o := rekormonitor.Options{Config: data, Logs: tuf, ReadFile: read}
		if single {
			o.Logs = oneLog
		}
		r, err := rekormonitor.Import(o)
		if err != nil {
			return
		}
		m, err := config.ParseMonitor(r.Config, "/etc/monitor", func(string) (string, bool) { return "", false })
		var missing *fs.PathError
		if err != nil && !errors.As(err, &missing) {
			t.Fatalf("our monitor refuses it: %v\n%s", err, r.Config)
		}
		if len(m.Logs) != 1 || len(m.Notify) == 0 {
			t.Errorf("%d logs, %d sinks\n%s", len(m.Logs), len(m.Notify), r.Config)
		}
	})
}
