package driver_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
	"tallywood/witness/policy"
)

// TestPosixRefusesSecondProcess opens one directory twice, as two processes would.
func TestPosixRefusesSecondProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	bucket := func() storage.Bucket {
		b, err := posix.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	l := open(t, options(t, bucket()))
	stop := lead(t, l)
	add(t, l, 0, 3)
	if _, err := driver.Open(t.Context(), options(t, bucket())); !errors.Is(err, posix.ErrLocked) {
		t.Fatalf("a second Open: %v", err)
	} else if !strings.Contains(err.Error(), "another process") {
		t.Errorf("the error does not say what is wrong: %v", err)
	}
	other := options(t, bucket())
	other.Name = "other"
	open(t, other) // another log in the same directory is fine
	add(t, l, 3, 300)
	quit(t, l, stop)
	l = open(t, options(t, bucket()))
	stop = lead(t, l)
	add(t, l, 300, 310)
	quit(t, l, stop)
	checkLog(t, options(t, bucket()), 310)
}

// killed is a directory whose locks are lost when its process is.
type killed struct {
	*posix.Bucket
	mu    sync.Mutex
	locks []func() error
}

func (k *killed) Lock(key string) (unlock func() error, err error) {
	unlock, err = k.Bucket.Lock(key)
	if err == nil {
		k.mu.Lock()
		defer k.mu.Unlock()
		k.locks = append(k.locks, unlock)
	}
	return unlock, err
}

func (k *killed) lose() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, unlock := range k.locks {
		_ = unlock() // it may be given back already
	}
}

// TestPosixLeaderIsGoneWhenItsLockIs: of two processes on one directory the one that stands by leads at once
// when the other is gone, and not because that one was slow to answer once.
func TestPosixLeaderIsGoneWhenItsLockIs(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "data"), newNetwork()
	bubble.Test(t, func(t *testing.T) {
		var members []*member
		buckets := map[*member]*killed{}
		for _, url := range []string{"a", "b", "c"} {
			dir, err := posix.Open(dir)
			if err != nil {
				t.Fatal(err)
			}
			b := &killed{Bucket: dir}
			m := n.join(t, b, url)
			members, buckets[m] = append(members, m), b
			leading(t, members[0])
		}
		leader := members[0]
		for handover := range 3 { // the first leads a new log, the others one that was left or lost
			addTo(t, leader, int64(10*handover), int64(10*handover+10))
			time.Sleep(5 * time.Second)
			n.setDown(leader.url, true)
			time.Sleep(400 * time.Millisecond) // two probes
			n.setDown(leader.url, false)
			time.Sleep(5 * time.Second)
			for _, m := range members {
				if m != leader && driver.Takes(m.Replica) {
					t.Fatalf("handover %d: %s has taken over from %s, which lives", handover, m.url, leader.url)
				}
			}
			if handover == 2 {
				break
			}
			members = slices.DeleteFunc(members, func(m *member) bool { return m == leader })
			if handover == 0 {
				if err := leader.stop(); err != nil {
					t.Fatal(err)
				}
			} else {
				n.setDown(leader.url, true)
				buckets[leader].lose()
			}
			begun := time.Now()
			leader = leading(t, members...)
			if d := time.Since(begun); d > time.Second {
				t.Errorf("handover %d took %v", handover, d)
			}
		}
	})
}

// joinIn starts a replica on the directory dir, as another process would.
func (n *network) joinIn(t *testing.T, dir, url string, change func(o *driver.Options)) *member {
	t.Helper()
	b, err := posix.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	o := options(t, b)
	change(&o)
	return n.joinWith(t, o, url)
}

// TestPosixLeaderThatHandsOverLeavesTheLock has a leader without quorum hand over to a process that gets
// one, and does not take the lock before that does.
func TestPosixLeaderThatHandsOverLeavesTheLock(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "data"), newNetwork()
	bubble.Test(t, func(t *testing.T) {
		lost, kept := new(quorum), new(quorum)
		first := n.joinIn(t, dir, "a", func(o *driver.Options) { o.Cosign = lost.cosign })
		addTo(t, leading(t, first), 0, 5)
		second := n.joinIn(t, dir, "b", func(o *driver.Options) { o.Cosign = kept.cosign })
		time.Sleep(5 * time.Second)
		lost.set(func(q *quorum) { q.err = errDown })
		if _, err := first.Add(t.Context(), tessera.NewEntry(data(5)))(); err != nil {
			t.Fatal(err)
		}
		for driver.Takes(first.Replica) {
			time.Sleep(10 * time.Millisecond)
		}
		begun := time.Now()
		addTo(t, leading(t, second), 6, 10)
		if d := time.Since(begun); d > time.Second { // half of it for the drain
			t.Errorf("the handover took %v", d)
		}
	})
}

