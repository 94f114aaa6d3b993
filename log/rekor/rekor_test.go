package rekor_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	rekorpb "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	rekornote "github.com/sigstore/rekor-tiles/v2/pkg/note"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	rekorverify "github.com/sigstore/rekor-tiles/v2/pkg/verify"
	"github.com/sigstore/sigstore-go/pkg/tlog"
	"github.com/sigstore/sigstore/pkg/signature"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/rekor"
	"tallywood/storage"
)

// accept checks a 201 as sigstore-go does: strict decoding, the leaf rebuilt from the request and
// not from the body, the proof, the log's signature.
func (s *server) accept(r reply, request []byte) *rekorpb.TransparencyLogEntry {
	s.t.Helper()
	if r.status != 201 || r.header.Get("Content-Type") != "application/json" {
		s.t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	var e rekorpb.TransparencyLogEntry
	if err := protojson.Unmarshal(r.body, &e); err != nil {
		s.t.Fatalf("strict decoding: %v", err)
	}
	if _, err := tlog.ParseTransparencyLogEntry(&e); err != nil {
		s.t.Errorf("sigstore-go: %v", err)
	}
	var q pb.CreateEntryRequest
	if err := protojson.Unmarshal(request, &q); err != nil {
		s.t.Fatal(err)
	}
	verifier, err := signature.LoadVerifier(s.key, crypto.Hash(0))
	if err != nil {
		s.t.Fatal(err)
	}
	v, err := rekornote.NewNoteVerifier(origin, verifier)
	if err != nil {
		s.t.Fatal(err)
	}
	if h := q.GetHashedRekordRequestV002(); h != nil {
		leaf, err := hashedrekord.ToEntryHash(h.Digest, h.Signature)
		if err != nil {
			s.t.Fatal(err)
		}
		err = rekorverify.VerifyLogEntryWithHash(&e, v, leaf)
		if err != nil {
			s.t.Errorf("entry as rebuilt by clients: %v", err)
		}
	}
	if err := rekorverify.VerifyLogEntry(&e, v); err != nil {
		s.t.Errorf("entry: %v", err)
	}
	if !bytes.Equal(e.LogId.KeyId, s.id[:]) || e.KindVersion.Kind != "hashedrekord" || e.KindVersion.Version != "0.0.2" ||
		e.InclusionProof.LogIndex != e.LogIndex || e.IntegratedTime != 0 || e.InclusionPromise != nil {
		s.t.Errorf("got %v", &e)
	}
	return &e
}

func TestNewEntryAndDuplicate(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	request := c.request("artifact")
	first := s.post(request)
	e := s.accept(first, request)
	if e.LogIndex != 0 || first.header.Get("X-Log-Index") != "" {
		t.Errorf("index %d, header %v", e.LogIndex, first.header)
	}
	another := c.request("another")
	s.accept(s.post(another), another)
	again := s.post(request)
	if e := s.accept(again, request); e.LogIndex != 0 || again.header.Get("X-Log-Index") != "0" {
		t.Errorf("duplicate: index %d, header %v", e.LogIndex, again.header)
	}
}

// TestReplyHasTheFieldsOfTheMessageAndNoOthers compares names and JSON types with the API's.
func TestReplyHasTheFieldsOfTheMessageAndNoOthers(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	s.post(c.request("first"))
	r := s.post(c.request("second"))
	var got map[string]any
	if err := json.Unmarshal(r.body, &got); err != nil {
		t.Fatal(err)
	}
	proof := got["inclusionProof"].(map[string]any)
	hashes := proof["hashes"].([]any)
	want := map[string]any{
		"logIndex": "1", "logId": map[string]any{"keyId": b64(s.id[:])},
		"kindVersion":    map[string]any{"kind": "hashedrekord", "version": "0.0.2"},
		"integratedTime": "0", "inclusionPromise": nil,
		"inclusionProof": map[string]any{
			"logIndex": "1", "rootHash": proof["rootHash"].(string), "treeSize": "2",
			"hashes": hashes, "checkpoint": map[string]any{"envelope": proof["checkpoint"].(map[string]any)["envelope"].(string)},
		},
		"canonicalizedBody": got["canonicalizedBody"].(string),
	}
	a, _ := json.Marshal(got)
	b, _ := json.Marshal(want)
	if !bytes.Equal(a, b) || len(hashes) != 1 {
		t.Errorf("\n got %s\nwant %s", a, b)
	}
	if text := want["inclusionProof"].(map[string]any)["checkpoint"].(map[string]any)["envelope"].(string); !strings.HasPrefix(text, origin+"\n2\n") {
		t.Errorf("envelope %q", text)
	}
}

// TestPathsAreForgiving: clients concatenate base URLs, with and without slashes at the seam.
func TestPathsAreForgiving(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	for i, path := range []string{"/api/v2/log/entries/", "//api/v2/log/entries", "/api/v2//log/entries//", "/api/v2/log/entries?alt=json"} {
		request := c.request(path)
		r := s.do("POST", path, request, "Content-Type", "text/plain", "Accept", "image/png")
		if e := s.accept(r, request); e.LogIndex != int64(i) {
			t.Errorf("%s: index %d", path, e.LogIndex)
		}
	}
}

// TestFrozenLogAnswers405 freezes a log: it answers every write, one that it has logged too, with
// where to go, and goes on being read.
func TestFrozenLogAnswers405(t *testing.T) {
	named := log.Successor{Origin: "log2.example.org", URL: "https://log2.example.org"}
	for what, c := range map[string]struct {
		successor func() log.Successor
		asked     log.Successor
		line      string
	}{
		"as configured": {func() log.Successor { return named }, log.Successor{}, "log2.example.org takes entries now, at https://log2.example.org\n"},
		"as asked":      {nil, named, "log2.example.org takes entries now, at https://log2.example.org\n"},
		"none":          {nil, log.Successor{}, ""},
	} {
		s := serve(t, nil, func(_ *log.Options, o *rekor.Options) { o.Successor = c.successor })
		request := newClient(t).request("artifact")
		s.accept(s.post(request), request)
		if err := s.log.Freeze(t.Context(), c.asked); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end of the log", func() bool { return s.log.Frozen() != nil })
		for _, body := range [][]byte{request, newClient(t).request("another"), []byte("{")} {
			r := s.post(body)
			if r.status != 405 || string(r.body) != "This log has been frozen, please switch to the latest log.\n"+c.line ||
				!strings.HasPrefix(r.header.Get("Content-Type"), "text/plain") {
				t.Errorf("%s: %d %q", what, r.status, r.body)
			}
			if link := r.header.Get("Link"); (link == `<https://log2.example.org>; rel="successor-version"`) != (c.line != "") {
				t.Errorf("%s: Link %q", what, link)
			}
		}
		if r := s.do("GET", "/checkpoint", nil); r.status != 200 || !strings.HasPrefix(string(r.body), origin+"\n1\n") {
			t.Errorf("%s: reads: %d %q", what, r.status, r.body)
		}
		if err := s.log.Ready(); err != nil {
			t.Errorf("%s: it is not ready to be read: %v", what, err)
		}
	}
}

// TestDSSEAndHashedrekordAreOneEntry: npm clients post DSSE; verifiers see a hashedrekord.
func TestDSSEAndHashedrekordAreOneEntry(t *testing.T) {
	s := serve(t, nil, nil)
	dsse, hashed := newClient(t).dsse("payload")
	first := s.accept(s.post(dsse), hashed)
	r := s.post(hashed)
	if second := s.accept(r, hashed); second.LogIndex != first.LogIndex || r.header.Get("X-Log-Index") != "0" {
		t.Errorf("two entries: %d, %d", first.LogIndex, second.LogIndex)
	}
	// A large payload is not stored, so only the request's limit applies to it.
	dsse, hashed = newClient(t).dsse(strings.Repeat("x", 1<<20))
	s.accept(s.post(dsse), hashed)
}

// TestTwinSignature: (r, n-s) of a logged signature is answered with what was logged, or refused
// where the operator wants that. Either way it is no second entry.
func TestTwinSignature(t *testing.T) {
	for _, reject := range []bool{false, true} {
		s := serve(t, nil, func(_ *log.Options, o *rekor.Options) { o.RejectTwins = reject })
		c := newClient(t)
		digest, sig := c.sign("artifact")
		first := c.requestOf(digest, sig)
		e := s.accept(s.post(first), first)
		var rs struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(sig, &rs); err != nil {
			t.Fatal(err)
		}
		rs.S.Sub(elliptic.P256().Params().N, rs.S)
		other, err := asn1.Marshal(rs)
		if err != nil || !ecdsa.VerifyASN1(&c.key.PublicKey, digest, other) {
			t.Fatal("the twin does not verify")
		}
		r := s.post(c.requestOf(digest, other))
		if r.header.Get("X-Log-Index") != "0" {
			t.Errorf("header %v", r.header)
		}
		if reject {
			if message := r.message(t, 6); r.status != 409 || !strings.Contains(message, "at index 0") {
				t.Errorf("%d %s", r.status, message)
			}
		} else if twin := s.accept(r, first); !bytes.Equal(twin.CanonicalizedBody, e.CanonicalizedBody) {
			t.Error("another body than the one logged")
		}
		s.accept(s.post(first), first) // the exact duplicate is always welcome
	}
}

// TestConcurrentIdenticalPosts: all get 201 with the same index.
func TestConcurrentIdenticalPosts(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	request := c.request("artifact")
	replies := make([]reply, 200)
	var wg sync.WaitGroup
	for i := range replies {
		wg.Go(func() { replies[i] = s.post(request) })
	}
	wg.Wait()
	fresh := 0
	for _, r := range replies {
		if e := s.accept(r, request); e.LogIndex != 0 {
			t.Errorf("index %d", e.LogIndex)
		}
		if r.header.Get("X-Log-Index") == "" {
			fresh++
		}
	}
	if fresh != 1 {
		t.Errorf("%d replies are of a new entry", fresh)
	}
	next := c.request("next")
	if e := s.accept(s.post(next), next); e.LogIndex != 1 {
		t.Errorf("next index %d", e.LogIndex)
	}
}

// TestLargeRequestsAreBounded holds all the memory for large requests with one that is unfinished.
func TestLargeRequestsAreBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const entries = "/api/v2/log/entries"
		s := run(t, nil, func(_ *log.Options, o *rekor.Options) { o.MaxBody = 100 << 20 })
		pr, pw := io.Pipe()
		first := make(chan reply, 1)
		go func() {
			w := httptest.NewRecorder()
			s.http.ServeHTTP(w, httptest.NewRequest("POST", entries, pr))
			first <- reply{w.Code, w.Header(), w.Body.Bytes()}
		}()
		// The second write is read once the first part was and the rest has its place.
		for _, n := range []int{16 << 10, 1} {
			if _, err := pw.Write(make([]byte, n)); err != nil {
				t.Fatal(err)
			}
		}
		large := make([]byte, 17<<10)
		if r := record(s.http, "POST", entries, large); r.status != 503 || r.header.Get("Retry-After") == "" {
			t.Errorf("a large request: %d %s", r.status, r.body)
		}
		if r := record(s.http, "POST", entries, newClient(t).request("small")); r.status != 201 {
			t.Errorf("a small request: %d %s", r.status, r.body)
		}
		pw.Close()
		if r := <-first; r.status != 400 {
			t.Errorf("the unfinished request: %d %s", r.status, r.body)
		}
		if r := record(s.http, "POST", entries, large); r.status != 400 {
			t.Errorf("a large request later: %d %s", r.status, r.body)
		}
	})
}

