package log_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/log"
	"tallywood/storage/posix"
)

var (
	longEntries = flag.Int64("long-log", 20_000, "how many entries the log has in which duplicates are looked for")
	longP99     = flag.Duration("long-log-p99", 0, "the most that finding a duplicate may take, but for one in a hundred; 0: any time")
)

// A longTrial is a log in which duplicates are looked for.
type longTrial struct {
	t *testing.T

	mu    sync.Mutex
	index []int64 // of every entry, by its number; -1: being added
}

// TestDuplicatesInALongLog: whoever adds an entry that the log has gets its index, whoever adds one that
// it has not gets a new one; many at once, after a restart, after the loss of the index, and from another
// replica. The times are printed; -long-log 1000000 is a million entries.
func TestDuplicatesInALongLog(t *testing.T) {
	f := newFixture(t)
	b, err := posix.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f.bucket, f.options.Bucket, f.options.CacheDir = b, b, t.TempDir()
	f.options.URL = "http://leader.example.com"
	f.options.QuorumTimeout = time.Minute // the disk may be slow
	f.patient = time.Duration(*longEntries) * time.Millisecond
	other := *f
	other.options.URL, other.options.CacheDir = "http://other.example.com", t.TempDir()
	l, stop := f.run()
	lt := &longTrial{t: t}
	began := time.Now()
	for first := int64(0); first < *longEntries; first += 8192 {
		lt.add(l, min(8192, *longEntries-first))
	}
	t.Logf("%d entries were added in %.2f s", *longEntries, time.Since(began).Seconds())
	lt.look(l, "as it was made")
	stop()

	l, stop = f.run()
	if n := log.Indexed(l); n != int64(len(lt.index)) {
		t.Errorf("after a restart the index has %d entries of %d", n, len(lt.index))
	}
	lt.look(l, "after a restart")
	stop()

	if err := os.RemoveAll(f.options.CacheDir); err != nil {
		t.Fatal(err)
	}
	began = time.Now()
	l, stop = f.run()
	t.Logf("the lost index was rebuilt in %.2f s", time.Since(began).Seconds())
	lt.look(l, "after the loss of the index")

	// A standby follows, and leads when the leader has left.
	var left atomic.Bool
	other.options.Probe = func(_ context.Context, _ string, ready bool) (log.Alive, error) {
		a := l.Alive(ready)
		a.Leading = a.Leading || !left.Load() // however long the disk takes
		return a, nil
	}
	next := other.open()
	following, leave := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- next.Run(following) }()
	defer func() {
		leave()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := next.Close(); err != nil {
			t.Error(err)
		}
	}()
	lt.add(l, 300) // which the standby has not seen
	began = time.Now()
	left.Store(true)
	stop()
	within(t, patience+f.patient, "the standby to lead", func() bool { return next.Takes() && next.Ready() == nil })
	t.Logf("the standby led with its index %.2f s after the leader was told to leave", time.Since(began).Seconds())
	lt.look(next, "from another replica")
}

func numbered(n int) log.Entry { return tlogEntry(fmt.Sprintf("entry %d of a long log", n)) }

// add adds new entries at once.
func (lt *longTrial) add(l *log.Log, n int64) {
	lt.t.Helper()
	var adding sync.WaitGroup
	for range n {
		adding.Go(func() { lt.addNew(l) })
	}
	adding.Wait()
	if lt.t.Failed() {
		lt.t.FailNow()
	}
}

func (lt *longTrial) addNew(l *log.Log) {
	lt.mu.Lock()
	n := len(lt.index)
	lt.index = append(lt.index, -1)
	lt.mu.Unlock()
	pos, err := l.Sequence(lt.t.Context(), numbered(n))
	for tries := 0; errors.Is(err, log.ErrUnavailable) && tries < 1000; tries++ {
		time.Sleep(50 * time.Millisecond) // the index, or the disk, is slower than the log
		pos, err = l.Sequence(lt.t.Context(), numbered(n))
	}
	if err != nil || pos.Duplicate {
		lt.t.Errorf("adding entry %d: %+v, %v", n, pos, err)
	}
	lt.mu.Lock()
	defer lt.mu.Unlock()
	lt.index[n] = pos.Index
}

// known returns the number of an entry that has been added, and its index.
func (lt *longTrial) known(r *rand.Rand) (int, int64) {
	lt.mu.Lock()
	defer lt.mu.Unlock()
	for {
		if n := r.IntN(len(lt.index)); lt.index[n] >= 0 {
			return n, lt.index[n]
		}
	}
}

// look adds entries that the log has, and some that it has not, many at once.
func (lt *longTrial) look(l *log.Log, when string) {
	lt.t.Helper()
	const workers = 8
	each := max(2000, int(*longEntries)/50)
	found, answered := make([][]time.Duration, workers), make([][]time.Duration, workers)
	var looking sync.WaitGroup
	for w := range workers {
		r := rand.New(rand.NewPCG(uint64(w), uint64(len(when))))
		looking.Go(func() {
			for i := range each {
				if i%32 == 0 {
					lt.addNew(l)
				}
				n, index := lt.known(r)
				began := time.Now()
				pos, err := l.Sequence(lt.t.Context(), numbered(n))
				found[w] = append(found[w], time.Since(began))
				if err != nil || !pos.Duplicate || pos.Index != index {
					lt.t.Errorf("%s: entry %d: %+v, %v; want index %d", when, n, pos, err, index)
					return
				}
			}
			for range each / 8 {
				n, index := lt.known(r)
				began := time.Now()
				receipt, err := l.Add(lt.t.Context(), numbered(n))
				answered[w] = append(answered[w], time.Since(began))
				if err != nil || !receipt.Duplicate || receipt.Index != index || string(receipt.Body) != string(numbered(n).Data) {
					lt.t.Errorf("%s: entry %d: index %d, %v; want %d", when, n, receipt.Index, err, index)
					return
				}
			}
		})
	}
	looking.Wait()
	lt.distinct()
	p99 := lt.report(when+": finding a duplicate", found)
	lt.report(when+": its receipt", answered)
	if *longP99 > 0 && p99 > *longP99 {
		lt.t.Errorf("%s: finding a duplicate takes %s, want at most %s", when, p99, *longP99)
	}
	if lt.t.Failed() {
		lt.t.FailNow()
	}
}

// distinct wants every entry to have an index of its own, and no index to be without entry.
func (lt *longTrial) distinct() {
	lt.t.Helper()
	has := make([]bool, len(lt.index))
	for n, index := range lt.index {
		if index < 0 || index >= int64(len(has)) || has[index] {
			lt.t.Fatalf("entry %d has index %d of %d, which is no index or another's", n, index, len(has))
		}
		has[index] = true
	}
}

// report prints times and returns the 99th percentile.
func (lt *longTrial) report(what string, times [][]time.Duration) time.Duration {
	lt.t.Helper()
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) == 0 {
		return 0
	}
	p99 := all[len(all)*99/100]
	lt.t.Logf("%s: %d times, p50 %s, p99 %s, max %s", what, len(all), all[len(all)/2], p99, all[len(all)-1])
	return p99
}
