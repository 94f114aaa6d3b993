package tlog_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/iotest"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/entry"
	"tallywood/log/tlog"
	"tallywood/log/verify"
)

// verify checks a proof offline.
func (s *server) verify(proof []byte, entry string) *verify.Inclusion {
	s.t.Helper()
	in, err := verify.Proof(proof, strings.NewReader(entry), s.options.Policy)
	if err != nil {
		s.t.Fatalf("%v in\n%s", err, proof)
	}
	return in
}

// TestAddAnswersAProof of entries of every size and of bytes that mean something elsewhere.
func TestAddAnswersAProof(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, newCosigner(t), nil)
		var last []byte
		entries := []string{"x", "\n", "\x00", "\xff\xfe", "{}", "c2sp.org/tlog-proof@v1\nindex 0\n\n",
			strings.Repeat("y", entry.MaxSize), strings.Repeat("\x00", entry.MaxSize-1), " x"}
		for i, e := range entries {
			r := s.add(e)
			p := s.accepted(r)
			in := s.verify(r.body, e)
			if in.Index != int64(i) || in.Size < in.Index+1 || in.Origin != origin || len(in.Witnesses) != 1 || in.UnverifiedExtra != nil {
				t.Errorf("entry %d: %+v", i, in)
			}
			if !bytes.Equal(p.Format(), r.body) || r.header.Get("X-Log-Index") != "" || r.header.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("entry %d: %v\n%s", i, r.header, r.body)
			}
			last = r.body
		}
		if _, err := verify.Proof(last, strings.NewReader("x"), s.options.Policy); err == nil {
			t.Error("the last proof is one of the first entry, too")
		}
		// They are in the bundle as they were sent.
		eventually(t, "the bucket's checkpoint", func() bool {
			return strings.HasPrefix(string(s.do("GET", "/checkpoint", nil).body), fmt.Sprintf("%s\n%d\n", origin, len(entries)))
		})
		var bundle []byte
		for _, e := range entries {
			bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(e))), e...)
		}
		if r := s.do("GET", fmt.Sprintf("/tile/entries/000.p/%d", len(entries)), nil); r.status != 200 || !bytes.Equal(r.body, bundle) {
			t.Errorf("the entry bundle: %d, %d bytes; want %d", r.status, len(r.body), len(bundle))
		}
	})
}

