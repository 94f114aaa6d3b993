package driver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// storedFloor is what tests need to know of a floor.
type storedFloor struct {
	Seq, N, Size, Swept int64
	PubSize             int64 `json:"pub_size"`
}

func readFloor(t testing.TB, b storage.Bucket) storedFloor {
	t.Helper()
	var f storedFloor
	if err := json.Unmarshal(get(t, b, "state/test/floor"), &f); err != nil {
		t.Fatal(err)
	}
	return f
}

// gcOptions collect what a handful of records has gone by.
func gcOptions(t testing.TB, b storage.Bucket) driver.Options {
	o := options(t, b)
	o.GCInterval, o.GCKeepAge, o.GCKeepSlots = time.Second, 2*time.Second, 3
	return o
}

// TestGarbageIsCollected leads several times, adding one entry at a time. Records below the floor
// go, but for those of leaders; partials go once they are full.
func TestGarbageIsCollected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := mem.New()
		size := int64(0)
		for range 4 {
			l := open(t, gcOptions(t, b))
			stop := lead(t, l)
			for range 150 {
				add(t, l, size, size+1)
				size++
				time.Sleep(100 * time.Millisecond)
			}
			quit(t, l, stop)
		}
		f := readFloor(t, b)
		if f.N < 500 || f.Seq < 10 || f.Swept < 400 || f.PubSize < f.Size || f.Swept >= f.N {
			t.Errorf("floor is %+v after 600 records", f)
		}
		leaders, batches, head := 0, 0, int64(0)
		for key, data := range dump(t, b) {
			var n int64
			if _, err := fmt.Sscanf(key, "state/test/log/%d", &n); err != nil {
				continue
			}
			head = max(head, n)
			switch r := parseRecord(t, data); {
			case r.Type == "LEADER":
				leaders++
			case n < f.N:
				t.Errorf("slot %d is left below the floor at %d", n, f.N)
			default:
				batches++
			}
		}
		if leaders != 4 || batches > 150 || f.N > head {
			t.Errorf("%d LEADER records and %d others are left, the newest in slot %d", leaders, batches, head)
		}
		for key := range dump(t, b) {
			if full, _, partial := strings.Cut(key, ".p/"); partial && get(t, b, full) != nil {
				t.Errorf("%s is left beside its full successor", key)
			}
		}
		checkLog(t, options(t, b), size)
		l := open(t, gcOptions(t, b))
		stop := lead(t, l)
		add(t, l, size, size+10)
		quit(t, l, stop)
		checkLog(t, options(t, b), size+10)
	})
}

// TestPartialsOutliveNoFailure has the bucket delete no partial while tiles fill up and the floor
// would move past them, and then again: to the process that wrote them, or to the next one.
func TestPartialsOutliveNoFailure(t *testing.T) {
	for _, restart := range []bool{false, true} {
		bubble.Test(t, func(t *testing.T) {
			inner := mem.New()
			b := faultbucket.New(inner)
			b.FailWhen(faultbucket.On(faultbucket.Delete, "logs/"), faultbucket.Fail)
			l := open(t, gcOptions(t, b))
			stop := lead(t, l)
			size := int64(0)
			grow := func(n int) {
				for range n {
					add(t, l, size, size+10)
					size += 10
					time.Sleep(200 * time.Millisecond)
				}
			}
			grow(60)
			if restart {
				quit(t, l, stop)
				l = open(t, gcOptions(t, b))
				stop = lead(t, l)
			}
			b.Heal()
			grow(60)
			quit(t, l, stop)
			for key := range dump(t, inner) {
				if full, _, partial := strings.Cut(key, ".p/"); partial && get(t, inner, full) != nil {
					t.Errorf("restart %v: %s is left", restart, key)
				}
			}
			if f := readFloor(t, inner); f.N < 50 {
				t.Errorf("restart %v: the floor is %+v", restart, f)
			}
		})
	}
}

// TestPartialsOfUnpublishedSizesAreCollected has a process die before what it wrote partials for is
// published, and the next one look for them before that, too.
func TestPartialsOfUnpublishedSizesAreCollected(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b := mem.New()
		o := gcOptions(t, b)
		o.Cosign = q.cosign
		first := open(t, o)
		stop := lead(t, first)
		add(t, first, 0, 5)
		settle(t, b, 5)
		q.set(func(q *quorum) { q.hang = true })
		for _, n := range []int64{300, 310} {
			for size, _ := first.Head(); size < n; size++ {
				if _, err := first.Add(t.Context(), tessera.NewEntry(data(size)))(); err != nil {
					t.Fatal(err)
				}
			}
			time.Sleep(4 * time.Second)
		}
		quit(t, first, stop)
		if get(t, b, "logs/test/tile/0/001.p/44") == nil {
			t.Fatal("no partial tile was written for size 300")
		}
		second := open(t, o)
		stop = lead(t, second)
		time.Sleep(2 * o.GCInterval)
		q.set(func(q *quorum) { q.hang = false })
		settle(t, b, 310)
		for size := int64(310); size < 600; size += 10 {
			add(t, second, size, size+10)
			time.Sleep(o.GCInterval)
		}
		quit(t, second, stop)
		for key := range dump(t, b) {
			if full, _, partial := strings.Cut(key, ".p/"); partial && get(t, b, full) != nil {
				t.Errorf("%s is left", key)
			}
		}
	})
}
