package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/witness/policy"
)

// A memory is what the world remembers of a log: all that was ever answered and seen.
type memory struct {
	client *http.Client
	signer *signer
	policy *policy.Policy

	next     atomic.Int64 // entry
	mu       sync.Mutex
	receipts []receipt
	byEntry  map[int64]int64       // index, by entry
	byIndex  map[int64]int64       // entry, by index
	entries  map[int64]signedEntry // those with a receipt
	seen     map[tree]string       // trees of every checkpoint seen, and where
	bySize   map[int64]tree        // the same, by size
	notes    map[string]bool       // checkpoints of receipts whose signatures have been verified
	wrong    []error
}

func newMemory(t *testing.T, seed uint64) *memory {
	t.Helper()
	signer, err := newSigner(seed)
	if err != nil {
		t.Fatal(err)
	}
	return &memory{signer: signer,
		// As many connections as adders, and no answer that never comes.
		client:  &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: crashAdders + 8}},
		byEntry: map[int64]int64{}, byIndex: map[int64]int64{}, entries: map[int64]signedEntry{},
		seen: map[tree]string{}, bySize: map[int64]tree{}, notes: map[string]bool{}}
}

// load keeps n adders busy, each adding one new entry after the other with add, until the function
// it returns is called.
func (c *memory) load(n int, add func(ctx context.Context, n int64, e signedEntry)) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var adders sync.WaitGroup
	for range n {
		adders.Go(func() {
			for ctx.Err() == nil {
				n := c.next.Add(1) - 1
				e, err := c.signer.entry(n)
				if err != nil {
					c.fault(err)
					return
				}
				add(ctx, n, e)
			}
		})
	}
	return func() { cancel(); adders.Wait() }
}

// addOne posts an entry until it succeeds, as a client would: the answer to an add that fails may
// have been lost.
func (c *crash) addOne(ctx context.Context, n int64, e signedEntry) {
	for ctx.Err() == nil {
		r, err := add(ctx, c.client, c.base, n, e)
		if err == nil {
			c.take(r, e)
			time.Sleep(c.pace)
			return
		}
		// The stack is dead, or is being killed, or asks to come back later. Any other answer is wrong.
		if refused, answered := errors.AsType[*statusError](err); answered && !refused.comeBack() {
			c.fault(err)
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// take keeps a receipt, and wants it to fit those before it.
func (c *memory) take(r receipt, e signedEntry) {
	err := r.verify()
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && !c.notes[r.note] {
		if _, perr := c.policy.Open([]byte(r.note)); perr != nil {
			err = fmt.Errorf("checkpoint of a receipt: %w\n%s", perr, r.note)
		}
		c.notes[r.note] = true
	}
	if other, ok := c.byIndex[r.index]; ok && other != r.entry {
		err = errors.Join(err, fmt.Errorf("index %d was given to entries %d and %d", r.index, other, r.entry))
	}
	if index, ok := c.byEntry[r.entry]; ok && index != r.index {
		err = errors.Join(err, fmt.Errorf("entry %d has the indices %d and %d", r.entry, index, r.index))
	}
	c.byIndex[r.index], c.byEntry[r.entry], c.entries[r.entry] = r.entry, r.index, e
	c.receipts = append(c.receipts, r)
	c.seeLocked(r.tree, "a receipt")
	if err != nil {
		c.wrong = append(c.wrong, err)
	}
}

// seeLocked remembers a checkpoint's tree: of one size there is one.
func (c *memory) seeLocked(tr tree, where string) {
	if other, ok := c.bySize[tr.size]; ok && other != tr {
		c.wrong = append(c.wrong, fmt.Errorf("FORK at size %d: root %v in %s, %v in %s", tr.size, other.root, c.seen[other], tr.root, where))
	}
	if _, ok := c.seen[tr]; !ok {
		c.seen[tr], c.bySize[tr.size] = where, tr
	}
}

func (c *memory) fault(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrong = append(c.wrong, err)
}

// watch looks at the checkpoints at the given URLs, as often as it can.
func (c *memory) watch(places ...string) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	watcher.Go(func() {
		for ctx.Err() == nil {
			for _, place := range places {
				note, err := fetch(c.client, place)
				if err != nil {
					continue // it is down
				}
				tr, err := noteTree(string(note))
				if err != nil {
					c.fault(fmt.Errorf("%s: %w", place, err))
					continue
				}
				c.mu.Lock()
				c.seeLocked(tr, place)
				c.mu.Unlock()
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	return func() { cancel(); watcher.Wait() }
}

func (c *memory) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.receipts)
}

// verify reads the whole log at base as a stranger and checks everything that was ever promised
// against it. It returns the size of the tree.
func (c *memory) verify(t *testing.T, base string) int64 {
	t.Helper()
	return c.verifyView(t, 0, func() (*view, error) { return look(c.client, base, c.policy) }).tree.size
}

// verifyView is verify with a way to read the log, which must come to have most entries at least.
func (c *memory) verifyView(t *testing.T, most int64, read func() (*view, error)) *view {
	t.Helper()
	c.mu.Lock()
	for tr := range c.seen {
		most = max(most, tr.size)
	}
	receipts := append([]receipt(nil), c.receipts...)
	seen := make(map[tree]string, len(c.seen))
	for tr, where := range c.seen {
		seen[tr] = where
	}
	c.mu.Unlock()
	var v *view
	eventually(t, fmt.Sprintf("published checkpoint of at least %d entries", most), func() bool {
		var err error
		if v, err = read(); err != nil {
			t.Fatalf("reading the log: %v", err)
		}
		return v.tree.size >= most
	})
	for tr, where := range seen {
		if err := v.extends(tr); err != nil {
			t.Errorf("checkpoint from %s: %v", where, err)
		}
	}
	for _, r := range receipts {
		c.mu.Lock()
		want := c.entries[r.entry].canonical
		c.mu.Unlock()
		if string(v.entries[r.index]) != string(want) {
			t.Errorf("index %d holds another entry than the receipt says", r.index)
		}
	}
	c.reportWrong(t)
	return v
}

// reportWrong fails the test with what was found wrong by now.
func (c *memory) reportWrong(t *testing.T) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, err := range c.wrong {
		t.Error(err)
	}
	c.wrong = nil
}

// settled adds once more: the stack is whole after all that.
func (c *crash) settled(t *testing.T, s *stack) {
	t.Helper()
	e, err := c.signer.entry(1 << 40)
	if err != nil {
		t.Fatal(err)
	}
	first, err := insistOnAdding(t.Context(), c.client, s.url, 1<<40, e)
	if err != nil {
		t.Fatalf("adding after the last kill: %v", err)
	}
	again, err := insistOnAdding(t.Context(), c.client, s.url, 1<<40, e)
	if err != nil || again.index != first.index {
		t.Errorf("a retry got index %d, %v; want %d", again.index, err, first.index)
	}
}
