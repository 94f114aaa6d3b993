package httpx_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"tallywood/internal/httpx"
)

func TestErrorHasTheShapeClientsKnow(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.Error(w, http.StatusBadRequest, `digest is 31 bytes; want "32"`)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	if w.Code != 400 || got["code"] != 3.0 || got["message"] != `digest is 31 bytes; want "32"` || got["details"] == nil {
		t.Errorf("got %d %v", w.Code, got)
	}
	if ct := w.Header().Get("Content-Type"); ct != "application/json" {
		t.Errorf("Content-Type %q", ct)
	}
}

func TestRetryLaterRoundsUp(t *testing.T) {
	for after, want := range map[time.Duration]string{0: "1", time.Millisecond: "1", 1500 * time.Millisecond: "2"} {
		w := httptest.NewRecorder()
		httpx.RetryLater(w, after, "no quorum")
		if w.Code != 503 || w.Header().Get("Retry-After") != want {
			t.Errorf("%v: got %d, Retry-After %q; want 503, %q", after, w.Code, w.Header().Get("Retry-After"), want)
		}
	}
}

func TestReadBodyRefusesOversize(t *testing.T) {
	for name, body := range map[string]io.Reader{
		"declared": strings.NewReader("12345"),
		"chunked":  io.MultiReader(strings.NewReader("123"), strings.NewReader("45")),
	} {
		w := httptest.NewRecorder()
		_, err := httpx.ReadBody(w, httptest.NewRequest("POST", "/", body), 4)
		var large *httpx.TooLargeError
		if !errors.As(err, &large) || large.Limit != 4 {
			t.Errorf("%s: got %v; want TooLargeError of 4", name, err)
			continue
		}
		httpx.WriteBodyError(w, err)
		if w.Code != http.StatusRequestEntityTooLarge || !strings.Contains(w.Body.String(), "4 bytes") {
			t.Errorf("%s: got %d %s", name, w.Code, w.Body)
		}
	}
	got, err := httpx.ReadBody(httptest.NewRecorder(), httptest.NewRequest("POST", "/", strings.NewReader("1234")), 4)
	if err != nil || string(got) != "1234" {
		t.Errorf("got %q, %v", got, err)
	}
}

// wrapper is a ResponseWriter as one that counts answers has.
type wrapper struct{ http.ResponseWriter }

func (w wrapper) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func TestReadBodyClosesTheConnectionThroughWrappers(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := httpx.ReadBody(wrapper{wrapper{w}}, r, 4); err != nil {
			httpx.WriteBodyError(w, err)
		}
	}))
	defer srv.Close()
	for body, closed := range map[string]bool{"1234": false, "12345": true} {
		// A reader of unknown length is sent chunked.
		resp, err := http.Post(srv.URL, "text/plain", io.MultiReader(strings.NewReader(body)))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.Close != closed {
			t.Errorf("body of %d bytes: answered %d, closed: %v", len(body), resp.StatusCode, resp.Close)
		}
	}
}

func TestCollapseSlashes(t *testing.T) {
	var got string
	h := httpx.CollapseSlashes(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.URL.Path }))
	for path, want := range map[string]string{"//api///v2/": "/api/v2/", "/a": "/a", "///": "/"} {
		r := httptest.NewRequest("GET", "/", nil)
		r.URL.Path = path
		h.ServeHTTP(httptest.NewRecorder(), r)
		if got != want {
			t.Errorf("%q: got %q; want %q", path, got, want)
		}
	}
}

func TestMethodsAnswersAllow(t *testing.T) {
	h := httpx.Methods(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), "GET")
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(method, "/", nil))
		if w.Code != want || (want == 405) != (w.Header().Get("Allow") == "GET, HEAD") {
			t.Errorf("%s: got %d, Allow %q", method, w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestServeDrainsRequestsUnderWay(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	entered, release := make(chan bool), make(chan bool)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-release
		if r.Context().Err() != nil {
			t.Error("the request was cancelled by the drain")
		}
		io.WriteString(w, "done")
	})
	served := make(chan error)
	go func() { served <- httpx.Serve(ctx, ln, h, httpx.ServeOptions{DrainTimeout: time.Minute}) }()
	answer := make(chan string)
	go func() {
		resp, err := http.Get("http://" + ln.Addr().String())
		if err != nil {
			answer <- err.Error()
			return
		}
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-entered
	cancel()
	close(release)
	if got := <-answer; got != "done" {
		t.Errorf("answer %q; want done", got)
	}
	if err := <-served; err != nil {
		t.Errorf("Serve: %v", err)
	}
}
