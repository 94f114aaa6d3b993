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

// A witnessServer is a real witness behind handlers that a test may replace.
type witnessServer struct {
	name     string
	vkeys    []string
	url      string
	witness  http.Handler
	submit   atomic.Pointer[http.Handler] // of add-checkpoint; nil: witness
	monitor  atomic.Pointer[http.Handler] // of the monitoring prefix; nil: witness
	requests atomic.Int64                 // for cosignatures
	inFlight atomic.Int64
	most     atomic.Int64 // requests that were under way at once
}

// newWitness makes a witness that is reached through a memoryNet alone.
func newWitness(t testing.TB, name string) *witnessServer {
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
	return &witnessServer{name: name, vkeys: k.VKeys(), witness: w.Handler(), url: "http://" + name}
}

// startWitness makes a witness that listens.
func startWitness(t testing.TB, name string) *witnessServer {
	t.Helper()
	s := newWitness(t, name)
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	s.url = srv.URL
	return s
}

// ServeHTTP implements http.Handler for those that listen.
func (s *witnessServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	defer s.enter(r)()
	s.serve(w, r)
}

// enter counts a request until the function it returns is called.
func (s *witnessServer) enter(r *http.Request) (leave func()) {
	if r.Method == http.MethodPost {
		s.requests.Add(1)
	}
	for n := s.inFlight.Add(1); ; {
		if most := s.most.Load(); n <= most || s.most.CompareAndSwap(most, n) {
			break
		}
	}
	return func() { s.inFlight.Add(-1) }
}

func (s *witnessServer) serve(w http.ResponseWriter, r *http.Request) {
	replaced := &s.monitor
	if r.Method == http.MethodPost {
		replaced = &s.submit
	}
	if h := replaced.Load(); h != nil {
		(*h).ServeHTTP(w, r)
		return
	}
	s.witness.ServeHTTP(w, r)
}

// replace makes the server answer requests for cosignatures with f; nil brings the witness back.
func (s *witnessServer) replace(f http.HandlerFunc) { store(&s.submit, f) }

// replaceAll makes it answer everything with f.
func (s *witnessServer) replaceAll(f http.HandlerFunc) {
	store(&s.submit, f)
	store(&s.monitor, f)
}

// hideMonitor makes the server one whose monitoring prefix is elsewhere.
func (s *witnessServer) hideMonitor() { store(&s.monitor, http.NotFound) }

func store(p *atomic.Pointer[http.Handler], f http.HandlerFunc) {
	if f == nil {
		p.Store(nil)
		return
	}
	h := http.Handler(f)
	p.Store(&h)
}

// ask sends a request to the real witness, past the replacement, and returns its answer.
func (s *witnessServer) ask(r *http.Request) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	s.witness.ServeHTTP(rec, r)
	return rec
}

// A memoryNet takes requests to witnesses without any network, by their names: time in it is that of
// a testing/synctest bubble.
type memoryNet map[string]*witnessServer

// RoundTrip implements http.RoundTripper.
func (m memoryNet) RoundTrip(r *http.Request) (*http.Response, error) {
	s, ok := m[r.URL.Host]
	if !ok {
		return nil, fmt.Errorf("no host %q", r.URL.Host)
	}
	if r.Body == nil {
		r = r.Clone(r.Context())
		r.Body = http.NoBody
	}
	defer s.enter(r)()
	rec := httptest.NewRecorder()
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.serve(rec, r)
	}()
	select {
	case <-done:
		return rec.Result(), nil
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
}

// newMemoryClient makes a client of these witnesses in a memoryNet.
func newMemoryClient(t testing.TB, p *policy.Policy, witnesses ...*witnessServer) *client.Client {
	t.Helper()
	m := memoryNet{}
	for _, w := range witnesses {
		m[w.name] = w
	}
	return newClientWith(t, client.Options{Policy: p, HTTP: &http.Client{Transport: m}})
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
	return newClientWith(t, client.Options{Policy: p})
}

func newClientWith(t testing.TB, o client.Options) *client.Client {
	t.Helper()
	o.Log = slog.New(slog.NewTextHandler(t.Output(), nil))
	c, err := client.New(o)
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
