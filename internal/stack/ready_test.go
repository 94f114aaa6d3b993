package stack_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/stack"
	"tallywood/storage"
)

// A brokenBucket fails every read once it is told to.
type brokenBucket struct {
	storage.Bucket
	broken atomic.Bool
	reads  atomic.Int64
}

func (b *brokenBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	b.reads.Add(1)
	if b.broken.Load() {
		return nil, "", errors.New("the disk is gone: " + strings.Repeat("very ", 200) + "far")
	}
	return b.Bucket.Get(ctx, key, r)
}

func TestReadinessNamesWhatIsWrong(t *testing.T) {
	b := &brokenBucket{}
	l := serve(t, stack.Options{}, nil, func(s *stack.Stack) {
		s.WrapBucket(func(inner storage.Bucket) storage.Bucket { b.Bucket = inner; return b })
	})
	l.ready(t)
	type answer struct {
		Ready bool
		Logs  []struct {
			Log, Role, Reason string
			Ready             bool
			Size              int64
			CosignedAge       *float64 `json:"cosigned_age_seconds"`
		}
	}
	var a answer
	ask := func() int {
		a = answer{}
		status, body := l.get(t, "/readyz")
		if len(body) > 2000 {
			t.Errorf("an answer of %d bytes", len(body))
		}
		decode(t, body, &a)
		return status
	}
	if status := ask(); status != http.StatusOK || !a.Ready || len(a.Logs) != 2 {
		t.Fatalf("%d %+v", status, a)
	}
	for _, s := range a.Logs {
		if !s.Ready || s.Role != "leader" || s.Reason != "" || s.CosignedAge == nil || *s.CosignedAge > 60 {
			t.Errorf("%+v", s)
		}
	}

	b.broken.Store(true)
	eventually(t, "the storage to be asked again", func() bool { return ask() == http.StatusServiceUnavailable })
	if a.Ready || a.Logs[0].Ready || !strings.Contains(a.Logs[0].Reason, "the storage does not answer: the disk is gone") || len(a.Logs[0].Reason) > 500 {
		t.Errorf("%+v", a)
	}
	before, began := b.reads.Load(), time.Now()
	for range 200 {
		ask()
	}
	intervals := int64(time.Since(began)/stack.StorageInterval) + 1
	if n := b.reads.Load() - before; n > 2*intervals+2 { // of two logs
		t.Errorf("%d reads for 200 probes in %d intervals", n, intervals)
	}
	b.broken.Store(false)
	eventually(t, "the storage to be believed again", func() bool { return ask() == http.StatusOK })
}
