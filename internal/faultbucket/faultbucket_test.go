package faultbucket_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// TestFaultAtEveryOperation drives three Puts with each mode at each of them, and checks which of
// them the caller saw succeed and which are in the wrapped bucket.
func TestFaultAtEveryOperation(t *testing.T) {
	keys := []string{"a", "b", "c"}
	for mode := faultbucket.None; mode <= faultbucket.CrashAfter; mode++ {
		for n := range keys {
			t.Run(mode.String()+" at "+keys[n], func(t *testing.T) {
				inner := mem.New()
				b := faultbucket.New(inner)
				b.FailAt(n, mode)
				for i, key := range keys {
					_, err := b.Put(t.Context(), key, []byte(key), storage.PutOptions{})
					died := mode == faultbucket.Crash || mode == faultbucket.CrashAfter
					wantErr := i == n && mode != faultbucket.None || i > n && died
					if (err != nil) != wantErr || wantErr && !errors.Is(err, faultbucket.ErrInjected) {
						t.Errorf("putting %s: error %v, want one: %v", key, err, wantErr)
					}
					if dead := errors.Is(err, faultbucket.ErrCrashed); dead != (i > n && died) {
						t.Errorf("putting %s: %v reports a crash: %v", key, err, dead)
					}
					applied := !wantErr || i == n && (mode == faultbucket.Lose || mode == faultbucket.CrashAfter)
					if has(t, inner, key) != applied {
						t.Errorf("%s applied: %v, want %v", key, !applied, applied)
					}
				}
			})
		}
	}
}

