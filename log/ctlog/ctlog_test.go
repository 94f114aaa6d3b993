package ctlog_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io/fs"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/log"
	"tallywood/log/ctentry"
	"tallywood/log/ctlog"
	"tallywood/storage"
)

// published returns the data tile with the first entries once it holds n.
func (f *fixture) published(l *log.Log, n int64) [][]byte {
	f.t.Helper()
	eventually(f.t, "publication", func() bool { c, ok := l.Published(); return ok && c.Size() >= n })
	c, _ := l.Published()
	key := "logs/" + name + "/tile/data/000"
	if c.Size() < 256 {
		key += ".p/" + c.Tree().Text()[len(origin)+1:strings.LastIndex(strings.TrimSpace(c.Tree().Text()), "\n")]
	}
	bundle, _, err := f.bucket.Get(f.t.Context(), key, storage.Range{})
	if err != nil {
		f.t.Fatal(err)
	}
	entries, err := ctentry.Split(bundle)
	if err != nil {
		f.t.Fatal(err)
	}
	return entries
}

func TestSCTIsKeptByTheLog(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	var scts []ctentry.SCT
	var chains [][][]byte
	for range 3 {
		chain := f.ca.submission(t)
		chains = append(chains, chain)
		scts = append(scts, mustAdd(t, ct, chain))
	}
	entries := f.published(l, 3)
	for i, sct := range scts {
		index, err := sct.Index()
		if err != nil || index != int64(i) {
			t.Fatalf("SCT %d has index %d, %v", i, index, err)
		}
		e, err := ctentry.Parse(entries[index])
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Check(f.ca.chain[0]); err != nil {
			t.Error(err)
		}
		if err := sct.Verify(f.key.Public(), e); err != nil {
			t.Error(err)
		}
		if sct.Timestamp != e.Timestamp || !bytes.Equal(e.UnverifiedPrecertificate, chains[i][0]) {
			t.Errorf("entry %d is another than was promised", i)
		}
		if len(e.UnverifiedFingerprints) != 2 {
			t.Errorf("entry %d names %d issuers", i, len(e.UnverifiedFingerprints))
		}
		for n, fingerprint := range e.UnverifiedFingerprints {
			der, _, err := f.bucket.Get(t.Context(), "logs/"+name+"/issuer/"+hex.EncodeToString(fingerprint[:]), storage.Range{})
			if err != nil || sha256.Sum256(der) != fingerprint || !bytes.Equal(der, f.ca.chain[n].Raw) {
				t.Errorf("issuer %d: %v", n, err)
			}
		}
	}
}

func TestRootMayBeLeftOut(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	chain := f.ca.submission(t)
	mustAdd(t, ct, chain[:2])
	e, err := ctentry.Parse(f.published(l, 1)[0])
	if err != nil || len(e.UnverifiedFingerprints) != 2 {
		t.Errorf("%d issuers are named, %v", len(e.UnverifiedFingerprints), err)
	}
}

func TestThousandEqualSubmissionsAreOneEntry(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t)) // index 0; the log is up
	chain := f.ca.submission(t)
	scts := make([][]byte, 1000)
	var wg sync.WaitGroup
	for i := range scts {
		wg.Go(func() {
			var err error
			if scts[i], err = ct.AddPreChain(t.Context(), chain); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range scts {
		if !bytes.Equal(scts[i], scts[0]) {
			t.Fatalf("submission %d got another SCT", i)
		}
	}
	if n := len(f.published(l, 2)); n != 2 {
		t.Errorf("%d entries", n)
	}
}

func TestKilledLogGivesTheSameSCT(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // the drain without quorum takes a while
		f := newFixture(t)
		f.witness = newWitness(t)
		f.witness.silent.Store(true) // so that nothing is published before the kill
		first, _, _ := f.run()
		chain := f.ca.submission(t)
		want := mustAdd(t, first, chain)
		// The first process answers nobody any more; another takes over from the bucket.
		second, l, _ := f.run()
		got := mustAdd(t, second, chain)
		if !bytes.Equal(marshal(t, got), marshal(t, want)) {
			t.Errorf("the SCT is another after the restart: %+v, was %+v", got, want)
		}
		next := mustAdd(t, second, f.ca.submission(t))
		if index, _ := next.Index(); index != 1 {
			t.Errorf("the next index is %d", index)
		}
		f.witness.silent.Store(false)
		if n := len(f.published(l, 2)); n != 2 {
			t.Errorf("%d entries", n)
		}
	})
}

