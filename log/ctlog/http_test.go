package ctlog_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log/ctentry"
)

const (
	addChain    = "/ct/v1/add-chain"
	addPreChain = "/ct/v1/add-pre-chain"
)

func submission(t testing.TB, chain [][]byte) []byte {
	t.Helper()
	body, err := json.Marshal(map[string]any{"chain": chain, "unknown": "ignored"})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func do(h http.Handler, method, path string, body []byte) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(method, path, bytes.NewReader(body)))
	return w
}

func TestSCTIsAnsweredInRFC6962sForm(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	h := ct.Handler()
	chain := f.ca.submission(t)
	want := mustAdd(t, ct, chain)
	w := do(h, "POST", "//ct/v1/add-pre-chain", submission(t, chain))
	if w.Code != 200 || w.Header().Get("Content-Type") != "application/json" || w.Header().Get("Access-Control-Allow-Origin") != "*" {
		t.Fatalf("%d %v %s", w.Code, w.Header(), w.Body)
	}
	id, signed := f.treeHead().LogID(), signature(t, want)
	form := `{"sct_version":0,"id":"` + b64(id[:]) + `","timestamp":` + number(t, want.Timestamp) +
		`,"extensions":"AAAFAAAAAAA=","signature":"` + b64(signed) + `"}`
	if w.Body.String() != form {
		t.Errorf("got  %s\nwant %s", w.Body, form)
	}
	f.published(l, 1)
	f.awaitStored(1)
	for path, contentType := range map[string]string{
		"/checkpoint":         "text/plain; charset=utf-8",
		"/tile/data/000.p/1":  "application/octet-stream",
		"/tile/0/000.p/1":     "application/octet-stream",
		issuerPath(f.ca, 0):   "application/pkix-cert",
		"/ct/v1/get-roots":    "application/json",
		"/tile/entries/000":   "application/json", // an error
		"/ct/v1/get-sth":      "application/json",
		"/issuer/" + "AA":     "application/json",
		"/issuer/../identity": "application/json",
	} {
		w := do(h, "GET", path, nil)
		if got := w.Header().Get("Content-Type"); got != contentType && w.Code != http.StatusTemporaryRedirect {
			t.Errorf("%s: %d, %s; want %s", path, w.Code, got, contentType)
		}
	}
}

func issuerPath(ca authority, n int) string { return "/issuer/" + fingerprint(ca.chain[n]) }

