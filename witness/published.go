package witness

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/storage"
	"tallywood/witness/policy"
)

const (
	comparePace    = 2 * time.Millisecond // between two logs that are compared in the background
	compareWorkers = 4
)

// compare makes sure, before the first signature of a log in this process, that the state is not
// behind what this witness has exported of it. If it is, state was lost, and the log is frozen. The
// caller holds e.lock, and e.head is known.
func (w *Witness) compare(ctx context.Context, e *entry) error {
	epoch := w.lease.epoch.Load()
	if w.exporter.bucket == nil || e.comparedIn(epoch) || e.head.Frozen != "" {
		return nil
	}
	data, _, err := w.exporter.bucket.Get(ctx, exportKey(e.hash), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		data, err = nil, nil
	}
	var ahead *addition
	if err == nil {
		ahead, err = w.checkPublished(e, e.head.Size, e.head.Root, data)
	}
	if err == nil && ahead != nil { // another process may have moved the state
		if err := w.load(ctx, e, true); err != nil {
			return err
		}
		ahead, err = w.checkPublished(e, e.head.Size, e.head.Root, data)
	}
	switch {
	case err != nil:
		w.exporter.failed.Add(1)
		w.log.Error("comparing the state with what was exported", "origin", e.origin, "err", err)
		return &unavailableError{after: 5 * time.Second, reason: "the witness cannot compare its state of this log with what it has published"}
	case ahead == nil || e.head.Frozen != "":
		e.setCompared(epoch)
		if e.head.Timestamp != 0 && w.behind(e, data) {
			w.exporter.mark(e, "") // as after a crash
		}
		return nil
	}
	return w.freeze(ctx, e, *ahead)
}

// publishedAhead returns what was exported of a log if the state knows nothing of it. The caller
// holds e.lock, and e.head is fresh.
func (w *Witness) publishedAhead(ctx context.Context, e *entry) (*addition, error) {
	if w.exporter.bucket == nil {
		return nil, nil
	}
	data, _, err := w.exporter.bucket.Get(ctx, exportKey(e.hash), storage.Range{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("reading what is exported: %w", err)
	}
	return w.checkPublished(e, e.head.Size, e.head.Root, data)
}

// checkPublished compares what was published of a log, data, with its state. It returns the
// published checkpoint if that has a cosignature of ours that the state knows nothing of, and an
// error if nobody can say whose it is. No data is nothing published.
func (w *Witness) checkPublished(e *entry, size int64, root [32]byte, data []byte) (*addition, error) {
	if len(data) == 0 {
		return nil, nil
	}
	n, err := policy.ParseNote(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; if it is not of this witness, remove it", exportKey(e.hash), err)
	}
	tree, err := policy.ParseTree(n.Text)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: %w; if it is not of this witness, remove it", exportKey(e.hash), err)
	case tree.Origin != e.origin:
		return nil, fmt.Errorf("%s is a checkpoint of %q; remove it", exportKey(e.hash), shorten(tree.Origin))
	case tree.Size < size || tree.Size == size && tree.Root == root:
		return nil, nil
	}
	if own := w.signer.own(n); !own.ed && !own.pq {
		return nil, fmt.Errorf("%s of size %d has no cosignature of this witness and is not in its state; list its past keys, or remove that object",
			exportKey(e.hash), tree.Size)
	}
	return &addition{request: addRequest{note: data}, note: n, tree: tree, own: true}, nil
}

// runCompare compares all logs whenever the lease was gained, until ctx ends.
func (w *Witness) runCompare(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.lease.gained:
			w.compareAll(ctx)
		}
	}
}

// compareAll compares the logs known now one after the other, those that nobody has asked for yet,
// and has exported what a crash has left unexported.
func (w *Witness) compareAll(ctx context.Context) {
	var g errgroup.Group
	g.SetLimit(compareWorkers)
	for _, e := range w.entries() {
		select {
		case <-ctx.Done():
			_ = g.Wait() // no error
			return
		case <-time.After(comparePace):
		}
		g.Go(func() error {
			// Errors are logged and counted where they occur; the first request tries again.
			_ = w.compareAgain(ctx, e)
			return nil
		})
	}
	_ = g.Wait() // no error
}

// compareAgain compares a log without a request of it.
func (w *Witness) compareAgain(ctx context.Context, e *entry) error {
	unlock, err := e.acquire(ctx, netip.Prefix{})
	if err != nil {
		return err
	}
	defer unlock()
	err = errLost
	for n := 0; n < maxSwaps && errors.Is(err, errLost); n++ {
		if err = w.load(ctx, e, n > 0); err == nil {
			err = w.compare(ctx, e)
		}
	}
	return err
}

// behind reports whether what was published, data, is older than the state, as far as what nobody has
// verified can say. The caller holds e.lock.
func (w *Witness) behind(e *entry, data []byte) bool {
	n, err := policy.ParseNote(data)
	if err != nil {
		return true
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil || tree.Size != e.head.Size || tree.Root != e.head.Root {
		return true
	}
	last := int64(0)
	for _, sig := range n.Signatures {
		if sig.Name == w.signer.name && len(sig.Sig) > 8 {
			last = max(last, int64(binary.BigEndian.Uint64(sig.Sig)))
		}
	}
	return last < e.head.Timestamp
}

func (e *entry) comparedIn(epoch int64) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.compared == epoch
}

func (e *entry) setCompared(epoch int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.compared = epoch
}