// TestReads serves the same bytes at both prefixes.
func TestReads(t *testing.T) {
	s := serve(t, nil, nil)
	c := newClient(t)
	var body []byte
	for i := range 3 {
		request := c.request(fmt.Sprint(i))
		body = s.accept(s.post(request), request).CanonicalizedBody
	}
	eventually(t, "the bucket's checkpoint", func() bool {
		return strings.HasPrefix(string(s.do("GET", "/checkpoint", nil).body), origin+"\n3\n")
	})
	for _, path := range []string{"/checkpoint", "/tile/0/000.p/3", "/tile/entries/000.p/3"} {
		a, b := s.do("GET", path, nil), s.do("GET", "/api/v2"+path, nil)
		if a.status != 200 || b.status != 200 || !bytes.Equal(a.body, b.body) || a.header.Get("ETag") != b.header.Get("ETag") {
			t.Errorf("%s: %d, %d", path, a.status, b.status)
		}
		if a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: no CORS", path)
		}
		if h := s.do("HEAD", "/api/v2"+path, nil); h.status != 200 || len(h.body) != 0 {
			t.Errorf("HEAD %s: %d", path, h.status)
		}
	}
	if bundle := s.do("GET", "/api/v2/tile/entries/000.p/3", nil).body; !bytes.HasSuffix(bundle, body) {
		t.Error("the bundle does not end with the last entry")
	}
	if r := s.do("GET", "/api/v2/checkpoint", nil); r.header.Get("Cache-Control") != "no-store" {
		t.Errorf("checkpoint: %v", r.header)
	}
	if r := s.do("OPTIONS", "/api/v2/checkpoint", nil); r.status != 204 {
		t.Errorf("OPTIONS: %d", r.status)
	}
}