func TestBadSubmissionsAreRefusedByRow(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	h := ct.Handler()
	mustAdd(t, ct, f.ca.submission(t))
	middle, root := f.ca.chain[0], f.ca.chain[1]
	chain := func(leaf *x509.Certificate, issuers ...*x509.Certificate) []byte {
		return submission(t, raw(append([]*x509.Certificate{leaf}, issuers...)...))
	}
	edited := func(precert bool, edit func(*x509.Certificate)) []byte {
		return chain(f.ca.leaf(t, precert, edit), middle, root)
	}
	extension := func(critical bool, value ...byte) func(*x509.Certificate) {
		return func(c *x509.Certificate) {
			c.ExtraExtensions = []pkix.Extension{{Id: ctentry.OIDPoison, Critical: critical, Value: value}}
		}
	}
	stranger := newAuthority(t)
	signer := f.ca.precertSigner(t)
	pre, final := f.ca.leaf(t, true, nil), f.ca.leaf(t, false, nil)
	flipped := bytes.Clone(pre.Raw)
	flipped[len(flipped)-1] ^= 1
	for name, tc := range map[string]struct {
		path    string
		body    []byte
		status  int
		message string
	}{
		"no JSON":                   {addPreChain, []byte("chain"), 400, "not JSON"},
		"no base64":                 {addPreChain, []byte(`{"chain":["*"]}`), 400, "not JSON"},
		"data after the object":     {addPreChain, append(chain(pre, middle), "{}"...), 400, "not JSON"},
		"no chain":                  {addPreChain, []byte(`{}`), 400, "the chain is empty"},
		"null certificate":          {addPreChain, []byte(`{"chain":[null]}`), 400, "malformed"},
		"bad DER":                   {addPreChain, submission(t, [][]byte{pre.Raw[1:], middle.Raw}), 400, "certificate 1 is malformed"},
		"trailing DER":              {addPreChain, submission(t, [][]byte{append(bytes.Clone(pre.Raw), 0), middle.Raw}), 400, "certificate 1 is malformed"},
		"nine certificates":         {addPreChain, submission(t, make([][]byte, 9)), 400, "at most 8"},
		"body too large":            {addPreChain, make([]byte, 128<<10+1), 413, "131072 bytes"},
		"precertificate, add-chain": {addChain, chain(pre, middle, root), 400, "add-pre-chain"},
		"final at add-pre-chain":    {addPreChain, chain(final, middle, root), 400, "submit it to add-chain"},
		"poison not critical":       {addPreChain, edited(true, extension(false, 5, 0)), 400, "not critical"},
		"poison not NULL":           {addPreChain, edited(true, extension(true, 4, 0)), 400, "not NULL"},
		"another root":              {addPreChain, submission(t, stranger.submission(t)), 400, "accepted root"},
		"leaf alone":                {addPreChain, chain(pre), 400, "accepted root"},
		"wrong order":               {addPreChain, chain(pre, root, middle), 400, "not issued by the one after it"},
		"leaf twice":                {addPreChain, chain(pre, pre, middle), 400, "not issued by the one after it"},
		"one too many":              {addPreChain, chain(pre, middle, root, stranger.chain[1]), 400, "accepted root"},
		"root twice":                {addPreChain, chain(pre, middle, root, root), 400, "other certificates"},
		"root as leaf":              {addChain, chain(root), 400, "not for code signing"},
		"not for code signing":      {addPreChain, edited(true, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }), 400, "not for code signing"},
		"no extended key usage":     {addPreChain, edited(true, func(c *x509.Certificate) { c.ExtKeyUsage = nil }), 400, "not for code signing"},
		"critical and unknown": {addPreChain, edited(true, func(c *x509.Certificate) {
			c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: []byte{5, 0}})
		}), 400, "does not verify"},
		"signature changed": {addPreChain, submission(t, [][]byte{flipped, middle.Raw, root.Raw}), 400, "does not verify"},
		"precert signing":   {addPreChain, submission(t, signer), 400, "precertificate signing certificates are not accepted"},
	} {
		w := do(h, "POST", tc.path, tc.body)
		var got struct{ Message string }
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Errorf("%s: %v: %q", name, err, w.Body)
			continue
		}
		if w.Code != tc.status || !strings.Contains(got.Message, tc.message) || len(got.Message) > 400 {
			t.Errorf("%s: %d %q; want %d %q", name, w.Code, got.Message, tc.status, tc.message)
		}
	}
	if n := len(f.published(l, 1)); n != 1 {
		t.Errorf("%d entries: a refused one was logged", n)
	}
}

func TestOddButGoodSubmissionsAreLogged(t *testing.T) {
	f := newFixture(t)
	ct, _, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	// A SAN that has only an otherName, as Fulcio's user names have; crypto/x509 does not know it.
	otherName := pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: true, Value: []byte{
		0x30, 0x0f, 0xa0, 0x0d, 0x06, 0x04, 0x2a, 0x03, 0x04, 0x05, 0xa0, 0x05, 0x0c, 0x03, 'b', 'o', 'b'}}
	for name, edit := range map[string]func(*x509.Certificate){
		"otherName alone": func(c *x509.Certificate) {
			c.EmailAddresses, c.ExtraExtensions = nil, append(c.ExtraExtensions, otherName)
		},
		"expired": func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-30*time.Minute), time.Now().Add(-20*time.Minute)
		},
	} {
		leaf := f.ca.leaf(t, true, edit)
		w := do(ct.Handler(), "POST", addPreChain, submission(t, raw(leaf, f.ca.chain[0])))
		if w.Code != 200 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
	}
}

func TestMethodsAndCORS(t *testing.T) {
	f := newFixture(t)
	ct, _ := f.open()
	h := ct.Handler()
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", addPreChain, 405, "POST, OPTIONS"},
		{"PUT", addChain, 405, "POST, OPTIONS"},
		{"POST", "/ct/v1/get-roots", 405, "GET, OPTIONS, HEAD"},
		{"OPTIONS", addPreChain, 204, ""},
		{"GET", "/ct/v1/get-roots", 200, ""},
	} {
		w := do(h, tc.method, tc.path, nil)
		if w.Code != tc.status || w.Header().Get("Allow") != tc.allow {
			t.Errorf("%s %s: %d, Allow %q", tc.method, tc.path, w.Code, w.Header().Get("Allow"))
		}
		if tc.method == "OPTIONS" && w.Header().Get("Access-Control-Allow-Headers") != "Content-Type" {
			t.Errorf("preflight: %v", w.Header())
		}
	}
}

