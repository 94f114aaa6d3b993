package ctlog_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/log/ctlog"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// treeTime returns the time of the RFC 6962 line of a checkpoint.
func (f *fixture) treeTime(checkpoint []byte) time.Time {
	f.t.Helper()
	n, err := policy.ParseNote(checkpoint)
	if err != nil {
		f.t.Fatal(err)
	}
	key, err := policy.ParseVKey(f.treeHead().VKey())
	if err != nil {
		f.t.Fatal(err)
	}
	for _, sig := range n.Signatures {
		if key.Matches(sig) {
			at, err := key.Verify(n.Text, sig.Sig)
			if err != nil {
				f.t.Fatal(err)
			}
			return at
		}
	}
	f.t.Fatalf("no RFC 6962 line:\n%s", checkpoint)
	return time.Time{}
}

func text(size int64) string {
	return policy.Tree{Origin: origin, Size: size, Root: [32]byte{1, 2, 3}}.Text()
}

func TestCheckpointHasBothLinesInOrder(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	sct := mustAdd(t, ct, f.ca.submission(t))
	f.published(l, 1)
	c, _ := l.Published()
	n, err := policy.ParseNote(c.Note())
	if err != nil || len(n.Signatures) != 2 {
		t.Fatalf("%d signatures, %v", len(n.Signatures), err)
	}
	th := f.treeHead()
	if n.Signatures[0].KeyID == th.KeyHash() || n.Signatures[1].KeyID != th.KeyHash() || n.Signatures[1].Name != origin {
		t.Errorf("lines out of order:\n%s", c.Note())
	}
	if len(c.Tree().Extensions) != 0 {
		t.Errorf("extension lines: %q", c.Tree().Extensions)
	}
	if at := f.treeTime(c.Note()); at.UnixMilli() < sct.Timestamp {
		t.Errorf("the tree head is of %v, before its SCT", at)
	}
}

func TestFormatsAcceptsOurLine(t *testing.T) {
	f := newFixture(t)
	th := f.treeHead()
	vkey, err := fnote.RFC6962VerifierString("https://"+origin+"/", f.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	if vkey != th.VKey() {
		t.Errorf("vkey %s, formats has %s", th.VKey(), vkey)
	}
	v, err := fnote.NewRFC6962Verifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	signed, err := note.Sign(&note.Note{Text: text(0)}, th)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open(signed, note.VerifierList(v)); err != nil {
		t.Error(err)
	}
}

func TestTreeHeadRefusesAnyChange(t *testing.T) {
	f := newFixture(t)
	th := f.treeHead()
	key, err := policy.ParseVKey(th.VKey())
	if err != nil {
		t.Fatal(err)
	}
	body := text(0)
	sig, err := th.Sign([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := range sig {
		bad := bytes.Clone(sig)
		bad[i] ^= 1
		if _, err := key.Verify(body, bad); err == nil {
			t.Errorf("byte %d of the signature changed: accepted", i)
		}
	}
	for i := range body {
		bad := []byte(body)
		bad[i] ^= 1
		if _, err := key.Verify(string(bad), sig); err == nil {
			t.Errorf("byte %d of the body changed: accepted", i)
		}
	}
	for what, text := range map[string]string{
		"another origin": "x" + body, "an extension line": body + "extension\n", "no tree": "text\n", "nothing": "",
	} {
		if _, err := th.Sign([]byte(text)); err == nil {
			t.Errorf("%s: signed", what)
		}
	}
}

func TestTreeHeadTimesAlwaysGrow(t *testing.T) {
	f := newFixture(t)
	now := time.UnixMilli(1_790_000_000_000)
	f.now = func() time.Time { return now } // stands still
	th := f.treeHead()
	key, err := policy.ParseVKey(th.VKey())
	if err != nil {
		t.Fatal(err)
	}
	last := now.Add(-time.Millisecond)
	for range 500 {
		sig, err := th.Sign([]byte(text(0)))
		if err != nil {
			t.Fatal(err)
		}
		at, err := key.Verify(text(0), sig)
		if err != nil || at.Sub(last) != time.Millisecond {
			t.Fatalf("time %v after %v, %v", at, last, err)
		}
		last = at
	}
	now = now.Add(-2 * time.Second)
	if _, err := th.Sign([]byte(text(0))); !errors.Is(err, log.ErrUnavailable) {
		t.Errorf("signed with a clock that went back: %v", err)
	}
	now = now.Add(time.Hour)
	if _, err := th.Sign([]byte(text(0))); err != nil {
		t.Error(err)
	}
}

// clock is one that tests set.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func TestClockSetBackStopsPromises(t *testing.T) {
	f := newFixture(t)
	var c clock
	f.now = c.now
	ct, l, _ := f.run()
	chain := f.ca.submission(t)
	mustAdd(t, ct, chain)
	f.published(l, 1)
	c.offset.Store(-int64(10 * time.Minute))
	for _, chain := range [][][]byte{chain, f.ca.submission(t)} {
		if _, err := ct.AddPreChain(t.Context(), chain); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("a promise from the past: %v", err)
		}
	}
	c.offset.Store(0)
	mustAdd(t, ct, f.ca.submission(t))
}

func TestTakeoverWithSlowerClockKeepsOrder(t *testing.T) {
	f := newFixture(t)
	var c clock
	f.now = c.now
	c.offset.Store(int64(time.Hour)) // the first process's clock is ahead
	ct, l, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	f.published(l, 1)
	f.awaitStored(1)

	c.offset.Store(0)
	ct, _, stop := f.run()
	if _, err := ct.AddPreChain(t.Context(), f.ca.submission(t)); !errors.Is(err, log.ErrUnavailable) {
		t.Errorf("a promise before the last tree head: %v", err)
	}
	stop()

	c.offset.Store(int64(time.Hour - 500*time.Millisecond)) // slower, within bounds
	before := f.treeTime(f.stored())
	ct, l, _ = f.run()
	mustAdd(t, ct, f.ca.submission(t))
	f.published(l, 2)
	next, _ := l.Published()
	if after := f.treeTime(next.Note()); !after.After(before) {
		t.Errorf("the tree head after the takeover is of %v, that before of %v", after, before)
	}
}

func TestUnpublishedPromisesBoundTheNextTreeHead(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // the drain without quorum takes a while
		f := newFixture(t)
		f.witness = newWitness(t)
		f.witness.silent.Store(true)
		var c clock
		f.now = c.now
		c.offset.Store(int64(time.Hour))
		ct, _, stop := f.run()
		sct := mustAdd(t, ct, f.ca.submission(t))
		stop() // nothing was published

		c.offset.Store(0)
		_, l := f.open() // which makes the bundles durable
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		th := f.treeHead()
		if _, err := th.Sign([]byte(text(1))); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("a tree head older than an SCT in the tree: %v", err)
		}
		c.offset.Store(int64(time.Hour - 500*time.Millisecond))
		sig, err := th.Sign([]byte(text(1)))
		if err != nil {
			t.Fatal(err)
		}
		key, err := policy.ParseVKey(th.VKey())
		if err != nil {
			t.Fatal(err)
		}
		if at, err := key.Verify(text(1), sig); err != nil || at.UnixMilli() < sct.Timestamp {
			t.Errorf("tree head of %v, SCT of %d, %v", at, sct.Timestamp, err)
		}
	})
}

