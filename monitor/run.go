package monitor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

const (
	// slowestPoll is how long, at most, a log that does not answer is left alone.
	slowestPoll = 2 * time.Minute
	// longestPoll is the most that Options.Poll may be: multiples of it are still durations.
	longestPoll = 7 * 24 * time.Hour
)

// A LogStatus is where a Monitor stands with one log.
type LogStatus struct {
	Origin string `json:"origin"`
	URL    string `json:"url"`
	Kind   Kind   `json:"kind"`

	Size     int64     `json:"size"`              // of the newest verified checkpoint
	Scanned  int64     `json:"scanned"`           // entries verified and matched; less than Size is a lag
	Cosigned time.Time `json:"cosigned,omitzero"` // newest cosignature of that checkpoint; zero without any
	Checked  time.Time `json:"checked,omitzero"`  // when the log was last found in order, all of it scanned; zero: not yet
	Err      string    `json:"error,omitempty"`   // why it was not the last time, safe to print; empty if it was
	Pending  int       `json:"undelivered"`       // events that some sink has not taken
	Held     int       `json:"held"`              // events held back, for a digest or by a limit; once for each sink
	Waiting  int       `json:"waiting"`           // entries that are raised unless something explains them in time
	Until    time.Time `json:"until,omitzero"`    // when the first of those is; zero if none waits
	Alerts   []Event   `json:"alerts,omitempty"`  // newest first, at most 20

	GivenUp  int64     `json:"given_up"`           // deliveries given up, after days or as their sink is gone, until acknowledged
	Failures []Failure `json:"failures,omitempty"` // newest first; of many the most severe
}