func TestUnavailableLogSaysWhenToRetry(t *testing.T) {
	f := newFixture(t)
	ct, _ := f.open() // nobody runs it
	w := do(ct.Handler(), "POST", addPreChain, submission(t, f.ca.submission(t)))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("%d, Retry-After %q", w.Code, w.Header().Get("Retry-After"))
	}
}

func TestOneAddressCannotCrowdOutAnother(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.options.SubmissionRate = 0.5 // bursts of five
		ct, _ := f.open()
		h := ct.Handler()
		submit := func(remote string) int {
			r := httptest.NewRequest("POST", addPreChain, strings.NewReader("{}"))
			r.RemoteAddr = remote
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			return w.Code
		}
		for i := range 5 {
			if code := submit("192.0.2.1:1000"); code != 400 {
				t.Fatalf("submission %d: %d", i, code)
			}
		}
		for _, tc := range []struct {
			remote string
			code   int
		}{
			{"192.0.2.1:1001", 429}, {"[::ffff:192.0.2.1]:1002", 429}, {"192.0.2.2:1000", 400},
			{"[2001:db8::1]:1", 400}, {"@", 400},
		} {
			if code := submit(tc.remote); code != tc.code {
				t.Errorf("%s: %d, want %d", tc.remote, code, tc.code)
			}
		}
		for range 5 { // from anywhere in the /64
			submit("[2001:db8::2]:1")
		}
		if code := submit("[2001:db8::ffff]:1"); code != 429 {
			t.Errorf("another address of the same network: %d", code)
		}
	})
}

// TestSubmissionRateIsNoneOfOurCAs: the CA of the same process has no address and no limit.
func TestSubmissionRateIsNoneOfOurCAs(t *testing.T) {
	f := newFixture(t)
	f.options.SubmissionRate = 0.1 // one, then one in ten seconds
	ct, _, _ := f.run()
	for range 5 {
		mustAdd(t, ct, f.ca.submission(t))
	}
}

// TestLargeSubmissionsAreBounded fills the memory for large submissions with 128 unfinished ones, 32
// of each of four clients, which is what one may have.
func TestLargeSubmissionsAreBounded(t *testing.T) {
	f := newFixture(t)
	ct, _ := f.open()
	h := ct.Handler()
	var answers sync.WaitGroup
	var unfinished []*io.PipeWriter
	for n := range 128 {
		pr, pw := io.Pipe()
		unfinished = append(unfinished, pw)
		r := httptest.NewRequest("POST", addPreChain, pr)
		r.RemoteAddr = fmt.Sprintf("198.51.100.%d:1", n%4)
		answers.Go(func() { h.ServeHTTP(httptest.NewRecorder(), r) })
		// The second write is read once the first part was and the rest has its place.
		for _, n := range []int{16 << 10, 1} {
			if _, err := pw.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w := do(h, "POST", addPreChain, make([]byte, 17<<10))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("a large submission: %d %s", w.Code, w.Body)
	}
	if w := do(h, "POST", addPreChain, []byte("{}")); w.Code != 400 {
		t.Errorf("a small submission: %d %s", w.Code, w.Body)
	}
	for _, pw := range unfinished {
		pw.Close()
	}
	answers.Wait()
	if w := do(h, "POST", addPreChain, make([]byte, 17<<10)); w.Code != 400 {
		t.Errorf("a large submission later: %d %s", w.Code, w.Body)
	}
}

func FuzzSubmission(f *testing.F) {
	fx := newFixture(f)
	ct, _, _ := fx.run()
	mustAdd(f, ct, fx.ca.submission(f))
	h := ct.Handler()
	f.Add(submission(f, fx.ca.submission(f)))
	f.Add(submission(f, raw(fx.ca.leaf(f, false, nil), fx.ca.chain[0])))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, path := range []string{addChain, addPreChain} {
			if w := do(h, "POST", path, body); w.Code != 200 && w.Code != 400 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		}
	})
}

func BenchmarkAddPreChain(b *testing.B) {
	f := newFixture(b)
	ct, _, _ := f.run()
	mustAdd(b, ct, f.ca.submission(b))
	chains := make([][][]byte, 0, 256)
	for range cap(chains) {
		chains = append(chains, f.ca.submission(b))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := ct.AddPreChain(b.Context(), chains[i%len(chains)]); err != nil {
			b.Fatal(err)
		}
	}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func number(t testing.TB, n int64) string {
	t.Helper()
	out, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func signature(t testing.TB, s ctentry.SCT) []byte {
	t.Helper()
	out, err := s.DigitallySigned()
	if err != nil {
		t.Fatal(err)
	}
	return out
}
