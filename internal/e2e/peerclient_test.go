package e2e_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// peerTests builds the tests in testdata/rekortiles, which use the clients of sigstore/rekor-tiles
// unchanged, and returns a function that runs one of them in work with more in its environment.
func peerTests(t *testing.T, work string) func(name string, more ...string) string {
	t.Helper()
	installMu.Lock()
	defer installMu.Unlock()
	program := filepath.Join(bin, "rekortiles")
	if _, err := os.Stat(program); err != nil {
		// As these tests are built, and of the same versions: most of it is compiled already.
		build := exec.Command("go", "test", "-c", "-o", program)
		build.Dir = filepath.Join("testdata", "rekortiles")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("building the tests with the peer's clients: %v\n%s", err, out)
		}
	}
	return func(name string, more ...string) string {
		t.Helper()
		cmd := exec.Command(program, "-test.v", "-test.run", "^"+name+"$")
		cmd.Dir, cmd.Env = work, cleanEnv(t, more...)
		out, err := cmd.CombinedOutput()
		if err != nil || !regexp.MustCompile(`(?m)^--- PASS: `+name+` `).Match(out) {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
		return string(out)
	}
}

// TestThePeersOwnClients has the clients of sigstore/rekor-tiles write and read a log of ours, which
// is restarted meanwhile, and frozen in the end.
func TestThePeersOwnClients(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	s := up(t, data)
	run := peerTests(t, work)
	// Something is there already, so that the trees they see grow.
	for range 3 {
		addEntry(t, s.url)
	}
	awaitSize(t, s.url, 3)
	env := func() []string {
		return []string{"LOG_URL=" + s.url, "LOG_CLIENT=" + s.client, "LOG_REQUEST=" + filepath.Join(work, "request")}
	}
	run("TestWriteAndRead", env()...)
	run("TestSendAgain", env()...)
	s.stop(t)
	s = readStack(t, start(t, 2, "tallywood", "up", "--data", data), data)
	run("TestSendAgainLater", env()...)
	must(t, work, "tallywood", "log", "freeze", "signatures", "--config", filepath.Join(data, "config.yaml"))
	run("TestFrozen", env()...)
}

// TestAMonitorOfThePeersLibraries tails a log as rekor-monitor does: it takes the log's keys and
// address from a TUF repository, checks that the log grew consistently, and finds who signed. The
// address has no port, because the origin is taken from it; a proxy leads there.
func TestAMonitorOfThePeersLibraries(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	run := peerTests(t, work)
	sign := func(name, email string) {
		t.Helper()
		must(t, work, "tallywood", "sign", writeFile(t, work, name, name), "--yes", "--trust", s.client, "--identity-token", s.token(t, email))
	}
	files := clientFiles(t, s)
	files["signing_config.v0.2.json"] = readFile(t, "", signingConfigVia(t, s, work, "http://log.localhost"))
	repository := serveTUF(t, files)
	env := []string{"HTTP_PROXY=" + leadTo(t, s.url), "LOG_TUF=" + repository.url, "LOG_TUF_ROOT=" + repository.root,
		"LOG_POSITION=" + filepath.Join(work, "position")}
	sign("first", "bob@example.com")
	awaitSize(t, s.url, 1)
	if out := run("TestTail", env...); !strings.Contains(out, "found bob@example.com at 0\nread from 0 to 1\n") {
		t.Errorf("of the first entry the monitor wrote:\n%s", out)
	}
	// Over the edge of a tile, twice: in the middle of one, and to the end of another.
	addMany(t, s.url, 299)
	sign("second", "alice@example.com")
	awaitSize(t, s.url, 301)
	if out := run("TestTail", env...); !strings.Contains(out, "found alice@example.com at 300\nread from 1 to 301\n") || strings.Contains(out, "bob@") {
		t.Errorf("of the second identity the monitor wrote:\n%s", out)
	}
	sign("third", "carol@example.com")
	addMany(t, s.url, 210)
	awaitSize(t, s.url, 512)
	if out := run("TestTail", env...); !strings.Contains(out, "found carol@example.com at 301\nread from 301 to 512\n") || strings.Contains(out, "alice@") {
		t.Errorf("of the third identity the monitor wrote:\n%s", out)
	}
}

// addMany adds n entries, many at a time.
func addMany(t *testing.T, base string, n int64) {
	t.Helper()
	s, err := newSigner(uint64(n))
	if err != nil {
		t.Fatal(err)
	}
	errs := make(chan error)
	for i := range n {
		go func() {
			e, err := s.entry(i)
			if err == nil {
				_, err = insistOnAdding(t.Context(), http.DefaultClient, base, i, e)
			}
			errs <- err
		}()
	}
	for range n {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

// awaitSize waits until a checkpoint of size entries is published.
func awaitSize(t *testing.T, base string, size int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("checkpoint of %d entries", size), func() bool {
		tree, err := noteTree(get(t, base+"/checkpoint", http.StatusOK))
		return err == nil && tree.size == size
	})
}

// leadTo is a forward proxy that takes every host to target, as a name server and a load balancer
// would, and leaves the host of the request as it is.
func leadTo(t *testing.T, target string) string {
	t.Helper()
	to, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host
	}})
	t.Cleanup(server.Close)
	return server.URL
}
