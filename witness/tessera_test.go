package witness_test

import (
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"github.com/transparency-dev/tessera"
	tposix "github.com/transparency-dev/tessera/storage/posix"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage/mem"
)

// TestTesseraIsCosigned runs a log of Tessera v1.0.4 with its own witness client, over HTTP
// against our witness. The log begins without witnesses, so that it asks with an old size that
// the witness does not have, and must recover by the 409; then it grows, and restarts.
func TestTesseraIsCosigned(t *testing.T) {
	l := newTestLog(t, origin)
	s := seed("log " + origin)
	hash := strings.Split(l.key.String(), "+")[1]
	signer, err := note.NewSigner("PRIVATE+KEY+" + origin + "+" + hash + "+" +
		base64.StdEncoding.EncodeToString(append([]byte{1}, ed25519.NewKeyFromSeed(s[:]).Seed()...)))
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, mem.New(), newClockNow(), l)
	var mu sync.Mutex
	codes := map[int]int{}
	srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rec := httptest.NewRecorder()
		w.Handler().ServeHTTP(rec, r)
		mu.Lock()
		codes[rec.Code]++
		mu.Unlock()
		for k, v := range rec.Header() {
			rw.Header()[k] = v
		}
		rw.WriteHeader(rec.Code)
		_, _ = rw.Write(rec.Body.Bytes())
	}))
	defer srv.Close()
	root, err := url.Parse(srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := tessera.NewWitness(testKeys(t).VKeys()[0], root)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for life, group := range []tessera.WitnessGroup{{}, tessera.NewWitnessGroup(1, theirs), tessera.NewWitnessGroup(1, theirs)} {
		size := tesseraLife(t, dir, signer, group, life)
		if size != int64(5*(life+1)) {
			t.Errorf("life %d: size %d", life, size)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if codes[200] < 2 || codes[409] == 0 {
		t.Errorf("answers by code: %v; want cosignatures, and a conflict at first contact", codes)
	}
	if got := w.stored(t, l); !strings.HasPrefix(got, origin+"\n15\n") {
		t.Errorf("the witness remembers\n%s", got)
	}
}

// tesseraLife starts the log in dir, adds five entries, waits until they are in a cosigned
// checkpoint, and shuts down. Tessera publishes nothing without the quorum.
func tesseraLife(t *testing.T, dir string, signer note.Signer, group tessera.WitnessGroup, life int) int64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	driver, err := tposix.New(ctx, tposix.Config{Path: dir})
	if err != nil {
		t.Fatal(err)
	}
	appender, shutdown, reader, err := tessera.NewAppender(ctx, driver, tessera.NewAppendOptions().
		WithCheckpointSigner(signer).WithCheckpointInterval(100*time.Millisecond).
		WithBatching(1, 10*time.Millisecond).WithWitnesses(group, nil))
	if err != nil {
		t.Fatal(err)
	}
	awaiter := tessera.NewPublicationAwaiter(ctx, reader.ReadCheckpoint, 20*time.Millisecond)
	var checkpoint []byte
	for i := range 5 {
		_, checkpoint, err = awaiter.Await(ctx, appender.Add(ctx, tessera.NewEntry(fmt.Appendf(nil, "life %d entry %d", life, i))))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	v, err := torchwood.NewCosignatureVerifier(testKeys(t).VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	want := note.VerifierList(v)
	if group.N == 0 {
		own, err := note.NewVerifier(newTestLog(t, origin).key.String())
		if err != nil {
			t.Fatal(err)
		}
		want = note.VerifierList(own)
	}
	n, err := note.Open(checkpoint, want)
	if err != nil || len(n.Sigs) != 1 {
		t.Fatalf("Tessera published\n%s\n%v", checkpoint, err)
	}
	cp, err := torchwood.ParseCheckpoint(n.Text)
	if err != nil {
		t.Fatal(err)
	}
	return cp.N
}
