package driver_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// quorum stands for the witnesses: it adds a line, or does not.
type quorum struct {
	mu    sync.Mutex
	err   error         // answered instead of a cosignature
	hang  bool          // no answer before the context ends
	delay time.Duration // until the answer
	calls uint64
}

func (q *quorum) set(change func(q *quorum)) {
	q.mu.Lock()
	defer q.mu.Unlock()
	change(q)
}

func (q *quorum) cosign(ctx context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
	q.mu.Lock()
	q.calls++
	err, hang, delay, n := q.err, q.hang, q.delay, q.calls
	q.mu.Unlock()
	if hang {
		delay = time.Hour
	}
	select {
	case <-time.After(delay):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if err != nil {
		return nil, err
	}
	cosignature := binary.BigEndian.AppendUint64([]byte{1, 2, 3, 4}, n)
	line := fmt.Sprintf("\u2014 witness.example.org %s\n", base64.StdEncoding.EncodeToString(cosignature))
	return append(bytes.Clone(checkpoint), line...), nil
}

var errDown = errors.New("witness down")

// witnessed opens and leads a log whose cosignatures come from q.
func witnessed(t *testing.T, q *quorum) (*mem.Bucket, *driver.Log, func() error) {
	t.Helper()
	b := mem.New()
	o := options(t, b)
	o.Cosign = q.cosign
	l := open(t, o)
	return b, l, lead(t, l)
}

func TestLoneAddWaitsForNoTimer(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		_, l, stop := witnessed(t, &quorum{delay: 20 * time.Millisecond})
		add(t, l, 0, 1)
		time.Sleep(time.Minute)
		for i := int64(1); i < 5; i++ {
			began := time.Now()
			add(t, l, i, i+1)
			if d := time.Since(began); d != 20*time.Millisecond {
				t.Errorf("an add on an idle log took %v, the witness 20ms", d)
			}
		}
		quit(t, l, stop)
	})
}

// TestNoQuorum stops the witnesses, and starts them again.
func TestNoQuorum(t *testing.T) {
	for name, down := range map[string]func(q *quorum){
		"refusing": func(q *quorum) { q.err = errDown },
		"silent":   func(q *quorum) { q.hang = true },
	} {
		t.Run(name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) { noQuorum(t, down) })
		})
	}
}

func noQuorum(t *testing.T, down func(q *quorum)) {
	q := new(quorum)
	b, l, stop := witnessed(t, q)
	add(t, l, 0, 10)
	time.Sleep(time.Second)
	q.set(down)
	began := time.Now()
	if _, err := l.Add(t.Context(), tessera.NewEntry(data(10)))(); err != nil {
		t.Fatalf("the index is durable without any quorum: %v", err)
	}
	if _, err := l.Await(t.Context(), 11); !errors.Is(err, driver.ErrNoQuorum) {
		t.Fatalf("Await: %v", err)
	}
	if d := time.Since(began); d != 3*time.Second {
		t.Errorf("waited for %v, not the quorum timeout", d)
	}
	time.Sleep(3 * time.Second)
	_, err := l.Add(t.Context(), tessera.NewEntry(data(11)))()
	if !errors.Is(err, driver.ErrUnpublished) || !errors.Is(err, tessera.ErrPushback) {
		t.Errorf("Add without a quorum for 6 s: %v", err)
	}
	if errors.Is(err, driver.ErrNoQuorum) {
		t.Errorf("a refused add says, as Await does, that it was logged: %v", err)
	}
	if size, _ := l.Head(); size != 11 {
		t.Errorf("a refused add was sequenced: size %d", size)
	}
	time.Sleep(time.Minute)
	if p, _ := l.Published(); p.Size != 10 {
		t.Errorf("published size %d without a quorum", p.Size)
	}
	if tree := stored(t, b); tree.N != 10 {
		t.Errorf("stored size %d without a quorum", tree.N)
	}

	q.set(func(q *quorum) { q.err, q.hang = nil, false })
	time.Sleep(time.Second) // of the round in flight, or its back-off
	if _, err := l.Await(t.Context(), 11); err != nil {
		t.Errorf("the entry was not published once the witnesses were back: %v", err)
	}
	add(t, l, 11, 20)
	quit(t, l, stop)
	checkLog(t, options(t, b), 20)
}

