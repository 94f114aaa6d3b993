package e2e_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/witness/policy"
)

// A rotation is what the clients of a log and its successor were told.
type rotation struct {
	signer  *signer
	client  *http.Client
	next    atomic.Int64 // entry
	pointed atomic.Int64 // how many were told where to go

	mu     sync.Mutex
	logs   map[string]*memory // by URL
	wrong  []error
	policy func() (*policy.Policy, error) // the clients', as it is at the time
}

func newRotation(t *testing.T, seed uint64, policy func() (*policy.Policy, error)) *rotation {
	t.Helper()
	signer, err := newSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return &rotation{signer: signer, logs: map[string]*memory{}, policy: policy,
		client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
}

func (r *rotation) fault(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wrong = append(r.wrong, fmt.Errorf(format, args...))
}

// report fails the test with what was found wrong by now.
func (r *rotation) report(t *testing.T) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, err := range r.wrong {
		t.Error(err)
	}
	r.wrong = nil
}

// of returns the memory of the log at a URL.
func (r *rotation) of(t *testing.T, url string) *memory {
	r.mu.Lock()
	defer r.mu.Unlock()
	m := r.logs[url]
	if m == nil {
		m = newMemory(t, r.signer.seed)
		r.logs[url] = m
	}
	if p, err := r.policy(); err == nil { // it grows while the log is rotated
		m.policy = p
	} else {
		r.wrong = append(r.wrong, err)
	}
	return m
}

// post posts entry n to a log. Any answer but a receipt that verifies, and the one of a frozen log that
// says where to go, is wrong; next is where.
func (r *rotation) post(t *testing.T, ctx context.Context, log, at string, n int64) (next string, ok bool) {
	e, err := r.signer.entry(n)
	if err != nil {
		r.fault("%w", err)
		return "", false
	}
	var status int
	var header http.Header
	var body []byte
	err = insist(func() error {
		if status, header, body, err = r.send(ctx, at, e.request); err == nil && status == http.StatusServiceUnavailable {
			return &statusError{status, header.Get("Retry-After"), string(body)}
		}
		return err
	})
	switch {
	case err != nil:
		r.fault("entry %d at %s: %w", n, at, err)
	case status == http.StatusCreated:
		got, err := openReceipt(n, e, body)
		if err != nil {
			r.fault("%w", err)
			return "", false
		}
		r.of(t, log).take(got, e)
		return "", true
	case status == http.StatusMethodNotAllowed:
		m := regexp.MustCompile(`^<(http[^>]+)>; rel="successor-version"$`).FindStringSubmatch(header.Get("Link"))
		lines := strings.Split(string(body), "\n")
		if m == nil || lines[0] != frozenLine || len(lines) != 3 || !strings.Contains(lines[1], m[1]) || lines[2] != "" {
			r.fault("entry %d at %s: the frozen log says %q, Link %q", n, at, body, header.Get("Link"))
			return "", false
		}
		r.pointed.Add(1)
		return m[1], false
	default:
		r.fault("entry %d at %s: status %d: %s", n, at, status, body)
	}
	return "", false
}

// send posts a request to a log.
func (r *rotation) send(ctx context.Context, at, request string) (status int, header http.Header, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, at+entriesPath, strings.NewReader(request))
	if err != nil {
		return 0, nil, nil, err
	}
	resp, err := r.client.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	body, err = io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, body, err
}

// signingURL is where a signing config sends signatures.
func signingURL(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "signing_config.v0.2.json"))
	if err != nil {
		return "", err
	}
	var config struct {
		Rekor []struct {
			URL string `json:"url"`
		} `json:"rekorTlogUrls"`
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return "", err
	}
	if len(config.Rekor) != 1 {
		return "", fmt.Errorf("the signing config names %d signature logs", len(config.Rekor))
	}
	return config.Rekor[0].URL, nil
}

// followers add entries, each where the signing config says at the time.
func (r *rotation) followers(t *testing.T, n int, dir string) (stop func()) {
	return r.load(n, func(ctx context.Context, n int64) {
		for ctx.Err() == nil {
			at, err := signingURL(dir)
			if err != nil {
				r.fault("%w", err)
				return
			}
			if next, ok := r.post(t, ctx, at, at, n); ok || next == "" {
				return
			}
		}
	})
}

// keepers add entries to the log at a URL for as long as it takes them, and then where it says.
func (r *rotation) keepers(t *testing.T, n int, at string) (stop func()) {
	var moved atomic.Pointer[string]
	moved.Store(&at)
	return r.load(n, func(ctx context.Context, n int64) {
		for ctx.Err() == nil {
			log := *moved.Load()
			next, ok := r.post(t, ctx, log, log, n)
			if ok || next == "" {
				return
			}
			moved.Store(&next)
		}
	})
}

// load keeps n clients busy until stop; each finishes what it has begun.
func (r *rotation) load(n int, add func(ctx context.Context, n int64)) (stop func()) {
	ended := make(chan struct{})
	var adders sync.WaitGroup
	for range n {
		adders.Go(func() {
			for {
				select {
				case <-ended:
					return
				case <-time.After(5 * time.Millisecond):
				}
				add(context.Background(), r.next.Add(1)-1)
			}
		})
	}
	return sync.OnceFunc(func() { close(ended); adders.Wait() })
}

// A shardStatus is what "log status" says of a log.
type shardStatus struct {
	Name, State, Successor string
	Start, End             *time.Time
	Size                   int64
}

func shardStatuses(t *testing.T, config string) map[string]shardStatus {
	t.Helper()
	var out struct{ Logs []shardStatus }
	text := must(t, filepath.Dir(config), "tallywood", "log", "status", "--config", config, "--json")
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	logs := map[string]shardStatus{}
	for _, l := range out.Logs {
		logs[l.Name] = l
	}
	return logs
}

func filePolicy(path string) func() (*policy.Policy, error) {
	return func() (*policy.Policy, error) {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		return policy.Parse(text)
	}
}
