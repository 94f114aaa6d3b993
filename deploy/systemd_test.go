package deploy

import (
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/loopback"
)

// A unit is a file of settings; a setting may be there several times.
type unit struct {
	name     string
	settings map[string][]string
}

func readUnit(t *testing.T, name string) unit {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("systemd", name))
	must(t, err)
	u := unit{name, map[string][]string{}}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(line, "#") {
			u.settings[key] = append(u.settings[key], value)
		}
	}
	return u
}

// one returns the only value of a setting.
func (u unit) one(t *testing.T, key string) string {
	t.Helper()
	if len(u.settings[key]) != 1 {
		t.Fatalf("%s: %s has the values %q; want one", u.name, key, u.settings[key])
	}
	return u.settings[key][0]
}

var unitNames = []string{"tallywood.service", "tallywood-witness.service"}

// TestUnits has systemd read the units, and rate how well they confine the programs.
func TestUnits(t *testing.T) {
	dir := newDir(t)
	var paths []string
	for _, name := range unitNames {
		u := readUnit(t, name)
		for key, want := range map[string]string{"Type": "notify", "DynamicUser": "yes", "ProtectSystem": "strict",
			"StateDirectory": strings.TrimSuffix(name, ".service"), "Restart": "on-failure", "NoNewPrivileges": "yes", "CapabilityBoundingSet": ""} {
			if got := u.one(t, key); got != want {
				t.Errorf("%s: %s=%s; want %s", name, key, got, want)
			}
		}
		if u.one(t, "WatchdogSec") == "" || u.one(t, "LimitNOFILE") == "" {
			t.Errorf("%s: no watchdog or no limit of files", name)
		}
		program, _, _ := strings.Cut(u.one(t, "ExecStart"), " ")
		if program != "/usr/local/bin/"+strings.TrimSuffix(name, ".service") {
			t.Errorf("%s runs %s", name, program)
		}
		text, err := os.ReadFile(filepath.Join("systemd", name))
		must(t, err)
		base := filepath.Base(program)
		installed := strings.ReplaceAll(string(text), "="+program, "="+filepath.Join(built(t)[base].root, base))
		writeFile(t, dir, name, installed)
		paths = append(paths, filepath.Join(dir, name))
	}
	// It prints what it does not understand, and ends well all the same.
	if out := output(t, exec.Command("systemd-analyze", append([]string{"verify", "--man=no", "--recursive-errors=one"}, paths...)...)); out != "" {
		t.Errorf("systemd-analyze verify says:\n%s", out)
	}
	for _, path := range paths {
		out := output(t, exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", path))
		if !strings.Contains(out, " OK ") {
			t.Errorf("systemd-analyze security says:\n%s", out)
		}
	}
}

// A machine is a root in which units' programs run, and the manager's end of their notifications.
type machine struct {
	root  string
	heard map[string]<-chan string // what the manager was told, by the names of units
	calls map[string]string        // files of what strace saw
}

// swap returns text with the paths of a machine replaced by those below its root.
func (m *machine) swap(text string) string {
	return regexp.MustCompile(`([ =])/(etc|usr/local|var)/`).ReplaceAllString(text, "${1}"+m.root+"/$2/")
}

// install does what docs/operate.md says, but for the call of systemctl that ends it.
func (m *machine) install(t *testing.T, begins, name string) (printed string) {
	t.Helper()
	commands, ok := strings.CutSuffix(example(t, "sh", begins), "systemctl enable --now "+name+"\n")
	if !ok {
		t.Errorf("docs/operate.md does not end the installation of %s by enabling it", name)
	}
	commands = strings.ReplaceAll(commands, `"$(go env GOPATH)/bin/`+name+`"`, filepath.Join(built(t)[name].root, name))
	cmd := exec.Command("sh", "-ec", m.swap(commands))
	cmd.Dir = repository
	cmd.Env = []string{"PATH=" + programs(t) + ":" + os.Getenv("PATH")}
	printed = output(t, cmd)
	for _, path := range []string{"/usr/local/bin/" + name, "/etc/systemd/system/" + name + ".service"} {
		if _, err := os.Stat(m.root + path); err != nil {
			t.Errorf("after the installation of %s: %v", name, err)
		}
	}
	return printed
}

// watchdog is WATCHDOG_USEC: with 30 s the test would wait for 15.
const watchdog = "400000"

// start runs a unit's program as systemd does: as a user of its own, with the directories, the
// credentials and the environment of its settings.
func (m *machine) start(t *testing.T, u unit, user int, replace *strings.Replacer) *process {
	t.Helper()
	socket := "/run/systemd/" + u.name
	must(t, os.MkdirAll(m.root+"/run/systemd", 0o755))
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: m.root + socket})
	must(t, err, os.Chmod(m.root+socket, 0o777))
	m.heard[u.name] = hear(t, conn)
	m.calls[u.name] = filepath.Join(newDir(t), "calls")
	box := container{image: &image{root: m.root}, user: user, group: user, strace: m.calls[u.name]}
	box.env = []string{"NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=" + watchdog}
	for _, d := range []struct{ key, base, variable string }{
		{"StateDirectory", "/var/lib/", "STATE_DIRECTORY"}, {"CacheDirectory", "/var/cache/", "CACHE_DIRECTORY"},
	} {
		for _, name := range u.settings[d.key] {
			path := d.base + name
			must(t, os.MkdirAll(m.root+path, 0o755), os.Chmod(m.root+path, 0o700))
			output(t, exec.Command("chown", "-R", "61184:61184", m.root+path))
			box.mounts = append(box.mounts, mount{m.root + path, path, false})
			box.env = append(box.env, d.variable+"="+path)
		}
	}
	for _, c := range u.settings["LoadCredential"] {
		id, from, _ := strings.Cut(c, ":")
		to := "/run/credentials/" + u.name
		must(t, os.MkdirAll(m.root+to, 0o755))
		keys, err := os.ReadDir(m.root + from)
		must(t, err)
		for _, k := range keys {
			data, err := os.ReadFile(filepath.Join(m.root+from, k.Name()))
			path := filepath.Join(m.root+to, id+"_"+k.Name())
			must(t, err, os.WriteFile(path, data, 0o600), os.Chown(path, 0, user), os.Chmod(path, 0o440))
		}
		box.env = append(box.env, "CREDENTIALS_DIRECTORY="+to)
	}
	box.args = strings.Fields(replace.Replace(u.one(t, "ExecStart")))
	// The socket stays where it is: links lead to it, and mounts do not.
	box.mounts = append(box.mounts, mount{m.root + "/run/systemd", "/run/systemd", true})
	return box.start(t)
}

