package bench_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"tallywood/internal/bench"
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

// serve runs a log in memory behind wrap, and returns its URL and a policy that trusts it.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) (string, *policy.Policy) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return serveLog(t, mem.New(), key, wrap)
}

// serveLog is serve for the log in a bucket.
func serveLog(t *testing.T, bucket storage.Bucket, key ed25519.PrivateKey, wrap func(http.Handler) http.Handler) (string, *policy.Policy) {
	t.Helper()
	public := key.Public().(ed25519.PublicKey)
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	id, err := keys.LogID(origin, public)
	if err != nil {
		t.Fatal(err)
	}
	vkey := keys.VKey(origin, keys.AlgEd25519, public)
	p, err := policy.Parse([]byte("log " + vkey + "\nquorum none\n"))
	if err != nil {
		t.Fatal(err)
	}
	l, err := log.Open(t.Context(), log.Options{
		Name: "signatures", Origin: origin, Kind: log.KindRekor, Bucket: bucket,
		Signers: []note.Signer{signer}, VKeys: []string{vkey}, Policy: p,
	})
	if err != nil {
		t.Fatal(err)
	}
	run(t, l)
	h, err := rekor.New(rekor.Options{Log: l, Bucket: bucket, LogID: id})
	if err != nil {
		t.Fatal(err)
	}
	if wrap != nil {
		h = wrap(h)
	}
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return server.URL, p
}

// run runs l until the test ends, and waits until it is ready.
func run(t *testing.T, l *log.Log) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	})
	for l.Ready() != nil {
		time.Sleep(time.Millisecond)
	}
}

// bend changes the replies of every nth request from the nth on.
func bend(nth int, change func(w http.ResponseWriter, body []byte)) func(http.Handler) http.Handler {
	return func(h http.Handler) http.Handler {
		turns := make(chan int, 1)
		turns <- 0
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			turn := <-turns + 1
			turns <- turn
			if turn%nth != 0 {
				h.ServeHTTP(w, r)
				return
			}
			rec := httptest.NewRecorder()
			h.ServeHTTP(rec, r)
			change(w, rec.Body.Bytes())
		})
	}
}

// created answers 201 with body.
func created(w http.ResponseWriter, body []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusCreated)
	io.Copy(w, bytes.NewReader(body))
}

// short are options for a run of a fraction of a second that checks every reply. Its end does not depend
// on how fast the machine is.
func short(url string) bench.LogOptions {
	return bench.LogOptions{URL: url, Concurrency: 4, Count: 60, Duration: 5 * time.Minute, Warmup: 50 * time.Millisecond, Sample: 1}
}
