package stack

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"

	"tallywood/internal/config"
)

// inForce is the configuration with the logs as they are now.
func (s *Stack) inForce() *config.Config {
	c := *s.cfg
	c.Logs = nil
	for _, l := range s.parts() {
		c.Logs = append(c.Logs, l.want())
	}
	return &c
}

// rereadLogs takes on new logs, and logs whose state is another. What else has changed in a log is for
// other parts, or a restart; see rereadFixed.
func (s *Stack) rereadLogs(ctx context.Context, next *config.Config) (_ change, err error) {
	old, opened := s.current(), len(s.closers)
	defer func() {
		if err != nil { // nothing of it is kept
			for _, c := range s.closers[opened:] {
				err = errors.Join(err, c.Close())
			}
			s.closers = s.closers[:opened]
		}
	}()
	set := &logSet{ctLog: old.ctLog, logs: slices.Clone(old.logs)}
	var what []string
	var apply []func()
	for _, l := range old.logs {
		n, ok := next.LogNamed(l.cfg.Name)
		if changed := differences(l.want(), restated(l, n), l.cfg.Name+": "); ok && len(changed) > 0 {
			if err := checkState(l, n); err != nil {
				return change{}, err
			}
			what = append(what, changed...)
			apply = append(apply, func() { l.restate(restated(l, n)) })
		}
	}
	fresh, err := s.openFresh(ctx, next)
	if err != nil {
		return change{}, err
	}
	for _, l := range fresh {
		what = append(what, l.cfg.Name+" (new)")
	}
	set.logs = append(set.logs, fresh...)
	if next.CA != nil && next.CA.CTLog != old.ctLog && old.ctLog != "" && set.named(next.CA.CTLog) != nil {
		set.ctLog = next.CA.CTLog
		what = append(what, "ca: ct_log")
	}
	if len(what) == 0 {
		return change{}, nil
	}
	set.handler = byName(set.logs)
	return change{what, func() error {
		if err := s.introduce(fresh); err != nil {
			return err
		}
		for _, f := range apply {
			f()
		}
		s.set.Store(set)
		s.starter.take(fresh)
		return nil
	}}, nil
}

// openFresh opens the logs of next that there were not before.
func (s *Stack) openFresh(ctx context.Context, next *config.Config) ([]*logPart, error) {
	old := s.current()
	var names []config.Log
	ring := maps.Clone(s.keys)
	for _, l := range next.Logs {
		if old.named(l.Name) != nil {
			continue
		}
		if i := slices.IndexFunc(old.logs, func(o *logPart) bool { return o.cfg.Origin == l.Origin }); i >= 0 {
			return nil, fmt.Errorf("log %q has the origin of log %q, which runs: a restart is needed", l.Name, old.logs[i].cfg.Name)
		}
		names = append(names, l)
		delete(ring, l.Key) // what could not be opened before may be there now
		delete(ring, l.NoteKey)
	}
	if len(names) == 0 {
		return nil, nil
	}
	ring.open(ctx, next, true)
	s.keys = ring
	var fresh []*logPart
	for _, l := range names {
		part, err := s.readLog(next, l)
		if err == nil {
			err = s.openLog(ctx, part)
		}
		if err != nil {
			return nil, fmt.Errorf("log %q: %w", l.Name, err)
		}
		fresh = append(fresh, part)
	}
	return fresh, nil
}

// restated is the configuration of a log with what a reload takes on of n.
func restated(l *logPart, n config.Log) config.Log {
	c := l.want()
	c.State, c.Start, c.End, c.Successor, c.URL = n.State, n.Start, n.End, n.Successor, n.URL
	return c
}

// restate gives a log another state.
func (l *logPart) restate(c config.Log) {
	if c.State != l.want().State {
		l.shard.superseded.Store(false)
		l.shard.retired.Store(false)
	}
	l.shard.cfg.Store(&c)
}

// introduce tells the witnesses of this process of new logs.
func (s *Stack) introduce(fresh []*logPart) error {
	known, err := witnessLogs(fresh)
	if err != nil {
		return err
	}
	for _, w := range s.witnesses {
		for _, l := range known {
			if _, err := w.witness.AddLog(l); err != nil {
				return fmt.Errorf("telling witness %q of log %q: %w", w.cfg.Name, l.Origin, err)
			}
		}
	}
	return nil
}

// take starts logs, unless those there are have not been started either.
func (t *starter) take(logs []*logPart) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.start == nil {
		return
	}
	for _, l := range logs {
		t.start(l)
	}
}

// rereadMonitor takes on another configuration of the monitor, which begins anew with it where it was.
func (s *Stack) rereadMonitor(_ context.Context, next *config.Config) (change, error) {
	if s.cfg.Monitor == nil || next.Monitor == nil || *next.Monitor != *s.cfg.Monitor {
		return change{}, nil // a restart is needed, if anything; see rereadFixed
	}
	m, err := config.LoadMonitor(next.Monitor.Config)
	if err != nil {
		return change{}, err
	}
	if reflect.DeepEqual(*m, s.monitored) {
		return change{}, nil
	}
	if err := CheckMonitor(m); err != nil {
		return change{}, err
	}
	return change{differences(s.monitored, *m, ""), func() error {
		if err := s.startOver(m); err != nil {
			return fmt.Errorf("the old one goes on: %w", err)
		}
		s.monitored = *m
		select {
		case s.remonitor <- struct{}{}:
		default: // it is about to begin anew
		}
		return nil
	}}, nil
}
