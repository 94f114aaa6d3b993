package storage_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// A liar breaks one guarantee of the bucket it wraps.
type liar struct {
	storage.Bucket
	mu  sync.Mutex
	put func(b storage.Bucket, ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error)
	get func(b storage.Bucket, ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error)
	del func(b storage.Bucket, ctx context.Context, keys ...string) error
}

func (l *liar) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if l.put == nil {
		return l.Bucket.Put(ctx, key, data, o)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.put(l.Bucket, ctx, key, data, o)
}

func (l *liar) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if l.get == nil {
		return l.Bucket.Get(ctx, key, r)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.get(l.Bucket, ctx, key, r)
}

func (l *liar) Delete(ctx context.Context, keys ...string) error {
	if l.del == nil {
		return l.Bucket.Delete(ctx, keys...)
	}
	return l.del(l.Bucket, ctx, keys...)
}

// exposed is a bucket whose objects strangers can read, or all of it.
type exposed struct {
	storage.Bucket
	err error
}

func (e exposed) Exposed(context.Context, string) error { return e.err }

func TestProbeAcceptsAWorkingStoreAndLeavesNothing(t *testing.T) {
	b := mem.New()
	checks, err := storage.Probe(t.Context(), b, "state/log/probe")
	if err != nil || len(checks) == 0 {
		t.Fatalf("%d checks, %v", len(checks), err)
	}
	for key, err := range b.List(t.Context(), "") {
		t.Errorf("%q, %v is left", key, err)
	}
}

func TestProbeNamesTheMissingGuarantee(t *testing.T) {
	type bucket = storage.Bucket
	old := map[string][]byte{}
	for name, c := range map[string]struct {
		b    storage.Bucket
		want string
	}{
		"ignores all conditions": {&liar{Bucket: mem.New(), put: func(b bucket, ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
			return b.Put(ctx, key, data, storage.PutOptions{})
		}}, "create-only writes (If-None-Match) never overwrite"},
		"ignores create-only": {&liar{Bucket: mem.New(), put: func(b bucket, ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
			if o.If.IsAbsent() {
				o.If = storage.Condition{}
			}
			return b.Put(ctx, key, data, o)
		}}, "of parallel create-only writes exactly one is applied"},
		"ignores match": {&liar{Bucket: mem.New(), put: func(b bucket, ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
			if _, ok := o.If.Version(); ok {
				o.If = storage.Condition{}
			}
			return b.Put(ctx, key, data, o)
		}}, "compare-and-swap (If-Match) replaces only the version it names"},
		"swaps into a missing key": {&liar{Bucket: mem.New(), put: func(b bucket, ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
			if _, _, err := b.Get(ctx, key, storage.Range{}); errors.Is(err, fs.ErrNotExist) && !o.If.IsAbsent() {
				o.If = storage.Condition{}
			}
			return b.Put(ctx, key, data, o)
		}}, "compare-and-swap (If-Match) replaces only the version it names"},
		"reads the first version for ever": {&liar{Bucket: mem.New(), get: func(b bucket, ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
			data, v, err := b.Get(ctx, key, r)
			if first, ok := old[key]; ok && r.Offset == 0 {
				return first, v, err
			} else if err == nil {
				old[key] = data
			}
			return data, v, err
		}}, "an overwrite is seen at once"},
		"ignores ranges": {&liar{Bucket: mem.New(), get: func(b bucket, ctx context.Context, key string, _ storage.Range) ([]byte, storage.Version, error) {
			return b.Get(ctx, key, storage.Range{})
		}}, "a write is read back at once, in whole and in part"},
		"keeps what is deleted": {&liar{Bucket: mem.New(), del: func(bucket, context.Context, ...string) error { return nil }},
			"a deleted key is absent and can be created again"},
		"has something everywhere": {&liar{Bucket: mem.New(), get: func(b bucket, ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
			data, v, err := b.Get(ctx, key, r)
			if errors.Is(err, fs.ErrNotExist) {
				return []byte("hello"), "v", nil
			}
			return data, v, err
		}}, "a missing key reads as absent"},
		"is public": {exposed{mem.New(), fmt.Errorf("%w: GET it", storage.ErrExposed)}, "strangers cannot read state/"},
	} {
		t.Run(name, func(t *testing.T) {
			checks, err := storage.Probe(t.Context(), c.b, "state/log/probe")
			var broken *storage.BrokenError
			if !errors.As(err, &broken) || !strings.Contains(err.Error(), "does not guarantee that "+c.want) {
				t.Fatalf("%v; want that it names %q", err, c.want)
			}
			for _, check := range checks {
				if check.Guarantee == c.want && check.Err == nil {
					t.Errorf("the check of %q passed", c.want)
				}
			}
		})
	}
}

// racing compares a version and then writes, in two steps.
type racing struct{ storage.Bucket }

func (r racing) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if want, ok := o.If.Version(); ok {
		_, is, err := r.Get(ctx, key, storage.Range{})
		if err != nil || is != want {
			return "", storage.ErrPrecondition
		}
		time.Sleep(time.Millisecond)
		o.If = storage.Condition{}
	}
	return r.Bucket.Put(ctx, key, data, o)
}

func TestProbeFindsSwapsThatRace(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		_, err := storage.Probe(t.Context(), racing{mem.New()}, "state/log/probe")
		var broken *storage.BrokenError
		if !errors.As(err, &broken) || !strings.Contains(err.Error(), "updates were lost") {
			t.Errorf("%v; want that updates were lost", err)
		}
	})
}

// far takes 20 ms for each request.
type far struct{ storage.Bucket }

func (f far) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	time.Sleep(20 * time.Millisecond)
	return f.Bucket.Get(ctx, key, r)
}

func (f far) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	time.Sleep(20 * time.Millisecond)
	return f.Bucket.Put(ctx, key, data, o)
}

// TestProbeOfAFarStoreTakesNoSecond: every start waits for it.
func TestProbeOfAFarStoreTakesNoSecond(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		begun := time.Now()
		if _, err := storage.Probe(t.Context(), far{mem.New()}, "state/log/probe"); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(begun); took > 500*time.Millisecond {
			t.Errorf("it took %v", took)
		}
	})
}

func TestProbeTellsAnEmulatorFromAPublicStore(t *testing.T) {
	checks, err := storage.Probe(t.Context(), exposed{mem.New(), storage.ErrUnguarded}, "state/log/probe")
	if err != nil || checks[len(checks)-1].Warning == "" {
		t.Errorf("%+v, %v; want a warning", checks[len(checks)-1], err)
	}
}

func TestProbeOfAnUnreachableStoreIsNoVerdict(t *testing.T) {
	bubble.Test(t, func(t *testing.T) { // it asks again, with pauses
		down := errors.New("connection refused")
		b := &liar{Bucket: mem.New(), put: func(storage.Bucket, context.Context, string, []byte, storage.PutOptions) (storage.Version, error) {
			return "", down
		}}
		_, err := storage.Probe(t.Context(), b, "state/log/probe")
		var broken *storage.BrokenError
		if !errors.Is(err, down) || errors.As(err, &broken) {
			t.Errorf("%v; want that it says only that the store is down", err)
		}
	})
}
