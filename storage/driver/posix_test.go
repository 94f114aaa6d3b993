package driver_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
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
	synctest.Test(t, func(t *testing.T) {
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
	synctest.Test(t, func(t *testing.T) {
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
