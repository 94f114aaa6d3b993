package e2e_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// shell runs a line as a person would paste it, in dir.
func shell(t *testing.T, dir, line string) string {
	t.Helper()
	cmd := exec.Command("sh", "-c", line)
	cmd.Dir = dir
	cmd.Env = cleanEnv(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s\n%v\n%s", line, err, out)
	}
	return string(out)
}

// TestFirstSignatureComesWithinTenSeconds, as the README promises, which is far above what it takes. A
// machine that does much else gets more than one try.
func TestFirstSignatureComesWithinTenSeconds(t *testing.T) {
	for try := 1; ; try++ {
		took := firstSignature(t)
		if took <= 10*time.Second {
			return
		}
		if try == 3 {
			t.Fatalf("the first verified signature took %v, and no less the times before", took)
		}
	}
}

// firstSignature starts a new stack, at a port that the system picks, pastes the commands that it prints,
// and returns how long all that took.
func firstSignature(t *testing.T) time.Duration {
	t.Helper()
	work := t.TempDir()
	data := filepath.Join(work, "data")
	began := time.Now()
	s := readStack(t, start(t, 2, "tallywood", "up", "--data", data, "--address", "127.0.0.1:0"), data)
	ready := time.Since(began)
	out := shell(t, work, s.sign)
	out += shell(t, work, s.verify)
	took := time.Since(began)
	s.stop(t)
	t.Logf("ready after %v, first verified signature after %v", ready, took)
	if !strings.Contains(out, "verified: signed by you@example.com") {
		t.Errorf("the pasted commands printed:\n%s", out)
	}
	if !strings.Contains(out, "PUBLIC FOR EVER") {
		t.Errorf("the first use of an identity was not announced:\n%s", out)
	}
	return took
}

func TestRestartGoesOnWithTheSameLogsAndKeys(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	s := up(t, data)
	shell(t, work, s.sign)
	root := readFile(t, s.client, "trusted_root.json")
	verify := s.verify
	s.stop(t)
	// Without --address it comes back where it was.
	again := readStack(t, start(t, 2, "tallywood", "up", "--data", data), data)
	if again.url != s.url {
		t.Errorf("came back at %s; was at %s", again.url, s.url)
	}
	if got := readFile(t, again.client, "trusted_root.json"); got != root {
		t.Errorf("the trusted root changed:\n%s\n%s", root, got)
	}
	shell(t, work, verify)
	must(t, work, "tallywood", "sign", "hello.txt", "--yes", "--trust", again.client, "--identity-token", again.token(t, "you@example.com"))
	eventually(t, "a checkpoint of two entries", func() bool {
		return strings.HasPrefix(get(t, again.url+"/checkpoint", 200), "log.localhost\n2\n")
	})
	again.stop(t)
	// At another address everything follows, and old signatures stay good.
	moved := up(t, data)
	if moved.url == again.url {
		t.Fatal("the stack did not move")
	}
	for _, name := range []string{"config.yaml", "issuers.yaml", "monitor.yaml", "client/policy.txt", "client/signing_config.v0.2.json", "client/env"} {
		if text := readFile(t, data, name); strings.Contains(text, strings.TrimPrefix(again.url, "http://")) {
			t.Errorf("%s still speaks of %s:\n%s", name, again.url, text)
		}
	}
	shell(t, work, verify)
	shell(t, work, moved.sign)
	shell(t, work, moved.verify)
}

