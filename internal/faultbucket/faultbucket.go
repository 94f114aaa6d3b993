// Package faultbucket wraps a storage.Bucket and makes chosen operations of it fail, as an object
// store or a dying process would.
//
// A test runs its subject once to count the operations, then once more for each of them and each
// Mode, and checks its invariants after opening the wrapped bucket again:
//
//	for n := range total {
//		inner := mem.New()
//		b := faultbucket.New(inner)
//		b.FailAt(n, faultbucket.CrashAfter)
//		drive(b)       // whatever happens in here …
//		b.Crash()
//		verify(inner)  // … nothing acknowledged is missing, nothing is forked
//	}
//
// Visible is not durable: what Unsynced and Broken apply can be read at once, as from the cache of
// an operating system, but Crash, which stands for a power failure then, takes it back unless a
// later operation has made it durable.
//
// Several processes that share a bucket each have a Bucket of their own, made by Sibling.
//
// Operations are numbered from 0 in the order in which they begin. A Delete of k keys counts as k
// operations, so that a fault can fall between two of them. Optional methods of the wrapped bucket
// are passed on: Sync is an operation, Lock is not. Every method may be called concurrently.
package faultbucket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/storage"
)

// ErrInjected is wrapped by every error that a Bucket made up. What happened to the wrapped bucket
// is deliberately not visible in it.
var ErrInjected = errors.New("injected fault")

// ErrCrashed is wrapped, beside ErrInjected, by the errors of a Bucket that has crashed.
var ErrCrashed = errors.New("process is dead")

// unusableError is wrapped, beside ErrInjected, by the errors of a Bucket that is broken.
type unusableError struct{}

func (unusableError) Error() string  { return "nothing can be written any more" }
func (unusableError) Unusable() bool { return true }

// A Bucket passes operations to the bucket it wraps, except where its plan says otherwise.
type Bucket struct {
	inner storage.Bucket
	plan  *plan

	mu      sync.Mutex // guards the fields below
	crashed bool
	inside  int                           // operations that are inside inner
	left    *sync.Cond                    // one of them has left
	late    []func(context.Context) error // the operations Land applies
	unlock  map[int]func() error          // the locks held, by the order they were taken in
	locks   int                           // locks taken so far
	broken  bool
	undo    map[string]content // by key: what Crash puts back
}

// A content is that of a key before an operation that did not become durable.
type content struct {
	data   []byte
	exists bool
}

var _ storage.Bucket = (*Bucket)(nil)

// New returns a Bucket over b without any faults.
func New(b storage.Bucket) *Bucket {
	return over(b, new(plan))
}

// Sibling returns the Bucket of another process over b. The plans and numbers of operations are
// those of the first: an operation of either has the next number. Each crashes for itself.
func (b *Bucket) Sibling(inner storage.Bucket) *Bucket { return over(inner, b.plan) }

func over(b storage.Bucket, p *plan) *Bucket {
	f := &Bucket{inner: b, plan: p, unlock: make(map[int]func() error), undo: make(map[string]content)}
	f.left = sync.NewCond(&f.mu)
	return f
}

// Crash kills the process that uses the Bucket, as far as the wrapped bucket can tell: when Crash
// returns, nothing of it reaches the wrapped bucket any more, except by Land, and the locks taken
// through it are released. What did not become durable is gone. After a fault of mode Crash or CrashAfter it still is to be called.
func (b *Bucket) Crash() {
	b.mu.Lock()
	b.crashed = true
	held := b.unlock
	b.unlock = make(map[int]func() error)
	for b.inside > 0 {
		b.left.Wait()
	}
	b.mu.Unlock()
	for _, unlock := range held {
		// The lock of a process that dies is released whatever happens; nobody is left to tell.
		_ = unlock()
	}
	b.mu.Lock()
	undo := b.undo
	b.undo = make(map[string]content)
	b.mu.Unlock()
	for key, old := range undo {
		if err := b.restore(key, old); err != nil {
			panic(fmt.Sprintf("faultbucket: taking back %q: %v", key, err)) // a test would pass for the wrong reason
		}
	}
}

// Crashed reports whether the process that uses the Bucket has died.
func (b *Bucket) Crashed() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.crashed
}

// restore makes the wrapped bucket hold at key what it did.
func (b *Bucket) restore(key string, old content) error {
	if !old.exists {
		return b.inner.Delete(context.Background(), key)
	}
	_, err := b.inner.Put(context.Background(), key, old.data, storage.PutOptions{})
	return err
}

// Land applies the operations that were Late or Again and not applied so yet, in order: the requests
// a network held back or repeats. It works on a crashed Bucket too, and returns the errors of the wrapped bucket.
func (b *Bucket) Land(ctx context.Context) error {
	b.mu.Lock()
	late := b.late
	b.late = nil
	b.mu.Unlock()
	var errs []error
	for _, apply := range late {
		errs = append(errs, apply(ctx))
	}
	return errors.Join(errs...)
}

// Get implements storage.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, r storage.Range) (data []byte, v storage.Version, err error) {
	op, err := b.run(ctx, Op{Kind: Get, Key: key}, func(ctx context.Context) (err error) {
		data, v, err = b.inner.Get(ctx, key, r)
		return err
	})
	if err != nil {
		return nil, "", err
	}
	if op.Mode == Cut {
		data = data[:len(data)/2]
	}
	return data, v, nil
}

// Put implements storage.Bucket.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (v storage.Version, err error) {
	data = slices.Clone(data) // a Late Put outlives the call
	err = b.do(ctx, Op{Kind: Put, Key: key, If: opts.If}, func(ctx context.Context) (err error) {
		v, err = b.inner.Put(ctx, key, data, opts)
		return err
	})
	if err != nil {
		return "", err
	}
	return v, nil
}

