package storagetest_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/storagetest"
)

// mutants are buckets with one defect each.
var mutants = map[string]func(b *mem.Bucket) storage.Bucket{
	"ignores conditions":  func(b *mem.Bucket) storage.Bucket { return ignoresConditions{b} },
	"ignores Absent":      func(b *mem.Bucket) storage.Bucket { return ignoresAbsent{b} },
	"checks, then puts":   func(b *mem.Bucket) storage.Bucket { return checksThenPuts{b} },
	"match creates":       func(b *mem.Bucket) storage.Bucket { return matchCreates{b} },
	"reads a stale cache": func(b *mem.Bucket) storage.Bucket { return &cachesReads{Bucket: b, cache: map[string]object{}} },
	"ignores ranges":      func(b *mem.Bucket) storage.Bucket { return ignoresRanges{b} },
	"lists unsorted":      func(b *mem.Bucket) storage.Bucket { return listsBackward{b} },
	"delete wants a key":  func(b *mem.Bucket) storage.Bucket { return deleteWantsKey{b} },
	"ignores contexts":    func(b *mem.Bucket) storage.Bucket { return ignoresContexts{b} },
}

const mutantVar = "STORAGETEST_MUTANT"

// TestSuite runs the suite on mem, or in a process that TestSuiteCatchesMutants started on a mutant.
func TestSuite(t *testing.T) {
	mutate := mutants[os.Getenv(mutantVar)]
	if mutate == nil {
		mutate = func(b *mem.Bucket) storage.Bucket { return b }
	}
	storagetest.Run(t, func(*testing.T) storage.Bucket { return mutate(mem.New()) })
}

func TestSuiteCatchesMutants(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(mutants)) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuite$", "-test.count=1")
			cmd.Env = append(os.Environ(), mutantVar+"="+name)
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), "--- FAIL: TestSuite/") {
				t.Errorf("the suite passed: %v\n%s", err, out)
			}
		})
	}
}

type ignoresConditions struct{ *mem.Bucket }

func (b ignoresConditions) Put(ctx context.Context, key string, data []byte, _ storage.PutOptions) (storage.Version, error) {
	return b.Bucket.Put(ctx, key, data, storage.PutOptions{})
}

type ignoresAbsent struct{ *mem.Bucket }

func (b ignoresAbsent) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if opts.If.IsAbsent() {
		opts.If = storage.Condition{}
	}
	return b.Bucket.Put(ctx, key, data, opts)
}

// checksThenPuts honours conditions, but not atomically.
type checksThenPuts struct{ *mem.Bucket }

func (b checksThenPuts) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	_, v, err := b.Get(ctx, key, storage.Range{})
	want, conditional := opts.If.Version()
	if opts.If.IsAbsent() && err == nil || conditional && v != want {
		return "", fmt.Errorf("checking: %w", storage.ErrPrecondition)
	}
	runtime.Gosched()
	return b.Bucket.Put(ctx, key, data, storage.PutOptions{})
}

// matchCreates lets Match hold on a key without object.
type matchCreates struct{ *mem.Bucket }

func (b matchCreates) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if _, conditional := opts.If.Version(); conditional {
		if _, _, err := b.Get(ctx, key, storage.Range{}); errors.Is(err, fs.ErrNotExist) {
			opts.If = storage.Absent()
		}
	}
	return b.Bucket.Put(ctx, key, data, opts)
}

type object struct {
	data []byte
	v    storage.Version
}

type cachesReads struct {
	*mem.Bucket
	mu    sync.Mutex
	cache map[string]object
}

func (b *cachesReads) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if o, ok := b.cache[key]; ok && r == (storage.Range{}) && ctx.Err() == nil {
		return slices.Clone(o.data), o.v, nil
	}
	data, v, err := b.Bucket.Get(ctx, key, r)
	if err == nil && r == (storage.Range{}) {
		b.cache[key] = object{slices.Clone(data), v}
	}
	return data, v, err
}

type ignoresRanges struct{ *mem.Bucket }

func (b ignoresRanges) Get(ctx context.Context, key string, _ storage.Range) ([]byte, storage.Version, error) {
	return b.Bucket.Get(ctx, key, storage.Range{})
}

type listsBackward struct{ *mem.Bucket }

func (b listsBackward) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var keys []string
		for key, err := range b.Bucket.List(ctx, prefix) {
			if err != nil {
				yield("", err)
				return
			}
			keys = append(keys, key)
		}
		for _, key := range slices.Backward(keys) {
			if !yield(key, nil) {
				return
			}
		}
	}
}

type deleteWantsKey struct{ *mem.Bucket }

func (b deleteWantsKey) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if _, _, err := b.Get(ctx, key, storage.Range{}); err != nil {
			return err
		}
	}
	return b.Bucket.Delete(ctx, keys...)
}

type ignoresContexts struct{ *mem.Bucket }

func (b ignoresContexts) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	return b.Bucket.Put(context.WithoutCancel(ctx), key, data, opts)
}
