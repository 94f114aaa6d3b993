package storagetest

import (
	"context"
	"iter"
	"sync/atomic"

	"tallywood/storage"
)

// Alternate returns a Bucket whose operations go to the buckets in turn: several ways to the same
// objects.
func Alternate(buckets ...storage.Bucket) storage.Bucket { return &alternate{buckets: buckets} }

type alternate struct {
	buckets []storage.Bucket
	next    atomic.Uint32
}

func (a *alternate) turn() storage.Bucket {
	return a.buckets[a.next.Add(1)%uint32(len(a.buckets))]
}

func (a *alternate) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	return a.turn().Get(ctx, key, r)
}

func (a *alternate) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	return a.turn().Put(ctx, key, data, opts)
}

func (a *alternate) Delete(ctx context.Context, keys ...string) error {
	return a.turn().Delete(ctx, keys...)
}

func (a *alternate) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return a.turn().List(ctx, prefix)
}