func readFile(t *testing.T, dir, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestASecondProcessOnTheDirectoryIsRefused(t *testing.T) {
	data := filepath.Join(t.TempDir(), "data")
	up(t, data)
	for _, args := range [][]string{
		{"tallywood", "up", "--data", data, "--address", "127.0.0.1:0"},
		{"tallywood", "serve", "--config", serveElsewhere(t, data)},
	} {
		out, code := command(t, t.TempDir(), args...)
		if code != 2 || !strings.Contains(out, "another process") {
			t.Errorf("%v: exit code %d\n%s", args, code, out)
		}
	}
}

// serveElsewhere is the configuration of data with another address.
func serveElsewhere(t *testing.T, data string) string {
	t.Helper()
	text := readFile(t, data, "config.yaml")
	first := strings.Index(text, "address: ")
	end := first + strings.IndexByte(text[first:], '\n')
	return writeFile(t, data, "elsewhere.yaml", text[:first]+"address: 127.0.0.1:0"+text[end:])
}

func TestServeRunsWhatUpWrote(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	s := up(t, data)
	sign, verify := s.sign, s.verify
	s.stop(t)
	p := start(t, 0, "tallywood", "serve", "--config", filepath.Join(data, "config.yaml"))
	if want := "ready " + s.url + " " + s.client; p.lines[0] != want {
		t.Errorf("got %q; want %q", p.lines[0], want)
	}
	shell(t, work, sign)
	shell(t, work, verify)
}

func TestUpRefusesDirectoriesItDoesNotKnow(t *testing.T) {
	made := filepath.Join(t.TempDir(), "made")
	up(t, made).stop(t)
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  string
	}{
		"foreign files":      {func(dir string) error { return os.WriteFile(filepath.Join(dir, "thesis.txt"), nil, 0o644) }, "thesis.txt"},
		"missing log key":    {remove(made, "keys/signatures.pem"), "signatures.pem"},
		"missing seed":       {remove(made, "keys/witness-2.seed"), "witness-2.seed"},
		"missing CA key":     {remove(made, "keys/ca.pem"), "ca.pem"},
		"missing policy":     {remove(made, "client/policy.txt"), "policy.txt"},
		"missing config":     {remove(made, "config.yaml"), "config.yaml is missing"},
		"another key":        {swap(made, "keys/signatures.pem", "keys/certificates-note.pem"), "policy"},
		"another format":     {edit(made, "objects/state/signatures/identity", `"format":1`, `"format":2`), "format"},
		"unknown config key": {edit(made, "config.yaml", "address:", "adress:"), "adress"},
		"lost objects":       {func(dir string) error { return removeIn(made, dir, "objects/state/signatures/log") }, "signatures"},
		"readable key":       {chmod(made, "keys/signatures.pem"), "0600"},
	} {
		dir := t.TempDir()
		if err := c.spoil(dir); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		before := listing(t, dir)
		out, code := command(t, dir, "tallywood", "up", "--data", dir, "--address", "127.0.0.1:0")
		if code == 0 || !strings.Contains(out, "tallywood: error: ") || !strings.Contains(out, c.want) {
			t.Errorf("%s: exit code %d; want an error with %q\n%s", name, code, c.want, out)
		}
		if name == "foreign files" && listing(t, dir) != before {
			t.Errorf("%s: the directory was changed", name)
		}
	}
}

func remove(from, name string) func(string) error {
	return func(dir string) error { return removeIn(from, dir, name) }
}

func removeIn(from, dir, name string) error {
	if err := exec.Command("cp", "-a", from+"/.", dir).Run(); err != nil {
		return err
	}
	return os.RemoveAll(filepath.Join(dir, name))
}

func swap(from, a, b string) func(string) error {
	return func(dir string) error {
		if err := removeIn(from, dir, "none"); err != nil {
			return err
		}
		return os.Rename(filepath.Join(dir, b), filepath.Join(dir, a))
	}
}

func edit(from, name, old, new string) func(string) error {
	return func(dir string) error {
		if err := removeIn(from, dir, "none"); err != nil {
			return err
		}
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.Contains(string(data), old) {
			return os.ErrInvalid
		}
		return os.WriteFile(path, []byte(strings.Replace(string(data), old, new, 1)), 0o600)
	}
}

func chmod(from, name string) func(string) error {
	return func(dir string) error {
		if err := removeIn(from, dir, "none"); err != nil {
			return err
		}
		return os.Chmod(filepath.Join(dir, name), 0o644)
	}
}

// listing names every file below dir.
func listing(t *testing.T, dir string) string {
	t.Helper()
	out, err := exec.Command("find", dir).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestUpServesLoopbackOnly(t *testing.T) {
	out, code := command(t, t.TempDir(), "tallywood", "up", "--address", "0.0.0.0:0")
	if code != 2 || !strings.Contains(out, "not a loopback address") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}