func TestErrorTable(t *testing.T) {
	s := serve(t, nil, func(_ *log.Options, o *tlog.Options) { o.Token = "s3cret" })
	const token = "Bearer s3cret"
	large := func() io.Reader { return bytes.NewReader(make([]byte, entry.MaxSize+1)) }
	for name, c := range map[string]struct {
		method, path string
		body         io.Reader
		header       []string
		status, code int
		message      string
		answer       []string // header and value
	}{
		"no token":         {"POST", "/add", strings.NewReader("x"), nil, 401, 16, "Authorization: Bearer TOKEN", []string{"WWW-Authenticate", `Bearer realm="releases"`}},
		"no token, large":  {"POST", "/add", large(), nil, 401, 16, "", nil},
		"another scheme":   {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "Basic czNjcmV0"}, 401, 16, "", []string{"WWW-Authenticate", `Bearer realm="releases"`}},
		"the token bare":   {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "s3cret"}, 401, 16, "", []string{"WWW-Authenticate", `Bearer realm="releases"`}},
		"an empty token":   {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "Bearer "}, 401, 16, "not the log's", []string{"WWW-Authenticate", `Bearer realm="releases", error="invalid_token"`}},
		"another token":    {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "Bearer s3creT"}, 401, 16, "not the log's", []string{"WWW-Authenticate", `Bearer realm="releases", error="invalid_token"`}},
		"half a token":     {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "Bearer s3cre"}, 401, 16, "not the log's", nil},
		"more than it":     {"POST", "/add", strings.NewReader("x"), []string{"Authorization", "Bearer s3cret s3cret"}, 401, 16, "not the log's", nil},
		"empty":            {"POST", "/add", http.NoBody, []string{"Authorization", token}, 400, 3, "is empty; it is the entry, of 1 to 65535 bytes", nil},
		"empty, chunked":   {"POST", "/add", io.MultiReader(strings.NewReader("")), []string{"Authorization", token}, 400, 3, "is empty", nil},
		"too large":        {"POST", "/add", large(), []string{"Authorization", token}, 413, 3, "65535", nil},
		"too large, later": {"POST", "/add", io.MultiReader(large()), []string{"Authorization", token}, 413, 3, "65535", nil},
		"cut off":          {"POST", "/add", io.MultiReader(strings.NewReader("x"), iotest.ErrReader(io.ErrUnexpectedEOF)), []string{"Authorization", token}, 400, 3, "could not be read", nil},
		"another coding":   {"POST", "/add", strings.NewReader("x"), []string{"Authorization", token, "Content-Encoding", "br"}, 415, 3, "send gzip or none", nil},
		"no gzip":          {"POST", "/add", strings.NewReader("x"), []string{"Authorization", token, "Content-Encoding", "gzip"}, 400, 3, "gzip", nil},
		"too large, gzip":  {"POST", "/add", bytes.NewReader(zipped(make([]byte, entry.MaxSize+1))), []string{"Authorization", token, "Content-Encoding", "gzip"}, 413, 3, "65535", nil},
		"empty, gzip":      {"POST", "/add", bytes.NewReader(zipped(nil)), []string{"Authorization", token, "Content-Encoding", "gzip"}, 400, 3, "is empty", nil},
		"a form":           {"POST", "/add", strings.NewReader("x"), []string{"Authorization", token, "Content-Type", "multipart/form-data; boundary=x"}, 415, 3, "curl --data-binary @FILE", nil},
		"GET":              {"GET", "/add", nil, []string{"Authorization", token}, 405, 12, "use POST", []string{"Allow", "POST"}},
		"PUT":              {"PUT", "/add", strings.NewReader("x"), nil, 405, 12, "use POST", []string{"Allow", "POST"}},
		"OPTIONS":          {"OPTIONS", "/add", nil, nil, 405, 12, "use POST", nil},
		"POST checkpoint":  {"POST", "/checkpoint", strings.NewReader("x"), []string{"Authorization", token}, 405, 12, "use GET", nil},
		"below add":        {"POST", "/add/x", strings.NewReader("x"), []string{"Authorization", token}, 404, 5, "/add, /checkpoint and /tile/", nil},
		"another path":     {"GET", "/issuer/" + strings.Repeat("0", 64), nil, nil, 404, 5, "/add, /checkpoint and /tile/", nil},
		"Rekor's path":     {"POST", "/api/v2/log/entries", strings.NewReader("{}"), []string{"Authorization", token}, 404, 5, "/add", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := s.do(c.method, c.path, c.body, c.header...)
			if message := r.message(t, c.code); r.status != c.status || !strings.Contains(message, c.message) {
				t.Errorf("%d %q; want %d and %q", r.status, message, c.status, c.message)
			}
			for i := 0; i < len(c.answer); i += 2 {
				if got := r.header.Get(c.answer[i]); got != c.answer[i+1] {
					t.Errorf("%s: %q; want %q", c.answer[i], got, c.answer[i+1])
				}
			}
			if c.status == 401 && r.header.Get("WWW-Authenticate") == "" {
				t.Error("no challenge")
			}
			if strings.Contains(string(r.body), "s3cret") {
				t.Errorf("the token leaks: %s", r.body)
			}
		})
	}
	if c, ok := s.log.Published(); !ok || c.Size() != 0 {
		t.Errorf("log has %d entries", c.Size())
	}
}

func zipped(data []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write(data) // a Buffer takes everything
	w.Close()
	return b.Bytes()
}

// TestCompressedEntriesAreLoggedAsTheyAre: the coding is of the transfer.
func TestCompressedEntriesAreLoggedAsTheyAre(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, nil, nil)
		e := strings.Repeat("x", entry.MaxSize)
		r := s.do("POST", "/add", bytes.NewReader(zipped([]byte(e))), "Content-Encoding", "gzip")
		s.accepted(r)
		s.verify(r.body, e)
		if p := s.accepted(s.add(e)); p.Index != 0 {
			t.Errorf("without compression it is entry %d", p.Index)
		}
	})
}

// TestTokenOpensTheWritePathOnly: reads are everyone's.
func TestTokenOpensTheWritePathOnly(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, nil, func(_ *log.Options, o *tlog.Options) { o.Token = "s3cret" })
		for i, auth := range []string{"Bearer s3cret", "bearer s3cret", "BEARER   s3cret"} {
			if p := s.accepted(s.add(auth, "Authorization", auth)); p.Index != int64(i) {
				t.Errorf("%q: index %d", auth, p.Index)
			}
		}
		eventually(t, "the bucket's checkpoint", func() bool { return s.do("GET", "/checkpoint", nil).status == 200 })
		// A log without a token takes whatever clients send along.
		open := serve(t, nil, nil)
		open.accepted(open.add("x", "Authorization", "Bearer whatever"))
	})
}

// TestClientsAreForgiven: any media type, no media type, slashes where clients put them.
func TestClientsAreForgiven(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, nil, nil)
		for i, c := range []struct {
			path   string
			header []string
		}{
			{"/add/", nil}, {"//add", nil}, {"/add//", nil}, {"/add?x=y", nil},
			{"/add", []string{"Content-Type", "application/x-www-form-urlencoded"}}, // as curl does
			{"/add", []string{"Content-Type", "application/octet-stream", "Content-Encoding", "identity", "Accept", "image/png"}},
			{"/add", []string{"Content-Type", "no media type at all ;;"}},
		} {
			if p := s.accepted(s.do("POST", c.path, strings.NewReader(fmt.Sprint("entry ", i)), c.header...)); p.Index != int64(i) {
				t.Errorf("%s %v: index %d", c.path, c.header, p.Index)
			}
		}
	})
}