// TestLateQuorum has witnesses that take longer than waiters wait.
func TestLateQuorum(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b, l, stop := witnessed(t, q)
		add(t, l, 0, 1)
		q.set(func(q *quorum) { q.delay = 8 * time.Second })
		began := time.Now()
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(1)))(); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if _, err := l.Await(t.Context(), 2); !errors.Is(err, driver.ErrNoQuorum) {
				t.Fatalf("Await %d: %v", i, err)
			}
		}
		if _, err := l.Await(t.Context(), 2); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(began); d != 8*time.Second {
			t.Errorf("published after %v, the first round had its quorum after 8s", d)
		}
		q.set(func(q *quorum) { q.delay = 40 * time.Second })
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(2)))(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Minute)
		if p, _ := l.Published(); p.Size != 2 {
			t.Errorf("published size %d with a quorum that is too late", p.Size)
		}
		q.set(func(q *quorum) { q.delay = 0 })
		time.Sleep(4 * time.Second)
		add(t, l, 3, 4)
		quit(t, l, stop)
		checkLog(t, options(t, b), 4)
	})
}

// TestLateRoundCannotGoBack has an old round succeed after a newer one, although it was cancelled.
func TestLateRoundCannotGoBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := options(t, mem.New())
		o.Cosign = func(_ context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
			if openNote(t, checkpoint).N == 1 {
				time.Sleep(20 * time.Second)
			}
			return checkpoint, nil
		}
		l := open(t, o)
		stop := lead(t, l)
		for i := range int64(2) {
			if _, err := l.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 30 {
			time.Sleep(time.Second)
			if p, _ := l.Published(); p.Size == 1 {
				t.Fatal("the published size fell, or came late")
			}
		}
		if p, _ := l.Published(); p.Size != 2 {
			t.Errorf("published size %d", p.Size)
		}
		quit(t, l, stop)
	})
}

// TestLateRoundOfEqualSizeCannotGoBack has a round succeed, although it was cancelled, after a newer
// one of the same size: the checkpoint signed first must not replace the other.
func TestLateRoundOfEqualSizeCannotGoBack(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		var rounds, cancelled atomic.Int64
		o := options(t, b)
		o.Cosign = func(ctx context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
			if openNote(t, checkpoint).N == 0 {
				return checkpoint, nil
			}
			n := rounds.Add(1)
			began := time.Now()
			if n == 1 {
				<-ctx.Done()
				cancelled.Store(int64(time.Since(began)))
				time.Sleep(8*time.Second - time.Since(began))
			}
			return fmt.Appendf(bytes.Clone(checkpoint), "\u2014 round%d AQIDBAU=\n", n), nil
		}
		l := open(t, o)
		stop := lead(t, l)
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(0)))(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(20 * time.Second)
		p, _ := l.Published()
		for where, note := range map[string][]byte{"memory": p.Note, "the bucket": get(t, b, "logs/test/checkpoint")} {
			if !bytes.Contains(note, []byte(" round2 ")) {
				t.Errorf("in %s after the late answer:\n%s", where, note)
			}
		}
		if d := time.Duration(cancelled.Load()); d != 3*time.Second {
			t.Errorf("the first round was cancelled after %v, the second one had its quorum after 3s", d)
		}
		quit(t, l, stop)
	})
}

func TestCertificatesGoOnForAMinute(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := &quorum{err: errDown}
		o := options(t, mem.New())
		o.Layout, o.Cosign = driver.StaticCT(), q.cosign
		l := open(t, o)
		stop := lead(t, l)
		began := time.Now()
		for i := int64(0); i < 10; i++ {
			if _, err := l.AddCT(t.Context(), certificate(i))(); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(5 * time.Second)
		}
		if at, ok := l.OldestUnpublished(); !ok || at.Sub(began) > time.Second {
			t.Errorf("the oldest unpublished entry is of %v, %v", at, ok)
		}
		time.Sleep(11 * time.Second)
		if _, err := l.AddCT(t.Context(), certificate(10))(); !errors.Is(err, driver.ErrUnpublished) {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		q.set(func(q *quorum) { q.err = nil })
		time.Sleep(3 * time.Second)
		if _, ok := l.OldestUnpublished(); ok {
			t.Error("an entry is not published")
		}
		if _, err := l.AddCT(t.Context(), certificate(10))(); err != nil {
			t.Error(err)
		}
		quit(t, l, stop)
	})
}

