package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

const (
	usualBeat   = 5 * time.Minute
	lateDeliver = time.Hour // that a delivery fails for without being trouble
)

// A Pulse tells a dead-man's switch that all is well: somebody who raises an alarm when nothing was
// heard for a while.
type Pulse interface {
	Beat(ctx context.Context) error
}

// beat gives signs of life, while there is one to give, until ctx ends.
func (m *Monitor) beat(ctx context.Context) {
	said := ""
	for {
		pause := m.options.PulseEvery
		err := m.well(time.Now())
		if err == nil {
			err = m.giveBeat(ctx)
		}
		text := ""
		if err != nil {
			pause = max(m.options.PulseEvery/10, time.Second)
			text = printable(err.Error())
			if m.seen() && text != said && ctx.Err() == nil {
				m.options.Log.Warn("giving no heartbeat", "err", text)
			}
		}
		said = text
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// beatOnce gives a sign of life if there is one to give.
func (m *Monitor) beatOnce(ctx context.Context) {
	if m.options.Pulse == nil || m.well(time.Now()) != nil {
		return
	}
	if err := m.giveBeat(ctx); err != nil {
		m.options.Log.Warn("giving no heartbeat", "err", err)
	}
}

func (m *Monitor) giveBeat(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	return m.options.Pulse.Beat(ctx)
}

// seen reports whether every log has been looked at: before that no heartbeat is no trouble.
func (m *Monitor) seen() bool {
	for _, s := range m.Status() {
		if s.Checked.IsZero() && s.Err == "" {
			return false
		}
	}
	return true
}

// well returns what keeps the heartbeat from being given: nil if all logs were verified just now to
// their fresh checkpoints, and nothing is stuck on its way to a sink.
func (m *Monitor) well(now time.Time) error {
	var errs []error
	if text := m.authority.trouble(); text != "" {
		errs = append(errs, errors.New(text))
	}
	for _, t := range m.outboxes() {
		if err := t.well(now); err != nil {
			errs = append(errs, fmt.Errorf("log %q: %w", t.cfg.Origin, err))
		}
	}
	return errors.Join(errs...)
}

func (t *tail) well(now time.Time) error {
	s := t.status()
	recently := 3*t.poll + time.Minute
	followed := t.cfg.Kind != kindShared
	switch {
	case s.Err != "":
		return errors.New(s.Err)
	case followed && now.Sub(s.Checked) > recently:
		return fmt.Errorf("not found in order for %s", recently)
	case s.Scanned < s.Size:
		return fmt.Errorf("%d of %d entries matched", s.Scanned, s.Size)
	case s.GivenUp > 0:
		return fmt.Errorf("%d deliveries were given up", s.GivenUp)
	}
	st := t.journal.peek()
	if st == nil { // nothing was ever held back
		return nil
	}
	late := map[string]Late{}
	st.late(now, late)
	for _, name := range slices.Sorted(maps.Keys(late)) { // the same each time: it is said once
		l := late[name]
		return fmt.Errorf("sink %q has not taken an event since %s: %s", name, l.Since.Format(time.RFC3339), l.Error)
	}
	return nil
}

// late adds to all the sinks that have not taken an event for so long that it is trouble, by name.
func (s *state) late(now time.Time, all map[string]Late) {
	for _, p := range s.Outbox {
		for name, a := range p.Sinks {
			if a.Since.IsZero() || now.Sub(a.Since) <= lateDeliver {
				continue
			}
			l, found := all[name]
			if !found || a.Since.Before(l.Since) {
				l.Sink, l.Since, l.Error = name, a.Since, a.Error
			}
			l.Events++
			all[name] = l
		}
	}
}