// hear reads what comes until the test ends, as a manager does all the time: the socket takes a few
// messages, and then no more.
func hear(t *testing.T, conn *net.UnixConn) <-chan string {
	t.Helper()
	heard := make(chan string, 1<<14) // of signs of life, for an hour
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		defer close(heard)
		for b := make([]byte, 4096); ; {
			n, err := conn.Read(b)
			if err != nil {
				return // it is closed
			}
			heard <- string(b[:n])
		}
	}()
	t.Cleanup(func() {
		conn.Close()
		<-ended
	})
	return heard
}

// told waits until the manager is told want; until then it may be told what is in between.
func (m *machine) told(t *testing.T, name, want string, between ...string) {
	t.Helper()
	for late := time.After(patience); ; {
		select {
		case got := <-m.heard[name]:
			if got == want {
				return
			}
			if !slices.Contains(between, got) {
				t.Errorf("%s told %q; want %s", name, got, want)
			}
		case <-late:
			t.Fatalf("%s did not tell %s", name, want)
		}
	}
}

// TestUnitsRun installs both units as docs/operate.md says and runs their programs as systemd does:
// a log that the witness cosigns, on a directory.
func TestUnitsRun(t *testing.T) {
	m := &machine{root: newDir(t), heard: map[string]<-chan string{}, calls: map[string]string{}}
	must(t, os.MkdirAll(m.root+"/etc/systemd/system", 0o755), os.MkdirAll(m.root+"/var/lib", 0o755)) // they are there
	server, witness := loopback.Address(t), loopback.Address(t)
	replace := strings.NewReplacer("127.0.0.1:8090", server, "127.0.0.1:7380", witness)
	log := m.install(t, `install -D -m 0755 "$(go env GOPATH)/bin/tallywood" `, "tallywood")
	about := m.install(t, `install -D -m 0755 "$(go env GOPATH)/bin/tallywood-witness" `, "tallywood-witness")
	witnessVKey, _, _ := strings.Cut(about, "\n")
	vkey := field(t, log, "vkey ")
	writeFile(t, m.root, "etc/tallywood/config.yaml", replace.Replace(example(t, "yaml", "address: ")))
	writeFile(t, m.root, "etc/tallywood-witness/logs.txt", "logs/v0\nvkey "+vkey+"\nqpd 86400\ncontact admin@example.org\n")
	writeFile(t, m.root, "etc/tallywood/policy.txt", "log "+vkey+"\nwitness w1 "+witnessVKey+" http://"+witness+"\ngroup all 1 w1\nquorum all\n")

	const user = 61184 // the first that systemd gives to a DynamicUser
	units := map[string]unit{}
	running := map[string]*process{}
	for _, name := range unitNames { // the log is started first: it waits for its witness
		units[name] = readUnit(t, name)
		running[name] = m.start(t, units[name], user, replace)
		m.told(t, name, "READY=1")
		m.told(t, name, "WATCHDOG=1")
		m.told(t, name, "WATCHDOG=1")
	}
	m.told(t, "tallywood.service", "STATUS=ready http://"+server, "WATCHDOG=1")
	for range 3 {
		addEntry(t, "http://"+server)
	}
	must(t, running["tallywood-witness.service"].cmd.Process.Signal(syscall.SIGHUP))
	for _, name := range unitNames {
		running[name].stop(t)
		m.told(t, name, "STOPPING=1", "WATCHDOG=1")
		m.checkCalls(t, units[name])
	}
}

