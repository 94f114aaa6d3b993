package log_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/log"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
)

// staticServer serves a bucket in which every public object of a log holds its own key.
func staticServer(t *testing.T, keys ...string) *httptest.Server {
	b := mem.New()
	for _, k := range append(keys, "state/l/identity", "logs/other/checkpoint") {
		if _, err := b.Put(t.Context(), k, []byte(k), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(log.Static(b, "l"))
	t.Cleanup(s.Close)
	return s
}

func do(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
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
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func TestStaticServesWhatTheLayoutsHave(t *testing.T) {
	const octets, immutable = "application/octet-stream", "public, max-age=604800, immutable"
	fingerprint := strings.Repeat("0f", 32)
	for path, want := range map[string][2]string{
		"checkpoint":                     {"text/plain; charset=utf-8", "no-store"},
		"tile/0/000":                     {octets, immutable},
		"tile/0/000.p/1":                 {octets, immutable},
		"tile/63/x001/x234/067.p/255":    {octets, immutable},
		"tile/entries/x999/000":          {octets, immutable},
		"tile/entries/x100/x000/000.p/7": {octets, immutable},
		"tile/data/001":                  {octets, immutable},
		"issuer/" + fingerprint:          {"application/pkix-cert", immutable},
	} {
		s := staticServer(t, "logs/l/"+path)
		resp, body := do(t, "GET", s.URL+"/"+path)
		if resp.StatusCode != 200 || body != "logs/l/"+path || resp.Header.Get("Content-Type") != want[0] ||
			resp.Header.Get("Cache-Control") != want[1] || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %q %v", path, resp.StatusCode, body, resp.Header)
		}
	}
}

// TestStaticHidesEverythingElse: only the one spelling of a public path is looked up.
func TestStaticHidesEverythingElse(t *testing.T) {
	hidden := []string{
		"", "Checkpoint", "checkpoint/", "tile", "tile/", "tile/0", "tile/0/", "tile/00/000", "tile/-1/000", "tile/64/000",
		"tile/0/0", "tile/0/0000", "tile/0/x000", "tile/0/x000/001", "tile/0/001/000", "tile/0/x001/x002", "tile/0/x01/000",
		"tile/0/00a", "tile/0/+01", "tile/0/000.p", "tile/0/000.p/", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
		"tile/0/000.p/1/2", "tile/0/000.p/1.p/2", "tile/entries/1", "tile/x/000", "tile/0/x001/x001/x001/x001/x001/x001/000",
		"issuer/", "issuer/" + strings.Repeat("0F", 32), "issuer/" + strings.Repeat("0", 63), "identity", "probe",
		"../../state/l/identity", "..%2f..%2fstate%2fl%2fidentity", "../other/checkpoint", "tile/0/..%2f..%2f..%2fstate",
	}
	var keys []string
	for _, path := range hidden {
		if storage.CheckKey("logs/l/"+path) == nil && !strings.Contains(path, "%") {
			keys = append(keys, "logs/l/"+path)
		}
	}
	for _, path := range hidden {
		s := staticServer(t, keys...)
		if resp, body := do(t, "GET", s.URL+"/"+path); resp.StatusCode != 404 || strings.Contains(body, "logs/") {
			t.Errorf("%q: %d %q", path, resp.StatusCode, body)
		}
	}
}

func TestStaticMethodsConditionsAndRanges(t *testing.T) {
	s := staticServer(t, "logs/l/tile/0/000")
	url := s.URL + "/tile/0/000"
	resp, body := do(t, "HEAD", url)
	tag := resp.Header.Get("ETag")
	if resp.StatusCode != 200 || body != "" || resp.ContentLength != 17 || tag == "" {
		t.Errorf("HEAD: %d %q %d %q", resp.StatusCode, body, resp.ContentLength, tag)
	}
	if resp, _ := do(t, "GET", url, "If-None-Match", tag); resp.StatusCode != 304 {
		t.Errorf("If-None-Match: %d", resp.StatusCode)
	}
	if resp, _ := do(t, "GET", url, "If-None-Match", `"other"`); resp.StatusCode != 200 {
		t.Errorf("If-None-Match other: %d", resp.StatusCode)
	}
	if resp, body := do(t, "GET", url, "Range", "bytes=5-5"); resp.StatusCode != 206 || body != "l" {
		t.Errorf("Range: %d %q", resp.StatusCode, body)
	}
	if resp, _ := do(t, "GET", url, "Range", "bytes=99-"); resp.StatusCode != 416 {
		t.Errorf("Range past the end: %d", resp.StatusCode)
	}
	if resp, _ := do(t, "OPTIONS", url); resp.StatusCode != 204 || resp.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("OPTIONS: %d %v", resp.StatusCode, resp.Header)
	}
	for _, method := range []string{"POST", "PUT", "DELETE"} {
		if resp, _ := do(t, method, url); resp.StatusCode != 405 || !strings.Contains(resp.Header.Get("Allow"), "HEAD") {
			t.Errorf("%s: %d, Allow %q", method, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
	if resp, _ := do(t, "GET", s.URL+"/tile/0/001.p/5"); resp.StatusCode != 404 {
		t.Errorf("partial that is not there: %d", resp.StatusCode)
	}
}

// A deadBucket answers nothing.
type deadBucket struct{ storage.Bucket }

func (deadBucket) Get(context.Context, string, storage.Range) ([]byte, storage.Version, error) {
	return nil, "", errors.New("connection refused by 10.0.0.1")
}

func TestStaticSaysWhenStorageIsDown(t *testing.T) {
	w := httptest.NewRecorder()
	log.Static(deadBucket{}, "l").ServeHTTP(w, httptest.NewRequest("GET", "/checkpoint", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || strings.Contains(w.Body.String(), "10.0.0.1") {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// FuzzTilePath: a path that is served is one that Tessera's layout has, spelled the same way.
func FuzzTilePath(f *testing.F) {
	for _, path := range []string{"checkpoint", "tile/0/000", "tile/63/x001/x234/067.p/255", "tile/entries/x100/x000/000.p/7", "tile/data/001", "tile/0/x000/001", "issuer/00"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !log.ValidTile(path) {
			return
		}
		level, rest, _ := strings.Cut(strings.TrimPrefix(path, "tile/"), "/")
		if level == "entries" || level == "data" {
			n, p, err := layout.ParseTileIndexPartial(rest)
			if want := "tile/" + level + "/" + layout.NWithSuffix(0, n, p); err != nil || want != path {
				t.Errorf("%q: layout has %q, %v", path, want, err)
			}
			return
		}
		l, n, p, err := layout.ParseTileLevelIndexPartial(level, rest)
		if want := layout.TilePath(l, n, p); err != nil || want != path {
			t.Errorf("%q: layout has %q, %v", path, want, err)
		}
	})
}

// bundleOf is something like an entry bundle: text around noise in base64.
func bundleOf(n int) []byte {
	var out []byte
	for i := range n {
		sum := sha256.Sum256(fmt.Appendf(nil, "entry %d", i))
		out = fmt.Appendf(out, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"digest":"%s"}}`, base64.StdEncoding.EncodeToString(sum[:]))
	}
	return out
}

// raw asks without what http.Client does about gzip by itself.
func raw(t *testing.T, method, url string, header ...string) (*http.Response, string) {
	t.Helper()
	if len(header) == 0 || header[0] != "Accept-Encoding" {
		header = append([]string{"Accept-Encoding", "identity"}, header...)
	}
	return do(t, method, url, header...)
}

func TestStaticCompressesEntryBundles(t *testing.T) {
	bundle, hashes := bundleOf(256), bytes.Repeat([]byte{7}, 8192)
	b := mem.New()
	for key, data := range map[string][]byte{
		"logs/l/tile/entries/000": bundle, "logs/l/tile/data/000": bundle, "logs/l/tile/entries/001.p/2": bundle[:200],
		"logs/l/tile/0/000": hashes, "logs/l/checkpoint": hashes,
	} {
		if _, err := b.Put(t.Context(), key, data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	s := httptest.NewServer(log.Static(b, "l"))
	defer s.Close()
	plain, body := raw(t, "GET", s.URL+"/tile/entries/000")
	if plain.Header.Get("Content-Encoding") != "" || body != string(bundle) || plain.Header.Get("Vary") != "Accept-Encoding" {
		t.Errorf("as it is: %v", plain.Header)
	}
	for _, path := range []string{"/tile/entries/000", "/tile/data/000"} {
		plain, _ := raw(t, "GET", s.URL+path)
		resp, body := raw(t, "GET", s.URL+path, "Accept-Encoding", "br, GZIP;q=0.5")
		if resp.Header.Get("Content-Encoding") != "gzip" || resp.Header.Get("Vary") != "Accept-Encoding" ||
			resp.Header.Get("ETag") == plain.Header.Get("ETag") || resp.ContentLength != int64(len(body)) || len(body) > len(bundle)*2/3 {
			t.Fatalf("%s compressed: %d bytes of %d, %v", path, len(body), len(bundle), resp.Header)
		}
		z, err := gzip.NewReader(strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(z); err != nil || !bytes.Equal(got, bundle) {
			t.Errorf("%s decompressed: %d bytes, %v", path, len(got), err)
		}
		tag := resp.Header.Get("ETag")
		if resp, body := raw(t, "GET", s.URL+path, "Accept-Encoding", "gzip", "If-None-Match", tag); resp.StatusCode != 304 || body != "" || resp.Header.Get("Vary") == "" {
			t.Errorf("%s, if it has changed: %d %v", path, resp.StatusCode, resp.Header)
		}
		if resp, body := raw(t, "HEAD", s.URL+path, "Accept-Encoding", "gzip"); resp.Header.Get("Content-Encoding") != "gzip" || resp.Header.Get("ETag") != tag || body != "" {
			t.Errorf("HEAD %s: %v", path, resp.Header)
		}
		// A part is one of the object as it is, and of no compressed one.
		if resp, body := raw(t, "GET", s.URL+path, "Accept-Encoding", "gzip", "Range", "bytes=10-19"); resp.StatusCode != 206 ||
			resp.Header.Get("Content-Encoding") != "" || body != string(bundle[10:20]) || resp.Header.Get("ETag") != plain.Header.Get("ETag") {
			t.Errorf("%s, a part: %d %v", path, resp.StatusCode, resp.Header)
		}
		if resp, body := raw(t, "GET", s.URL+path, "Accept-Encoding", "gzip", "Range", "bytes=10-19", "If-Range", tag); resp.StatusCode != 200 ||
			resp.Header.Get("Content-Encoding") != "" || body != string(bundle) {
			t.Errorf("%s, a part of the compressed one: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
	for _, accept := range []string{"identity", "gzip;q=0", "gzip; q=0.000", "br", "gzipped", "*"} {
		if resp, body := raw(t, "GET", s.URL+"/tile/entries/000", "Accept-Encoding", accept); resp.Header.Get("Content-Encoding") != "" || body != string(bundle) {
			t.Errorf("Accept-Encoding %q: %v", accept, resp.Header)
		}
	}
	for _, path := range []string{"/tile/0/000", "/checkpoint", "/tile/entries/001.p/2"} {
		if resp, _ := raw(t, "GET", s.URL+path, "Accept-Encoding", "gzip"); resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %d %v", path, resp.StatusCode, resp.Header)
		}
	}
}

// TestStaticBoundsItsAnswers: readers of large objects who do not read hold no more memory than there
// is for them, and keep nobody from small ones.
func TestStaticBoundsItsAnswers(t *testing.T) {
	b := mem.New()
	for key, size := range map[string]int{"logs/l/tile/entries/000": 16 << 20, "logs/l/tile/0/000": 8192} {
		if _, err := b.Put(t.Context(), key, make([]byte, size), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	h := log.Static(b, "l")
	stuck := make(chan struct{})
	var reading sync.WaitGroup
	writing := make(chan struct{}, 8)
	for client := range 4 {
		reading.Go(func() {
			r := httptest.NewRequest("GET", "/tile/entries/000", nil)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", client)
			h.ServeHTTP(&stuckWriter{httptest.NewRecorder(), writing, stuck}, r)
		})
	}
	for range 4 {
		<-writing
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/tile/entries/000", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a fifth reader: %d", w.Code)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/tile/0/000", nil))
	if w.Code != 200 || w.Body.Len() != 8192 {
		t.Errorf("a reader of a tile: %d", w.Code)
	}
	close(stuck)
	reading.Wait()
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/tile/entries/000", nil))
	if w.Code != 200 {
		t.Errorf("a reader when the others have read: %d", w.Code)
	}
}

// TestStaticReadsNothingThereIsNoRoomFor: however many ask for large objects at a time, no more are in
// memory than there is room for, and none is read to be refused then.
func TestStaticReadsNothingThereIsNoRoomFor(t *testing.T) {
	t.Parallel()
	const bundle = 10 << 20
	b := &slowBucket{Bucket: mem.New(), release: make(chan struct{})}
	if _, err := b.Put(t.Context(), "logs/l/tile/entries/000", make([]byte, bundle), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	h := log.Static(b, "l")
	var asking sync.WaitGroup
	var busy atomic.Int64
	for client := range 40 {
		asking.Go(func() {
			r := httptest.NewRequest("GET", "/tile/entries/000", nil)
			r.RemoteAddr = fmt.Sprintf("192.0.2.%d:1", client)
			w := httptest.NewRecorder()
			if h.ServeHTTP(w, r); w.Code == 503 {
				busy.Add(1)
			}
		})
	}
	for busy.Load() == 0 && b.now.Load() <= 80<<20 { // after a second of waiting for room
		time.Sleep(time.Millisecond)
	}
	close(b.release)
	asking.Wait()
	if most := b.most.Load(); most > 80<<20 {
		t.Errorf("%d MiB were in memory at a time", most>>20)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/tile/entries/000", nil))
	if w.Code != 200 || w.Body.Len() != bundle {
		t.Errorf("when all have been served: %d, %d bytes", w.Code, w.Body.Len())
	}
}

// A slowBucket has what it returns in memory, and returns what is large when it is let go.
type slowBucket struct {
	storage.Bucket
	release   chan struct{}
	now, most atomic.Int64 // bytes
}

func (b *slowBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, v, err := b.Bucket.Get(ctx, key, r)
	now := b.now.Add(int64(len(data)))
	for most := b.most.Load(); now > most && !b.most.CompareAndSwap(most, now); most = b.most.Load() {
	}
	if len(data) > 8<<20 {
		<-b.release
	}
	b.now.Add(-int64(len(data)))
	return data, v, err
}

// A stuckWriter writes nothing until it is let go.
type stuckWriter struct {
	*httptest.ResponseRecorder
	writing chan<- struct{}
	release <-chan struct{}
}

func (w *stuckWriter) Write(p []byte) (int, error) {
	select {
	case w.writing <- struct{}{}:
	default: // it has been told
	}
	<-w.release
	return len(p), nil
}

// TestStaticTagsTellContentsApart: what a client has kept is good as long as the object is the same one.
func TestStaticTagsTellContentsApart(t *testing.T) {
	dir, err := posix.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]storage.Bucket{"memory": mem.New(), "directory": dir} {
		s := httptest.NewServer(log.Static(b, "l"))
		defer s.Close()
		seen := map[string]string{}
		for _, text := range []string{"one", "two", "another"} {
			if _, err := b.Put(t.Context(), "logs/l/checkpoint", []byte(text), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			resp, body := do(t, "GET", s.URL+"/checkpoint")
			tag := resp.Header.Get("ETag")
			if old, ok := seen[tag]; body != text || tag == "" || ok {
				t.Errorf("%s: %q has the tag %s, as %q had", name, body, tag, old)
			}
			seen[tag] = text
			if resp, _ := do(t, "GET", s.URL+"/checkpoint", "If-None-Match", tag); resp.StatusCode != 304 {
				t.Errorf("%s: %q is another one than itself: %d", name, text, resp.StatusCode)
			}
		}
	}
}