// TestPosixWhoCannotLeadLeavesTheLock has a process see that nobody leads that is not to lead itself, for it
// reaches no witnesses: another leads at once, and is not taken for gone afterwards.
func TestPosixWhoCannotLeadLeavesTheLock(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "data"), newNetwork()
	bubble.Test(t, func(t *testing.T) {
		var reached atomic.Bool
		first := n.joinIn(t, dir, "a", func(*driver.Options) {})
		addTo(t, leading(t, first), 0, 5)
		cut := n.joinIn(t, dir, "b", func(o *driver.Options) {
			o.Cosign, o.Satisfied = new(quorum).cosign, func(has func(string) bool) bool { return has("w") }
			o.Sizes = func(context.Context, []byte) ([]policy.WitnessSize, error) {
				if reached.Load() {
					return []policy.WitnessSize{{Name: "w"}}, nil
				}
				return []policy.WitnessSize{{Name: "w", Err: errDown}}, nil
			}
		})
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		if driver.Takes(cut.Replica) {
			t.Fatal("it leads without an answer of the witnesses")
		}
		begun := time.Now()
		third := n.joinIn(t, dir, "c", func(*driver.Options) {})
		leading(t, third)
		if d := time.Since(begun); d > time.Second {
			t.Errorf("it took %v until another leads", d)
		}
		time.Sleep(5 * time.Second)
		reached.Store(true)
		n.setDown(third.url, true)
		time.Sleep(400 * time.Millisecond)
		n.setDown(third.url, false)
		time.Sleep(5 * time.Second)
		if driver.Takes(cut.Replica) || !driver.Takes(third.Replica) {
			t.Error("it has taken over from a leader that lives")
		}
	})
}

// cutDirectory is a directory that can be out of reach, and keeps its locks then.
type cutDirectory struct {
	*cutBucket
	dir *posix.Bucket
}

func (c cutDirectory) Lock(key string) (unlock func() error, err error) { return c.dir.Lock(key) }

// TestPosixLeaderGetsTheLockLater has a process lead whose predecessor still has the lock, for it was held
// up and is not gone. When that gives it back it is the new leader's, who is not taken for gone either.
func TestPosixLeaderGetsTheLockLater(t *testing.T) {
	dir, n := filepath.Join(t.TempDir(), "data"), newNetwork()
	bubble.Test(t, func(t *testing.T) {
		b, err := posix.Open(dir)
		if err != nil {
			t.Fatal(err)
		}
		cut := cutDirectory{&cutBucket{Bucket: b}, b}
		first := n.join(t, cut, "a")
		addTo(t, leading(t, first), 0, 5)
		second := n.joinIn(t, dir, "b", func(*driver.Options) {})
		time.Sleep(5 * time.Second)
		cut.set(true)
		pending := first.Add(t.Context(), tessera.NewEntry(data(5)))
		addTo(t, leading(t, second), 5, 10)
		cut.set(false)
		if _, err := pending(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("the add that was under way: %v", err)
		}
		third := n.joinIn(t, dir, "c", func(*driver.Options) {})
		time.Sleep(5 * time.Second)
		n.setDown(second.url, true)
		time.Sleep(400 * time.Millisecond)
		n.setDown(second.url, false)
		time.Sleep(5 * time.Second)
		if driver.Takes(first.Replica) || driver.Takes(third.Replica) || !driver.Takes(second.Replica) {
			t.Error("another has taken over from a leader that lives")
		}
	})
}

// unusable is the error of a bucket whose disk failed.
type unusable struct{}

func (unusable) Error() string  { return "disk failed" }
func (unusable) Unusable() bool { return true }

type broken struct{ storage.Bucket }

func (b broken) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if strings.HasPrefix(key, "state/test/log/") && strings.Contains(string(data), `"BATCH"`) {
		return "", unusable{}
	}
	return b.Bucket.Put(ctx, key, data, o)
}

func TestUnusableBucketEndsRun(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		l := open(t, options(t, broken{mem.New()}))
		ran := make(chan error, 1)
		go func() { ran <- l.Run(t.Context()) }()
		synctest.Wait()
		if _, err := l.Add(t.Context(), tessera.NewEntry(nil))(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Add: %v", err)
		}
		if err := <-ran; !errors.Is(err, unusable{}) {
			t.Errorf("Run: %v", err)
		}
	})
}
