package driver_test

import (
	"context"
	"math/bits"
	"runtime"
	"testing"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
)

// start opens the log as a server does and returns how many reads passed until it led, and how much
// more memory is in use then.
func (v *vast) start(t *testing.T) (gets int64, heap int64) {
	t.Helper()
	before := inUse()
	v.gets.Store(0)
	r, err := driver.OpenReplica(t.Context(), options(t, v))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx) }()
	for !driver.Takes(r) {
		time.Sleep(time.Millisecond)
	}
	gets, heap = v.gets.Load(), inUse()-before
	cancel()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return gets, heap
}

func inUse() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// slack is how many reads a start may differ by, whatever there is: how the entries fell into batches
// and publications.
const slack = 10

// TestStartReadsLittleOfALongLog: it takes a few reads more for each level of tiles, which is each
// time the log is 256 times as long, and no more memory.
func TestStartReadsLittleOfALongLog(t *testing.T) { bubble.Test(t, startReadsLittleOfALongLog) }

func startReadsLittleOfALongLog(t *testing.T) {
	var least, heap int64
	for _, size := range []int64{1_000, 10_000, 100_000, 1_000_000, 1_000_000_000, 1_000_000_000_000} {
		v := newVast(size, 4)
		v.establish(t, 20)
		gets, used := v.start(t)
		t.Logf("%d entries: %d reads, %d KB", size, gets, used>>10)
		if least == 0 {
			least, heap = gets, used
		}
		levels := int64(bits.Len64(uint64(size))-1)/layout.TileHeight - int64(bits.Len64(1_000)-1)/layout.TileHeight
		if gets > least+6*levels+slack || gets < 10 {
			t.Errorf("with %d entries a start takes %d reads, with 1,000 it takes %d", size, gets, least)
		}
		if used > heap+1<<20 {
			t.Errorf("with %d entries %d bytes are in use, with 1,000 it is %d", size, used, heap)
		}
	}
}

// TestStartReadsFewOfManyRecords: a few more each time there are twice as many, with or without the
// hint where the newest was.
func TestStartReadsFewOfManyRecords(t *testing.T) { bubble.Test(t, startReadsFewOfManyRecords) }

func startReadsFewOfManyRecords(t *testing.T) {
	var least int64
	for i, records := range []int64{6, 48, 384} {
		v := newVast(1_000_000, 4)
		v.establish(t, records)
		hinted, _ := v.start(t)
		if err := v.Delete(t.Context(), "state/test/head"); err != nil {
			t.Fatal(err)
		}
		lost, _ := v.start(t)
		t.Logf("%d records: %d reads, %d without the hint", records, hinted, lost)
		if least == 0 {
			least = max(hinted, lost)
		}
		if n := max(hinted, lost); n > least+int64(i)*3*6+slack || min(hinted, lost) < 10 {
			t.Errorf("with %d records a start takes %d reads, with 6 it takes %d", records, n, least)
		}
	}
}