func TestLatePutLandsAfterTheCrash(t *testing.T) {
	inner := mem.New()
	b := faultbucket.New(inner)
	b.FailWhen(faultbucket.On(faultbucket.Put, "slot/"), faultbucket.Late)
	data := []byte("first")
	if _, err := b.Put(t.Context(), "slot/1", data, storage.PutOptions{If: storage.Absent()}); !errors.Is(err, faultbucket.ErrInjected) {
		t.Fatalf("late put: %v", err)
	}
	copy(data, "XXXXX") // the caller may do what it likes with its buffer
	b.Crash()
	if has(t, inner, "slot/1") {
		t.Fatal("a late put is there at once")
	}
	if err := b.Land(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _, err := inner.Get(t.Context(), "slot/1", storage.Range{})
	if err != nil || string(got) != "first" {
		t.Fatalf("after landing: %q, %v", got, err)
	}
	if err := b.Land(t.Context()); err != nil {
		t.Errorf("landing nothing: %v", err)
	}
}

func TestLatePutThatLostReportsPrecondition(t *testing.T) {
	inner := mem.New()
	b := faultbucket.New(inner)
	b.FailAt(0, faultbucket.Late)
	for range 2 { // the second one, identical, wins
		_, _ = b.Put(t.Context(), "slot/1", []byte("x"), storage.PutOptions{If: storage.Absent()})
	}
	if err := b.Land(t.Context()); !errors.Is(err, storage.ErrPrecondition) {
		t.Fatalf("landing: %v, want a failed precondition", err)
	}
}

// TestCrashTakesBackWhatIsNotDurable has a Put that is visible and fails, and what may come after
// it until the power goes.
func TestCrashTakesBackWhatIsNotDurable(t *testing.T) {
	put := func(t *testing.T, b *faultbucket.Bucket, key string) error {
		_, err := b.Put(t.Context(), key, []byte("new"), storage.PutOptions{})
		return err
	}
	for name, tc := range map[string]struct {
		mode  faultbucket.Mode
		after func(*testing.T, *faultbucket.Bucket) error
		works bool // what comes after
		keeps bool // the Put, after the crash
	}{
		"nothing else": {faultbucket.Unsynced, func(*testing.T, *faultbucket.Bucket) error { return nil }, true, false},
		"put beside it": {faultbucket.Unsynced, func(t *testing.T, b *faultbucket.Bucket) error {
			return put(t, b, "d/other")
		}, true, true},
		"put elsewhere": {faultbucket.Unsynced, func(t *testing.T, b *faultbucket.Bucket) error {
			return put(t, b, "e/other")
		}, true, false},
		"sync": {faultbucket.Unsynced, func(t *testing.T, b *faultbucket.Bucket) error {
			return b.Sync(t.Context(), "e", "d/")
		}, true, true},
		"sync, broken":   {faultbucket.Broken, func(t *testing.T, b *faultbucket.Bucket) error { return b.Sync(t.Context(), "d") }, false, false},
		"put, broken":    {faultbucket.Broken, func(t *testing.T, b *faultbucket.Bucket) error { return put(t, b, "d/a") }, false, false},
		"delete, broken": {faultbucket.Broken, func(t *testing.T, b *faultbucket.Bucket) error { return b.Delete(t.Context(), "d/a") }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			inner := mem.New()
			if _, err := inner.Put(t.Context(), "d/a", []byte("old"), storage.PutOptions{}); err != nil {
				t.Fatal(err)
			}
			b := faultbucket.New(inner)
			b.FailAt(0, tc.mode)
			b.FailAt(1, tc.mode)
			unusable := func(err error) bool {
				var u interface{ Unusable() bool }
				return errors.As(err, &u) && u.Unusable()
			}
			for _, key := range []string{"d/a", "d/new"} {
				if err := put(t, b, key); !errors.Is(err, faultbucket.ErrInjected) || unusable(err) != (tc.mode == faultbucket.Broken) {
					t.Fatalf("putting %s: %v", key, err)
				}
			}
			if got, _, err := b.Get(t.Context(), "d/a", storage.Range{}); err != nil || string(got) != "new" {
				t.Errorf("before the crash: %q, %v", got, err)
			}
			b.FailWhen(func(op faultbucket.Op) bool { return true }, faultbucket.None)
			if err := tc.after(t, b); (err == nil) != tc.works || unusable(err) == tc.works {
				t.Errorf("after the fault: %v", err)
			}
			b.Crash()
			got, _, err := inner.Get(t.Context(), "d/a", storage.Range{})
			if want := map[bool]string{true: "new", false: "old"}[tc.keeps]; err != nil || string(got) != want {
				t.Errorf("after the crash: %q, %v; want %s", got, err, want)
			}
			if has(t, inner, "d/new") != tc.keeps {
				t.Errorf("after the crash the new object is there: %v", !tc.keeps)
			}
		})
	}
}

