// Package mem is a storage.Bucket that keeps its objects in memory, for tests and simulations.
//
// It is the reference for what a Bucket does: every Put is atomic, visible at once, and gets a
// version that no other Put of the bucket ever had. Nothing survives the process.
package mem

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"tallywood/storage"
)

var _ storage.Bucket = (*Bucket)(nil)

// A Bucket holds objects in memory. Make one with New.
type Bucket struct {
	mu      sync.RWMutex
	objects map[string]object
	writes  uint64 // Puts applied so far; the version of the newest
}

// An object is immutable: a Put replaces it as a whole.
type object struct {
	data    []byte
	version storage.Version
}

// New returns an empty Bucket.
func New() *Bucket { return &Bucket{objects: make(map[string]object)} }

// Get implements storage.Bucket. The slice it returns belongs to the caller.
func (b *Bucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, "", fmt.Errorf("getting %q: negative range %+v", key, r)
	}
	b.mu.RLock()
	o, ok := b.objects[key]
	b.mu.RUnlock()
	if !ok {
		return nil, "", fmt.Errorf("getting %q: %w", key, fs.ErrNotExist)
	}
	data := o.data[min(r.Offset, int64(len(o.data))):]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return append([]byte{}, data...), o.version, nil
}

// Put implements storage.Bucket. It copies data.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	data = bytes.Clone(data)

	b.mu.Lock()
	defer b.mu.Unlock()
	old, exists := b.objects[key]
	want, conditional := opts.If.Version()
	if opts.If.IsAbsent() && exists || conditional && old.version != want {
		return "", fmt.Errorf("putting %q: %w", key, storage.ErrPrecondition)
	}
	b.writes++
	v := storage.Version(strconv.FormatUint(b.writes, 10))
	b.objects[key] = object{data: data, version: v}
	return v, nil
}

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := check(ctx, key); err != nil {
			return fmt.Errorf("deleting %q: %w", key, err)
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		delete(b.objects, key)
	}
	return nil
}

// List implements storage.Bucket. It yields the keys of one moment, the start of the iteration.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		b.mu.RLock()
		keys := slices.Sorted(maps.Keys(b.objects))
		b.mu.RUnlock()
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				yield("", fmt.Errorf("listing %q: %w", prefix, err))
				return
			}
			if strings.HasPrefix(key, prefix) && !yield(key, nil) {
				return
			}
		}
	}
}

// check refuses a cancelled context and a key no Bucket accepts.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return storage.CheckKey(key)
}
