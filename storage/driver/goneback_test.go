package driver_test

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// objects returns what b holds.
func objects(t *testing.T, b storage.Bucket) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for key, err := range b.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[key] = get(t, b, key)
	}
	return all
}

// restore makes b hold what it held once.
func restore(t *testing.T, b storage.Bucket, once map[string][]byte) {
	t.Helper()
	for key, data := range once {
		put(t, b, key, data)
	}
	gone := objects(t, b)
	maps.DeleteFunc(gone, func(key string, _ []byte) bool { return once[key] != nil })
	if err := b.Delete(t.Context(), slices.Collect(maps.Keys(gone))...); err != nil {
		t.Fatal(err)
	}
}

// TestLeaderStopsWhenTheBucketGoesBack: a bucket that is restored from an older copy, or emptied, while
// a log is led has lost entries that were acknowledged, and takes no more of them.
func TestLeaderStopsWhenTheBucketGoesBack(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		keep func(key string) bool // of the older copy
		want string
	}{
		{"restored", func(string) bool { return true }, "gone back from size 9 to 5"},
		{"public part restored", func(key string) bool { return strings.HasPrefix(key, "logs/") }, "gone back from size 9 to 5"},
		{"emptied", func(string) bool { return false }, "checkpoint of size 9 is gone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			bubble.Test(t, func(t *testing.T) {
				b := mem.New()
				l := open(t, options(t, b))
				lead(t, l)
				add(t, l, 0, 5)
				settle(t, b, 5)
				once := objects(t, b)
				maps.DeleteFunc(once, func(key string, _ []byte) bool { return !c.keep(key) })
				add(t, l, 5, 9)
				settle(t, b, 9)
				if c.name == "public part restored" {
					for key, data := range objects(t, b) {
						if !c.keep(key) {
							once[key] = data
						}
					}
				}
				restore(t, b, once)
				_, err := l.Add(t.Context(), tessera.NewEntry(data(9)))()
				for n := int64(10); err == nil && n < 1_000; n++ {
					time.Sleep(time.Millisecond)
					_, err = l.Add(t.Context(), tessera.NewEntry(data(n)))()
				}
				if !errors.Is(err, driver.ErrNotLeading) {
					t.Fatalf("adds to what is left of the log: %v", err)
				}
			})
		})
	}
}