func TestFaultFallsBetweenTwoDeletes(t *testing.T) {
	inner := mem.New()
	b := faultbucket.New(inner)
	for _, key := range []string{"a", "b", "c"} {
		if _, err := b.Put(t.Context(), key, nil, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	b.FailAt(4, faultbucket.Fail) // 0..2 were the puts, 3 deletes a
	if err := b.Delete(t.Context(), "a", "b", "c"); !errors.Is(err, faultbucket.ErrInjected) {
		t.Fatalf("deleting: %v", err)
	}
	if has(t, inner, "a") || !has(t, inner, "b") || !has(t, inner, "c") {
		t.Error("the fault did not fall between the first delete and the second")
	}
	b.Heal()
	if err := b.Delete(t.Context(), "a", "b", "c"); err != nil {
		t.Errorf("deleting after Heal: %v", err)
	}
}

func TestOpsAreRecorded(t *testing.T) {
	b := faultbucket.New(mem.New())
	b.FailWhen(faultbucket.On("", ""), faultbucket.Fail)
	b.FailWhen(faultbucket.On(faultbucket.Get, "k"), faultbucket.None) // newer, exempts
	if _, _, err := b.Get(t.Context(), "k", storage.Range{}); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("exempted get: %v", err)
	}
	_, _ = b.Put(t.Context(), "k", nil, storage.PutOptions{If: storage.Absent()})
	_ = b.Delete(t.Context(), "k")
	for _, err := range b.List(t.Context(), "p/") {
		if !errors.Is(err, faultbucket.ErrInjected) {
			t.Errorf("listing: %v", err)
		}
	}
	_ = b.Sync(t.Context(), "x", "y")
	want := []faultbucket.Op{
		{N: 0, Kind: faultbucket.Get, Key: "k"},
		{N: 1, Kind: faultbucket.Put, Key: "k", If: storage.Absent(), Mode: faultbucket.Fail},
		{N: 2, Kind: faultbucket.Delete, Key: "k", Mode: faultbucket.Fail},
		{N: 3, Kind: faultbucket.List, Key: "p/", Mode: faultbucket.Fail},
		{N: 4, Kind: faultbucket.Sync, Key: "x y", Mode: faultbucket.Fail},
	}
	if got := b.Ops(); !slices.Equal(got, want) {
		t.Errorf("ops\n got %v\nwant %v", got, want)
	}
}

func TestDelay(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := faultbucket.New(mem.New())
		b.DelayWhen(faultbucket.On(faultbucket.Put, ""), time.Minute)
		start := time.Now()
		if _, err := b.Put(t.Context(), "k", nil, storage.PutOptions{}); err != nil || time.Since(start) != time.Minute {
			t.Errorf("delayed put: %v after %v", err, time.Since(start))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := b.Put(ctx, "k", nil, storage.PutOptions{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("put with a second of patience: %v", err)
		}
	})
}

func TestNothingReachesTheBucketAfterCrash(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		inner := &slowBucket{Bucket: mem.New(), entered: make(chan struct{}), leave: make(chan struct{})}
		b := faultbucket.New(inner)
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := b.Put(t.Context(), "k", []byte("in flight"), storage.PutOptions{}); err != nil {
				t.Errorf("put that was in flight: %v", err)
			}
		})
		<-inner.entered
		crashed := make(chan struct{})
		wg.Go(func() { b.Crash(); close(crashed) })
		synctest.Wait()
		select {
		case <-crashed:
			t.Error("Crash returned while a put was inside the bucket")
		default:
		}
		close(inner.leave)
		wg.Wait()
		if _, err := b.Put(t.Context(), "k", nil, storage.PutOptions{}); !errors.Is(err, faultbucket.ErrCrashed) {
			t.Errorf("put after the crash: %v", err)
		}
	})
}

func TestCrashReleasesLocks(t *testing.T) {
	inner := &lockBucket{Bucket: mem.New()}
	b := faultbucket.New(inner)
	first, err := b.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Lock("lock"); !errors.Is(err, errHeld) {
		t.Errorf("second lock: %v", err)
	}
	if err := first(); err != nil {
		t.Error(err)
	}
	second, err := b.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	b.Crash()
	if inner.held {
		t.Error("a crash leaves the lock held")
	}
	if _, err := b.Lock("lock"); !errors.Is(err, faultbucket.ErrCrashed) {
		t.Errorf("lock after the crash: %v", err)
	}
	inner.held = true // by someone else, now
	if err := second(); err != nil || !inner.held {
		t.Errorf("the dead process unlocked what is no longer its own: %v", err)
	}
	if unlock, err := faultbucket.New(mem.New()).Lock("lock"); err != nil || unlock() != nil {
		t.Errorf("lock of a bucket without locks: %v", err)
	}
}

// slowBucket holds a Put inside itself.
type slowBucket struct {
	*mem.Bucket
	entered, leave chan struct{}
}

func (b *slowBucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	close(b.entered)
	<-b.leave
	return b.Bucket.Put(ctx, key, data, opts)
}

var errHeld = errors.New("held")

// lockBucket has one lock.
type lockBucket struct {
	*mem.Bucket
	held bool
}

func (b *lockBucket) Lock(string) (func() error, error) {
	if b.held {
		return nil, errHeld
	}
	b.held = true
	return func() error { b.held = false; return nil }, nil
}

func has(t *testing.T, b storage.Bucket, key string) bool {
	t.Helper()
	_, _, err := b.Get(t.Context(), key, storage.Range{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}
