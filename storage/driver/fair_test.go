package driver_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// TestLargeEntriesDoNotHoldSmallOnesUp floods a log with entries of 64 KiB, beyond what it can take,
// over a store that writes 20 MB/s. Small entries go on being committed within the time of two
// commits, and none of them is refused; large ones are refused for most of the time.
func TestLargeEntriesDoNotHoldSmallOnesUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		const latency = 10 * time.Millisecond
		o := options(t, &throttled{Bucket: mem.New(), latency: latency, rate: 20 << 20})
		l := open(t, o)
		stop := lead(t, l)
		alone := slices.Max(smallAdds(t, l, 0))

		var flood sync.WaitGroup
		var ended atomic.Bool
		var taken, refused atomic.Int64
		for range 2000 { // 125 MiB at a time
			flood.Go(func() {
				large := bytes.Repeat([]byte{1}, 1<<16-1)
				for !ended.Load() {
					switch _, err := l.Add(t.Context(), tessera.NewEntry(large))(); {
					case err == nil:
						taken.Add(1)
					case errors.Is(err, driver.ErrFull) && errors.Is(err, tessera.ErrPushback):
						refused.Add(1)
						time.Sleep(time.Second) // Retry-After
					default:
						t.Errorf("a large add: %v", err)
						return
					}
				}
			})
		}
		synctest.Wait()
		latencies := smallAdds(t, l, 1000)
		ended.Store(true)
		flood.Wait()
		// A commit has at most 2 MiB of large entries, which take 100 ms to write.
		if most := slices.Max(latencies); most > alone+2*(latency+100*time.Millisecond) {
			t.Errorf("a small add took %v beside the flood, and %v without", most, alone)
		}
		if taken.Load() < 100 || refused.Load() < 1000 {
			t.Errorf("%d large adds were taken and %d refused", taken.Load(), refused.Load())
		}
		quit(t, l, stop)
	})
}

// smallAdds makes 100 adds, one each 20 ms, and returns how long each took to be committed.
func smallAdds(t *testing.T, l *driver.Log, from int64) []time.Duration {
	t.Helper()
	out := make([]time.Duration, 100)
	var adding sync.WaitGroup
	for i := range out {
		adding.Go(func() {
			began := time.Now()
			if _, err := l.Add(t.Context(), tessera.NewEntry(data(from+int64(i))))(); err != nil {
				t.Errorf("a small add: %v", err)
			}
			out[i] = time.Since(began)
		})
		time.Sleep(20 * time.Millisecond)
	}
	adding.Wait()
	return out
}

// A throttled bucket writes records so slowly, and everything else at once.
type throttled struct {
	storage.Bucket
	latency time.Duration
	rate    int // bytes per second
}

func (b *throttled) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if strings.HasPrefix(key, "state/test/log/") {
		time.Sleep(b.latency + time.Duration(len(data))*time.Second/time.Duration(b.rate))
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// TestLargeEntriesHaveAShare: they may be half of what is outstanding, and small ones all of it.
func TestLargeEntriesHaveAShare(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := faultbucket.New(mem.New())
		o := options(t, b)
		o.MaxOutstandingBytes, o.MaxQueueAge = 20<<20, time.Hour
		l := open(t, o)
		stop := lead(t, l)
		b.FailWhen(faultbucket.On(faultbucket.Put, "state/test/log/"), faultbucket.Fail)
		adding := func(size int) (future tessera.IndexFuture, refused bool) {
			before, _ := driver.Outstanding(l)
			future = l.Add(t.Context(), tessera.NewEntry(make([]byte, size)))
			after, _ := driver.Outstanding(l)
			return future, after == before
		}
		var last tessera.IndexFuture
		for n := 0; ; n++ {
			future, refused := adding(1<<16 - 1)
			if refused {
				if n != 160 {
					t.Errorf("%d large entries are half of 20 MiB", n)
				}
				if _, err := future(); !errors.Is(err, driver.ErrFull) {
					t.Errorf("a large entry beyond its share: %v", err)
				}
				break
			}
			last = future
		}
		for n := 0; ; n++ {
			future, refused := adding(10_000)
			if refused {
				if n < 1000 {
					t.Errorf("%d small entries of 10 kB are the other half", n)
				}
				if _, err := future(); !errors.Is(err, driver.ErrFull) {
					t.Errorf("a small entry beyond all there is: %v", err)
				}
				break
			}
			last = future
		}
		b.FailWhen(faultbucket.On(faultbucket.Put, "state/test/log/"), faultbucket.None)
		if _, err := last(); err != nil {
			t.Error(err)
		}
		quit(t, l, stop)
	})
}

// TestQueueAgeIsLimited: when what is being committed has waited too long, nothing more is taken, and
// what was refused is not logged.
func TestQueueAgeIsLimited(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		o := options(t, slow(b, 5*time.Second))
		l := open(t, o)
		stop := lead(t, l)
		first := l.Add(t.Context(), tessera.NewEntry(data(0)))
		time.Sleep(2 * time.Second)
		second := l.Add(t.Context(), tessera.NewEntry(data(1))) // at the limit
		time.Sleep(time.Millisecond)
		if _, err := l.Add(t.Context(), tessera.NewEntry([]byte("refused")))(); !errors.Is(err, driver.ErrFull) || !errors.Is(err, tessera.ErrPushback) {
			t.Errorf("an add after 2 s: %v", err)
		}
		for i, future := range []tessera.IndexFuture{first, second} {
			if index, err := future(); err != nil || index.Index != uint64(i) {
				t.Errorf("entry %d: %v, %v", i, index, err)
			}
		}
		add(t, l, 2, 3)
		quit(t, l, stop)
		checkLog(t, options(t, b), 3)
	})
}

// TestQueueAgeKnowsTheCommitInterval: what waits because it shall is not too old.
func TestQueueAgeKnowsTheCommitInterval(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		o := options(t, mem.New())
		o.CommitInterval = 10 * time.Second
		l := open(t, o)
		stop := lead(t, l)
		add(t, l, 0, 1)
		var futures []tessera.IndexFuture
		for i := range int64(9) {
			futures = append(futures, l.Add(t.Context(), tessera.NewEntry(data(1+i))))
			time.Sleep(time.Second)
		}
		for _, f := range futures {
			if _, err := f(); err != nil {
				t.Error(err)
			}
		}
		quit(t, l, stop)
	})
}