// TestDuplicatesAreOneEntry: in a row, 64 times at once, and after a restart without any cache.
func TestDuplicatesAreOneEntry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := newServer(t, newCosigner(t), nil)
		stop := s.lead()
		s.accepted(s.add("first"))
		const times = 64
		replies := make([]reply, times)
		var wg sync.WaitGroup
		for i := range replies {
			wg.Go(func() { replies[i] = s.add("the same") })
		}
		wg.Wait()
		fresh := 0
		for _, r := range replies {
			if p := s.accepted(r); p.Index != 1 {
				t.Errorf("index %d", p.Index)
			}
			s.verify(r.body, "the same")
			switch r.header.Get("X-Log-Index") {
			case "":
				fresh++
			case "1":
			default:
				t.Errorf("X-Log-Index is %q", r.header.Get("X-Log-Index"))
			}
		}
		if fresh != 1 {
			t.Errorf("%d replies are of a new entry", fresh)
		}
		if p := s.accepted(s.add("another")); p.Index != 2 {
			t.Errorf("the next entry has index %d", p.Index)
		}
		stop()

		l, err := log.Open(t.Context(), s.options) // its duplicate index was in memory
		if err != nil {
			t.Fatal(err)
		}
		s.log = l
		if s.http, err = tlog.New(tlog.Options{Log: l, Bucket: s.bucket}); err != nil {
			t.Fatal(err)
		}
		s.lead()
		r := s.add("the same")
		if p := s.accepted(r); p.Index != 1 || r.header.Get("X-Log-Index") != "1" {
			t.Errorf("after a restart: index %d, %v", p.Index, r.header)
		}
		if in := s.verify(r.body, "the same"); in.Size != 3 {
			t.Errorf("after a restart: %+v", in)
		}
	})
}

// TestLargeEntriesAreBounded: those that wait count until they are answered.
func TestLargeEntriesAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, nil, nil)
		const fit = 16 << 20 / entry.MaxSize
		body := bytes.Repeat([]byte("x"), entry.MaxSize)
		release := make(chan struct{})
		var unfinished sync.WaitGroup
		// All but its end is there of each of these, a quarter of which one client may have.
		for n := range fit {
			begun := make(chan struct{})
			unfinished.Go(func() {
				r := httptest.NewRequest("POST", "/add", io.MultiReader(bytes.NewReader(body[1:]), &gate{begun: begun, open: release}))
				r.ContentLength = entry.MaxSize
				r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", n%4)
				s.http.ServeHTTP(httptest.NewRecorder(), r)
			})
			<-begun
		}
		if r := s.add(string(body)); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("a large entry: %d %s", r.status, r.body)
		}
		s.accepted(s.add("small"))
		close(release)
		unfinished.Wait()
		s.accepted(s.add(string(body)))
	})
}

// A gate has nothing to read, and says so when it is open.
type gate struct {
	begun chan struct{}
	open  chan struct{}
	once  sync.Once
}

func (g *gate) Read([]byte) (int, error) {
	g.once.Do(func() { close(g.begun) })
	<-g.open
	return 0, io.ErrUnexpectedEOF
}

// TestReads serves what the bucket has.
func TestReads(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		s := serve(t, newCosigner(t), nil)
		for i := range 3 {
			s.accepted(s.add(fmt.Sprint(i)))
		}
		eventually(t, "the bucket's checkpoint", func() bool {
			return strings.HasPrefix(string(s.do("GET", "/checkpoint", nil).body), origin+"\n3\n")
		})
		for path, cache := range map[string]string{"/checkpoint": "no-store", "/tile/0/000.p/3": "immutable", "/tile/entries/000.p/3": "immutable"} {
			r := s.do("GET", path, nil)
			if r.status != 200 || r.header.Get("Access-Control-Allow-Origin") != "*" || !strings.Contains(r.header.Get("Cache-Control"), cache) {
				t.Errorf("%s: %d %v", path, r.status, r.header)
			}
			if h := s.do("HEAD", path, nil); h.status != 200 || len(h.body) != 0 {
				t.Errorf("HEAD %s: %d", path, h.status)
			}
		}
		if _, err := s.options.Policy.Open(s.do("GET", "/checkpoint", nil).body); err != nil {
			t.Error(err)
		}
	})
}

func TestNewRefusesBadOptions(t *testing.T) {
	_, err := tlog.New(tlog.Options{})
	for _, want := range []string{"no log", "no bucket"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