// TestSurvivesRestart: the receipt of before is the receipt of after, up to the tree's growth.
func TestSurvivesRestart(t *testing.T) {
	c := newClient(t)
	request := c.request("artifact")
	var lo log.Options
	dir := t.TempDir()
	s := serve(t, nil, func(o *log.Options, _ *rekor.Options) { o.CacheDir = dir; lo = *o })
	first := s.accept(s.post(request), request)
	bucket := copyBucket(t, s.bucket)

	lo.Bucket, lo.CacheDir = bucket, t.TempDir() // as after losing the cache
	l, err := log.Open(t.Context(), lo)
	if err != nil {
		t.Fatal(err)
	}
	s2 := &server{t: t, log: l, bucket: bucket, key: s.key, id: s.id}
	s2.lead()
	h, err := rekor.New(rekor.Options{Log: l, Bucket: bucket, LogID: s.id})
	if err != nil {
		t.Fatal(err)
	}
	r := record(h, "POST", "/api/v2/log/entries", request)
	if e := s2.accept(r, request); e.LogIndex != first.LogIndex || r.header.Get("X-Log-Index") != "0" {
		t.Errorf("index %d after restart", e.LogIndex)
	}
}

func copyBucket(t *testing.T, from storage.Bucket) storage.Bucket {
	to := newBucket()
	for key, err := range from.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		data, _, err := from.Get(t.Context(), key, storage.Range{})
		if err == nil {
			_, err = to.Put(t.Context(), key, data, storage.PutOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return to
}

func TestNewRefusesBadOptions(t *testing.T) {
	_, err := rekor.New(rekor.Options{MaxBody: -1})
	for _, want := range []string{"no log", "no bucket", "no log ID", "negative body limit"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestAlgorithmsOverHTTP posts one entry of a kind that clients besides P-256 use.
func TestAlgorithmsOverHTTP(t *testing.T) {
	s := serve(t, nil, nil)
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		t.Fatal(err)
	}
	digest := bytes.Repeat([]byte{7}, 64)
	sig, err := key.Sign(nil, digest, crypto.SHA512)
	if err != nil {
		t.Fatal(errors.New("signing"))
	}
	request := fmt.Appendf(nil, `{"hashed_rekord_request_v002":{"digest":"%s","signature":{"content":"%s","verifier":{"public_key":{"raw_bytes":"%s"},"key_details":8}}}}`,
		b64(digest), b64(sig), b64(der))
	s.accept(s.post(request), request)
}
