package monitor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// maxClaims is how many claims a state holds. Only the log can make one, so when there are more the
// oldest stay: it must not be able to push them out.
const maxClaims = 4

// A claim is a checkpoint that the log has signed and that was not gone on with: it came from a
// cache that is behind, lacked cosignatures, or the tiles to check it could not be had. Nothing is
// wrong with that, unless it is of another tree. So each is kept until a verified tree has grown to
// its size, and then held against it.

// claims returns those in the state.
func (t *tail) claims(st *state) ([]policy.Checkpoint, error) {
	var out []policy.Checkpoint
	for i, note := range st.Claims {
		cp, err := t.own.OpenLog([]byte(note))
		if err != nil {
			return nil, &StateError{t.cfg.Origin, t.journal.key, fmt.Errorf("claim %d: %w", i, err)}
		}
		out = append(out, cp)
	}
	return out, nil
}

// judge holds the claims of st and those just made against tr, the tree of cp, which is verified.
// Those that are larger, or that cannot be judged now, are in the state when it returns. Its error
// holds a trouble for each that is of another tree.
func (t *tail) judge(ctx context.Context, st *state, cp policy.Checkpoint, tr *tree, made []policy.Checkpoint) error {
	claims, err := t.claims(st)
	if err != nil {
		return err
	}
	var errs []error
	var open, settled []policy.Checkpoint
	failed := false
	for _, c := range append(claims, made...) {
		if failed || c.Size() > cp.Size() {
			open = append(open, c)
			continue
		}
		root, err := tr.rootAt(ctx, c.Size())
		if err == nil && root != tlog.Hash(c.Root()) {
			fork := t.forked(cp, c, root, tr)
			errs = append(errs, fork)
			err = t.raiseOne(ctx, fork) // before it leaves the state
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("judging signed checkpoint of size %d: %w", c.Size(), err))
			open, failed = append(open, c), true
			continue
		}
		settled = append(settled, c)
	}
	return errors.Join(append(errs, t.keepClaims(ctx, st, open, settled))...)
}

// forked returns the trouble of a claim that is of another tree than cp: what there is of tr at
// the claim's size has this root.
func (t *tail) forked(cp, claim policy.Checkpoint, root tlog.Hash, tr *tree) *trouble {
	return &trouble{
		rule: rule.LogSplitView, key: forkKey(claim), index: NoIndex, size: claim.Size(),
		summary: fmt.Sprintf("size %d was signed with root %x%s; the first %d entries of the verified tree of size %d have root %x",
			claim.Size(), claim.Root(), t.shown(claim), claim.Size(), cp.Size(), root[:]),
		files: append(t.notes(cp, claim.Note()), tr.copies()...),
	}
}

// keepClaims has the state hold the claims that are open and no longer those that are settled.
func (t *tail) keepClaims(ctx context.Context, st *state, open, settled []policy.Checkpoint) error {
	next := nextClaims(st.Claims, open, settled)
	if slices.Equal(next, st.Claims) {
		return nil
	}
	_, err := t.journal.update(ctx, nil, func(s *state) { s.Claims = nextClaims(s.Claims, open, settled) })
	if err != nil {
		return fmt.Errorf("keeping signed checkpoints: %w", err)
	}
	return nil
}

func nextClaims(claims []string, open, settled []policy.Checkpoint) []string {
	next := slices.DeleteFunc(slices.Clone(claims), func(note string) bool {
		return slices.ContainsFunc(settled, func(c policy.Checkpoint) bool { return string(c.Note()) == note })
	})
	for _, c := range open {
		if note := string(c.Note()); len(next) < maxClaims && !slices.ContainsFunc(next, func(n string) bool { return sameTree(n, c) }) {
			next = append(next, note)
		}
	}
	return next
}

// sameTree reports whether a note says the same of the log as c: it differs at most in signatures.
func sameTree(note string, c policy.Checkpoint) bool {
	n, err := policy.ParseNote([]byte(note))
	return err == nil && n.Text == c.Text()
}
