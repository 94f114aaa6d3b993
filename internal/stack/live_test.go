package stack_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

// A live is a stack that serves at its own address, so that its witnesses can be reached.
type live struct {
	*stack.Stack
	dir, url, metrics string
	logged            *logText
	started           chan struct{} // closed once Run calls ready
}

// serve runs a new development stack until the test ends, after prepare has changed its files and
// opened what was opened. It does not wait until it is ready.
func serve(t *testing.T, o stack.Options, prepare func(dir string), opened ...func(*stack.Stack)) *live {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	metrics, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &live{dir: filepath.Join(t.TempDir(), "data"), url: "http://" + ln.Addr().String(),
		metrics: "http://" + metrics.Addr().String() + "/metrics", logged: &logText{}, started: make(chan struct{})}
	if err := stack.CreateDev(l.dir, ln.Addr().String(), nil); err != nil {
		t.Fatal(err)
	}
	// Nobody loses patience with a machine that does much else, unless a test is about that.
	edit(t, filepath.Join(l.dir, "config.yaml"), "quorum_timeout: 3s", "quorum_timeout: 1m")
	if prepare != nil {
		prepare(l.dir)
	}
	o.Config, o.Log = load(t, l.dir), slog.New(slog.NewTextHandler(l.logged, nil))
	o.Reread = func() (*config.Config, error) { return config.Load(filepath.Join(l.dir, "config.yaml")) }
	if l.Stack, err = stack.Open(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	for _, f := range opened {
		f(l.Stack)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- l.Run(ctx, ln, metrics, func() { close(l.started) }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("running: %v", err)
		}
		if err := l.Close(); err != nil {
			t.Errorf("closing: %v", err)
		}
	})
	return l
}

// ready waits until the stack is, and has read its logs' first checkpoints.
func (l *live) ready(t *testing.T) {
	t.Helper()
	eventually(t, "the stack to be ready", func() bool {
		select {
		case <-l.started:
			return l.Ready() == nil
		default:
			return false
		}
	})
}

// get returns what is at a path, with its status.
func (l *live) get(t *testing.T, path string) (int, string) {
	t.Helper()
	return fetch(t, l.url+path)
}

func fetch(t *testing.T, url string) (int, string) {
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
	return resp.StatusCode, string(body)
}

// newRequest returns a request to log a signature that nobody made before.
func newRequest(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(spki)
	sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Sprintf(`{"hashedRekordRequestV002":{"digest":%q,"signature":{"content":%q,"verifier":{"publicKey":{"rawBytes":%q},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}}}}`,
		b64(digest[:]), b64(sig), b64(spki))
}

// post sends a request to the signature log.
func (l *live) post(t *testing.T, request string, header ...string) (int, string) {
	t.Helper()
	return send(t, l.url+"/api/v2/log/entries", request, header...)
}

// add posts a request, and posts it again while a quorum comes too late, and returns the answer.
func (l *live) add(t *testing.T, request string) (status int, body string) {
	t.Helper()
	eventually(t, "an answer that is not to come back later", func() bool {
		status, body = l.post(t, request)
		return status != http.StatusServiceUnavailable
	})
	return status, body
}

// losesPatience is for tests that wait until the log of dir waits no longer for witnesses.
func losesPatience(t *testing.T, dir string, after time.Duration) {
	t.Helper()
	edit(t, filepath.Join(dir, "config.yaml"), "quorum_timeout: 1m", "quorum_timeout: "+after.String())
}

// send posts a body with headers.
func send(t *testing.T, url, body string, header ...string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(answer)
}

// cosigned counts the cosignatures of the checkpoint at a path.
func (l *live) cosigned(t *testing.T, path string) int {
	t.Helper()
	_, note := l.get(t, path)
	return strings.Count(note, "\n— witness-")
}

func eventually(t *testing.T, what string, met func() bool) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); !met(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}
