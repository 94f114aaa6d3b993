package faultbucket_test

import (
	"context"
	"errors"
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

// TestRefuse has a Put applied and answered as if another had been there first.
func TestRefuse(t *testing.T) {
	inner := mem.New()
	b := faultbucket.New(inner)
	b.FailWhen(faultbucket.On(faultbucket.Put, ""), faultbucket.Refuse)
	for key, o := range map[string]storage.PutOptions{"conditional": {If: storage.Absent()}, "always": {}} {
		_, err := b.Put(t.Context(), key, nil, o)
		if !errors.Is(err, faultbucket.ErrInjected) || errors.Is(err, storage.ErrPrecondition) != o.If.IsAbsent() {
			t.Errorf("%s: %v", key, err)
		}
		if !has(t, inner, key) {
			t.Errorf("%s: not applied", key)
		}
	}
}

// TestHang waits for an answer, with patience and without.
func TestHang(t *testing.T) {
	for mode, applied := range map[faultbucket.Mode]bool{faultbucket.Hang: false, faultbucket.HangAfter: true} {
		bubble.Test(t, func(t *testing.T) {
			inner := mem.New()
			b := faultbucket.New(inner)
			b.FailWhen(faultbucket.On("", ""), mode)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			begun := time.Now()
			_, err := b.Put(ctx, "k", nil, storage.PutOptions{})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
				t.Errorf("%v: put with a second of patience: %v after %v", mode, err, time.Since(begun))
			}
			if has(t, inner, "k") != applied {
				t.Errorf("%v: applied: %v", mode, !applied)
			}
			_, _, err = b.Get(t.Context(), "k", storage.Range{})
			if d := time.Since(begun); !errors.Is(err, faultbucket.ErrInjected) || d < 10*time.Second || d > time.Hour {
				t.Errorf("%v: get with all patience: %v after %v", mode, err, d)
			}
			b.Crash()
			begun = time.Now()
			if err := b.Delete(t.Context(), "k"); !errors.Is(err, faultbucket.ErrCrashed) || time.Since(begun) > 0 {
				t.Errorf("%v: delete of a dead process: %v after %v", mode, err, time.Since(begun))
			}
		})
	}
}

func TestAgainIsAppliedTwice(t *testing.T) {
	inner := mem.New()
	b := faultbucket.New(inner)
	b.FailAt(0, faultbucket.Again)
	if _, err := b.Put(t.Context(), "k", []byte("a"), storage.PutOptions{}); err != nil || !has(t, inner, "k") {
		t.Fatalf("put: %v", err)
	}
	if err := b.Delete(t.Context(), "k"); err != nil {
		t.Fatal(err)
	}
	if err := b.Land(t.Context()); err != nil || !has(t, inner, "k") {
		t.Errorf("the repetition did not land: %v", err)
	}
}

func TestCut(t *testing.T) {
	b := faultbucket.New(mem.New())
	b.FailWhen(faultbucket.On("", ""), faultbucket.Cut)
	if _, err := b.Put(t.Context(), "k", []byte("12345678"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if data, _, err := b.Get(t.Context(), "k", storage.Range{Offset: 2}); err != nil || string(data) != "345" {
		t.Errorf("get: %q, %v", data, err)
	}
}

// TestSiblings has two processes share a plan, and crash for themselves.
func TestSiblings(t *testing.T) {
	inner := mem.New()
	first := faultbucket.New(inner)
	second := first.Sibling(inner)
	second.FailAs(func(op faultbucket.Op) faultbucket.Mode {
		switch op.N {
		case 1:
			return faultbucket.Fail
		case 2:
			return faultbucket.CrashAfter
		}
		return faultbucket.None
	})
	var failed []bool
	for i, b := range []*faultbucket.Bucket{first, first, second, second, first} {
		_, err := b.Put(t.Context(), string(rune('a'+i)), nil, storage.PutOptions{})
		failed = append(failed, err != nil)
	}
	if want := []bool{false, true, true, true, false}; !slices.Equal(failed, want) {
		t.Errorf("failed: %v, want %v", failed, want)
	}
	if first.Crashed() || !second.Crashed() {
		t.Errorf("crashed: %v, %v; want the second only", first.Crashed(), second.Crashed())
	}
	if n := len(first.Ops()); n != 5 {
		t.Errorf("%d operations", n)
	}
}

// TestCrashWaitsInABubble has an operation take its time while the process dies, in virtual time.
func TestCrashWaitsInABubble(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := faultbucket.New(&sleepy{mem.New()})
		var putting sync.WaitGroup
		putting.Go(func() {
			if _, err := b.Put(t.Context(), "k", nil, storage.PutOptions{}); err != nil {
				t.Errorf("put that was in flight: %v", err)
			}
		})
		synctest.Wait()
		begun := time.Now()
		b.Crash()
		if d := time.Since(begun); d != time.Second {
			t.Errorf("Crash waited for %v", d)
		}
		putting.Wait()
	})
}

// sleepy takes a second for a Put.
type sleepy struct{ *mem.Bucket }

func (s *sleepy) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	time.Sleep(time.Second)
	return s.Bucket.Put(ctx, key, data, opts)
}
