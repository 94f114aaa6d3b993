package witness

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"tallywood/witness/policy"
)

// ErrUnknownLog is wrapped by the errors of SetFloor and Recorded for an origin that the witness was not given.
var ErrUnknownLog = errors.New("the log is not known here")

// A FloorError says why a floor is refused, by what it is and what is known. Other errors of SetFloor are of
// what could not be read or written.
type FloorError struct{ err error }

func (e *FloorError) Error() string { return e.err.Error() }
func (e *FloorError) Unwrap() error { return e.err }

func refuseFloor(format string, args ...any) error { return &FloorError{fmt.Errorf(format, args...)} }

// SetFloor is the operator's word after state was lost: the witness has cosigned at least the
// tree of note, a checkpoint that the log has signed, and goes on from there. It ends a freeze.
// The empty note stands for the one that the log was frozen by, or that was exported, whichever is
// larger. A floor below them or the state, or one that contradicts them at the same size, is refused with a
// FloorError.
func (w *Witness) SetFloor(ctx context.Context, origin string, note []byte) (policy.Tree, error) {
	tree, err := w.setFloor(ctx, origin, note)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("setting floor of %q: %w", origin, err)
	}
	return tree, nil
}

func (w *Witness) setFloor(ctx context.Context, origin string, note []byte) (policy.Tree, error) {
	e := w.lookup(origin)
	if e == nil {
		return policy.Tree{}, ErrUnknownLog
	}
	unlock, err := e.acquire(ctx, netip.Prefix{})
	if err != nil {
		return policy.Tree{}, err
	}
	defer unlock()
	if err := w.load(ctx, e, true); err != nil {
		return policy.Tree{}, err
	}
	ahead, err := w.largestAhead(ctx, e)
	if err != nil {
		return policy.Tree{}, err
	}
	if len(note) == 0 && ahead != nil {
		note = ahead.request.note
	}
	if len(note) == 0 {
		return policy.Tree{}, refuseFloor("it is not frozen, and no checkpoint is given")
	}
	a, err := w.authenticate(e, addRequest{note: note, originUnsigned: origin})
	if err != nil {
		return policy.Tree{}, &FloorError{err}
	}
	switch {
	case a.tree.Origin != origin:
		return policy.Tree{}, refuseFloor("the checkpoint is of %q", a.tree.Origin)
	case a.tree.Size < e.head.Size:
		return policy.Tree{}, refuseFloor("size %d is below the cosigned size %d", a.tree.Size, e.head.Size)
	case a.tree.Size == e.head.Size && a.tree.Root != e.head.Root:
		return policy.Tree{}, refuseFloor("another tree of size %d was cosigned", a.tree.Size)
	case ahead != nil && a.tree.Size < ahead.tree.Size:
		return policy.Tree{}, refuseFloor("size %d is below %d, which this witness is known to have cosigned", a.tree.Size, ahead.tree.Size)
	case ahead != nil && a.tree.Size == ahead.tree.Size && a.tree.Root != ahead.tree.Root:
		return policy.Tree{}, refuseFloor("this witness is known to have cosigned another tree of size %d", ahead.tree.Size)
	}
	lines, _, last := w.signer.ownLines(a.note)
	next := state{Size: a.tree.Size, Root: a.tree.Root, Timestamp: max(last, e.head.Timestamp), Note: a.note.Text + "\n" + a.lines + lines}
	if next.Timestamp == 0 {
		next.Timestamp = w.now().Unix()
	}
	err = w.commit(ctx, e, next)
	switch {
	case errors.Is(err, errLost):
		return policy.Tree{}, errors.New("the witness was busy with this log; try again")
	case err != nil:
		return policy.Tree{}, err
	}
	w.log.Warn("floor set by the operator", "origin", origin, "size", a.tree.Size)
	return a.tree, nil
}

// SetFloor is that of the witness. The lists are read only if the log is not known without them: they may
// be away, and where a log is from elsewhere [Lists.Run] does not ask them about its keys either.
func (l *Lists) SetFloor(ctx context.Context, origin string, note []byte) (policy.Tree, error) {
	tree, err := l.witness.SetFloor(ctx, origin, note)
	if !errors.Is(err, ErrUnknownLog) {
		return tree, err
	}
	if err := l.ReadAll(ctx); err != nil {
		l.witness.log.Error("reading log lists", "err", err)
	}
	return l.witness.SetFloor(ctx, origin, note)
}

// largestAhead returns the largest tree known that we cosigned and that the state knows nothing of:
// by which the log was frozen, or what was exported. The caller holds e.lock, and e.head is fresh.
func (w *Witness) largestAhead(ctx context.Context, e *entry) (*addition, error) {
	exported, err := w.publishedAhead(ctx, e)
	if err != nil {
		return nil, err
	}
	// Without a cosignature of ours, as by a key that was withdrawn, it says nothing.
	frozen, err := w.checkPublished(e, e.head.Size, e.head.Root, []byte(e.head.Frozen))
	if err != nil || frozen == nil || exported != nil && exported.tree.Size >= frozen.tree.Size {
		return exported, nil
	}
	return frozen, nil
}
