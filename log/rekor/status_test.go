package rekor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/rekor"
	"tallywood/storage"
)

const entriesPath = "/api/v2/log/entries"

// longestMessage bounds what an error may say, in bytes.
const longestMessage = 300

// refused checks an error reply: its status, shape and message, and that it does not give back what
// was sent.
func (r reply) refused(t testing.TB, status, code int, want string, sent ...string) {
	t.Helper()
	if r.status != status {
		t.Errorf("status %d, want %d: %.200s", r.status, status, r.body)
	}
	message := r.message(t, code)
	if !strings.Contains(message, want) || len(message) > longestMessage {
		t.Errorf("message %q, want %q", message, want)
	}
	for _, s := range sent {
		for i := 0; i+16 <= min(len(s), 1000); i++ {
			if strings.Contains(message, s[i:i+16]) {
				t.Fatalf("message %q gives back what was sent", message)
			}
		}
	}
	if later := r.header.Get("Retry-After"); (later != "") != (status == 503 || status == 429) {
		t.Errorf("Retry-After %q with %d", later, status)
	}
	if allow := r.header.Get("Allow"); (allow != "") != (status == 405) {
		t.Errorf("Allow %q with %d", allow, status)
	}
}

func zip(t testing.TB, data []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(data)
	if err = errors.Join(err, z.Close()); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestStatusTable goes through the refusals of requests, but for the rules of entries, which
// TestValidationRules has.
func TestStatusTable(t *testing.T) {
	s := serve(t, nil, func(_ *log.Options, o *rekor.Options) { o.MaxBody = 100_000 })
	c := newClient(t)
	good := c.request("artifact")
	text := string(good)
	digest, sig := c.sign("artifact")
	gzipped := []string{"Content-Encoding", "gzip"}
	for _, x := range []struct {
		name, method, path string
		body               []byte
		header             []string
		status, code       int
		want               string
	}{
		{"empty body", "POST", entriesPath, nil, nil, 400, 3, "request is empty"},
		{"empty object", "POST", entriesPath, []byte("{}"), nil, 400, 3, "neither hashedRekordRequestV002 nor dsseRequestV002"},
		{"bad JSON", "POST", entriesPath, []byte("{"), nil, 400, 3, "not valid JSON"},
		{"unknown field", "POST", entriesPath, []byte(strings.Replace(text, "{", `{"x":1,`, 1)), nil, 400, 3, `unknown field "x"`},
		{"repeated field", "POST", entriesPath, []byte(strings.Replace(text, `"digest"`, `"digest":"","digest"`, 1)), nil, 400, 3, "the field digest twice"},
		{"two arms", "POST", entriesPath, []byte(strings.TrimSuffix(text, "}") + `,"dsseRequestV002":{}}`), nil, 400, 3, "has both"},
		{"bad enum", "POST", entriesPath, []byte(strings.Replace(text, "PKIX_ECDSA_P256_SHA_256", "RS256", 1)), nil, 400, 3, "keyDetails is the unknown value"},
		{"two values", "POST", entriesPath, []byte(text + text), nil, 400, 3, "data after its JSON object"},
		{"long unknown field", "POST", entriesPath, []byte(`{"` + strings.Repeat("long", 10_000) + `":1}`), nil, 400, 3, "unknown field"},
		{"gzip unannounced", "POST", entriesPath, zip(t, good), nil, 400, 3, "not valid JSON"},
		{"gzip that is none", "POST", entriesPath, good, gzipped, 400, 3, "not the gzip that its Content-Encoding announces"},
		{"gzip cut short", "POST", entriesPath, zip(t, good)[:100], gzipped, 400, 3, "not the gzip"},
		{"gzip of nothing", "POST", entriesPath, nil, gzipped, 400, 3, "not the gzip"},
		{"gzip of bad JSON", "POST", entriesPath, zip(t, []byte("{")), gzipped, 400, 3, "not valid JSON"},
		{"gzip over the limit", "POST", entriesPath, zip(t, make([]byte, 100_001)), gzipped, 413, 3, "100000"},
		{"gzip bomb", "POST", entriesPath, zip(t, make([]byte, 8<<20)), gzipped, 413, 3, "100000"},
		{"other encoding", "POST", entriesPath, good, []string{"Content-Encoding", "br"}, 415, 3, "send gzip or none"},
		{"twice encoded", "POST", entriesPath, zip(t, zip(t, good)), []string{"Content-Encoding", "gzip, gzip"}, 415, 3, "send gzip or none"},
		{"body over the limit", "POST", entriesPath, make([]byte, 100_001), nil, 413, 3, "100000"},
		{"entry over the limit", "POST", entriesPath, largeEntry(t, c), nil, 413, 3, "over the limit of 65535"},
		{"GET entries", "GET", entriesPath, nil, nil, 405, 12, "POST"},
		{"OPTIONS entries", "OPTIONS", entriesPath, nil, nil, 405, 12, "POST"},
		{"PUT entries", "PUT", entriesPath, good, nil, 405, 12, "POST"},
		{"long method", strings.Repeat("POST", 100), entriesPath, good, nil, 405, 12, "POST"},
		{"POST checkpoint", "POST", "/checkpoint", nil, nil, 405, 12, "GET"},
		{"DELETE tile", "DELETE", "/api/v2/tile/0/000", nil, nil, 405, 12, "GET"},
		{"unknown path", "GET", "/api/v2/log", nil, nil, 404, 5, "no such path"},
		{"unknown path below", "POST", entriesPath + "/1", good, nil, 404, 5, "no such path"},
		{"root", "GET", "/", nil, nil, 404, 5, "no such path"},
		{"Rekor v1", "POST", "/api/v1/log/entries", good, nil, 404, 5, "no such path"},
		{"missing tile", "GET", "/tile/0/x001/000", nil, nil, 404, 5, "no such object"},
		{"private state", "GET", "/tile/../../../state/signatures/identity", nil, nil, 404, 5, "no such"},
	} {
		t.Run(x.name, func(t *testing.T) {
			r := s.do(x.method, x.path, x.body, x.header...)
			r.refused(t, x.status, x.code, x.want, b64(digest), b64(sig), c.spki)
			if strings.HasPrefix(x.path, entriesPath) && r.header.Get("Access-Control-Allow-Origin") != "" {
				t.Error("CORS on a write")
			}
			if (x.status == 415) != (r.header.Get("Accept-Encoding") == "gzip") {
				t.Errorf("Accept-Encoding %q", r.header.Get("Accept-Encoding"))
			}
		})
	}
	if c, ok := s.log.Published(); !ok || c.Size() != 0 {
		t.Errorf("log has %d entries", c.Size())
	}
	s.accept(s.post(good), good)
}

// largeEntry is a valid request whose entry is too long for an entry bundle.
func largeEntry(t *testing.T, c *client) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 50_000)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	if err != nil {
		t.Fatal(err)
	}
	text := string(c.request("artifact"))
	return []byte(strings.Replace(text, `"publicKey":{"rawBytes":"`+c.spki, `"x509Certificate":{"rawBytes":"`+b64(der), 1))
}