func marshal(t testing.TB, s ctentry.SCT) []byte {
	t.Helper()
	out, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestUnansweredCommitGivesOneEntry loses the response of the slot record's Put, as a process
// would that dies between commit and answer.
func TestUnansweredCommitGivesOneEntry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // the drain without quorum takes a while
		f := newFixture(t)
		inner := f.bucket
		faulty := faultbucket.New(inner)
		f.bucket = faulty
		ct, _, stop := f.run()
		mustAdd(t, ct, f.ca.submission(t))
		chain := f.ca.submission(t)
		faulty.FailWhen(faultbucket.On(faultbucket.Put, "state/"+name+"/log/"), faultbucket.CrashAfter)
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := ct.AddPreChain(ctx, chain); err == nil {
			t.Fatal("there was an answer although the process died")
		}
		stop()
		f.bucket = inner
		again, l, _ := f.run()
		sct := mustAdd(t, again, chain)
		if index, _ := sct.Index(); index != 1 {
			t.Errorf("index %d", index)
		}
		if n := len(f.published(l, 2)); n != 2 {
			t.Errorf("%d entries", n)
		}
	})
}

func TestNoEntryWithoutItsIssuers(t *testing.T) {
	f := newFixture(t)
	faulty := faultbucket.New(f.bucket)
	f.bucket = faulty
	ct, _, _ := f.run()
	fingerprint := sha256.Sum256(f.ca.chain[0].Raw)
	key := "logs/" + name + "/issuer/" + hex.EncodeToString(fingerprint[:])

	faulty.FailWhen(faultbucket.On(faultbucket.Put, key), faultbucket.Fail)
	if _, err := ct.AddPreChain(t.Context(), f.ca.submission(t)); !errors.Is(err, log.ErrUnavailable) {
		t.Errorf("issuer cannot be stored: %v", err)
	}
	faulty.Heal()
	if _, _, err := faulty.Get(t.Context(), key, storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("the issuer is there: %v", err)
	}
	if _, err := faulty.Put(t.Context(), key, []byte("damaged"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	_, err := ct.AddPreChain(t.Context(), f.ca.submission(t))
	if err == nil || errors.Is(err, log.ErrUnavailable) || !strings.Contains(err.Error(), "damaged") {
		t.Errorf("issuer object is another: %v", err)
	}
	if err := faulty.Delete(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	sct := mustAdd(t, ct, f.ca.submission(t))
	if index, _ := sct.Index(); index != 0 {
		t.Errorf("index %d: something was logged without issuers", index)
	}
}

func TestStuckIssuerIsWaitedForNoLongerThanAsked(t *testing.T) {
	f := newFixture(t)
	g := newGate(f.bucket, "logs/"+name+"/issuer/")
	f.bucket = g
	ct, l, _ := f.run()
	eventually(t, "the log to be ready", func() bool { return l.Ready() == nil })
	first, giveUp := context.WithCancel(t.Context())
	defer giveUp()
	results := make(chan error, 2)
	add := func(ctx context.Context) {
		_, err := ct.AddPreChain(ctx, f.ca.submission(t))
		results <- err
	}
	go add(first)
	<-g.entered // it stores the issuer, and the store does not answer

	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := inTime(t, func() error { _, err := ct.AddPreChain(short, f.ca.submission(t)); return err })
	if !errors.Is(err, log.ErrUnavailable) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second submission: %v", err)
	}
	go add(t.Context())
	giveUp()
	if err := <-results; !errors.Is(err, log.ErrUnavailable) {
		t.Errorf("the first submission: %v", err)
	}
	<-g.entered // the third does not fail with the first, but tries itself
	close(g.open)
	if err := inTime(t, func() error { return <-results }); err != nil {
		t.Errorf("the third submission: %v", err)
	}
}

// TestDuplicateOfAnotherEntryIsNotSigned: the key of duplicates covers the precertificate alone, so
// a bug that logged it under another issuer would have us sign what the log does not hold.
func TestDuplicateOfAnotherEntryIsNotSigned(t *testing.T) {
	f := newFixture(t)
	ct, l, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	for what, edit := range map[string]func(*ctonly.Entry){
		"issuer key":      func(e *ctonly.Entry) { e.IssuerKeyHash[0] ^= 1 },
		"TBS certificate": func(e *ctonly.Entry) { e.Certificate[len(e.Certificate)-1] ^= 1 },
	} {
		chain := f.ca.submission(t)
		leaf, err := x509.ParseCertificate(chain[0])
		if err != nil {
			t.Fatal(err)
		}
		tbs, err := ctentry.RemoveExtension(leaf.RawTBSCertificate, ctentry.OIDPoison)
		if err != nil {
			t.Fatal(err)
		}
		issuer := sha256.Sum256(f.ca.chain[0].RawSubjectPublicKeyInfo)
		e := &ctonly.Entry{Timestamp: uint64(time.Now().UnixMilli()), IsPrecert: true, Certificate: tbs,
			Precertificate: chain[0], IssuerKeyHash: issuer[:], FingerprintsChain: [][32]byte{{1}}}
		edit(e)
		if _, err := l.Sequence(t.Context(), log.Entry{Key: [32]byte(e.Identity()), CT: e}); err != nil {
			t.Fatal(err)
		}
		_, err = ct.AddPreChain(t.Context(), chain)
		var temporary interface{ Temporary() bool }
		if err == nil || errors.Is(err, log.ErrUnavailable) || errors.As(err, &temporary) {
			t.Errorf("another %s: %v", what, err)
		}
		if w := do(ct.Handler(), "POST", addPreChain, submission(t, chain)); w.Code != 500 {
			t.Errorf("another %s: %d %s", what, w.Code, w.Body)
		}
	}
}

func TestPromisesStopWhenNothingIsPublishedForAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.witness = newWitness(t)
		ct, l, stop := f.run()
		covered, uncovered := f.ca.submission(t), f.ca.submission(t)
		want := mustAdd(t, ct, covered)
		f.published(l, 1)
		f.witness.silent.Store(true)
		mustAdd(t, ct, uncovered)
		time.Sleep(59 * time.Second)
		mustAdd(t, ct, f.ca.submission(t)) // still within the bound
		time.Sleep(2 * time.Second)
		for what, chain := range map[string][][]byte{"new": f.ca.submission(t), "repeated": uncovered} {
			_, err := ct.AddPreChain(t.Context(), chain)
			if !errors.Is(err, log.ErrUnavailable) || !errors.Is(err, log.ErrUnpublished) || errors.Is(err, log.ErrNoQuorum) {
				t.Errorf("a %s promise after 61 s without publication: %v", what, err)
			}
			w := do(ct.Handler(), "POST", addPreChain, submission(t, chain))
			if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "no SCT is issued") {
				t.Errorf("a %s promise is refused with %d %s", what, w.Code, w.Body)
			}
		}
		got, err := ct.AddPreChain(t.Context(), covered)
		if err != nil || !bytes.Equal(got, marshal(t, want)) {
			t.Errorf("what is published is not answered any more: %v", err)
		}
		f.witness.silent.Store(false)
		f.published(l, 3)
		mustAdd(t, ct, f.ca.submission(t))
		stop()
	})
}