var (
	callOf   = regexp.MustCompile(`^\d+ +([a-z_0-9]+)\((.*)`)
	resumed  = regexp.MustCompile(`^\d+ +(<\.\.\. |---|\+\+\+)`)
	familyOf = regexp.MustCompile(`^AF_[A-Z0-9]+`)
)

// checkCalls compares the system calls of a unit's program with what its settings leave it: there
// is no systemd here that would refuse the others.
func (m *machine) checkCalls(t *testing.T, u unit) {
	t.Helper()
	var text string
	eventually(t, func() error { // strace writes on when the program has ended
		data, err := os.ReadFile(m.calls[u.name])
		if text = string(data); err == nil && !strings.Contains(text[max(0, len(text)-200):], "+++ exited with") {
			err = errors.New("strace has not written the end")
		}
		return err
	})
	_, text, ok := strings.Cut(text, `execve("`+strings.Fields(u.one(t, "ExecStart"))[0]+`"`)
	if !ok {
		t.Fatalf("%s: strace did not see its program start", u.name)
	}
	allowed := allowedCalls(t, u.settings["SystemCallFilter"])
	families := strings.Fields(u.one(t, "RestrictAddressFamilies"))
	_, text, _ = strings.Cut(text, "\n")
	seen := map[string]bool{}
	for line := range strings.Lines(text) {
		call := callOf.FindStringSubmatch(line)
		switch {
		case call == nil && resumed.MatchString(line):
		case strings.Contains(line, " ???( <unfinished"): // a thread that was gone before its call could be read
		case call == nil:
			t.Fatalf("%s: a line of strace that this test cannot read: %s", u.name, line)
		case !allowed[call[1]] && !seen[call[1]]:
			t.Errorf("%s: SystemCallFilter forbids %s", u.name, line)
		case call[1] == "socket" && !slices.Contains(families, familyOf.FindString(call[2])):
			t.Errorf("%s: RestrictAddressFamilies forbids %s", u.name, line)
		case call[1] == "mmap" && strings.Contains(line, "PROT_WRITE|PROT_EXEC"), call[1] == "mprotect" && strings.Contains(line, "PROT_EXEC"):
			t.Errorf("%s: MemoryDenyWriteExecute forbids %s", u.name, line)
		case strings.Contains(line, "CLONE_NEW"):
			t.Errorf("%s: RestrictNamespaces forbids %s", u.name, line)
		}
		if call != nil {
			seen[call[1]] = true
		}
	}
	if len(seen) < 20 || !seen["fdatasync"] && !seen["fsync"] {
		t.Errorf("%s: strace saw only %v", u.name, slices.Sorted(maps.Keys(seen)))
	}
}

// allowedCalls returns the system calls that the values of SystemCallFilter leave: the first lists
// what is allowed, those that begin with ~ take from it.
func allowedCalls(t *testing.T, filters []string) map[string]bool {
	t.Helper()
	sets := map[string][]string{}
	name := ""
	for line := range strings.Lines(output(t, exec.Command("systemd-analyze", "--no-pager", "syscall-filter"))) {
		word := strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "@"):
			name = word
		case word != "" && !strings.HasPrefix(word, "#"):
			sets[name] = append(sets[name], word)
		}
	}
	allowed := map[string]bool{}
	var set func(member string, value bool)
	set = func(member string, value bool) {
		if !strings.HasPrefix(member, "@") {
			allowed[member] = value
			return
		}
		if sets[member] == nil {
			t.Fatalf("systemd has no set %s", member)
		}
		for _, m := range sets[member] {
			set(m, value)
		}
	}
	set("@default", true)
	for _, f := range filters {
		list, not := strings.CutPrefix(f, "~")
		for _, member := range strings.Fields(list) {
			set(member, !not)
		}
	}
	return allowed
}
