package stack

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"strings"
	"time"

	"tallywood/internal/span"
	"tallywood/storage"
)

// metered returns b, whose operations are counted under closed sets of labels: the operation (get, put,
// delete, list, sync), the kind of object (objectOf) and what came of it (endingOf). It has the other abilities of b that a log and a
// witness look for: those of a directory.
func (m *metrics) metered(b storage.Bucket) storage.Bucket {
	counted := &meteredBucket{b, m}
	if d, ok := b.(directory); ok {
		return &meteredDirectory{counted, d}
	}
	return counted
}

// A directory is a bucket that has to be told to make durable what other processes wrote, and can be
// locked.
type directory interface {
	Sync(ctx context.Context, prefixes ...string) error
	Lock(key string) (unlock func() error, err error)
}

type meteredBucket struct {
	inner   storage.Bucket
	metrics *metrics
}

var _ storage.Bucket = (*meteredBucket)(nil)

// begin begins an operation, which the returned function ends: it is counted, and traced if ctx is.
func (b *meteredBucket) begin(ctx context.Context, operation, key string) (context.Context, func(error)) {
	began := time.Now()
	ctx, sp := span.Start(ctx, "storage "+operation)
	return ctx, func(err error) {
		object, ending := objectOf(key), endingOf(err)
		b.metrics.operations.WithLabelValues(operation, object, ending).Inc()
		b.metrics.operationSeconds.WithLabelValues(operation, object).Observe(time.Since(began).Seconds())
		sp.Text("key", key)
		sp.Text("outcome", ending)
		if ending != "failed" {
			err = nil // that an object is absent, or there, is an answer
		}
		sp.End(err)
	}
}

// Get implements storage.Bucket.
func (b *meteredBucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	ctx, end := b.begin(ctx, "get", key)
	data, v, err := b.inner.Get(ctx, key, r)
	end(err)
	return data, v, err
}

// Put implements storage.Bucket.
func (b *meteredBucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	ctx, end := b.begin(ctx, "put", key)
	v, err := b.inner.Put(ctx, key, data, opts)
	end(err)
	return v, err
}

// Delete implements storage.Bucket.
func (b *meteredBucket) Delete(ctx context.Context, keys ...string) error {
	if len(keys) == 0 {
		return b.inner.Delete(ctx)
	}
	ctx, end := b.begin(ctx, "delete", keys[0])
	err := b.inner.Delete(ctx, keys...)
	end(err)
	return err
}

// List implements storage.Bucket.
func (b *meteredBucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		ctx, end := b.begin(ctx, "list", prefix)
		var failed error
		for key, err := range b.inner.List(ctx, prefix) {
			if failed = err; !yield(key, err) {
				break
			}
		}
		end(failed)
	}
}

// meteredDirectory is a meteredBucket that is a directory.
type meteredDirectory struct {
	*meteredBucket
	dir directory
}

// Sync implements directory.
func (b *meteredDirectory) Sync(ctx context.Context, prefixes ...string) error {
	key := ""
	if len(prefixes) > 0 {
		key = prefixes[0]
	}
	ctx, end := b.begin(ctx, "sync", key)
	err := b.dir.Sync(ctx, prefixes...)
	end(err)
	return err
}

// Lock implements directory.
func (b *meteredDirectory) Lock(key string) (unlock func() error, err error) { return b.dir.Lock(key) }

// objectOf says what kind of object is at key.
func objectOf(key string) string {
	top, rest, _ := strings.Cut(key, "/")
	_, rest, _ = strings.Cut(rest, "/") // the name of the log, or of the witness
	first, second, _ := strings.Cut(rest, "/")
	switch {
	case top == "state" && first == "log":
		return "record"
	case top == "state" && len(first) == 64:
		return "witness" // by the hash of an origin
	case top == "state":
		return "state"
	case top != "logs":
		return "other"
	}
	switch first {
	case "checkpoint", "checkpoint.full":
		return "checkpoint"
	case "issuer":
		return "issuer"
	case "tile":
		if strings.HasPrefix(second, "entries") || strings.HasPrefix(second, "data") {
			return "bundle"
		}
		return "tile"
	}
	return "other"
}

// endingOf says what came of an operation.
func endingOf(err error) string {
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, fs.ErrNotExist):
		return "absent"
	case errors.Is(err, storage.ErrPrecondition):
		return "precondition"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "failed"
}
