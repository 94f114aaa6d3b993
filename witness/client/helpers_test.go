package client_test

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/client"
	"tallywood/witness/policy"
)

const origin = "log.example.org"

func seed(label string) [32]byte { return sha256.Sum256([]byte(label)) }

// logKey is the test log's Ed25519 key.
func logKey() ed25519.PrivateKey { s := seed("log"); return ed25519.NewKeyFromSeed(s[:]) }

func logVKey() string {
	return keys.VKey(origin, keys.AlgEd25519, logKey().Public().(ed25519.PublicKey))
}

// A history is a log's tree at every size, in memory. It does not change once made.
type history struct{ hashes []tlog.Hash }

func newHistory(t testing.TB, size int64, content string) *history {
	t.Helper()
	h := &history{}
	for i := range size {
		hs, err := tlog.StoredHashes(i, fmt.Appendf(nil, "%s %d", content, i), h.reader())
		if err != nil {
			t.Fatal(err)
		}
		h.hashes = append(h.hashes, hs...)
	}
	return h
}

func (h *history) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			out[i] = h.hashes[x]
		}
		return out, nil
	})
}

func (h *history) root(t testing.TB, size int64) [32]byte {
	t.Helper()
	if size == 0 {
		return sha256.Sum256(nil)
	}
	root, err := tlog.TreeHash(size, h.reader())
	if err != nil {
		t.Fatal(err)
	}
	return root
}

func (h *history) checkpoint(t testing.TB, size int64) []byte {
	t.Helper()
	text := policy.Tree{Origin: origin, Size: size, Root: h.root(t, size)}.Text()
	s, err := keys.NoteSigner(origin, logKey())
	if err != nil {
		t.Fatal(err)
	}
	sig, err := s.Sign([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return []byte(text + "\n" + policy.FormatSignature(origin, s.KeyHash(), sig))
}

func (h *history) prove(_ context.Context, old, size int64) ([][]byte, error) {
	p, err := tlog.ProveTree(size, old, h.reader())
	if err != nil {
		return nil, err
	}
	out := make([][]byte, len(p))
	for i, x := range p {
		out[i] = x[:]
	}
	return out, nil
}

// A witnessServer is a real witness behind a handler that a test may replace.
type witnessServer struct {
	name     string
	vkeys    []string
	url      string
	witness  http.Handler
	handler  atomic.Pointer[http.Handler] // nil: witness
	requests atomic.Int64
	inFlight atomic.Int64
	crowded  atomic.Bool // two requests were under way at once
}

func startWitness(t testing.TB, name string) *witnessServer {
	t.Helper()
	k, err := keys.WitnessFromSeed(name, seed(name))
	if err != nil {
		t.Fatal(err)
	}
	key, err := policy.ParseVKey(logVKey())
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(witness.Options{
		Keys: k, Bucket: mem.New(), Logs: []witness.Log{{Origin: origin, Keys: []policy.Key{key}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &witnessServer{name: name, vkeys: k.VKeys(), witness: w.Handler()}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

func (s *witnessServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.requests.Add(1)
	if s.inFlight.Add(1) > 1 {
		s.crowded.Store(true)
	}
	defer s.inFlight.Add(-1)
	if h := s.handler.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	s.witness.ServeHTTP(w, r)
}

// replace makes the server answer with f; nil brings the witness back.
func (s *witnessServer) replace(f http.HandlerFunc) {
	if f == nil {
		s.handler.Store(nil)
		return
	}
	h := http.Handler(f)
	s.handler.Store(&h)
}

// ask sends a request to the real witness, past the replacement, and returns its answer.
func (s *witnessServer) ask(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	s.witness.ServeHTTP(rec, r)
	return rec
}

// newPolicy demands k of the witnesses' Ed25519 keys.
func newPolicy(t testing.TB, k int, witnesses ...*witnessServer) *policy.Policy {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", logVKey())
	members := ""
	for _, w := range witnesses {
		fmt.Fprintf(&b, "witness %s %s %s\n", w.name, w.vkeys[0], w.url)
		members += " " + w.name
	}
	fmt.Fprintf(&b, "group all-witnesses %d%s\nquorum all-witnesses\n", k, members)
	return parsePolicy(t, b.String())
}

func parsePolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newClient(t testing.TB, p *policy.Policy) *client.Client {
	t.Helper()
	c, err := client.New(client.Options{Policy: p, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// within returns a context that ends after d.
func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// clone describes the same witness at another URL.
func (s *witnessServer) clone(url string) *witnessServer {
	return &witnessServer{name: s.name, vkeys: s.vkeys, url: url, witness: s.witness}
}