// Delete implements storage.Bucket, one key after the other; it stops at the first error.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		err := b.do(ctx, Op{Kind: Delete, Key: key}, func(ctx context.Context) error {
			return b.inner.Delete(ctx, key)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// List implements storage.Bucket. It reads all keys before it yields the first one.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var keys []string
		err := b.do(ctx, Op{Kind: List, Key: prefix}, func(ctx context.Context) error {
			for key, err := range b.inner.List(ctx, prefix) {
				if err != nil {
					return err
				}
				keys = append(keys, key)
			}
			return nil
		})
		if err != nil {
			yield("", err)
			return
		}
		for _, key := range keys {
			if !yield(key, nil) {
				return
			}
		}
	}
}

// Sync calls the wrapped bucket's Sync; a bucket without one has nothing to do.
func (b *Bucket) Sync(ctx context.Context, prefixes ...string) error {
	return b.do(ctx, Op{Kind: Sync, Key: strings.Join(prefixes, " ")}, func(ctx context.Context) error {
		s, ok := b.inner.(interface {
			Sync(ctx context.Context, prefixes ...string) error
		})
		if !ok {
			return nil
		}
		return s.Sync(ctx, prefixes...)
	})
}

// Lock calls the wrapped bucket's Lock; a bucket without one is never locked. Crash releases it.
func (b *Bucket) Lock(key string) (unlock func() error, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.crashed {
		return nil, fmt.Errorf("locking %q: %w: %w", key, ErrInjected, ErrCrashed)
	}
	l, ok := b.inner.(interface {
		Lock(key string) (func() error, error)
	})
	if !ok {
		return func() error { return nil }, nil
	}
	inner, err := l.Lock(key)
	if err != nil {
		return nil, err
	}
	n := b.locks
	b.locks++
	b.unlock[n] = inner
	return func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.unlock[n] == nil {
			return nil // Crash was first
		}
		delete(b.unlock, n)
		return inner()
	}, nil
}

func (b *Bucket) do(ctx context.Context, op Op, apply func(context.Context) error) error {
	_, err := b.run(ctx, op, apply)
	return err
}

// run records op, finds its fault and runs apply accordingly.
func (b *Bucket) run(ctx context.Context, op Op, apply func(context.Context) error) (Op, error) {
	op, delay := b.plan.begin(op)
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			return op, fmt.Errorf("%s %q: %w", op.Kind, op.Key, ctx.Err())
		}
	}
	err := b.reach(ctx, op, apply)
	if (op.Mode == Hang || op.Mode == HangAfter) && !errors.Is(err, ErrCrashed) {
		select {
		case <-time.After(hangLimit):
		case <-ctx.Done():
			err = fmt.Errorf("%w: %w", err, ctx.Err())
		}
	}
	return op, err
}

// reach runs apply as the fault of op demands.
func (b *Bucket) reach(ctx context.Context, op Op, apply func(context.Context) error) error {
	injected := fmt.Errorf("%s %q: %w", op.Kind, op.Key, ErrInjected)
	if err := b.enter(op, apply); err != nil {
		return fmt.Errorf("%w: %w", injected, err)
	}
	defer b.leave()
	switch op.Mode {
	case None, Again, Cut:
		err := apply(ctx)
		b.synced(op, err)
		return err
	case Lose, CrashAfter, HangAfter, Refuse:
		b.synced(op, apply(ctx)) // its result is exactly what gets lost
		if op.Mode == Refuse && op.If != (storage.Condition{}) {
			return fmt.Errorf("%w: %w", injected, storage.ErrPrecondition)
		}
	case Unsynced, Broken:
		if err := b.applyUnsynced(ctx, op, apply); err != nil {
			return fmt.Errorf("%w: %w", injected, err)
		}
		if op.Mode == Broken {
			return fmt.Errorf("%w: %w", injected, unusableError{})
		}
	}
	return injected
}

// applyUnsynced applies a Put or Delete and remembers how to take it back.
func (b *Bucket) applyUnsynced(ctx context.Context, op Op, apply func(context.Context) error) error {
	if op.Kind != Put && op.Kind != Delete {
		return nil
	}
	data, _, err := b.inner.Get(ctx, op.Key, storage.Range{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	old := content{data: data, exists: err == nil}
	if apply(ctx) != nil {
		return nil // the response is lost all the same
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, ok := b.undo[op.Key]; !ok { // else that is what is durable
		b.undo[op.Key] = old
	}
	return nil
}

// synced notes what an operation that ended with err has made durable: all of its directory. That
// an object is there already is known after a sync, too.
func (b *Bucket) synced(op Op, err error) {
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return
	}
	var dirs []string
	switch op.Kind {
	case Put, Delete:
		dirs = []string{path.Dir(op.Key)}
	case Sync:
		for _, prefix := range strings.Fields(op.Key) {
			dirs = append(dirs, strings.TrimSuffix(prefix, "/"))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for key := range b.undo {
		if slices.Contains(dirs, path.Dir(key)) {
			delete(b.undo, key)
		}
	}
}

// enter returns an error unless op, after its delay, finds the process alive and the store working,
// and notes what op does to the Bucket itself.
func (b *Bucket) enter(op Op, apply func(context.Context) error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	writes := op.Kind == Put || op.Kind == Delete
	switch {
	case b.crashed:
		return ErrCrashed
	case b.broken && (writes || op.Kind == Sync):
		return unusableError{}
	}
	switch op.Mode {
	case Crash, CrashAfter:
		b.crashed = true
	case Late, Again:
		if writes {
			b.late = append(b.late, apply)
		}
	case Broken:
		b.broken = true
	}
	b.inside++
	return nil
}

// leave is called after each operation that entered.
func (b *Bucket) leave() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.inside--
	b.left.Broadcast()
}
