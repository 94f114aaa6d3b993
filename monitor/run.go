package monitor

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// slowestPoll is how long, at most, a log that does not answer is left alone.
const slowestPoll = 2 * time.Minute

// A LogStatus is where a Monitor stands with one log.
type LogStatus struct {
	Origin string
	URL    string
	Kind   Kind

	Size     int64     // of the newest verified checkpoint
	Scanned  int64     // entries verified and matched; less than Size is a lag
	Cosigned time.Time // newest cosignature of that checkpoint; zero without any
	Checked  time.Time // when the log was last found in order, all of it scanned; zero: not yet
	Err      string    // why it was not the last time; empty if it was
	Pending  int       // events that some sink has not taken
	GivenUp  int64     // deliveries that were given up after days
	Alerts   []Event   // newest first, at most 20
}

// run polls until ctx ends.
func (t *tail) run(ctx context.Context) {
	failures, said := 0, ""
	for {
		err := t.look(ctx)
		if ctx.Err() != nil {
			return
		}
		failures++
		if err == nil || len(troubles(err)) > 0 || errors.Is(err, errBacklog) || errors.Is(err, errMoved) {
			failures = 0
		}
		if err == nil {
			said = ""
		} else if text := err.Error(); text != said { // once, not with every poll
			t.log.Warn("following log", "origin", t.cfg.Origin, "err", err)
			said = text
		}
		pause := min(t.poll<<min(failures, 10), max(t.poll, slowestPoll))
		select {
		case <-time.After(pause + rand.N(pause/8+1)):
		case <-ctx.Done():
			return
		}
	}
}

// look takes one step and notes how it went.
func (t *tail) look(ctx context.Context) error {
	err := t.step(ctx)
	if ctx.Err() != nil {
		return err
	}
	if downErr := t.reachable(ctx, err); downErr != nil {
		err = errors.Join(err, downErr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastErr = err
	if err == nil {
		t.checked = time.Now()
	}
	return err
}

// reachable keeps account of how long the log has not answered, and raises log.unreachable when
// that is too long.
func (t *tail) reachable(ctx context.Context, stepErr error) error {
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	var fe *fetchError
	down := errors.As(stepErr, &fe)
	if down == st.Down.IsZero() {
		since := time.Time{}
		if down {
			since = time.Now().UTC().Truncate(time.Second)
		}
		if st, err = t.journal.update(ctx, nil, func(s *state) { s.Down = since }); err != nil {
			return err
		}
	}
	if !down {
		return nil
	}
	t.met(rule.Operational)
	if time.Since(st.Down) < t.unreachableAfter {
		return nil
	}
	return t.raiseOne(ctx, &trouble{rule: rule.LogUnreachable, key: fmt.Sprint(st.Down.Unix()), index: NoIndex,
		size: t.status().Size, summary: fmt.Sprintf("not reachable since %s: %v", st.Down.Format(time.RFC3339), fe)})
}

// check does one log's part of Monitor.Check. When the outbox is full and sinks take from it, it
// goes on.
func (t *tail) check(ctx context.Context) error {
	for {
		err := t.look(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for _, name := range sinkNames(t.routes) {
			newCourier(t, name).deliver(ctx, true)
		}
		st, loadErr := t.journal.load(ctx)
		var se *StateError
		if loadErr != nil || errors.As(err, &se) {
			return errors.Join(loadErr, err)
		}
		if errors.Is(err, errBacklog) && len(st.Outbox) < t.maxPending {
			continue
		}
		if err != nil && len(troubles(err)) == 0 {
			t.met(rule.Operational)
		}
		return nil
	}
}

// adopt prepares for a state that another process left: what it had not delivered counts for this
// one too, and what goes to sinks that are gone is dropped.
func (t *tail) adopt(ctx context.Context, st *state) error {
	cp, err := t.verified(st)
	if err != nil {
		return err
	}
	t.sawCheckpoint(cp)
	if st.Checkpoint == "" && t.cfg.Start == StartAtHead && !t.startAtHead {
		return &StateError{t.cfg.Origin, t.journal.key, errors.New("there is none, and starting at the " +
			"head needs to be allowed: were it lost, what was logged since would be skipped")}
	}
	unknown := 0
	for _, p := range st.Outbox {
		t.met(p.Event.Class())
		for name := range p.Sinks {
			if _, ok := t.routes[name]; !ok {
				unknown++
			}
		}
	}
	if unknown == 0 {
		return nil
	}
	t.log.Warn("dropping deliveries to sinks that are no longer configured", "origin", t.cfg.Origin, "size", unknown)
	_, err = t.journal.update(ctx, nil, func(s *state) {
		for _, p := range s.Outbox {
			for name := range p.Sinks {
				if _, ok := t.routes[name]; !ok {
					delete(p.Sinks, name)
				}
			}
		}
		s.Outbox = slices.DeleteFunc(s.Outbox, func(p pending) bool { return len(p.Sinks) == 0 })
	})
	return err
}

// met notes that something of class c was met.
func (t *tail) met(c rule.Class) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.class = rule.Worse(t.class, c)
}

// queued notes an event that was just committed, and wakes the couriers.
func (t *tail) queued(e Event) {
	t.log.Info("event raised", "origin", e.Origin, "index", e.Index, "size", e.Size, "key", string(e.Rule))
	t.mu.Lock()
	t.class = rule.Worse(t.class, e.Class())
	if t.raised = append(t.raised, e); len(t.raised) > maxPending {
		t.raised = slices.Delete(t.raised, 0, 1)
	}
	t.mu.Unlock()
	for _, c := range t.wake {
		select {
		case c <- struct{}{}:
		default:
		}
	}
}

// take returns and resets what was met.
func (t *tail) take() (rule.Class, []Event) {
	t.mu.Lock()
	defer t.mu.Unlock()
	class, events := t.class, t.raised
	t.class, t.raised = rule.Clean, nil
	return class, events
}

func (t *tail) sawCheckpoint(cp policy.Checkpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.size = cp.Size()
	_, t.cosigned = cosigned(cp)
}

// setStale notes since when the checkpoint has been stale, zero for not, and returns it.
func (t *tail) setStale(now time.Time) time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.IsZero() || t.staleSince.IsZero() {
		t.staleSince = now
	}
	return t.staleSince
}

func (t *tail) status() LogStatus {
	t.mu.Lock()
	s := LogStatus{Origin: t.cfg.Origin, URL: t.cfg.URL, Kind: t.cfg.Kind, Size: t.size, Cosigned: t.cosigned, Checked: t.checked}
	if t.lastErr != nil {
		s.Err = t.lastErr.Error()
	}
	t.mu.Unlock()
	if st := t.journal.peek(); st != nil {
		s.Scanned, s.Pending, s.GivenUp = st.Next, len(st.Outbox), st.GivenUp
		s.Alerts = slices.Clone(st.Alerts)
		slices.Reverse(s.Alerts)
	}
	return s
}
