package driver_test

import (
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage/driver"
)

// TestVisitReadsAhead: many small bundles at a time, few large ones, and what they are checked against
// once.
func TestVisitReadsAhead(t *testing.T) {
	for _, c := range []struct {
		bundles     int64
		width       int           // bytes of an entry
		least, most int64         // bundles under way
		bound       time.Duration // 1 s for each read that has to wait for another
	}{
		{600, 4, 33, 64, 24 * time.Second},
		{24, 30_000, 2, 4, 16 * time.Second}, // 7.7 MB in a bundle
	} {
		bubble.Test(t, func(t *testing.T) {
			v := newVast(c.bundles*256+77, c.width)
			v.establish(t, 1)
			f := &far{vast: v}
			r, err := driver.OpenReplica(t.Context(), options(t, f))
			if err != nil {
				t.Fatal(err)
			}
			f.most.Store(0)
			f.tiles.Store(0)
			begun, next := time.Now(), int64(100)
			for e, err := range driver.Visit(t.Context(), r, next, v.size, visited) {
				if err != nil {
					t.Fatal(err)
				}
				if e.first != next {
					t.Fatalf("entries from %d come after %d", e.first, next)
				}
				next += int64(len(e.entries))
			}
			took := time.Since(begun)
			t.Logf("%d bundles: %v, %d at a time, %d tiles", c.bundles, took, f.most.Load(), f.tiles.Load())
			if next != v.size || took > c.bound || f.most.Load() < c.least || f.most.Load() > c.most {
				t.Errorf("%d of %d entries in %v, %d bundles at a time", next, v.size, took, f.most.Load())
			}
			if n := f.tiles.Load(); n > (c.bundles+255)/256 {
				t.Errorf("%d tiles were read for %d bundles", n, c.bundles)
			}
		})
	}
}
