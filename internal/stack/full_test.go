package stack_test

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"tallywood/internal/stack"
	"tallywood/witness/policy"
)

// TestFullCheckpointHasLateCosignatures has the third witness answer when the test lets it.
func TestFullCheckpointHasLateCosignatures(t *testing.T) {
	var target atomic.Pointer[url.URL]
	gate := make(chan struct{})
	var open atomic.Bool
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !open.Load() {
			select {
			case <-gate:
			case <-r.Context().Done():
			}
		}
		httputil.NewSingleHostReverseProxy(target.Load()).ServeHTTP(w, r)
	}))
	defer slow.Close()
	l := serve(t, stack.Options{}, func(dir string) {
		path := filepath.Join(dir, "client", "policy.txt")
		text := read(t, path)
		at := strings.Index(text, "/witness/3")
		begin := strings.LastIndex(text[:at], " ") + 1
		u, err := url.Parse(text[begin:at])
		if err != nil {
			t.Fatal(err)
		}
		target.Store(u)
		write(t, path, strings.ReplaceAll(text, u.String()+"/witness/3", slow.URL+"/witness/3"))
	})
	l.ready(t)
	p, err := policy.Parse([]byte(read(t, filepath.Join(l.dir, "client", "policy.txt"))))
	if err != nil {
		t.Fatal(err)
	}
	full := func(path string) (size int64, cosignatures int) {
		status, note := l.get(t, path)
		if status == http.StatusNotFound {
			return -1, 0
		}
		cp, err := p.Open([]byte(note))
		if err != nil {
			t.Fatalf("%s does not satisfy the policy: %v\n%s", path, err, note)
		}
		return cp.Size(), len(cp.Cosignatures())
	}
	if status, body := l.post(t, newRequest(t)); status != 201 {
		t.Fatalf("%d %s", status, body)
	}
	eventually(t, "the full checkpoint of one entry", func() bool { size, _ := full("/checkpoint.full"); return size == 1 })
	if _, n := full("/checkpoint.full"); n != 2 {
		t.Errorf("%d cosignatures while the third witness is silent", n)
	}
	close(gate)
	open.Store(true)
	for _, path := range []string{"/checkpoint.full", "/api/v2/checkpoint.full", "/logs/signatures/checkpoint.full", "/ct/checkpoint.full", "/logs/certificates/checkpoint.full"} {
		eventually(t, "three cosignatures at "+path, func() bool { _, n := full(path); return n == 3 })
	}
	resp, err := http.Get(l.url + "/checkpoint.full")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%v", resp.Header)
	}

	// It follows the log, and does not go back.
	var last int64
	for range 20 {
		if status, body := l.post(t, newRequest(t)); status != 201 {
			t.Fatalf("%d %s", status, body)
		}
		size, _ := full("/checkpoint.full")
		if size < last {
			t.Errorf("size %d after %d", size, last)
		}
		last = size
	}
	eventually(t, "all entries", func() bool { size, n := full("/checkpoint.full"); return size == 21 && n == 3 })
}
