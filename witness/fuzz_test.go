package witness_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"tallywood/storage/mem"
	"tallywood/witness"
	"tallywood/witness/conformance"
	"tallywood/witness/policy"
)

// A corpus is what the conformance suite has sent to a witness, which remembers all of it.
type corpus struct {
	handler http.Handler
	logs    *conformance.Logs

	mu     sync.Mutex // guards the field below
	bodies map[string][]string
}

// newCorpus runs cases of the suite against a new witness.
func newCorpus(f *testing.F, only ...string) *corpus {
	f.Helper()
	logs, err := conformance.NewLogs("conformance.invalid/fuzz", seed("fuzz"))
	if err != nil {
		f.Fatal(err)
	}
	o := witness.Options{Keys: testKeys(f), Bucket: mem.New()}
	for _, l := range logs.All() {
		log := witness.Log{Origin: l.Origin}
		for _, vkey := range l.VKeys {
			key, err := policy.ParseVKey(vkey)
			if err != nil {
				f.Fatal(err)
			}
			log.Keys = append(log.Keys, key)
		}
		o.Logs = append(o.Logs, log)
	}
	w, err := witness.New(o)
	if err != nil {
		f.Fatal(err)
	}
	c := &corpus{handler: w.Handler(), logs: logs, bodies: map[string][]string{}}
	server := httptest.NewServer(http.HandlerFunc(c.record))
	defer server.Close()
	report, err := conformance.Run(f.Context(), conformance.Options{
		URL: server.URL, VKeys: testKeys(f).VKeys(), Logs: logs, Kinds: conformance.Every(), Only: only,
	})
	if err != nil || report.Count(conformance.Failed) > 0 {
		f.Fatalf("%v, %+v", err, report.With(conformance.Failed))
	}
	return c
}

// record serves a request and keeps its body, unless that is so large that it would slow fuzzing down.
func (c *corpus) record(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if r.Method == http.MethodPost && len(body) < 6_000 {
		c.mu.Lock()
		if !slices.Contains(c.bodies[r.URL.Path], string(body)) {
			c.bodies[r.URL.Path] = append(c.bodies[r.URL.Path], string(body))
		}
		c.mu.Unlock()
	}
	r.Body = io.NopCloser(bytes.NewReader(body))
	c.handler.ServeHTTP(w, r)
}

// seeds adds the bodies that came to a path.
func (c *corpus) seeds(f *testing.F, path string) {
	f.Helper()
	if len(c.bodies[path]) < 20 {
		f.Fatalf("only %d bodies came to %s", len(c.bodies[path]), path)
	}
	for _, body := range c.bodies[path] {
		f.Add([]byte(body))
	}
}

func (c *corpus) post(path string, body []byte) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	r := httptest.NewRequestWithContext(context.Background(), http.MethodPost, path, bytes.NewReader(body))
	r.RemoteAddr = "127.0.0.1:1" // from elsewhere so many requests in vain are held back
	c.handler.ServeHTTP(rec, r)
	return rec
}

// FuzzAddRequest: what is parsed has one spelling, and no request is answered with a status that is not
// of the protocol, or with a signature unless it is 200.
func FuzzAddRequest(f *testing.F) {
	c := newCorpus(f, "request/", "checkpoint/", "note/", "signature/", "order/", "size/first-")
	c.seeds(f, "/add-checkpoint")
	f.Add([]byte("old 0\n\n\u2014 \n")) // an origin that looks like a signature line, and is quoted in the refusal
	f.Fuzz(func(t *testing.T, body []byte) {
		if text, err := witness.SpellAdd(body); err == nil && text != string(body) {
			t.Errorf("%.300q has a second spelling %.300q", text, body)
		}
		a := c.post("/add-checkpoint", body)
		if !slices.Contains([]int{200, 400, 403, 404, 409, 413, 422}, a.Code) {
			t.Errorf("%d for %.300q", a.Code, body)
		}
		if signed := strings.Contains("\n"+a.Body.String(), "\n\u2014 "); signed != (a.Code == http.StatusOK) {
			t.Errorf("%d with %.300q for %.300q", a.Code, a.Body.String(), body)
		}
	})
}

// FuzzSubtreeRequest is the same of sign-subtree.
func FuzzSubtreeRequest(f *testing.F) {
	c := newCorpus(f, "subtree/")
	c.seeds(f, "/sign-subtree")
	f.Fuzz(func(t *testing.T, body []byte) {
		if text, err := witness.SpellSubtree(body); err == nil && text != string(body) {
			t.Errorf("%.300q has a second spelling %.300q", text, body)
		}
		a := c.post("/sign-subtree", body)
		if !slices.Contains([]int{200, 400, 403, 404, 413, 422}, a.Code) {
			t.Errorf("%d for %.300q", a.Code, body)
		}
		if signed := strings.Contains("\n"+a.Body.String(), "\n\u2014 "); signed != (a.Code == http.StatusOK) {
			t.Errorf("%d with %.300q for %.300q", a.Code, a.Body.String(), body)
		}
	})
}
