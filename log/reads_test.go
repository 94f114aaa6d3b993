package log_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"tallywood/internal/bubble"
	"tallywood/log"
	"tallywood/storage"
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

// TestAddsReadNoTile: new entries and duplicates of recent ones are answered from memory, across the ends
// of tiles and after a restart. An older duplicate needs its entry bundle, once for all its entries.
func TestAddsReadNoTile(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		b := &readBucket{Bucket: f.bucket}
		f.options.Bucket, f.options.CacheDir = b, t.TempDir()
		add := func(l *log.Log, from, to int64, duplicate bool) {
			t.Helper()
			for i := from; i < to; i++ {
				if r := mustAdd(t, l, fmt.Sprint(i)); r.Index != i || r.Duplicate != duplicate {
					t.Fatalf("entry %d has index %d, duplicate %v", i, r.Index, r.Duplicate)
				}
			}
		}
		wantReads := func(what string, want ...string) {
			t.Helper()
			if keys := b.read(); !slices.Equal(keys, want) {
				t.Errorf("%s: reads %q, want %q", what, keys, want)
			}
		}
		l, stop := f.run()
		b.read()
		add(l, 0, 700, false)
		eventually(t, "the index to follow", func() bool { return log.Flights(l) == 0 })
		wantReads("new entries")
		add(l, 0, 700, true)
		wantReads("duplicates")
		stop()

		l, stop = f.run()
		if len(b.read()) == 0 {
			t.Error("a start reads nothing: the test looks at the wrong keys")
		}
		add(l, 700, 1100, false)
		wantReads("new entries after a restart")
		add(l, 512, 1100, true)
		wantReads("duplicates of what the right edge had")
		add(l, 0, 1, true)
		wantReads("a duplicate of an old entry", "entries/000")
		add(l, 1, 256, true)
		wantReads("duplicates of entries beside it")
		stop()
	})
}