// TestIdleLogIsRefreshed looks for newer cosignatures on a tree that does not grow.
func TestIdleLogIsRefreshed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b, l, stop := witnessed(t, q)
		add(t, l, 0, 3)
		time.Sleep(time.Second)
		before := get(t, b, "logs/test/checkpoint")
		q.set(func(q *quorum) { q.err = errDown })
		time.Sleep(11 * time.Minute)
		if !bytes.Equal(get(t, b, "logs/test/checkpoint"), before) {
			t.Error("the checkpoint changed without a quorum")
		}
		if err := l.Add(t.Context(), tessera.NewEntry(data(3))); err == nil {
			t.Error("no future")
		} else if _, err := err(); err != nil {
			t.Errorf("a failed refresh closed the log: %v", err)
		}
		q.set(func(q *quorum) { q.err = nil })
		time.Sleep(time.Minute)
		after := get(t, b, "logs/test/checkpoint")
		if tree := openNote(t, after); tree.N != 4 {
			t.Errorf("checkpoint of size %d", tree.N)
		}
		time.Sleep(11 * time.Minute)
		if again := get(t, b, "logs/test/checkpoint"); bytes.Equal(again, after) || openNote(t, again).N != 4 {
			t.Error("the checkpoint was not refreshed")
		}
		quit(t, l, stop)

		o := options(t, b)
		o.Cosign, o.Republish = q.cosign, -1
		l = open(t, o)
		stop = lead(t, l)
		time.Sleep(time.Second)
		last := get(t, b, "logs/test/checkpoint")
		time.Sleep(24 * time.Hour)
		if !bytes.Equal(last, get(t, b, "logs/test/checkpoint")) {
			t.Error("the checkpoint was refreshed although that is off")
		}
		quit(t, l, stop)
	})
}

// TestDrainIsBounded ends a leadership while nothing can be published.
func TestDrainIsBounded(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b, l, stop := witnessed(t, q)
		add(t, l, 0, 5)
		time.Sleep(time.Second)
		q.set(func(q *quorum) { q.hang = true })
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(5)))(); err != nil {
			t.Fatal(err)
		}
		waiting := make(chan error, 1)
		began := time.Now()
		go func() { waiting <- stop() }()
		time.Sleep(time.Second)
		if _, err := l.Add(t.Context(), tessera.NewEntry(data(6)))(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Add while draining: %v", err)
		}
		if err := <-waiting; err != nil {
			t.Fatalf("Run: %v", err)
		}
		if d := time.Since(began); d != 10*time.Second {
			t.Errorf("drained for %v", d)
		}
		if r := parseRecord(t, get(t, b, slotKey(newest(t, b)))); !r.Released || r.NewSize != 6 {
			t.Errorf("the last record is %+v", r)
		}
		if _, err := l.Await(t.Context(), 6); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Await: %v", err)
		}
		l = open(t, options(t, b))
		stop = lead(t, l)
		if _, err := l.Await(t.Context(), 6); err != nil {
			t.Error(err)
		}
		quit(t, l, stop)
		checkLog(t, options(t, b), 6)
	})
}

func TestPublishIntervalSpacesRounds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		o := options(t, mem.New())
		o.Cosign, o.PublishInterval = q.cosign, 200*time.Millisecond
		l := open(t, o)
		stop := lead(t, l)
		for i := int64(0); i < 100; i++ {
			if _, err := l.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond)
		}
		q.mu.Lock()
		if q.calls > 7 {
			t.Errorf("%d rounds in a second", q.calls)
		}
		q.mu.Unlock()
		quit(t, l, stop)
	})
}

func TestCancelledContexts(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := driver.Open(ctx, options(t, mem.New())); !errors.Is(err, context.Canceled) {
			t.Errorf("Open: %v", err)
		}
		q := &quorum{hang: true}
		_, l, stop := witnessed(t, q)
		if _, err := l.Await(ctx, 0); !errors.Is(err, context.Canceled) {
			t.Errorf("Await: %v", err)
		}
		if err := stop(); err != nil {
			t.Errorf("Run: %v", err)
		}
		if err := l.Run(t.Context()); err == nil {
			t.Error("Run ran twice")
		}
		l = open(t, options(t, mem.New()))
		if _, err := l.Add(t.Context(), tessera.NewEntry(nil))(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Add before Run: %v", err)
		}
		if err := l.Run(ctx); err != nil {
			t.Errorf("Run: %v", err)
		}
	})
}
