package stack_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"

	"tallywood/internal/stack"
)

// TestARequestIsSentAgain proxies a request to a replica that is not there, to one that hangs up when
// it has read a part, and to one that answers.
func TestARequestIsSentAgain(t *testing.T) {
	text := strings.Repeat("a long entry ", 100_000)
	const gone = "http://127.0.0.1:1" // the port of a server that was closed may be another's by now
	hangsUp := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, err := io.ReadFull(r.Body, make([]byte, 100)); err != nil {
			t.Error(err)
		}
		panic(http.ErrAbortHandler)
	}))
	defer hangsUp.Close()
	// It reads all before it answers, as our handlers do: HTTP/1 servers do not go on reading after that.
	answers := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(data) // the test compares
	}))
	defer answers.Close()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, complete, done := stack.Replay(r, stack.NewRoom())
		defer done()
		for _, address := range []string{gone, hangsUp.URL, answers.URL} {
			target, err := url.Parse(address)
			if err != nil {
				t.Fatal(err)
			}
			failed := false
			p := httputil.ReverseProxy{
				Rewrite:      func(p *httputil.ProxyRequest) { p.SetURL(target) },
				ErrorHandler: func(http.ResponseWriter, *http.Request, error) { failed = true },
			}
			p.ServeHTTP(w, request())
			if failed != (address != answers.URL) || !complete() {
				t.Errorf("%s: failed is %v; the body is complete: %v", address, failed, complete())
			}
		}
	}))
	defer server.Close()
	res, err := http.Post(server.URL, "text/plain", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if got, err := io.ReadAll(res.Body); err != nil || string(got) != text {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(text), err)
	}
}

// TestALargeRequestIsSentOnce reads one that is larger than what is kept.
func TestALargeRequestIsSentOnce(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	r, err := http.NewRequest(http.MethodPost, "/", bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	request, complete, done := stack.Replay(r, stack.NewRoom())
	defer done()
	if got, err := io.ReadAll(request().Body); err != nil || !bytes.Equal(got, data) || complete() {
		t.Errorf("%d bytes, %v; complete: %v", len(got), err, complete())
	}
	if got, err := io.ReadAll(request().Body); err == nil {
		t.Errorf("again: %d bytes and no error", len(got))
	}
}

// TestReplaysAreBoundedTogether: what finds no room is read once, and what has ended gives its room back.
func TestReplaysAreBoundedTogether(t *testing.T) {
	room := stack.NewRoom()
	data := bytes.Repeat([]byte("0123456789abcdef"), 4<<16) // 4 MiB
	read := func() (complete func() bool, done func()) {
		r, err := http.NewRequest(http.MethodPost, "/", bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		request, complete, done := stack.Replay(r, room)
		if got, err := io.ReadAll(request().Body); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
		return complete, done
	}
	kept, dones := 0, []func(){}
	for range 40 { // 160 MiB
		complete, done := read()
		dones = append(dones, done)
		if complete() {
			kept++
		}
	}
	if kept < 3 || kept > 4 {
		t.Errorf("%d requests of 4 MiB are kept; 16 MiB are for all", kept)
	}
	for _, done := range dones {
		done()
	}
	complete, done := read()
	if !complete() {
		t.Error("a request is not kept when all others have ended")
	}
	done()
}
