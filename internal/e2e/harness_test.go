package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"tallywood/internal/loopback"
	"tallywood/storage/storagetest"
)

// bin is the directory of the programs under test and of the clients, built once.
var bin string

// patience bounds every wait for something that happens soon: on a machine that does much else, "soon"
// may be a hundred times later. Only a test that fails waits for so long.
const patience = 3 * time.Minute

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "tallywood-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = dir
	build := exec.Command("go", "build", "-o", dir, "tallywood/cmd/tallywood", "tallywood/cmd/tallywood-witness")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the programs under test: %v\n%s", err, out)
		return 1
	}
	flag.Parse()
	if flag.Lookup("test.run").Value.String() == "" {
		// All tests run: what takes a minute to download comes while others do.
		early := make(chan struct{})
		go func() { defer close(early); _, _ = npmDirectory() }() // the tests that need it see the error
		defer func() { <-early }()
	}
	return m.Run()
}

// install builds a client from the Go module proxy, once for all tests.
func install(t *testing.T, pkg, version string) string {
	t.Helper()
	return installIn(t, bin, pkg, version)
}

// installIn is install into dir, for a program of which two versions are wanted.
func installIn(t *testing.T, dir, pkg, version string) string {
	t.Helper()
	installMu.Lock()
	defer installMu.Unlock()
	path := filepath.Join(dir, filepath.Base(pkg))
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if out, err := download(func() *exec.Cmd {
		// Compiling takes most of the time: nothing is inlined, and there is nothing for debuggers.
		cmd := exec.Command("go", "install", storagetest.QuickBuild, "-ldflags=-s -w", pkg+"@"+version)
		cmd.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-buildvcs=false")
		cmd.Dir = bin // outside the module: its go.mod must not decide the client's versions
		return cmd
	}); err != nil {
		t.Fatalf("installing %s@%s: %v\n%s", pkg, version, err, out)
	}
	return path
}

// download runs a command that downloads something, three times at most: networks fail for a moment.
func download(command func() *exec.Cmd) (out []byte, err error) {
	for range 3 {
		if out, err = command().CombinedOutput(); err == nil {
			break
		}
	}
	return out, err
}

var installMu sync.Mutex

// A process is a server under test.
type process struct {
	cmd    *exec.Cmd
	stderr *lockedBuffer
	lines  []string // standard output up to and with what came with the ready line
	exited chan struct{}
	err    error // of Wait, once exited is closed
}

// lockedBuffer is a bytes.Buffer for several goroutines.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// start starts one of our programs and waits for the line that begins with "ready", plus more
// lines after it.
func start(t *testing.T, more int, args ...string) *process {
	t.Helper()
	p, err := tryStart(more, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.stop(t) })
	return p
}

func tryStart(more int, args ...string) (*process, error) {
	p := &process{cmd: exec.Command(filepath.Join(bin, args[0]), args[1:]...), stderr: &lockedBuffer{}, exited: make(chan struct{})}
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	lines := make(chan string, 16)
	go func() {
		sc := bufio.NewScanner(out)
		for sc.Scan() {
			lines <- sc.Text()
		}
		close(lines)
		p.err = p.cmd.Wait()
		close(p.exited)
	}()
	deadline := time.After(max(patience, time.Duration(*longLog)*time.Millisecond)) // an index may be rebuilt
	for seen := -1; seen < more; {
		select {
		case line, ok := <-lines:
			if !ok {
				<-p.exited
				return nil, fmt.Errorf("%v ended before it was ready: %w\n%s", args, p.err, p.stderr)
			}
			if seen >= 0 || strings.HasPrefix(line, "ready") {
				p.lines = append(p.lines, line)
				seen++
			}
		case <-deadline:
			p.kill()
			return nil, fmt.Errorf("%v was not ready in time\n%s", args, p.stderr)
		}
	}
	go func() {
		for range lines { // keep the pipe empty
		}
	}()
	return p, nil
}

// kill is kill -9.
func (p *process) kill() {
	// It may have ended by itself.
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// stop asks the process to end, as an operator would, and wants a clean end.
func (p *process) stop(t *testing.T) {
	t.Helper()
	select {
	case <-p.exited:
		return
	default:
	}
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("stopping: %v", err)
	}
	select {
	case <-p.exited:
		if p.err != nil {
			t.Errorf("%v ended with %v after SIGTERM\n%s", p.cmd.Args, p.err, p.stderr)
		}
	case <-time.After(patience):
		p.kill()
		t.Errorf("%v did not end within %v after SIGTERM\n%s", p.cmd.Args, patience, p.stderr)
	}
}

// A stack is a running `tallywood up`.
type stack struct {
	*process
	dir, url, client string
	sign, verify     string // the two commands it prints
}

// up starts a stack in dir on a port that it finds free whenever it is started again.
func up(t *testing.T, dir string, args ...string) *stack {
	t.Helper()
	p := start(t, 2, append([]string{"tallywood", "up", "--data", dir, "--address", loopback.Address(t)}, args...)...)
	return readStack(t, p, dir)
}

func readStack(t *testing.T, p *process, dir string) *stack {
	t.Helper()
	words := strings.SplitN(p.lines[0], " ", 3)
	if len(words) != 3 || words[0] != "ready" {
		t.Fatalf("ready line %q", p.lines[0])
	}
	return &stack{process: p, dir: dir, url: words[1], client: words[2], sign: p.lines[1], verify: p.lines[2]}
}

func (s *stack) issuer() string { return s.url + "/dev/oidc" }

// token gets a development token.
func (s *stack) token(t *testing.T, email string) string {
	t.Helper()
	return strings.TrimSpace(get(t, s.issuer()+"/token?email="+email, http.StatusOK))
}

// get fetches a URL and wants a status.
func get(t *testing.T, url string, status int) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("GET %s: %s; want %d\n%s", url, resp.Status, status, body)
	}
	return string(body)
}

func statusOf(t *testing.T, url string) int {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode
}

// awaitReady waits until a server says that it is ready.
func awaitReady(t *testing.T, base string) {
	t.Helper()
	eventually(t, "readiness of "+base, func() bool { return statusOf(t, base+"/readyz") == http.StatusOK })
}

// command runs a program of bin in a home of its own and returns its output and exit code.
func command(t *testing.T, dir string, args ...string) (string, int) {
	t.Helper()
	return commandIn(t, dir, cleanEnv(t), args...)
}

// commandIn is command in an environment of the caller's.
func commandIn(t *testing.T, dir string, env []string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, args[0]), args[1:]...)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("%v: %v", args, err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// cleanEnv is an environment in which no client finds anything of its user's, nor the public
// trust root: the mirror is a closed port.
func cleanEnv(t *testing.T, more ...string) []string {
	t.Helper()
	return append([]string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "TUF_MIRROR=http://127.0.0.1:1"}, more...)
}

// must runs a program of bin and wants exit code 0.
func must(t *testing.T, dir string, args ...string) string {
	t.Helper()
	out, code := command(t, dir, args...)
	if code != 0 {
		t.Fatalf("%v: exit code %d\n%s", args, code, out)
	}
	return out
}

// writeFile writes a file to sign and returns its path.
func writeFile(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// eventually waits for something that happens soon.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !done(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no %s in %v", what, patience)
		}
	}
}
