package httpx_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/httpx"
)

const small, large = 16<<10 - 1, 16<<10 + 1 // bytes, around what a budget counts

// post is a request with so many bytes. One without a length is chunked.
func post(n int, chunked bool) *http.Request {
	var body io.Reader = bytes.NewReader(make([]byte, n))
	if chunked {
		body = io.MultiReader(body)
	}
	return httptest.NewRequest("POST", "/", body)
}

func TestBodyBudgetBoundsLargeBodies(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const limit = 100 << 10
		b := httpx.NewBodyBudget(limit)
		read := func(r *http.Request) (func(), error) {
			body, release, err := b.Read(httptest.NewRecorder(), r, limit)
			if want := r.ContentLength; err == nil && want >= 0 && int64(len(body)) != want {
				t.Errorf("read %d bytes of %d", len(body), want)
			}
			return release, err
		}
		for name, first := range map[string]*http.Request{"announced": post(limit, false), "chunked": post(large, true)} {
			release, err := read(first)
			if err != nil {
				t.Fatal(name, err)
			}
			for _, chunked := range []bool{false, true} {
				start := time.Now()
				if _, err := read(post(large, chunked)); !errors.Is(err, httpx.ErrBusy) || time.Since(start) > 5*time.Second {
					t.Errorf("%s: a second large body: %v after %v", name, err, time.Since(start))
				}
				done, err := read(post(small, chunked))
				if err != nil {
					t.Errorf("%s: a small body beside it: %v", name, err)
					continue
				}
				done()
			}
			time.AfterFunc(100*time.Millisecond, release) // within the wait
			release, err = read(post(limit/2, false))
			if err != nil {
				t.Errorf("%s: a large body after it: %v", name, err)
				continue
			}
			other := post(limit/2, false)
			other.RemoteAddr = "198.51.100.1:1"
			again, err := read(other)
			if err != nil {
				t.Errorf("%s: two that fit: %v", name, err)
				continue
			}
			release()
			again()
		}
	})
}

// TestBodyBudgetIsShared: one client may hold a quarter of it, and others have the rest.
func TestBodyBudgetIsShared(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size = 100 << 10
		b := httpx.NewBodyBudget(8 * size)
		hold := func(address string) (func(), error) {
			return b.Hold(t.Context(), httpx.Sender(address), size)
		}
		var releases []func()
		for range 2 {
			release, err := hold("192.0.2.1")
			if err != nil {
				t.Fatal(err)
			}
			releases = append(releases, release)
		}
		if _, err := hold("192.0.2.1"); !errors.Is(err, httpx.ErrBusy) {
			t.Errorf("a third of one client: %v", err)
		}
		for n := range 6 {
			release, err := hold("198.51.100." + string(rune('1'+n/2)))
			if err != nil {
				t.Fatalf("number %d of other clients: %v", n, err)
			}
			releases = append(releases, release)
		}
		if _, err := hold("203.0.113.1"); !errors.Is(err, httpx.ErrBusy) {
			t.Errorf("one more than there is: %v", err)
		}
		if _, err := b.Hold(t.Context(), httpx.Sender("203.0.113.1"), 16<<10); err != nil {
			t.Errorf("what does not count: %v", err)
		}
		time.AfterFunc(100*time.Millisecond, releases[0])
		again, err := hold("192.0.2.1")
		if err != nil {
			t.Fatalf("one when another has ended: %v", err)
		}
		for _, release := range append(releases[1:], again) {
			release()
		}
		all, err := b.Hold(t.Context(), httpx.Sender("203.0.113.1"), 100*size)
		if err != nil {
			t.Fatalf("more than there is, alone: %v", err)
		}
		all()
	})
}

// A sender that announces much and sends little must not keep others out.
func TestBodyBudgetCountsNoPromises(t *testing.T) {
	const limit = 100 << 10
	b := httpx.NewBodyBudget(limit)
	for range 10 {
		pr, pw := io.Pipe()
		defer pw.Close()
		slow := httptest.NewRequest("POST", "/", pr)
		slow.ContentLength = limit
		go b.Read(httptest.NewRecorder(), slow, limit)
		if _, err := pw.Write(make([]byte, small)); err != nil {
			t.Fatal(err)
		}
	}
	_, release, err := b.Read(httptest.NewRecorder(), post(limit, false), limit)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

func TestBodyBudgetGivesBackAfterErrors(t *testing.T) {
	const limit = 100 << 10
	b := httpx.NewBodyBudget(limit)
	cut := httptest.NewRequest("POST", "/", io.MultiReader(bytes.NewReader(make([]byte, large)), brokenReader{}))
	var tooLarge *httpx.TooLargeError
	for range 3 {
		if _, _, err := b.Read(httptest.NewRecorder(), post(limit+1, true), limit); !errors.As(err, &tooLarge) {
			t.Errorf("chunked body over the limit: %v", err)
		}
		if _, _, err := b.Read(httptest.NewRecorder(), post(limit+1, false), limit); !errors.As(err, &tooLarge) {
			t.Errorf("announced body over the limit: %v", err)
		}
		if _, _, err := b.Read(httptest.NewRecorder(), cut, limit); err == nil || errors.Is(err, httpx.ErrBusy) {
			t.Errorf("body cut off: %v", err)
		}
	}
	_, release, err := b.Read(httptest.NewRecorder(), post(limit, false), limit)
	if err != nil {
		t.Fatal(err)
	}
	release()
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestBusyIsAnsweredWithRetryAfter(t *testing.T) {
	w := httptest.NewRecorder()
	httpx.WriteBodyError(w, httpx.ErrBusy)
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "try again") {
		t.Errorf("got %d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestLargeBodiesAreReadSteadily: those of one client take their time together, those of others and
// small ones do not.
func TestLargeBodiesAreReadSteadily(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const size, rate = 4 << 20, 8 << 20
		b := httpx.NewBodyBudget(64 << 20)
		read := func(address string, n int) time.Duration {
			r := post(n, false)
			r.RemoteAddr = address + ":1"
			start := time.Now()
			data, release, err := b.Read(httptest.NewRecorder(), r, size)
			if err != nil || len(data) != n {
				t.Errorf("%s: %d of %d bytes, %v", address, len(data), n, err)
				return 0
			}
			release()
			return time.Since(start)
		}
		if took := read("198.51.100.1", 256<<10); took != 0 {
			t.Errorf("the first body took %v", took)
		}
		start := time.Now()
		var reading sync.WaitGroup
		for range 4 {
			reading.Go(func() { read("198.51.100.1", size) })
		}
		time.Sleep(time.Second)
		if took := read("198.51.100.2", 256<<10); took != 0 {
			t.Errorf("another client's body took %v", took)
		}
		if took := read("198.51.100.1", 8<<10); took != 0 {
			t.Errorf("a small body took %v", took)
		}
		reading.Wait()
		if took := time.Since(start); took < (4*size-(1<<20))*time.Second/rate || took > 5*size*time.Second/rate {
			t.Errorf("four bodies of %d bytes took %v", size, took)
		}
	})
}
