package monitor

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/sync/errgroup"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// A Beginning is how Init found a log, and where in it the monitor begins.
type Beginning struct {
	Origin    string    `json:"origin"`
	URL       string    `json:"url"`
	Kind      Kind      `json:"kind"`
	Size      int64     `json:"size"`
	Root      []byte    `json:"root"`
	Witnesses []string  `json:"witnesses"`         // names in the policy of those that cosigned; none without a policy
	Cosigned  time.Time `json:"cosigned,omitzero"` // the newest of these
	Start     int64     `json:"start"`             // first entry to match; Size: the next one that is logged
	Why       string    `json:"why,omitempty"`     // how Start was found, if it is not a number of the configuration
}

// ErrBegun reports that a log has a state, which is not made anew.
var ErrBegun = errors.New("it is there already")

// ErrUnknownLog reports an origin that is not one of Options.Logs.
var ErrUnknownLog = errors.New("it is not one of the configuration")

// Init verifies logs once, all of Options.Logs or those named, and makes their first states: from
// then on a state that is gone is noticed. It tells no sink anything. If any of the logs has a state
// already, or does not verify, none is made.
func (m *Monitor) Init(ctx context.Context, origins ...string) ([]Beginning, error) {
	for _, r := range m.rosters {
		if err := r.look(ctx); err != nil {
			return nil, fmt.Errorf("trust material %q: %w", r.cfg.Origin, err)
		}
	}
	tails, err := m.named(origins)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range tails {
		st, err := t.journal.load(ctx)
		if err == nil && st.Checkpoint != "" {
			err = &StateError{t.cfg.Origin, t.journal.key, fmt.Errorf("%w, it has come to entry %d", ErrBegun, st.Next)}
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	found := make([]begun, len(tails))
	errs = make([]error, len(tails))
	var g errgroup.Group
	for i, t := range tails {
		g.Go(func() error {
			if found[i], errs[i] = t.begin(ctx); errs[i] != nil {
				errs[i] = fmt.Errorf("log %q: %w", t.cfg.Origin, errs[i])
			}
			return nil
		})
	}
	_ = g.Wait()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("initializing monitor: %w", err)
	}
	var out []Beginning
	for i, t := range tails {
		base, err := t.journal.load(ctx)
		if err == nil {
			_, err = t.journal.update(ctx, base, found[i].first)
		}
		if err != nil {
			return out, fmt.Errorf("initializing monitor: log %q: %w", t.cfg.Origin, err)
		}
		out = append(out, found[i].Beginning)
	}
	return out, nil
}

// ClassOf returns the class of an error of Init: what a log did wrong, else Operational.
func ClassOf(err error) rule.Class {
	class := rule.Operational
	for _, tr := range troubles(err) {
		r, _ := rule.Lookup(tr.rule)
		class = rule.Worse(class, r.Class)
	}
	return class
}

// named returns the tails of the logs with these origins, all if there are none.
func (m *Monitor) named(origins []string) ([]*tail, error) {
	all := m.all()
	if len(origins) == 0 {
		return all, nil
	}
	var out []*tail
	for _, o := range origins {
		i := slices.IndexFunc(all, func(t *tail) bool { return t.cfg.Origin == o })
		if i < 0 {
			return nil, fmt.Errorf("log %q: %w", o, ErrUnknownLog)
		}
		out = append(out, all[i])
	}
	return out, nil
}

// begun is a log that was verified once.
type begun struct {
	Beginning
	note  []byte
	reach *compact.Range
}

// first makes s the state of a log that was just found so.
func (b begun) first(s *state) {
	s.Checkpoint = string(b.note)
	s.advance(b.reach)
}

// begin verifies the log's checkpoint, that its tiles make its root and that the newest entries hash
// into it, and finds where to begin.
func (t *tail) begin(ctx context.Context) (begun, error) {
	s, err := t.checkpoint(ctx, policy.Checkpoint{})
	if err != nil {
		return begun{}, err
	}
	w := &walk{tail: t, cp: s.cp, tree: newTree(t.source, s.cp)}
	if s.cp.Size() > 0 {
		if _, err := w.bundle(ctx, (s.cp.Size()-1)/bundleWidth); err != nil {
			return begun{}, err
		}
	}
	start, why, err := t.start(ctx, w)
	if err != nil {
		return begun{}, err
	}
	reach, err := w.tree.rangeAt(ctx, start)
	if err != nil {
		return begun{}, err
	}
	root := s.cp.Root()
	b := begun{note: s.cp.Note(), reach: reach, Beginning: Beginning{Origin: t.cfg.Origin, URL: t.cfg.URL, Kind: t.cfg.Kind,
		Size: s.cp.Size(), Root: root[:], Start: start, Why: why}}
	for _, c := range s.cp.Cosignatures() {
		b.Witnesses = append(b.Witnesses, c.Witness)
	}
	_, b.Cosigned = cosigned(s.cp)
	return b, nil
}

// bundle returns entry bundle n, bound to the root. Nothing in it is matched.
func (w *walk) bundle(ctx context.Context, n int64) (*scanned, error) {
	for _, fresh := range []bool{false, true} {
		s, err := w.tail.scan(ctx, n, w.width(n), math.MaxInt64, fresh)
		if err != nil {
			return nil, err
		}
		wrong, err := w.verify(ctx, s)
		switch {
		case err != nil:
			return nil, err
		case wrong == nil:
			return s, nil
		case fresh:
			return nil, fmt.Errorf("entry bundle %d does not hash into the tree of size %d as one of a log of kind %s: %w",
				n, w.cp.Size(), w.tail.cfg.Kind, wrong.why)
		}
	}
	panic("unreachable")
}

// start returns the first entry to match, and how that was found.
func (t *tail) start(ctx context.Context, w *walk) (int64, string, error) {
	switch {
	case !t.cfg.StartTime.IsZero():
		return w.since(ctx, t.cfg.StartTime)
	case t.cfg.Start == StartAtHead:
		return w.cp.Size(), "the head", nil
	case t.cfg.Start > w.cp.Size():
		return 0, "", fmt.Errorf("log has %d entries, start is %d", w.cp.Size(), t.cfg.Start)
	}
	return t.cfg.Start, "", nil
}
