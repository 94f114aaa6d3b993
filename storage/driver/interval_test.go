package driver_test

import (
	"slices"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage/mem"
)

// TestCommitIntervalGathersEntries adds 50 entries a second for two seconds. The first is committed at
// once, those that follow ten at a time.
func TestCommitIntervalGathersEntries(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, b)
		o.CommitInterval = 200 * time.Millisecond
		l := open(t, o)
		stop := lead(t, l)
		for i := range int64(100) {
			began := time.Now()
			f := l.Add(t.Context(), tessera.NewEntry(data(i)))
			go func() {
				if _, err := f(); err != nil {
					t.Errorf("entry %d: %v", i, err)
				}
				if took := time.Since(began); took > 201*time.Millisecond || i == 0 && took > time.Millisecond {
					t.Errorf("entry %d was committed after %v", i, took)
				}
			}()
			time.Sleep(20 * time.Millisecond)
		}
		quit(t, l, stop)
		counts := batches(t, b)
		if len(counts) > 12 || counts[0] != 1 {
			t.Errorf("the records have %v entries; want 1, then about 10 each", counts)
		}
		checkLog(t, options(t, b), 100)
	})
}

// TestCommitIntervalHoldsUpNoFullBatch adds more than a batch takes at once.
func TestCommitIntervalHoldsUpNoFullBatch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, b)
		o.CommitInterval, o.BatchMaxSize = 10*time.Second, 8
		l := open(t, o)
		stop := lead(t, l)
		add(t, l, 0, 1)
		began := time.Now()
		var futures []tessera.IndexFuture
		for i := range int64(24) {
			futures = append(futures, l.Add(t.Context(), tessera.NewEntry(data(1+i))))
		}
		for i, f := range futures {
			if _, err := f(); err != nil {
				t.Errorf("entry %d: %v", 1+i, err)
			}
		}
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("three full batches took %v", took)
		}
		// What is left over waits for the interval, but not for that when the leadership ends.
		f := l.Add(t.Context(), tessera.NewEntry(data(25)))
		time.Sleep(time.Second)
		began = time.Now()
		quit(t, l, stop)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the end of the leadership took %v", took)
		}
		if index, err := f(); err != nil || index.Index != 25 {
			t.Errorf("the last entry: index %d, %v", index.Index, err)
		}
		if counts := batches(t, b); !slices.Equal(counts, []int64{1, 8, 8, 8, 1, 0}) {
			t.Errorf("the records have %v entries", counts)
		}
	})
}

// TestNoPublishIntervalAtTheEnd ends a leadership while the next publication is far.
func TestNoPublishIntervalAtTheEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, b)
		o.PublishInterval, o.DrainTimeout = 20*time.Second, time.Minute
		l := open(t, o)
		stop := lead(t, l)
		for i := range int64(16) { // for longer than entries may stay unpublished without an interval
			if _, err := l.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
				t.Fatalf("entry %d, with a publication every 20 s: %v", i, err)
			}
			time.Sleep(time.Second)
		}
		if p, _ := l.Published(); p.Size != 0 {
			t.Errorf("size %d is published before its time", p.Size)
		}
		began := time.Now()
		quit(t, l, stop)
		if took := time.Since(began); took > 100*time.Millisecond {
			t.Errorf("the end of the leadership took %v", took)
		}
		if tree := stored(t, b); tree.N != 16 {
			t.Errorf("the bucket's checkpoint has size %d", tree.N)
		}
		checkLog(t, options(t, b), 16)
	})
}
