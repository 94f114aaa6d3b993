package log_test

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
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
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

const origin = "log.example.com"

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // Tessera's
	os.Exit(m.Run())
}

// A fixture is the identity of a log, which a test opens as often as it likes. Its logs answer within the
// times that clients wait: tests that add run in a bubble, where no time passes while they have work to do.
type fixture struct {
	t       testing.TB
	bucket  storage.Bucket
	options log.Options
	patient time.Duration // how much longer than others its logs may take to be ready
}

func newFixture(t testing.TB) *fixture {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := keys.NoteSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	vkey := keys.VKey(origin, keys.AlgEd25519, key.Public().(ed25519.PublicKey))
	b := mem.New()
	return &fixture{t: t, bucket: b, options: log.Options{
		Name: "signatures", Origin: origin, Kind: log.KindTlog, Bucket: b,
		Signers: []note.Signer{signer}, VKeys: []string{vkey},
		Policy: parsePolicy(t, "log "+vkey+"\nquorum none\n"),
	}}
}

func parsePolicy(t testing.TB, text string) *policy.Policy {
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// open opens the log without running it.
func (f *fixture) open() *log.Log {
	f.t.Helper()
	l, err := log.Open(f.t.Context(), f.options)
	if err != nil {
		f.t.Fatal(err)
	}
	return l
}

// run opens and runs the log and waits until it is ready. stop ends it as SIGTERM would.
func (f *fixture) run() (l *log.Log, stop func()) {
	f.t.Helper()
	l = f.open()
	return l, f.lead(l)
}

func (f *fixture) lead(l *log.Log) (stop func()) {
	f.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			f.t.Errorf("stopping log: %v", err)
		}
	}
	f.t.Cleanup(stop)
	within(f.t, patience+f.patient, "the log to be ready", func() bool { return l.Ready() == nil })
	return stop
}

// patience is how long eventually waits.
const patience = time.Minute

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	within(t, patience, what, ok)
}

func within(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(d); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

func tlogEntry(text string) log.Entry {
	return log.Entry{Key: sha256.Sum256([]byte(text)), Data: []byte(text)}
}

func mustAdd(t testing.TB, l *log.Log, text string) log.Receipt {
	t.Helper()
	r, err := l.Add(t.Context(), tlogEntry(text))
	if err != nil {
		t.Fatalf("adding %.20q: %v", text, err)
	}
	if string(r.Body) != text {
		t.Fatalf("receipt of %.20q holds %.20q", text, r.Body)
	}
	return r
}

// A cosigner is a witness in the process that can be silenced.
type cosigner struct {
	signer *fnote.Signer
	vkey   string
	silent atomic.Bool
	rounds atomic.Int64
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
	vkey, err = fnote.VKeyToCosignatureV1(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return &cosigner{signer: s, vkey: vkey}
}

func (c *cosigner) Cosign(ctx context.Context, checkpoint []byte, _ log.ProofFunc) ([]byte, error) {
	c.rounds.Add(1)
	if c.silent.Load() {
		<-ctx.Done()
		return nil, fmt.Errorf("asking witness: %w", ctx.Err())
	}
	text, sigs, ok := strings.Cut(string(checkpoint), "\n\n")
	if !ok {
		return nil, errors.New("no note")
	}
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

// witnessed makes the fixture's policy demand a cosignature of c.
func (f *fixture) witnessed(c *cosigner) {
	f.options.Policy = parsePolicy(f.t, "log "+f.options.VKeys[0]+"\nwitness w "+c.vkey+"\nquorum w\n")
	f.options.Cosigner = c
}
