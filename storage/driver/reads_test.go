package driver_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
	"tallywood/storage/driver"
)

// A readBucket notes which tiles and entry bundles are read.
type readBucket struct {
	storage.Bucket

	mu   sync.Mutex
	keys []string
}

func (r *readBucket) Get(ctx context.Context, key string, g storage.Range) ([]byte, storage.Version, error) {
	if _, path, ok := strings.Cut(key, "/tile/"); ok {
		r.mu.Lock()
		r.keys = append(r.keys, path)
		r.mu.Unlock()
	}
	return r.Bucket.Get(ctx, key, g)
}

// read returns what was read since the last call.
func (r *readBucket) read() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys := r.keys
	r.keys = nil
	return keys
}

// TestAddsReadNoTile: of a log just opened, of whatever size, entries are added, published and proven
// from memory alone, across the ends of tiles of every level.
func TestAddsReadNoTile(t *testing.T) {
	for _, size := range []int64{1, 200, 256, 65_536 - 100, 65_536, 1_000_000, 1<<24 - 300, 1 << 24} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			v := newVast(size, 4)
			v.establish(t, 1)
			b := &readBucket{Bucket: v}
			l := open(t, options(t, b))
			stop := lead(t, l)
			if len(b.read()) == 0 {
				t.Error("nothing was read to begin with: the test looks at the wrong keys")
			}
			for batch := range 4 {
				addAndProve(t, l, 1+batch*150)
			}
			if keys := b.read(); len(keys) > 0 {
				t.Errorf("%d reads of tiles, the first of %s", len(keys), keys[0])
			}
			quit(t, l, stop)
		})
	}
}

// addAndProve adds entries at once, waits until they are published and proves each of them.
func addAndProve(t *testing.T, l *driver.Log, entries int) {
	t.Helper()
	var futures []tessera.IndexFuture
	for i := range entries {
		futures = append(futures, l.Add(t.Context(), tessera.NewEntry(data(int64(i)))))
	}
	for _, future := range futures {
		index, err := future()
		if err != nil {
			t.Fatal(err)
		}
		p, err := l.Await(t.Context(), int64(index.Index)+1)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.InclusionProof(t.Context(), int64(index.Index), p.Size); err != nil {
			t.Fatal(err)
		}
	}
}

// TestProofAllocations bounds what the proof of a new entry in a log of a million allocates, whose hashes
// are in memory.
func TestProofAllocations(t *testing.T) {
	l, size := grownBy(t, 1_000_000, 256)
	index := size - 256
	n := testing.AllocsPerRun(256, func() {
		if _, err := l.InclusionProof(t.Context(), index, size); err != nil {
			t.Fatal(err)
		}
		index = size - 256 + (index+1)%256
	})
	if n > 6 {
		t.Errorf("a proof allocates %v times, want at most 6", n)
	}
}
