package stack_test

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/stack"
	"tallywood/storage"
	"tallywood/storage/driver"
)

func TestCheckReadsWhatOpenWouldAndTouchesNothing(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		file, text string // "": the file is removed
		want       []string
	}{
		"log key":     {"keys/signatures.pem", "", []string{`log "signatures"`, "signatures.pem"}},
		"SCT key":     {"keys/certificates.pem", "no key", []string{`log "certificates"`, "no PEM block"}},
		"policy":      {"client/policy.txt", "quorum none\n", []string{`log "signatures"`, `log "certificates"`}},
		"CA chain":    {"keys/ca-chain.pem", "no chain", []string{`log "certificates"`, "opening ca: reading chain"}},
		"CA key":      {"keys/ca.pem", "", []string{"opening ca: reading key"}},
		"issuers":     {"issuers.yaml", "oidc-issuers: 1\n", []string{"opening ca: reading issuers"}},
		"TSA chain":   {"keys/tsa-chain.pem", "", []string{"opening tsa: reading chain"}},
		"seed":        {"keys/witness-2.seed", "00\n", []string{`opening witness "witness-2.localhost"`}},
		"login's key": {"keys/dev-oidc.pem", "", []string{"opening dev_oidc"}},
		"monitor":     {"monitor.yaml", "state: x\n", []string{"opening monitor"}},
	} {
		dir, cfg := create(t)
		if err := os.RemoveAll(cfg.Storage); err != nil {
			t.Fatal(err)
		}
		if err := stack.Check(cfg); err != nil {
			t.Fatalf("%s: before anything is wrong: %v", name, err)
		}
		path := filepath.Join(dir, c.file)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if c.text != "" {
			if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		err := stack.Check(cfg)
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v; want %q in it", name, err, want)
			}
		}
		if _, err := os.Stat(cfg.Storage); err == nil {
			t.Errorf("%s: the storage was touched", name)
		}
		if s, err := stack.Open(t.Context(), stack.Options{Config: cfg}); err == nil {
			t.Errorf("%s: what Check refuses was opened", name)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// run serves a stack until the test ends, and returns a channel that is closed when it is ready.
func run(t *testing.T, s *stack.Stack) <-chan struct{} {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ready, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln, nil, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("running: %v", err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return ready
}

// TestMonitorWatchesWhileALogIsNotReady lets the monitor follow a log elsewhere while that of this
// process cannot publish for want of witnesses.
func TestMonitorWatchesWhileALogIsNotReady(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{})
	var once sync.Once
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		once.Do(func() { close(asked) })
		http.NotFound(w, nil)
	}))
	defer elsewhere.Close()
	dir, _ := create(t)
	// Nobody answers where the policy looks for the witnesses.
	path := filepath.Join(dir, "monitor.yaml")
	write(t, path, strings.ReplaceAll(read(t, path), "http://"+here, elsewhere.URL))
	path = filepath.Join(dir, "client", "policy.txt")
	write(t, path, strings.ReplaceAll(read(t, path), here, "127.0.0.1:1"))
	s, err := stack.Open(t.Context(), stack.Options{Config: load(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	ready := run(t, s)
	select {
	case <-asked:
	case <-ready:
		t.Fatal("the log was ready without its witnesses")
	case <-time.After(time.Minute):
		t.Fatal("the monitor looked at nothing")
	}
}

// A lateBucket has no checkpoint before it is released, and counts who looks for one.
type lateBucket struct {
	storage.Bucket
	asked    chan struct{} // gets one for each look, as far as there is room
	released chan struct{}
}

func (b *lateBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	select {
	case <-b.released:
		return b.Bucket.Get(ctx, key, r)
	default:
	}
	select {
	case b.asked <- struct{}{}:
	default:
	}
	var none storage.Version
	return nil, none, fs.ErrNotExist
}

func TestReadyMeansThatCheckpointsCanBeRead(t *testing.T) {
	dir, _ := create(t)
	path := filepath.Join(dir, "client", "policy.txt")
	policy := read(t, path)
	write(t, path, policy[:strings.Index(policy, "witness ")]+"quorum none\n")
	path = filepath.Join(dir, "config.yaml")
	write(t, path, strings.Replace(read(t, path), "monitor: {config: monitor.yaml}\n", "", 1))
	s, err := stack.Open(t.Context(), stack.Options{Config: load(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	late := &lateBucket{asked: make(chan struct{}), released: make(chan struct{})}
	s.WrapBucket(func(b storage.Bucket) storage.Bucket { late.Bucket = b; return late })
	ready := run(t, s)
	for range 2 { // it has looked, found nothing, and looks again
		select {
		case <-late.asked:
		case <-ready:
			t.Fatal("clients were called before there was a checkpoint to read")
		case <-time.After(time.Minute):
			t.Fatal("nobody looked for the checkpoint")
		}
	}
	close(late.released)
	select {
	case <-ready:
	case <-time.After(time.Minute):
		t.Fatal("the stack did not become ready")
	}
}

func TestClientFilesHoldThePolicyUnlessItIsTheLogs(t *testing.T) {
	dir, cfg := create(t)
	policy := read(t, filepath.Join(dir, "client", "policy.txt"))
	cfg.ClientDir = filepath.Join(dir, "fresh")
	s, err := stack.Open(t.Context(), stack.Options{Config: cfg})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	changed, err := s.WriteClientFiles(t.Context())
	if err != nil || len(changed) != 4 {
		t.Fatalf("got %v, %v; want four files", changed, err)
	}
	if got := read(t, filepath.Join(cfg.ClientDir, "policy.txt")); got != policy {
		t.Errorf("the policy for clients is\n%s\nwant\n%s", got, policy)
	}
	// Where it is the log's own, under whatever name, it is not written.
	own := filepath.Join(dir, "client", "policy.txt")
	write(t, own, policy+"# ours\n")
	cfg.ClientDir = filepath.Join(dir, "linked")
	if err := os.Symlink("client", cfg.ClientDir); err != nil {
		t.Fatal(err)
	}
	if changed, err = s.WriteClientFiles(t.Context()); err != nil || len(changed) != 3 || read(t, own) != policy+"# ours\n" {
		t.Errorf("got %v, %v, and the policy\n%s", changed, err, read(t, own))
	}
}

// TestStackEndsWithALogThatCannotGoOn damages one of two logs between Open and Run.
func TestStackEndsWithALogThatCannotGoOn(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	var policy strings.Builder
	path := filepath.Join(dir, "client", "policy.txt")
	for line := range strings.Lines(read(t, path)) {
		if strings.HasPrefix(line, "log ") {
			policy.WriteString(line)
		}
	}
	write(t, path, policy.String()+"quorum none\n")
	s, err := stack.Open(t.Context(), stack.Options{Config: load(t, dir)})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := s.Bucket().Put(t.Context(), "logs/signatures/checkpoint", []byte("no checkpoint"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(t.Context(), ln, nil, func() {}) }()
	select {
	case err := <-ended:
		if _, damaged := errors.AsType[*driver.DamageError](err); !damaged || !strings.Contains(err.Error(), "signatures") {
			t.Errorf("Run = %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("the stack goes on with a log that cannot")
	}
}
