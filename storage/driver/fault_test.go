package driver_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// history is what the clients of a log were told, over all its processes.
type history struct {
	t *testing.T

	mu    sync.Mutex
	acked map[int64]string    // index -> entry
	roots map[int64]tlog.Hash // size -> root published
	next  int64
}

func newHistory(t *testing.T) *history {
	return &history{t: t, acked: make(map[int64]string), roots: make(map[int64]tlog.Hash)}
}

// run opens the log and adds entries to it for as long as it works, and stops it.
func (h *history) run(o driver.Options, adds int, landed func()) error {
	l, err := driver.Open(h.t.Context(), o)
	if err != nil {
		return err
	}
	defer l.Close()
	landed()
	ctx, cancel := context.WithCancel(h.t.Context())
	ran := make(chan error, 1)
	go func() { ran <- l.Run(ctx) }()
	for end := time.Now().Add(10 * time.Second); !driver.Leading(l) && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond) // it asks the store whether the log is to be frozen
	}
	var clients sync.WaitGroup
	for i := range adds {
		clients.Go(func() { h.add(l) })
		if i == 0 || i == adds-1 {
			clients.Wait() // alone
		}
	}
	clients.Wait()
	cancel()
	return <-ran
}

// add is one client: it adds an entry, waits for its publication, and remembers what it got. It
// gives up after a minute, as clients do.
func (h *history) add(l *driver.Log) {
	ctx, cancel := context.WithTimeout(h.t.Context(), time.Minute)
	defer cancel()
	h.mu.Lock()
	h.next++
	entry := fmt.Sprint("entry ", h.next)
	h.mu.Unlock()
	var index tessera.Index
	var err error
	resolved := make(chan struct{})
	future := l.Add(ctx, tessera.NewEntry([]byte(entry)))
	go func() {
		defer close(resolved)
		index, err = future()
	}()
	select {
	case <-resolved:
	case <-ctx.Done():
		return
	}
	if err != nil {
		return
	}
	h.mu.Lock()
	if old, ok := h.acked[int64(index.Index)]; ok {
		h.t.Errorf("index %d was given to %q and %q", index.Index, old, entry)
	}
	h.acked[int64(index.Index)] = entry
	h.mu.Unlock()
	p, err := l.Await(ctx, int64(index.Index)+1)
	if err != nil {
		return
	}
	tree := openNote(h.t, p.Note)
	h.mu.Lock()
	defer h.mu.Unlock()
	if old, ok := h.roots[tree.N]; ok && old != tree.Hash {
		h.t.Errorf("size %d was published with two roots", tree.N)
	}
	h.roots[tree.N] = tree.Hash
}

// verify opens the log anew and checks that what clients were told is true.
func (h *history) verify(o driver.Options) {
	h.t.Helper()
	l, err := driver.Open(h.t.Context(), o)
	if err != nil {
		h.t.Fatalf("a healthy store is refused: %v", err)
	}
	defer l.Close()
	size, root := l.Head()
	tree := new(oracle)
	for i := range size {
		e, err := l.Entry(h.t.Context(), i)
		if err != nil {
			h.t.Fatal(err)
		}
		if want, ok := h.acked[i]; ok && want != string(e[2:]) {
			h.t.Errorf("acknowledged entry %d is %q, not %q", i, e[2:], want)
		}
		hashes, err := tlog.StoredHashes(i, e[2:], tree)
		if err != nil {
			h.t.Fatal(err)
		}
		tree.hashes = append(tree.hashes, hashes...)
		if want, ok := h.roots[i+1]; ok && want != tlog.Hash(tree.root(h.t, i+1)) {
			h.t.Errorf("size %d was published with another root", i+1)
		}
	}
	if tree.root(h.t, size) != root {
		h.t.Errorf("the root of size %d is not that of its entries", size)
	}
	for i := range maps.Keys(h.acked) {
		if i >= size {
			h.t.Errorf("acknowledged entry %d is lost: the log has %d", i, size)
		}
	}
	for n := range maps.Keys(h.roots) {
		if n > size {
			h.t.Errorf("published size %d is lost: the log has %d", n, size)
		}
	}
}