func TestRejectionsAreFinal(t *testing.T) {
	f := newFixture(t)
	ct, _, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	_, err := ct.AddPreChain(t.Context(), nil)
	var temporary interface{ Temporary() bool }
	if !errors.As(err, &temporary) || temporary.Temporary() || errors.Is(err, log.ErrUnavailable) {
		t.Errorf("an empty chain may be tried again: %v", err)
	}
}

func TestFrozenLogTakesNoCertificates(t *testing.T) {
	f := newFixture(t)
	f.options.Successor = func() log.Successor {
		return log.Successor{Origin: "ct2.example.org", URL: "https://ct2.example.org"}
	}
	ct, l, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	if err := l.Freeze(t.Context(), log.Successor{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the log", func() bool { return l.Frozen() != nil })
	if n := l.Frozen().Size; n != 1 {
		t.Errorf("it ends at size %d", n)
	}
	if _, err := ct.AddPreChain(t.Context(), f.ca.submission(t)); !errors.Is(err, log.ErrFrozen) || errors.Is(err, log.ErrUnavailable) {
		t.Errorf("a frozen log: %v", err)
	}
	for _, path := range []string{addPreChain, "/ct/v1/add-chain"} {
		w := do(ct.Handler(), "POST", path, submission(t, f.ca.submission(t)))
		if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Link") != `<https://ct2.example.org>; rel="successor-version"` ||
			w.Body.String() != "This log has been frozen, please switch to the latest log.\nct2.example.org takes entries now, at https://ct2.example.org\n" {
			t.Errorf("%s: %d %v %q", path, w.Code, w.Header(), w.Body)
		}
	}
	for _, path := range []string{"/ct/v1/get-roots", "/checkpoint"} {
		if w := do(ct.Handler(), "GET", path, nil); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	f := newFixture(t)
	_, l := f.open()
	other, err := ctlog.NewTreeHead(ctlog.TreeHeadOptions{Origin: origin, Key: f.key, Bucket: f.bucket, Name: "other"})
	if err != nil {
		t.Fatal(err)
	}
	for what, o := range map[string]ctlog.Options{
		"nothing":       {},
		"no roots":      {Log: l, TreeHead: f.treeHead()},
		"no tree head":  {Log: l, Roots: f.ca.chain},
		"another log's": {Log: l, Roots: f.ca.chain, TreeHead: other},
	} {
		if _, err := ctlog.New(o); err == nil {
			t.Errorf("%s: accepted", what)
		}
	}
}
