package log_test

import (
	"context"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage"
)

// far is a bucket of which each read takes a while.
type far struct{ storage.Bucket }

func (f far) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	time.Sleep(100 * time.Millisecond)
	return f.Bucket.Get(ctx, key, r)
}

// TestReadyMeansThatAddsAreTaken: whoever is told that the log is ready is not refused a moment later,
// also when the store is slow to say what a new leader has to know.
func TestReadyMeansThatAddsAreTaken(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f := newFixture(t)
		f.options.Bucket = far{f.bucket}
		for _, text := range []string{"first", "after a restart"} {
			l, stop := f.run()
			mustAdd(t, l, text)
			stop()
		}
	})
}
