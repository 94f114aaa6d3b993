package log_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/storage"
)

// verify checks a receipt with another implementation than the engine does.
func verify(t testing.TB, r log.Receipt) {
	t.Helper()
	root := r.Checkpoint.Root()
	if err := proof.VerifyInclusion(rfc6962.DefaultHasher, uint64(r.Index), uint64(r.Checkpoint.Size()),
		rfc6962.DefaultHasher.HashLeaf(r.Body), r.Hashes, root[:]); err != nil {
		t.Errorf("receipt of index %d: %v", r.Index, err)
	}
}

func TestReceiptsVerifyAndDuplicatesKeepTheirIndex(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _ := newFixture(t).run()
		for round := range 2 {
			for i := range 20 {
				r := mustAdd(t, l, fmt.Sprint("entry ", i))
				verify(t, r)
				if r.Index != int64(i) || r.Duplicate != (round == 1) {
					t.Errorf("round %d, entry %d: index %d, duplicate %v", round, i, r.Index, r.Duplicate)
				}
				if r.Checkpoint.Origin() != origin {
					t.Errorf("origin %q", r.Checkpoint.Origin())
				}
			}
		}
	})
}

// TestConcurrentEqualAddsShareOneIndex: however many post the same at once, one is sequenced.
func TestConcurrentEqualAddsShareOneIndex(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _ := newFixture(t).run()
		mustAdd(t, l, "first")
		var wg sync.WaitGroup
		var mu sync.Mutex
		firsts := 0
		for range 200 {
			wg.Go(func() {
				r, err := l.Add(context.Background(), tlogEntry("the same"))
				if err != nil {
					t.Error(err)
					return
				}
				verify(t, r)
				mu.Lock()
				defer mu.Unlock()
				if !r.Duplicate {
					firsts++
				}
				if r.Index != 1 {
					t.Errorf("index %d", r.Index)
				}
			})
		}
		wg.Wait()
		if firsts != 1 {
			t.Errorf("%d adds say they were the first", firsts)
		}
		if c, ok := l.Published(); !ok || c.Size() != 2 {
			t.Errorf("log has %d entries", c.Size())
		}
	})
}

// TestRestartKeepsDuplicatesExact restarts in order, with the index on disk, lost and in memory.
func TestRestartKeepsDuplicatesExact(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		for _, cache := range []string{"", t.TempDir()} {
			f := newFixture(t)
			f.options.CacheDir = cache
			for restart := range 4 {
				l, stop := f.run()
				if log.Indexed(l) != int64(10*restart) {
					t.Errorf("cache %q: index holds %d entries after restart %d", cache, log.Indexed(l), restart)
				}
				for i := range 10 * restart {
					if r := mustAdd(t, l, fmt.Sprint(i)); !r.Duplicate || r.Index != int64(i) {
						t.Errorf("cache %q, restart %d: entry %d got index %d", cache, restart, i, r.Index)
					}
				}
				for i := 10 * restart; i < 10*restart+10; i++ {
					if r := mustAdd(t, l, fmt.Sprint(i)); r.Duplicate || r.Index != int64(i) {
						t.Errorf("cache %q: new entry %d got index %d, duplicate %v", cache, i, r.Index, r.Duplicate)
					}
				}
				stop()
			}
		}
	})
}

// TestFlightsLeaveOnceIndexed: nothing per entry stays in memory beside the index.
func TestFlightsLeaveOnceIndexed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.options.CacheDir = t.TempDir()
		l, _ := f.run()
		for i := range 50 {
			mustAdd(t, l, fmt.Sprint(i))
		}
		eventually(t, "the index to follow", func() bool { return log.Indexed(l) == 50 && log.Flights(l) == 0 })
		if r := mustAdd(t, l, "7"); !r.Duplicate || r.Index != 7 {
			t.Errorf("index %d, duplicate %v", r.Index, r.Duplicate)
		}
		if log.Flights(l) != 0 {
			t.Error("a duplicate stays in memory")
		}
	})
}

// TestUntidyIndexHoldsNothingUp: entries that the index has do not stay in memory, nor are adds refused,
// because its files could not be merged.
func TestUntidyIndexHoldsNothingUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l := f.open()
		log.Untidy(l)
		f.lead(l)
		for i := range 5 {
			mustAdd(t, l, fmt.Sprint(i))
		}
		eventually(t, "the index to follow", func() bool { return log.Indexed(l) == 5 && log.Flights(l) == 0 })
		if err := l.Ready(); err != nil {
			t.Errorf("Ready: %v", err)
		}
	})
}