// TestFaultAtEveryOperation makes each operation fail in each way, with restarts, and checks that
// acknowledged entries stay, that each size has one root and that nothing is signed too early.
func TestFaultAtEveryOperation(t *testing.T) {
	modes := []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Late, faultbucket.Crash, faultbucket.CrashAfter}
	for _, before := range []int{0, 250} {
		total := 0
		b, h := mem.New(), newHistory(t)
		if before > 0 {
			bubble.Test(t, func(t *testing.T) {
				h.t = t
				if err := h.run(options(t, b), before, func() {}); err != nil {
					t.Fatal(err)
				}
			})
		}
		objects := dump(t, b)
		bubble.Test(t, func(t *testing.T) { total = faulty(t, h, objects, -1, faultbucket.None) })
		if total < 30 {
			t.Fatalf("only %d operations", total)
		}
		for n := 0; n < total; n += faultStep {
			for _, mode := range modes {
				t.Run(fmt.Sprintf("%d/%d/%v", before, n, mode), func(t *testing.T) {
					bubble.Test(t, func(t *testing.T) { faulty(t, h, objects, n, mode) })
				})
			}
		}
	}
}

// faulty runs a log that has objects and a history through a fault at operation n, and returns how
// many operations there were.
func faulty(t *testing.T, old *history, objects map[string][]byte, n int, mode faultbucket.Mode) int {
	inner := mem.New()
	for key, data := range objects {
		put(t, inner, key, data)
	}
	h := &history{t: t, acked: maps.Clone(old.acked), roots: maps.Clone(old.roots), next: old.next}
	notary := newNotary(t, inner)
	opts := func(b storage.Bucket) driver.Options {
		o := options(t, b)
		o.Signers, o.BatchMaxSize = []note.Signer{notary}, 7
		return o
	}
	nothing := func() {}
	seen := &watched{Bucket: inner, t: t}
	b := faultbucket.New(seen)
	if n >= 0 {
		b.FailAt(n, mode)
	}
	ctx := t.Context()
	err := h.run(opts(b), 20, nothing)
	crash := mode == faultbucket.Crash || mode == faultbucket.CrashAfter
	if err != nil && !crash && !errors.Is(err, faultbucket.ErrInjected) {
		t.Errorf("one fault ended the leadership: %v", err)
	}
	b.Crash()
	land := func() {
		if err := b.Land(ctx); err != nil && !errors.Is(err, storage.ErrPrecondition) {
			t.Error(err)
		}
	}
	if err := h.run(opts(seen), 10, land); err != nil && !errors.Is(err, driver.ErrNotLeading) {
		t.Errorf("the successor ends with %v", err)
	}
	h.verify(opts(seen))
	if err := h.run(opts(seen), 3, nothing); err != nil {
		t.Errorf("the last process ends with %v", err)
	}
	h.verify(opts(seen))
	return len(b.Ops())
}

// TestFaultyStore runs under a store that fails one operation in ten, without a pattern.
func TestFaultyStore(t *testing.T) {
	for seed := range 20 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				inner := mem.New()
				notary := newNotary(t, inner)
				h := newHistory(t)
				for round := range 20 {
					b := faultbucket.New(&watched{Bucket: inner, t: t})
					for i, mode := range []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose} {
						b.FailWhen(func(op faultbucket.Op) bool {
							sum := sha256.Sum256(fmt.Append(nil, seed, round, op.N))
							return sum[0]%20 == byte(i)
						}, mode)
					}
					o := options(t, b)
					o.Signers, o.BatchMaxSize = []note.Signer{notary}, 50
					err := h.run(o, 40, func() {})
					if err != nil && !errors.Is(err, faultbucket.ErrInjected) {
						t.Errorf("Run: %v", err)
					}
					b.Crash()
				}
				h.verify(options(t, inner))
				if len(h.acked) == 0 {
					t.Error("nothing was acknowledged")
				}
			})
		})
	}
}
