package httpx_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"tallywood/internal/httpx"
)

func zip(t testing.TB, data []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func encoded(body io.Reader, encoding ...string) *http.Request {
	r := httptest.NewRequest("POST", "/", body)
	r.Header["Content-Encoding"] = encoding
	return r
}

// readers are the ways to read a body.
func readers(limit int64) map[string]func(r *http.Request) ([]byte, error) {
	budget := httpx.NewBodyBudget(10 * limit)
	return map[string]func(r *http.Request) ([]byte, error){
		"ReadBody": func(r *http.Request) ([]byte, error) { return httpx.ReadBody(httptest.NewRecorder(), r, limit) },
		"BodyBudget": func(r *http.Request) ([]byte, error) {
			data, release, err := budget.Read(httptest.NewRecorder(), r, limit)
			if err == nil {
				release()
			}
			return data, err
		},
	}
}

func TestBodiesAreDecompressed(t *testing.T) {
	const limit = 100_000
	text := []byte(strings.Repeat("0123456789", limit/10))
	for name, read := range readers(limit) {
		for _, encoding := range []string{"gzip", "x-gzip", " GZip "} {
			for _, n := range []int{0, 1, 5000, 16 << 10, limit} {
				if got, err := read(encoded(bytes.NewReader(zip(t, text[:n])), encoding)); err != nil || !bytes.Equal(got, text[:n]) {
					t.Errorf("%s: %s of %d bytes: %d, %v", name, encoding, n, len(got), err)
				}
			}
		}
		if got, err := read(encoded(bytes.NewReader(text), "identity")); err != nil || !bytes.Equal(got, text) {
			t.Errorf("%s: identity: %d bytes, %v", name, len(got), err)
		}
		noise := make([]byte, limit)
		for i := range noise {
			noise[i] = byte(i * i >> 3 * 31)
		}
		if got, err := read(encoded(bytes.NewReader(zip(t, noise)), "gzip")); err != nil || !bytes.Equal(got, noise) {
			t.Errorf("%s: what does not get smaller: %d bytes, %v", name, len(got), err)
		}
	}
}

func TestBodiesThatCannotBeDecompressed(t *testing.T) {
	const limit = 100_000
	good := zip(t, make([]byte, limit))
	for name, read := range readers(limit) {
		for what, c := range map[string]struct {
			r      *http.Request
			want   error
			status int
		}{
			"unknown":         {encoded(bytes.NewReader(good), "br"), httpx.ErrEncoding, 415},
			"two":             {encoded(bytes.NewReader(good), "gzip", "gzip"), httpx.ErrEncoding, 415},
			"deflate":         {encoded(bytes.NewReader(good), "deflate"), httpx.ErrEncoding, 415},
			"long":            {encoded(bytes.NewReader(good), strings.Repeat("x", 5000)), httpx.ErrEncoding, 415},
			"nothing":         {encoded(bytes.NewReader(nil), "gzip"), httpx.ErrGzip, 400},
			"plain":           {encoded(strings.NewReader(`{"a":1}`), "gzip"), httpx.ErrGzip, 400},
			"cut short":       {encoded(bytes.NewReader(good[:len(good)-9]), "gzip"), httpx.ErrGzip, 400},
			"wrong checksum":  {encoded(bytes.NewReader(append(bytes.Clone(good[:len(good)-8]), make([]byte, 8)...)), "gzip"), httpx.ErrGzip, 400},
			"more after it":   {encoded(io.MultiReader(bytes.NewReader(good), strings.NewReader("more")), "gzip"), httpx.ErrGzip, 400},
			"broken off":      {encoded(io.MultiReader(bytes.NewReader(good[:50]), iotest.ErrReader(io.ErrUnexpectedEOF)), "gzip"), io.ErrUnexpectedEOF, 400},
			"too slow":        {encoded(io.MultiReader(bytes.NewReader(good[:50]), iotest.ErrReader(os.ErrDeadlineExceeded)), "gzip"), os.ErrDeadlineExceeded, 408},
			"too slow, plain": {encoded(iotest.ErrReader(os.ErrDeadlineExceeded)), os.ErrDeadlineExceeded, 408},
		} {
			_, err := read(c.r)
			if status, message := httpx.BodyStatus(err); !errors.Is(err, c.want) || status != c.status || len(message) > 200 {
				t.Errorf("%s: %s: %v, answered %d %q; want %v, %d", name, what, err, status, message, c.want, c.status)
			}
		}
	}
}

// TestGzipBombs are refused by the limit, and cost no more memory than bodies of that limit.
func TestGzipBombs(t *testing.T) {
	const limit = 1 << 20
	bombs := map[string][]byte{
		"64 MiB":        zip(t, make([]byte, 64<<20)),
		"a byte more":   zip(t, make([]byte, limit+1)),
		"in many parts": bytes.Repeat(zip(t, make([]byte, 10_000)), 200),
	}
	for name, read := range readers(limit) {
		for what, bomb := range bombs {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := read(encoded(bytes.NewReader(bomb), "gzip"))
			runtime.ReadMemStats(&after)
			var large *httpx.TooLargeError
			if !errors.As(err, &large) || large.Limit != limit {
				t.Errorf("%s: %s: %v", name, what, err)
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 8*limit {
				t.Errorf("%s: %s: %d bytes were allocated for a limit of %d", name, what, used, limit)
			}
		}
	}
}

func TestBodyErrorsSayWhatWouldBeRight(t *testing.T) {
	for _, c := range []struct {
		err          error
		status       int
		header, want string
	}{
		{httpx.ErrEncoding, 415, "Accept-Encoding", "send gzip or none"},
		{os.ErrDeadlineExceeded, 408, "Connection", "16384 bytes per second"},
		{httpx.ErrBusy, 503, "Retry-After", "try again"},
	} {
		w := httptest.NewRecorder()
		httpx.WriteBodyError(w, c.err)
		if w.Code != c.status || w.Header().Get(c.header) == "" || !strings.Contains(w.Body.String(), c.want) {
			t.Errorf("%v: %d %v %s", c.err, w.Code, w.Header(), w.Body)
		}
	}
}

// FuzzGzipBody: whatever comes, no more than the limit comes out, and an error has a status.
func FuzzGzipBody(f *testing.F) {
	const limit = 1 << 12
	f.Add([]byte{})
	f.Add([]byte("\x1f\x8b"))
	f.Add(zip(f, []byte("hello")))
	f.Add(zip(f, make([]byte, limit)))
	f.Add(zip(f, make([]byte, limit+1)))
	f.Add(append(zip(f, []byte("hello")), zip(f, []byte("again"))...))
	f.Add(zip(f, bytes.Repeat([]byte("0123456789"), 300))[:60])
	f.Fuzz(func(t *testing.T, data []byte) {
		for name, read := range readers(limit) {
			got, err := read(encoded(bytes.NewReader(data), "gzip"))
			if len(got) > limit {
				t.Errorf("%s: %d bytes came out", name, len(got))
			}
			if status, _ := httpx.BodyStatus(err); err != nil && status != 400 && status != 413 {
				t.Errorf("%s: %v is answered %d", name, err, status)
			}
		}
	})
}