// run polls until ctx ends.
func (t *tail) run(ctx context.Context) {
	failures, said := 0, ""
	for {
		err := errors.Join(t.look(ctx), t.ripe(ctx))
		if ctx.Err() != nil {
			return
		}
		failures++
		if err == nil || len(troubles(err)) > 0 || errors.Is(err, errBacklog) || errors.Is(err, errMoved) {
			failures = 0
		}
		if err == nil {
			said = ""
		} else if text := printable(err.Error()); text != said { // once, not with every poll
			t.log.Log(ctx, level(err), "following log", "origin", t.cfg.Origin, "err", text)
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

// level returns how loudly an error of look is told.
func level(err error) slog.Level {
	var se *StateError
	if errors.As(err, &se) {
		return slog.LevelError
	}
	return slog.LevelWarn
}

// look takes one step and notes how it went.
func (t *tail) look(ctx context.Context) error {
	began := time.Now()
	err := t.step(ctx)
	if ctx.Err() != nil {
		return err
	}
	var se *StateError
	if errors.As(err, &se) { // whether the log answers cannot be noted
		t.met(rule.Operational)
	} else if downErr := t.reachable(ctx, err); downErr != nil {
		err = errors.Join(err, downErr)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lastErr = err
	if err == nil {
		t.checked, t.upTo = time.Now(), began
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
	if !t.limits.on(rule.LogUnreachable) || time.Since(st.Down) < t.unreachableAfter() {
		return nil
	}
	return t.raiseOne(ctx, &trouble{rule: rule.LogUnreachable, key: fmt.Sprint(st.Down.Unix()), index: NoIndex,
		size: t.status().Size, summary: fmt.Sprintf("not reachable since %s: %v", st.Down.Format(time.RFC3339), fe)})
}

// check does one log's part of Monitor.Check. When the outbox is full and sinks take from it, it
// goes on.
func (t *tail) check(ctx context.Context) {
	for {
		before := t.journal.peek()
		err := t.look(ctx)
		if ctx.Err() != nil {
			return
		}
		t.deliver(ctx)
		after := t.journal.peek()
		if errors.Is(err, errBacklog) && after != nil && !t.full(after) && progress(before, after) {
			continue
		}
		if err != nil && len(troubles(err)) == 0 {
			t.met(rule.Operational)
		}
		return
	}
}

// checkWaiting does what is left of Monitor.Check when all logs were looked at.
func (t *tail) checkWaiting(ctx context.Context) {
	before := t.status().Pending
	if err := t.ripe(ctx); err != nil && ctx.Err() == nil {
		t.met(rule.Operational)
		t.mu.Lock()
		t.lastErr = errors.Join(t.lastErr, err)
		t.mu.Unlock()
	}
	if t.status().Pending == before { // delivered, as far as sinks take it
		return
	}
	t.deliver(ctx)
}

// progress reports whether there is less to do than before: entries to match or events to deliver.
func progress(before, after *state) bool {
	return before == nil || after.Next > before.Next || len(after.Outbox) < len(before.Outbox)
}

// open reads the state and prepares for it, unless that has been done.
func (t *tail) open(ctx context.Context) error {
	if t.opened {
		return nil
	}
	st, err := t.journal.load(ctx)
	if err == nil {
		err = t.adopt(ctx, st)
	}
	t.opened = err == nil
	if err != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.lastErr = err
	}
	return err
}

// adopt prepares for a state that another process left: what it had not delivered counts for this
// one too, and what goes to sinks that are gone is given up.
func (t *tail) adopt(ctx context.Context, st *state) error {
	cp, err := t.verified(st)
	if err != nil {
		return err
	}
	if _, err := t.claims(st); err != nil {
		return err
	}
	t.sawCheckpoint(cp)
	if err := t.unbegun(st); err != nil {
		return err
	}
	return t.inherit(ctx, st)
}

// inherit takes over the outbox of a state.
func (t *tail) inherit(ctx context.Context, st *state) error {
	if err := t.m.bereft(ctx); err != nil && ctx.Err() == nil { // it is looked at again
		t.log.Warn("looking for what is held back", "origin", t.cfg.Origin, "err", err)
	}
	unknown := 0
	for _, p := range st.Parcels {
		if _, ok := t.routes[p.Sink]; !ok {
			unknown++
		}
	}
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
	t.log.Error("giving up deliveries to sinks that are no longer configured", "origin", t.cfg.Origin, "size", unknown)
	_, err := t.journal.update(ctx, nil, t.forgetSinks)
	return err
}

// errNoState says what to do where no state may be made by the way: if one was lost, what was logged
// since then would be skipped.
var errNoState = errors.New("run \"tallywood monitor init\" once, which makes the first; " +
	"if there was one, restore it instead: with a new one, what was logged meanwhile is not looked at")

// unbegun returns an error if there is no state and none may be made by the way.
func (t *tail) unbegun(st *state) error {
	switch {
	case st.Checkpoint != "":
		return nil
	case t.cfg.Start == StartAtHead || !t.cfg.StartTime.IsZero():
		return &StateError{Origin: t.cfg.Origin, Err: errNoState}
	case !t.newKey:
		t.log.Warn("log has no state yet, or lost it: entries are matched from the start, events told before are told again under the same IDs",
			"origin", t.cfg.Origin, "index", t.cfg.Start)
	}
	return nil
}

// noSuchSink is why such a delivery is given up.
const noSuchSink = "no sink of that name is configured any more"

// forgetSinks gives up what goes to sinks that are no longer configured.
func (t *tail) forgetSinks(s *state) {
	s.unroute(t.routes)
	for _, p := range s.Outbox {
		for _, name := range slices.Sorted(maps.Keys(p.Sinks)) {
			if _, ok := t.routes[name]; !ok {
				delete(p.Sinks, name)
				s.giveUp(p.Event, name, noSuchSink)
			}
		}
	}
	s.Outbox = slices.DeleteFunc(s.Outbox, func(p pending) bool { return len(p.Sinks) == 0 })
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
	t.metrics.alerts.WithLabelValues(string(e.Rule), e.Severity.String()).Inc()
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

// maxStanding bounds what is noted of what is still so.
const maxStanding = 20

// stands notes that what an event told of before is still so.
func (t *tail) stands(e Event) {
	text := printable(fmt.Sprintf("%s: %s: %s", e.Severity, e.Rule, e.Summary))
	t.mu.Lock()
	defer t.mu.Unlock()
	now := slices.ContainsFunc(t.raised, func(r Event) bool { return r.ID == e.ID }) // not before
	if !now && len(t.standing) < maxStanding && !slices.Contains(t.standing, text) {
		t.standing = append(t.standing, text)
	}
}

// take returns and resets what was met: its class, the events raised, and what was told before and is
// still so.
func (t *tail) take() (class rule.Class, events []Event, standing []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	class, events, standing = t.class, t.raised, t.standing
	t.class, t.raised, t.standing = rule.Clean, nil, nil
	return class, events, standing
}

// ends notes when the log takes entries no more; zero: it is not known.
func (t *tail) ends(at time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.cfg.End = at
}

// ended reports whether the log takes entries no more.
func (t *tail) ended() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.cfg.End.IsZero() && time.Now().After(t.cfg.End)
}

// endedBefore reports whether the log took no entries any more at a time.
func (t *tail) endedBefore(at time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.cfg.End.IsZero() && t.cfg.End.Before(at)
}

func (t *tail) sawCheckpoint(cp policy.Checkpoint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.seen, t.size = cp, cp.Size()
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
		s.Err = printable(t.lastErr.Error())
	}
	t.mu.Unlock()
	if st := t.journal.peek(); st != nil {
		s.Scanned, s.Pending, s.Held, s.GivenUp = st.Next, len(st.Outbox), st.held(), st.GivenUp
		s.Waiting, s.Until = st.waits()
		s.Alerts, s.Failures = slices.Clone(st.Alerts), slices.Clone(st.Failures)
		slices.Reverse(s.Alerts)
		slices.Reverse(s.Failures)
	}
	return s
}