// TestGzipRequests are the same requests.
func TestGzipRequests(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	request := c.request("artifact")
	for i, encoding := range []string{"gzip", "GZIP", "x-gzip", "identity"} {
		body := zip(t, request)
		if encoding == "identity" {
			body = request
		}
		r := s.do("POST", entriesPath, body, "Content-Encoding", encoding)
		if e := s.accept(r, request); e.LogIndex != 0 || (r.header.Get("X-Log-Index") != "") != (i > 0) {
			t.Errorf("%s: index %d, %v", encoding, e.LogIndex, r.header)
		}
		if r.header.Get("Content-Encoding") != "" {
			t.Errorf("%s: the answer is %s", encoding, r.header.Get("Content-Encoding"))
		}
	}
	dsse, hashed := c.dsse(strings.Repeat("payload ", 100_000)) // larger than what no budget counts
	s.accept(s.do("POST", entriesPath, zip(t, dsse), "Content-Encoding", "gzip"), hashed)
}

// A gated bucket holds writes back that begin with hold, until release is closed, and reads what
// read makes of an object.
type gated struct {
	storage.Bucket
	hold    string
	release chan struct{}
	read    atomic.Pointer[func(key string, data []byte) ([]byte, error)]
}

func (g *gated) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if g.hold != "" && strings.HasPrefix(key, g.hold) {
		select {
		case <-g.release:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return g.Bucket.Put(ctx, key, data, o)
}

func (g *gated) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, v, err := g.Bucket.Get(ctx, key, r)
	if read := g.read.Load(); read != nil && err == nil {
		data, err = (*read)(key, data)
	}
	return data, v, err
}

