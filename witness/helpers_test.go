package witness_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/witness"
	"tallywood/witness/policy"
)

const (
	origin = "log.example.org"
	name   = "witness.example.org"
)

// seed derives a seed from a label, so that every run uses the same keys.
func seed(label string) [32]byte { return sha256.Sum256([]byte(label)) }

// A testLog is a log that grows in memory and signs whatever a test wants.
type testLog struct {
	origin string
	signer note.Signer
	key    policy.Key

	mu     sync.Mutex
	hashes []tlog.Hash // as golang.org/x/mod/sumdb/tlog stores them
	size   int64
}

func newTestLog(t testing.TB, origin string) *testLog {
	t.Helper()
	s := seed("log " + origin)
	private := ed25519.NewKeyFromSeed(s[:])
	signer, err := keys.NoteSigner(origin, private)
	if err != nil {
		t.Fatal(err)
	}
	key, err := policy.ParseVKey(keys.VKey(origin, keys.AlgEd25519, private.Public().(ed25519.PublicKey)))
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{origin: origin, signer: signer, key: key}
}

func (l *testLog) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = l.hashes[x]
		}
		return out, nil
	})
}

// grow appends entries until the log has the given size. Other contents make another log.
func (l *testLog) grow(t testing.TB, size int64, content string) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for ; l.size < size; l.size++ {
		hs, err := tlog.StoredHashes(l.size, fmt.Appendf(nil, "%s %d", content, l.size), l.reader())
		if err != nil {
			t.Fatal(err)
		}
		l.hashes = append(l.hashes, hs...)
	}
}

func (l *testLog) tree(t testing.TB, size int64) policy.Tree {
	t.Helper()
	root := tlog.Hash(sha256.Sum256(nil))
	if size > 0 {
		var err error
		l.mu.Lock()
		defer l.mu.Unlock()
		if root, err = tlog.TreeHash(size, l.reader()); err != nil {
			t.Fatal(err)
		}
	}
	return policy.Tree{Origin: l.origin, Size: size, Root: root}
}

// checkpoint returns the signed checkpoint of a size the log has or had.
func (l *testLog) checkpoint(t testing.TB, size int64) string {
	t.Helper()
	return l.sign(t, l.tree(t, size).Text())
}

func (l *testLog) sign(t testing.TB, text string) string {
	t.Helper()
	sig, err := l.signer.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return text + "\n" + policy.FormatSignature(l.signer.Name(), l.signer.KeyHash(), sig)
}

// proof returns the lines of a consistency proof.
func (l *testLog) proof(t testing.TB, old, size int64) string {
	t.Helper()
	if old == 0 || old == size {
		return ""
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := tlog.ProveTree(size, old, l.reader())
	if err != nil {
		t.Fatal(err)
	}
	return lines(p...)
}

func lines(hashes ...tlog.Hash) string {
	var b strings.Builder
	for _, h := range hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return b.String()
}

// request returns an honest add-checkpoint request from old to size.
func (l *testLog) request(t testing.TB, old, size int64) string {
	t.Helper()
	return fmt.Sprintf("old %d\n%s\n%s", old, l.proof(t, old, size), l.checkpoint(t, size))
}

func hashOf(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}

func testKeys(t testing.TB) keys.Witness {
	t.Helper()
	k, err := keys.WitnessFromSeed(name, seed("witness"))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// A clock is a settable time.
type clock struct{ unix atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.unix.Store(1_800_000_000)
	return c
}

// newClockNow is a clock that stands at the real time.
func newClockNow() *clock {
	c := newClock()
	c.unix.Store(time.Now().Unix())
	return c
}

func (c *clock) now() time.Time      { return time.Unix(c.unix.Load(), 0) }
func (c *clock) add(d time.Duration) { c.unix.Add(int64(d / time.Second)) }

// A server is a witness behind HTTP.
type server struct {
	*witness.Witness
	url string
}

func serve(t testing.TB, bucket storage.Bucket, c *clock, logs ...*testLog) *server {
	t.Helper()
	o := witness.Options{Keys: testKeys(t), Bucket: bucket, About: "run by a test", Now: c.now}
	for _, l := range logs {
		o.Logs = append(o.Logs, witness.Log{Origin: l.origin, Keys: []policy.Key{l.key}})
	}
	return serveOptions(t, o)
}

func serveOptions(t testing.TB, o witness.Options) *server {
	t.Helper()
	w, err := witness.New(o)
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(w.Handler())
	t.Cleanup(srv.Close)
	return &server{Witness: w, url: srv.URL}
}

// An answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   string
}

func do(t testing.TB, method, url, body string) answer {
	t.Helper()
	return doWith(t, method, url, body, http.Header{})
}

// doWith sends a request with more of a header.
func doWith(t testing.TB, method, url, body string, header http.Header) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(data)}
}

func (s *server) add(t testing.TB, body string) answer {
	t.Helper()
	return do(t, http.MethodPost, s.url+"/add-checkpoint", body)
}

// mustAdd sends a request that must be cosigned, and returns the lines.
func (s *server) mustAdd(t testing.TB, body string) string {
	t.Helper()
	a := s.add(t, body)
	if a.status != http.StatusOK {
		t.Fatalf("add-checkpoint: %d %s", a.status, a.body)
	}
	return a.body
}

// stored returns what the monitoring prefix serves, or "" when that is 404.
func (s *server) stored(t testing.TB, l *testLog) string {
	t.Helper()
	a := do(t, http.MethodGet, s.url+"/"+hashOf(l.origin)+"/checkpoint", "")
	switch a.status {
	case http.StatusOK:
		return a.body
	case http.StatusNotFound:
		return ""
	}
	t.Fatalf("checkpoint: %d %s", a.status, a.body)
	return ""
}

// witnessPolicy demands the log's signature and both cosignatures.
func witnessPolicy(t testing.TB, l *testLog) *policy.Policy {
	t.Helper()
	vkeys := testKeys(t).VKeys()
	p, err := policy.Parse([]byte("log " + l.key.String() + "\nwitness ed " + vkeys[0] + "\nwitness pq " + vkeys[1] +
		"\ngroup both all ed pq\nquorum both\n"))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// opened checks that note is a checkpoint of l with both cosignatures, and returns it.
func opened(t testing.TB, l *testLog, note string) policy.Checkpoint {
	t.Helper()
	c, err := witnessPolicy(t, l).Open([]byte(note))
	if err != nil {
		t.Fatal(err)
	}
	return c
}
