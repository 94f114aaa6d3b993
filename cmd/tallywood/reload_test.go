package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// newTerminal returns both ends of a pseudo-terminal.
func newTerminal(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// logFiles writes the configuration of a log without witnesses into a new directory.
func logFiles(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	var out, errw bytes.Buffer
	if code := run([]string{"key", "generate", filepath.Join(dir, "log.pem"), "--origin", "log.example.org"}, strings.NewReader(""), &out, &errw); code != exitFine {
		t.Fatalf("key generate: %d %s", code, &errw)
	}
	_, vkey, _ := strings.Cut(out.String(), "vkey ")
	vkey, _, _ = strings.Cut(vkey, "\n")
	for name, text := range map[string]string{
		"policy.txt": "log " + vkey + "\nquorum none\n",
		"config.yaml": `address: 127.0.0.1:0
storage: file:./objects
logs:
  - {name: signatures, kind: rekor, origin: log.example.org, key: file:log.pem, policy: policy.txt}
`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestServeEndsWithItsTerminal closes the terminal that the program was started from: the same
// signal that asks daemons to reload must end it then.
func TestServeEndsWithItsTerminal(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Fatal("this test makes terminals as Linux has them")
	}
	// Under nohup(1), which the tests may run under, the signal would be ignored from here down.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	dir := logFiles(t)
	master, slave := newTerminal(t)
	p := startSelf(t, func(cmd *exec.Cmd) {
		cmd.Stdin, cmd.SysProcAttr = slave, &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: 0}
	}, "serve", "--config", filepath.Join(dir, "config.yaml"))
	slave.Close()
	master.Close()
	p.ends(t)
}

// A self is this program as a process of its own.
type self struct {
	cmd  *exec.Cmd
	url  string
	text *bytes.Buffer // its log, to be read when it has ended
}

// startSelf starts the program with args, as prepare makes it, and waits until it is ready.
func startSelf(t *testing.T, prepare func(*exec.Cmd), args ...string) *self {
	t.Helper()
	path, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// testscript.Main runs the program under this name.
	p := &self{cmd: &exec.Cmd{Path: path, Args: append([]string{"tallywood"}, args...)}, text: &bytes.Buffer{}}
	p.cmd.Stderr = p.text
	prepare(p.cmd)
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // it may have ended by itself
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // else it might still write what the test made
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	words := strings.Fields(line)
	if err != nil || len(words) < 2 || words[0] != "ready" {
		_ = p.cmd.Wait()
		t.Fatalf("it printed %q: %v; its log:\n%s", line, err, p.text)
	}
	p.url = words[1]
	go func() { _, _ = io.Copy(io.Discard, out) }()
	return p
}

// ends waits until the program has ended, and wants it to end well.
func (p *self) ends(t *testing.T) {
	t.Helper()
	kill := time.AfterFunc(time.Minute, func() { _ = p.cmd.Process.Kill() })
	defer kill.Stop()
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("it ended with %v; its log:\n%s", err, p.text)
	}
}