// TestQuorumLostThenBack: without the quorum nothing becomes public and adds fail within the
// timeout; the entries are logged once all the same.
func TestQuorumLostThenBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		w := newCosigner(t)
		f.witnessed(w)
		l, stop := f.run()
		defer stop()
		mustAdd(t, l, "before")
		before, _ := l.Published()

		w.silent.Store(true)
		start := time.Now()
		_, err := l.Add(t.Context(), tlogEntry("during"))
		if !errors.Is(err, log.ErrNoQuorum) {
			t.Fatalf("got %v", err)
		}
		if d := time.Since(start); d != 3*time.Second {
			t.Errorf("answered after %v", d)
		}
		if c, ok := l.Published(); !ok || c.Size() != before.Size() {
			t.Errorf("published size %d without quorum", c.Size())
		}
		data, _, err := f.bucket.Get(t.Context(), "logs/signatures/checkpoint", storage.Range{})
		if err != nil || !strings.HasPrefix(string(data), origin+"\n1\n") {
			t.Errorf("bucket has %q, %v", data, err)
		}
		// What is covered already is still answered, from memory and under the old checkpoint.
		if r := mustAdd(t, l, "before"); !r.Duplicate || r.Checkpoint.Size() != 1 {
			t.Errorf("duplicate: index %d under size %d", r.Index, r.Checkpoint.Size())
		}

		w.silent.Store(false)
		eventually(t, "the quorum to return", func() bool {
			r, err := l.Add(t.Context(), tlogEntry("during"))
			return err == nil && r.Index == 1 && r.Duplicate
		})
		if r := mustAdd(t, l, "after"); r.Index != 2 || len(r.Checkpoint.Cosignatures()) != 1 {
			t.Errorf("index %d with %d cosignatures", r.Index, len(r.Checkpoint.Cosignatures()))
		}
	})
}

// TestLongWithoutQuorumLogsNothing: the refusal of an entry is told from a late receipt, after which
// the entry is logged.
func TestLongWithoutQuorumLogsNothing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		w := newCosigner(t)
		f.witnessed(w)
		l, stop := f.run()
		defer stop()
		mustAdd(t, l, "before")
		w.silent.Store(true)
		if _, err := l.Add(t.Context(), tlogEntry("during")); !errors.Is(err, log.ErrNoQuorum) || errors.Is(err, log.ErrUnpublished) {
			t.Errorf("at first: %v", err)
		}
		time.Sleep(10 * time.Second)
		_, err := l.Add(t.Context(), tlogEntry("long after"))
		if !errors.Is(err, log.ErrUnpublished) || !errors.Is(err, log.ErrUnavailable) || errors.Is(err, log.ErrNoQuorum) {
			t.Errorf("10 s later: %v", err)
		}
		w.silent.Store(false)
		var r log.Receipt
		eventually(t, "the quorum to return", func() bool {
			r, err = l.Add(t.Context(), tlogEntry("long after"))
			return err == nil
		})
		if r.Duplicate || r.Index != 2 {
			t.Errorf("what was refused has index %d, duplicate %v", r.Index, r.Duplicate)
		}
	})
}

// TestNoReceiptUnderAnotherPolicy: a checkpoint published under a weaker policy serves nobody
// once the policy demands more, not even duplicates.
func TestNoReceiptUnderAnotherPolicy(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l, stop := f.run()
		mustAdd(t, l, "logged without witnesses")
		stop()

		w := newCosigner(t)
		w.silent.Store(true)
		f.witnessed(w)
		f.options.QuorumTimeout = 100 * time.Millisecond
		l = f.open()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		eventually(t, "the log to take adds", func() bool {
			_, err := l.Sequence(ctx, tlogEntry("logged without witnesses"))
			return err == nil
		})
		if _, err := l.Add(ctx, tlogEntry("logged without witnesses")); !errors.Is(err, log.ErrNoQuorum) {
			t.Errorf("got %v", err)
		}
		if _, ok := l.Published(); ok {
			t.Error("the old checkpoint passes for published")
		}
		if err := l.Ready(); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("ready: %v", err)
		}
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A liar says that the quorum was met.
type liar struct{ *cosigner }

func (liar) Cosign(_ context.Context, checkpoint []byte, _ log.ProofFunc) ([]byte, error) {
	return checkpoint, nil
}

// TestCosignerIsNotBelieved: what comes back is checked before it becomes public.
func TestCosignerIsNotBelieved(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // the drain without quorum takes a while
		f := newFixture(t)
		w := newCosigner(t)
		f.witnessed(w)
		f.options.Cosigner = liar{w}
		f.options.QuorumTimeout = 100 * time.Millisecond
		l := f.open()
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		eventually(t, "an index", func() bool { _, err := l.Sequence(ctx, tlogEntry("x")); return err == nil })
		if _, err := l.Add(ctx, tlogEntry("x")); !errors.Is(err, log.ErrNoQuorum) {
			t.Errorf("got %v", err)
		}
		if _, _, err := f.bucket.Get(ctx, "logs/signatures/checkpoint", storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a checkpoint without quorum is public: %v", err)
		}
		cancel()
		if err := errors.Join(<-done, l.Close()); err != nil {
			t.Error(err)
		}
	})
}

// A stuckBucket holds back slot records while told so.
type stuckBucket struct {
	storage.Bucket
	stuck chan struct{} // nil: not stuck; else Puts wait until it is closed
}