// TestSlowTailHoldsUpNoSCTs: what the predecessor left unpublished may be long and slow to read, and
// tree heads need it, but SCTs do not.
func TestSlowTailHoldsUpNoSCTs(t *testing.T) {
	f := newFixture(t)
	g := newGate(f.bucket, "logs/"+name+"/tile/data/")
	f.bucket = g
	th := f.treeHead()
	signed := make(chan error, 1)
	go func() {
		_, err := th.Sign([]byte(text(1)))
		signed <- err
	}()
	<-g.entered
	if err := inTime(t, func() error { _, err := th.Issue(t.Context()); return err }); err != nil {
		t.Error(err)
	}
	close(g.open)
	if err := <-signed; !errors.Is(err, log.ErrUnavailable) { // there is no such bundle
		t.Error(err)
	}
}

func TestSlowCheckpointIsWaitedForNoLongerThanAsked(t *testing.T) {
	f := newFixture(t)
	g := newGate(f.bucket, "logs/"+name+"/checkpoint")
	f.bucket = g
	th := f.treeHead()
	first := make(chan error, 1)
	go func() {
		_, err := th.Issue(t.Context())
		first <- err
	}()
	<-g.entered
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := inTime(t, func() error { _, err := th.Issue(ctx); return err })
	if !errors.Is(err, log.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	close(g.open)
	if err := <-first; err != nil {
		t.Error(err)
	}
}

func TestForeignStoredCheckpointStopsSigning(t *testing.T) {
	f := newFixture(t)
	ct, l, stop := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	f.published(l, 1)
	f.awaitStored(1)
	stop()
	f.key = p256(t)
	if _, err := f.treeHead().Sign([]byte(text(1))); err == nil {
		t.Error("signed after a checkpoint that another key signed")
	}
}

func TestTreeHeadOptionsAreChecked(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := ctlog.TreeHeadOptions{Origin: origin, Key: p256(t), Bucket: mem.New(), Name: name}
	for what, edit := range map[string]func(*ctlog.TreeHeadOptions){
		"no key":    func(o *ctlog.TreeHeadOptions) { o.Key = nil },
		"P-384":     func(o *ctlog.TreeHeadOptions) { o.Key = p384 },
		"no bucket": func(o *ctlog.TreeHeadOptions) { o.Bucket = nil },
		"no name":   func(o *ctlog.TreeHeadOptions) { o.Name = "" },
		"no origin": func(o *ctlog.TreeHeadOptions) { o.Origin = "" },
	} {
		o := good
		edit(&o)
		if _, err := ctlog.NewTreeHead(o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
