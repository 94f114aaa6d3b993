package tlog_test

import (
	"bytes"
	"context"
	"crypto/rand"
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

	"tallywood/log"
	"tallywood/log/tlog"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

const origin = "releases.example.org"

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // Tessera's
	os.Exit(m.Run())
}

// A server is a log with its API.
type server struct {
	t       testing.TB
	log     *log.Log
	options log.Options
	bucket  storage.Bucket
	policy  string
	http    http.Handler
}

// serve runs a log, witnessed by w if that is not nil, and its API.
func serve(t testing.TB, w *cosigner, change func(*log.Options, *tlog.Options)) *server {
	t.Helper()
	s := newServer(t, w, change)
	s.lead()
	return s
}

// newServer is serve of a log that does not run.
func newServer(t testing.TB, w *cosigner, change func(*log.Options, *tlog.Options)) *server {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, bucket: mem.New(), policy: "log " + vkey + "\nquorum none\n"}
	s.options = log.Options{Name: "releases", Origin: origin, Kind: log.KindTlog, Bucket: s.bucket,
		Signers: []note.Signer{signer}, VKeys: []string{vkey}}
	if w != nil {
		s.policy = "log " + vkey + "\nwitness w " + w.vkey + "\nquorum w\n"
		s.options.Cosigner = w
	}
	if s.options.Policy, err = policy.Parse([]byte(s.policy)); err != nil {
		t.Fatal(err)
	}
	o := tlog.Options{Bucket: s.bucket}
	if change != nil {
		change(&s.options, &o)
	}
	if s.log, err = log.Open(t.Context(), s.options); err != nil {
		t.Fatal(err)
	}
	o.Log = s.log
	if s.http, err = tlog.New(o); err != nil {
		t.Fatal(err)
	}
	return s
}

// lead runs the log until the test ends, or what it returns is called.
func (s *server) lead() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done, l := make(chan error, 1), s.log
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			s.t.Errorf("stopping log: %v", err)
		}
	}
	s.t.Cleanup(stop)
	eventually(s.t, "the log to be ready", func() bool { return l.Ready() == nil })
	return stop
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

func (s *server) do(method, path string, body io.Reader, header ...string) reply {
	r := httptest.NewRequest(method, path, body)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	s.http.ServeHTTP(w, r)
	return reply{w.Code, w.Header(), w.Body.Bytes()}
}

// add posts an entry.
func (s *server) add(entry string, header ...string) reply {
	return s.do("POST", "/add", strings.NewReader(entry), header...)
}

// accepted is the proof in an answer to add.
func (s *server) accepted(r reply) policy.Proof {
	s.t.Helper()
	if r.status != http.StatusCreated || r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		s.t.Fatalf("%d %v %s", r.status, r.header, r.body)
	}
	p, err := policy.ParseProof(r.body)
	if err != nil {
		s.t.Fatalf("%v in\n%s", err, r.body)
	}
	return p
}

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
