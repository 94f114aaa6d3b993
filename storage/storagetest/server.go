package storagetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"tallywood/internal/loopback"
)

// Versions of the servers that buckets are tried against. They are installed as programs, apart
// from this module.
const (
	versitygw     = "github.com/versity/versitygw/cmd/versitygw@v1.8.0"
	fakeGCSServer = "github.com/fsouza/fake-gcs-server@v1.56.1"
	s3rver        = "s3rver@3.7.1"
)

// QuickBuild is a flag of "go install" for a program that does not have to be fast: nothing is inlined,
// and there is nothing for debuggers. That is little more than half of the work. Programs built with it
// share what they have in common.
const QuickBuild = "-gcflags=all=-l -dwarf=false"

// Credentials of the S3 servers.
const (
	AccessKey = "test"
	SecretKey = "testtest"
)

// startTimeout bounds the wait for a server's first answer.
const startTimeout = 3 * time.Minute

// Versitygw starts an S3 server over the directory dir, with options of its own if any, and returns
// its endpoint. Several may share one directory. The server ends with the test.
func Versitygw(t testing.TB, dir string, options ...string) (endpoint string) {
	t.Helper()
	address := loopback.Address(t)
	args := slices.Concat([]string{"--port", address}, options, []string{"posix", dir})
	exited := start(t, exec.Command(Install(t, versitygw), args...), "ROOT_ACCESS_KEY="+AccessKey, "ROOT_SECRET_KEY="+SecretKey)
	return await(t, address, exited)
}

// VersitygwAdmin runs an administrator's command on a server that was started with --iam-dir.
func VersitygwAdmin(t testing.TB, endpoint string, args ...string) {
	t.Helper()
	args = slices.Concat([]string{"admin", "--access", AccessKey, "--secret", SecretKey, "--endpoint-url", endpoint}, args)
	if out, err := exec.Command(Install(t, versitygw), args...).CombinedOutput(); err != nil {
		t.Fatalf("versitygw %v: %v\n%s", args, err, out)
	}
}

// VersitygwProgram returns the path of the S3 server's program, for a test that starts it in its own
// way.
func VersitygwProgram(t testing.TB) string {
	t.Helper()
	return Install(t, versitygw)
}

// FakeGCSServer starts a GCS server with its objects in memory and returns its endpoint.
func FakeGCSServer(t testing.TB) (endpoint string) {
	t.Helper()
	address := loopback.Address(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	exited := start(t, exec.Command(Install(t, fakeGCSServer), "-scheme", "http", "-backend", "memory",
		"-host", host, "-port", port, "-public-host", address, "-log-level", "error"))
	return await(t, address, exited)
}

// S3rver starts an S3 server that ignores every condition, and returns its endpoint. Both its keys
// are "S3RVER".
func S3rver(t testing.TB, bucket string) (endpoint string) {
	t.Helper()
	program := installS3rver(t)
	address := loopback.Address(t)
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	exited := start(t, exec.Command(program, "-d", t.TempDir(), "-a", host, "-p", port, "-s",
		"--allow-mismatched-signatures", "--configure-bucket", bucket))
	return await(t, address, exited)
}

// installS3rver returns the path of the program, which it installs unless an earlier test has.
func installS3rver(t testing.TB) string {
	t.Helper()
	installMu.Lock()
	defer installMu.Unlock()
	dir := toolDir(t, s3rver)
	modules := filepath.Join(dir, "node_modules")
	program := filepath.Join(modules, ".bin", "s3rver")
	if _, err := os.Stat(program); err == nil {
		return program
	}
	fresh, err := os.MkdirTemp(dir, "install")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	npm := exec.Command("npm", "install", "--no-fund", "--no-audit", "--loglevel=error", "--prefix", fresh, s3rver)
	if out, err := npm.CombinedOutput(); err != nil {
		t.Fatalf("installing %s: %v\n%s", s3rver, err, out)
	}
	// Tests of other packages may be at it too, and one of them may have been faster.
	err = os.Rename(filepath.Join(fresh, "node_modules"), modules)
	if _, serr := os.Stat(program); serr != nil {
		t.Fatalf("installing %s: %v", s3rver, errors.Join(err, serr))
	}
	return program
}

var installMu sync.Mutex

// Install returns the path of a program of the Go module proxy, PATH@VERSION, which it installs with
// QuickBuild, unless an earlier test has.
func Install(t testing.TB, module string) string {
	t.Helper()
	installMu.Lock()
	defer installMu.Unlock()
	dir := toolDir(t, module)
	path, _, _ := bytes.Cut([]byte(module), []byte("@"))
	program := filepath.Join(dir, filepath.Base(string(path)))
	if _, err := os.Stat(program); err == nil {
		return program
	}
	fresh, err := os.MkdirTemp(dir, "install")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(fresh)
	cmd := exec.Command("go", "install", QuickBuild, "-ldflags=-s -w", module)
	cmd.Env = append(os.Environ(), "GOBIN="+fresh, "GOFLAGS=-buildvcs=false")
	cmd.Dir = fresh // outside the module: its go.mod must not decide the program's versions
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("installing %s: %v\n%s", module, err, out)
	}
	// Tests of other packages may be at it too: a rename shows whole programs only.
	if err := os.Rename(filepath.Join(fresh, filepath.Base(program)), program); err != nil {
		t.Fatal(err)
	}
	return program
}

// toolDir returns the directory for one version of one tool, kept between runs.
func toolDir(t testing.TB, tool string) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(cache, "tallywood-tests", filepath.Base(tool))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start starts a server and ends it with the test. The channel is closed when it has ended.
func start(t testing.TB, cmd *exec.Cmd, env ...string) (exited <-chan struct{}) {
	t.Helper()
	cmd.Env = append(os.Environ(), env...)
	out := new(lockedBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = cmd.Wait() // says that it was killed
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-done
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(cmd.Path), out)
		}
	})
	return done
}

// await waits until a server answers at address, whatever it answers.
func await(t testing.TB, address string, exited <-chan struct{}) (endpoint string) {
	t.Helper()
	endpoint = "http://" + address
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err == nil {
			res.Body.Close()
			return endpoint
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("no answer at %s in %v: %v", endpoint, startTimeout, err)
		}
		select {
		case <-exited:
			t.Fatalf("the server at %s ended before it answered", endpoint)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lockedBuffer is a buffer that a process may still write while it is read.
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
	return fmt.Sprintf("%.4096s", b.b.String())
}