// TestPushbackAnswers503: while the store takes no records, entries beyond a wait are refused at once,
// and nothing of them is logged.
func TestPushbackAnswers503(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := &gated{release: make(chan struct{})}
		s := run(t, nil, func(l *log.Options, r *rekor.Options) {
			g.Bucket = l.Bucket
			l.Bucket, r.Bucket = g, g
		})
		g.hold = "state/signatures/log/"
		c := newClient(t)
		first, second := c.request("first"), c.request("second")
		answers := make(chan reply, 1)
		go func() { answers <- record(s.http, "POST", entriesPath, first) }()
		time.Sleep(2*time.Second + time.Millisecond)
		began := time.Now()
		r := record(s.http, "POST", entriesPath, second)
		r.refused(t, 503, 14, "nothing was logged: more entries wait", string(second))
		if took := time.Since(began); took != 0 {
			t.Errorf("the refusal took %v", took)
		}
		close(g.release)
		if e := s.accept(<-answers, first); e.LogIndex != 0 {
			t.Errorf("what waited has index %d", e.LogIndex)
		}
		r = record(s.http, "POST", entriesPath, second)
		if e := s.accept(r, second); e.LogIndex != 1 || r.header.Get("X-Log-Index") != "" {
			t.Errorf("what was refused has index %d, %v", e.LogIndex, r.header)
		}
	})
}

// TestStorageFailures answer what a client can do about them, and tell the log the rest: here the
// entry bundle of a duplicate is damaged, gone, or cannot be read.
func TestStorageFailures(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		g := &gated{}
		var logged bytes.Buffer
		var mu sync.Mutex
		s := run(t, nil, func(l *log.Options, r *rekor.Options) {
			g.Bucket = l.Bucket
			l.Bucket, r.Bucket = g, g
			r.Logger = slog.New(slog.NewTextHandler(&lockedWriter{w: &logged, mu: &mu}, nil))
		})
		request := newClient(t).request("artifact")
		s.accept(s.post(request), request)
		s.fill(0, 40*256)           // memory holds 32 bundles, soon others
		time.Sleep(2 * time.Second) // until the index has followed
		const bundle = "logs/signatures/tile/entries/000"
		unread := func(key string, data []byte) ([]byte, error) {
			if key == bundle {
				return nil, errors.New("not now")
			}
			return data, nil
		}
		g.read.Store(&unread)
		for i := 0; s.post(request).status == 201; i++ { // from memory
			s.fill((40+i)*256, (41+i)*256)
		}
		for _, x := range []struct {
			name         string
			fault        func(data []byte) ([]byte, error)
			status, code int
			want         string
		}{
			{"damaged", func(data []byte) ([]byte, error) { return append([]byte{0, 1}, data...), nil }, 500, 13, "request id "},
			{"gone", func([]byte) ([]byte, error) { return nil, fs.ErrNotExist }, 500, 13, "request id "},
			{"unreadable", func([]byte) ([]byte, error) { return nil, errors.New("disk 7 is on fire") }, 503, 14, "try again"},
		} {
			read := func(key string, data []byte) ([]byte, error) {
				if key == bundle {
					return x.fault(data)
				}
				return data, nil
			}
			g.read.Store(&read)
			r := s.post(request)
			r.refused(t, x.status, x.code, x.want, string(request))
			message := r.message(t, x.code)
			if strings.Contains(message, "entries/") || strings.Contains(message, "fire") {
				t.Errorf("%s: message %q tells of the storage", x.name, message)
			}
			if x.status != 500 {
				continue
			}
			id := regexp.MustCompile(`request id ([A-Z2-7]{26})$`).FindStringSubmatch(message)
			mu.Lock()
			text := logged.String()
			mu.Unlock()
			if id == nil || !strings.Contains(text, id[1]) || !strings.Contains(text, "entry bundle 0") {
				t.Errorf("%s: the message is %q, and the log has\n%s", x.name, message, text)
			}
		}
		g.read.Store(nil)
		if e := s.accept(s.post(request), request); e.LogIndex != 0 {
			t.Errorf("index %d afterwards", e.LogIndex)
		}
	})
}

type lockedWriter struct {
	w  io.Writer
	mu *sync.Mutex
}

func (l *lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// fill adds the entries of no meaning from one number to the next.
func (s *server) fill(from, to int) {
	s.t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Pointer[error]
	for w := range 512 {
		wg.Go(func() {
			for i := from + w; i < to; i += 512 {
				data := fmt.Appendf(nil, "entry %d", i)
				if _, err := s.log.Add(s.t.Context(), log.Entry{Key: sha256.Sum256(data), Data: data}); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		s.t.Fatal(*err)
	}
}

// TestClientThatLeaves costs nothing: what it sent is logged, or not.
func TestClientThatLeaves(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := run(t, nil, nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		w := httptest.NewRecorder()
		request := newClient(t).request("artifact")
		s.http.ServeHTTP(w, httptest.NewRequestWithContext(ctx, "POST", entriesPath, bytes.NewReader(request)))
		if w.Code != 201 && w.Code != 503 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		s.accept(record(s.http, "POST", entriesPath, request), request)
	})
}
