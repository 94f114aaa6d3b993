package main

import (
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"tallywood/internal/keys"
)

// unitSettings are the settings of a unit, each with its values.
func unitSettings(text string) map[string][]string {
	settings := map[string][]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			settings[key] = append(settings[key], value)
		}
	}
	return settings
}

// TestUnits has systemd read the units that init writes for several directories, and compares them with
// the one that is shipped.
func TestUnits(t *testing.T) {
	shipped, err := os.ReadFile("../../deploy/systemd/tallywood-witness.service")
	if err != nil {
		t.Fatal(err)
	}
	want := unitSettings(string(shipped))
	for name, tc := range map[string]struct {
		flags  initFlags
		change map[string][]string // in the settings
	}{
		"in /var/lib":  {initFlags{dir: "/var/lib/w1"}, map[string][]string{"StateDirectory": {"w1"}}},
		"with a space": {initFlags{dir: "/var/lib/my w%"}, map[string][]string{"StateDirectory": {`"my w%%"`}}},
		"a colon in /var/lib": {initFlags{dir: "/var/lib/w:1"}, map[string][]string{
			"DynamicUser": nil, "StateDirectory": nil, "StateDirectoryMode": nil, "User": {userName(t)}, "ReadWritePaths": {`"/var/lib/w:1"`},
		}},
		"encrypted": {initFlags{dir: "/var/lib/w1/", encrypt: true, agentKey: "ssh-ed25519 AAAA"}, map[string][]string{
			"StateDirectory": {"w1"}, "LoadCredential": {"tallywood-witness.passphrase:/etc/tallywood-witness/passphrase"},
		}},
		"elsewhere": {initFlags{dir: "/srv/my witness/100%"}, map[string][]string{
			"DynamicUser": nil, "StateDirectory": nil, "StateDirectoryMode": nil, "User": {userName(t)}, "ReadWritePaths": {`"/srv/my witness/100%%"`},
		}},
		"variables and colons": {initFlags{dir: "/home/alice/$HOME/a:b"}, map[string][]string{
			"DynamicUser": nil, "StateDirectory": nil, "StateDirectoryMode": nil, "User": {userName(t)}, "ReadWritePaths": {`"/home/alice/$HOME/a:b"`},
			"ExecStart":   {"/usr/local/bin/tallywood-witness serve --dir \"/home/alice/$$HOME/a:b\""},
			"ProtectHome": {"tmpfs"}, "BindPaths": {`"/home/alice/$HOME/a:b"`},
		}},
		"at home": {initFlags{dir: "/home/alice/w"}, map[string][]string{
			"DynamicUser": nil, "StateDirectory": nil, "StateDirectoryMode": nil, "User": {userName(t)}, "ReadWritePaths": {"/home/alice/w"},
			"ProtectHome": {"tmpfs"}, "BindPaths": {"/home/alice/w"},
		}},
	} {
		text, err := tc.flags.unit(keys.Witness{})
		if err != nil {
			t.Fatal(err)
		}
		got, wanted := unitSettings(text), maps.Clone(want)
		wanted["ExecStart"] = []string{"/usr/local/bin/tallywood-witness serve --dir " + unitQuote(strings.TrimSuffix(tc.flags.dir, "/"))}
		for key, values := range tc.change {
			wanted[key] = values
			if values == nil {
				delete(wanted, key)
			}
		}
		for key := range merged(got, wanted) {
			if !slices.Equal(got[key], wanted[key]) {
				t.Errorf("%s: %s=%q; want %q", name, key, got[key], wanted[key])
			}
		}
		verifyUnit(t, name, text)
	}
}

func merged(a, b map[string][]string) map[string][]string {
	all := maps.Clone(a)
	maps.Copy(all, b)
	return all
}

func userName(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("id", "-un").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

// verifyUnit has systemd read a unit, and rate how well it confines the program.
func verifyUnit(t *testing.T, name, text string) {
	t.Helper()
	dir := t.TempDir()
	program := filepath.Join(dir, "tallywood-witness")
	if err := os.WriteFile(program, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, unitFile)
	putFile(t, path, strings.Replace(text, "=/usr/local/bin/tallywood-witness ", "="+program+" ", 1))
	// It prints what it does not understand, and ends well all the same.
	if out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=one", path).CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%s: systemd-analyze verify: %v\n%s\n%s", name, err, out, text)
	}
	if out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=30", path).CombinedOutput(); err != nil || !strings.Contains(string(out), " OK ") {
		t.Errorf("%s: systemd-analyze security: %v\n%s", name, err, out)
	}
}
