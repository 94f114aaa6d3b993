package driver_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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
	synctest.Test(t, func(t *testing.T) {
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
