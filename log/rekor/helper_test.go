package rekor_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/rekor"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

const origin = "log.example.com"

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // Tessera's
	os.Exit(m.Run())
}

// A server is a log with its API, over HTTP.
type server struct {
	t      testing.TB
	log    *log.Log
	bucket storage.Bucket
	key    ed25519.PublicKey
	id     [32]byte
	url    string
	http   http.Handler
}

// serve is run over HTTP. Its log has time, for it cannot be in a bubble.
func serve(t testing.TB, w *cosigner, change func(*log.Options, *rekor.Options)) *server {
	t.Helper()
	s := run(t, w, func(lo *log.Options, ro *rekor.Options) {
		lo.QuorumTimeout, lo.MaxQueueAge = time.Minute, time.Minute
		if change != nil {
			change(lo, ro)
		}
	})
	h := httptest.NewServer(s.http)
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

// run runs a log, witnessed by w if that is not nil, and its API without a listener.
func run(t testing.TB, w *cosigner, change func(*log.Options, *rekor.Options)) *server {
	t.Helper()
	public, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.LogID(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	vkey := keys.VKey(origin, keys.AlgEd25519, public)
	s := &server{t: t, bucket: mem.New(), key: public, id: id}
	lo := log.Options{
		Name: "signatures", Origin: origin, Kind: log.KindRekor, Bucket: s.bucket,
		Signers: []note.Signer{signer}, VKeys: []string{vkey},
	}
	ro := rekor.Options{Bucket: s.bucket, LogID: id}
	text := "log " + vkey + "\nquorum none\n"
	if w != nil {
		text = "log " + vkey + "\nwitness w " + w.vkey + "\nquorum w\n"
		lo.Cosigner = w
	}
	if lo.Policy, err = policy.Parse([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&lo, &ro)
	}
	if s.log, err = log.Open(t.Context(), lo); err != nil {
		t.Fatal(err)
	}
	s.lead()
	ro.Log = s.log
	if s.http, err = rekor.New(ro); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) lead() {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.log.Run(ctx) }()
	s.t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.log.Close()); err != nil {
			s.t.Errorf("stopping log: %v", err)
		}
	})
	eventually(s.t, "the log to be ready", func() bool { return s.log.Ready() == nil })
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// A reply is an HTTP response, read.
type reply struct {
	status int
	header http.Header
	body   []byte
}

// message returns the message of an error reply and checks its shape.
func (r reply) message(t testing.TB, code int) string {
	t.Helper()
	var e struct {
		Code    *int
		Message *string
		Details *[]any
	}
	d := json.NewDecoder(bytes.NewReader(r.body))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil || e.Code == nil || e.Message == nil || e.Details == nil ||
		*e.Code != code || r.header.Get("Content-Type") != "application/json" {
		t.Errorf("status %d is not an error of code %d: %q, %v", r.status, code, r.body, err)
		return ""
	}
	return *e.Message
}

// do sends a request, over HTTP if there is a listener.
func (s *server) do(method, path string, body []byte, header ...string) reply {
	s.t.Helper()
	if s.url == "" {
		return record(s.http, method, path, body, header...)
	}
	r, err := http.NewRequest(method, s.url+path, bytes.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply{resp.StatusCode, resp.Header, data}
}

func (s *server) post(body []byte) reply {
	s.t.Helper()
	return s.do("POST", "/api/v2/log/entries", body)
}

// A client signs artifacts with one P-256 key.
type client struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	spki string
}

func newClient(t testing.TB) *client {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return &client{t, key, b64(der)}
}

func (c *client) sign(message string) (digest, sig []byte) {
	sum := sha256.Sum256([]byte(message))
	sig, err := c.key.Sign(rand.Reader, sum[:], crypto.SHA256)
	if err != nil {
		c.t.Fatal(err)
	}
	return sum[:], sig
}

func (c *client) verifier() string {
	return `{"publicKey":{"rawBytes":"` + c.spki + `"},"keyDetails":"PKIX_ECDSA_P256_SHA_256"}`
}

// request returns a hashedrekord request for a fresh signature over message.
func (c *client) request(message string) []byte {
	digest, sig := c.sign(message)
	return c.requestOf(digest, sig)
}

func (c *client) requestOf(digest, sig []byte) []byte {
	return fmt.Appendf(nil, `{"hashedRekordRequestV002":{"digest":"%s","signature":{"content":"%s","verifier":%s}}}`,
		b64(digest), b64(sig), c.verifier())
}

// dsse returns a DSSE request, and the equal hashedrekord request.
func (c *client) dsse(payload string) (dsse, hashed []byte) {
	digest, sig := c.sign(fmt.Sprintf("DSSEv1 4 text %d %s", len(payload), payload))
	return fmt.Appendf(nil, `{"dsseRequestV002":{"envelope":{"payload":"%s","payloadType":"text","signatures":[{"sig":"%s","keyid":""}]},"verifiers":[%s]}}`,
		b64([]byte(payload)), b64(sig), c.verifier()), c.requestOf(digest, sig)
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// A cosigner is a witness in the process that can be silenced.
type cosigner struct {
	signer *fnote.Signer
	vkey   string
	silent atomic.Bool
}

func newCosigner(t testing.TB) *cosigner {
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example.com")
	if err != nil {
		t.Fatal(err)
	}
	s, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return &cosigner{signer: s, vkey: vkey}
}

func (c *cosigner) Cosign(ctx context.Context, checkpoint []byte, _ log.ProofFunc) ([]byte, error) {
	if c.silent.Load() {
		<-ctx.Done()
		return nil, fmt.Errorf("asking witness: %w", ctx.Err())
	}
	text, sigs, _ := strings.Cut(string(checkpoint), "\n\n")
	cosigned, err := note.Sign(&note.Note{Text: text + "\n"}, c.signer)
	if err != nil {
		return nil, err
	}
	_, line, _ := strings.Cut(string(cosigned), "\n\n")
	return []byte(text + "\n\n" + sigs + line), nil
}

func (c *cosigner) Sizes(context.Context, []byte) ([]policy.WitnessSize, error) {
	return []policy.WitnessSize{{Name: "w"}}, nil
}

func newBucket() storage.Bucket { return mem.New() }

// record calls a handler without a connection.
func record(h http.Handler, method, path string, body []byte, header ...string) reply {
	w, r := httptest.NewRecorder(), httptest.NewRequest(method, path, bytes.NewReader(body))
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	h.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.Bytes()}
}