func (b *stuckBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if b.stuck != nil && strings.HasPrefix(key, "state/signatures/log/") {
		select {
		case <-b.stuck:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestStuckStorageAnswersInTime: a commit that hangs costs each add a bounded wait, and the entry
// is there once when storage comes back.
func TestStuckStorageAnswersInTime(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := &stuckBucket{Bucket: f.bucket}
		f.options.Bucket = b
		l := f.open()
		stop := f.lead(l)
		b.stuck = make(chan struct{})
		start := time.Now()
		_, err := l.Add(context.Background(), tlogEntry("x"))
		if !errors.Is(err, log.ErrUnavailable) || time.Since(start) > 15*time.Second {
			t.Errorf("after %v: %v", time.Since(start), err)
		}
		close(b.stuck)
		if r := mustAdd(t, l, "x"); r.Index != 0 {
			t.Errorf("index %d", r.Index)
		}
		stop()
	})
}

// TestKindsDoNotMix: a certificate log takes certificates only, and gives no receipts.
func TestKindsDoNotMix(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l, stop := f.run()
		if _, err := l.Sequence(t.Context(), certificate(1, 1)); err == nil {
			t.Error("a certificate in a log of bytes")
		}
		stop()
		g := newFixture(t)
		g.options.Kind = log.KindCT
		l, _ = g.run()
		if _, err := l.Sequence(t.Context(), tlogEntry("x")); err == nil {
			t.Error("bytes in a certificate log")
		}
		if _, err := l.Add(t.Context(), certificate(1, 1)); err == nil {
			t.Error("a receipt from a certificate log")
		}
		for kind, want := range map[log.Kind]string{log.KindRekor: "rekor", log.KindCT: "ct", log.KindTlog: "tlog", 0: "kind 0"} {
			if kind.String() != want {
				t.Errorf("%d is %q", int(kind), kind)
			}
		}
	})
}

func TestNothingIsAcceptedWithoutRun(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		l := f.open()
		if _, err := l.Add(t.Context(), tlogEntry("x")); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("before Run: %v", err)
		}
		if err := l.Ready(); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("before Run: ready: %v", err)
		}
		stop := f.lead(l)
		mustAdd(t, l, "x")
		stop()
		if _, err := l.Sequence(t.Context(), tlogEntry("y")); !errors.Is(err, log.ErrUnavailable) {
			t.Errorf("after Run: %v", err)
		}
	})
}

func TestGivingUpDoesNotCancelTheEntry(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _ := newFixture(t).run()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := l.Add(ctx, tlogEntry("x")); !errors.Is(err, context.Canceled) && err != nil {
			t.Errorf("got %v", err)
		}
		if r := mustAdd(t, l, "x"); r.Index != 0 {
			t.Errorf("index %d", r.Index)
		}
	})
}

// TestWhatIsKnownIsAnsweredToTheLast: who gives up while the answer is there gets the answer.
func TestWhatIsKnownIsAnsweredToTheLast(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _ := newFixture(t).run()
		mustAdd(t, l, "x")
		eventually(t, "the index to follow", func() bool { return log.Flights(l) == 0 })
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		for range 20 {
			if pos, err := l.Sequence(ctx, tlogEntry("x")); err != nil || pos.Index != 0 || !pos.Duplicate {
				t.Fatalf("%+v, %v", pos, err)
			}
		}
	})
}

func TestTooLargeIsRefusedBeforeSequencing(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l, _ := newFixture(t).run()
		_, err := l.Add(t.Context(), tlogEntry(strings.Repeat("x", 65536)))
		var large *log.TooLargeError
		if !errors.As(err, &large) || large.Size != 65536 || large.Limit != 65535 {
			t.Errorf("got %v", err)
		}
		if r := mustAdd(t, l, strings.Repeat("x", 65535)); r.Index != 0 {
			t.Errorf("index %d", r.Index)
		}
	})
}

func TestOpenRefusesBadOptions(t *testing.T) {
	f := newFixture(t)
	for name, change := range map[string]func(*log.Options){
		"name":             func(o *log.Options) { o.Name = "a/b" },
		"kind":             func(o *log.Options) { o.Kind = 0 },
		"origin with port": func(o *log.Options) { o.Kind, o.Origin = log.KindRekor, "log.example.com:80" },
		"origin of v1":     func(o *log.Options) { o.Kind, o.Origin = log.KindRekor, "log.example.com - 123" },
		"upper case":       func(o *log.Options) { o.Origin = "Log.example.com" },
		"no bucket":        func(o *log.Options) { o.Bucket = nil },
		"no signer":        func(o *log.Options) { o.Signers = nil },
		"vkeys":            func(o *log.Options) { o.VKeys = nil },
		"no policy":        func(o *log.Options) { o.Policy = nil },
		"foreign policy":   func(o *log.Options) { o.Policy = newFixture(t).options.Policy },
		"no cosigner": func(o *log.Options) {
			g := *f
			g.witnessed(newCosigner(t))
			o.Policy = g.options.Policy
		},
		"timeout": func(o *log.Options) { o.QuorumTimeout = -1 },
	} {
		o := f.options
		change(&o)
		if _, err := log.Open(t.Context(), o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
