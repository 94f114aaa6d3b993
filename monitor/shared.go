package monitor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"tallywood/monitor/rule"
)

// What is held back for a sink is held in one place for all logs, so that a digest or a group is one
// event however many logs it is of. That place is a state of its own, which is no log's. An event gets
// there by two writes: into the shared state, then out of the outbox of its log. The shared state
// remembers which events each log handed over last. If the process ends between the two writes, the
// event is in both: it is known by that, is not added again, and is not sent besides.
//
// Two monitors of one state may both find an event in its outbox, long apart. So whoever hands over
// reads the shared state, then the outbox once more, and writes only if the log handed over nothing
// since: what the other one handed over is either remembered, or gone from the outbox.
const kindShared Kind = "shared" // of the state, not of a log

// sharedOrigin is the name of the state that is shared. No log has it: names of keys have no space.
const sharedOrigin = "all logs"

// share makes the state that is shared.
func (m *Monitor) share() error {
	t, err := m.newOutbox(Log{Origin: sharedOrigin, Kind: kindShared})
	m.shared = t
	return err
}

// openShared reads the shared state. If it cannot be used, every log holds back for itself.
func (m *Monitor) openShared(ctx context.Context) {
	t := m.shared
	if t.opened {
		return
	}
	st, err := t.journal.load(ctx)
	if err == nil {
		err = t.inherit(ctx, st)
	}
	if t.opened = err == nil; err != nil && ctx.Err() == nil {
		t.met(rule.Operational)
		t.log.Error("digests are made for each log by itself: the state that they share cannot be used", "err", err)
	}
}

// several reports whether there is more than one outbox to hold back from.
func (m *Monitor) several() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.tails)+len(m.rosters) > 1
}

// A held event is one that is to be held back.
type held struct {
	event  Event
	digest bool
	due    time.Time // of what it is held in, if it is the first there
}

// handOver moves the events that b holds back into the shared state. With an error they stay where
// they are; with nil and no b.handed they are to be held in the log's own state.
func (c *courier) handOver(ctx context.Context, b *batch) error {
	if len(b.hold) == 0 || c.tail == c.tail.m.shared || !c.tail.m.several() {
		return nil
	}
	to, key := c.tail.m.shared, takenKey(c.tail.cfg.Origin, c.name)
	if err := c.tail.m.bereft(ctx); err != nil {
		return c.keep(b, err)
	}
	before, err := to.journal.load(ctx)
	if err != nil {
		return c.keep(b, err)
	}
	own, err := c.tail.journal.reload(ctx)
	if err != nil {
		b.hold = nil
		return err
	}
	waits := own.waitsFor(c.name)
	b.hold = slices.DeleteFunc(b.hold, func(h held) bool { return !waits[h.event.ID] })
	if len(b.hold) == 0 {
		return nil
	}
	moved := false
	after, err := to.journal.update(ctx, nil, func(s *state) {
		if moved = !slices.Equal(s.Taken[key], before.Taken[key]); !moved {
			s.takeOver(key, c.name, b.hold, waits)
		}
	})
	switch {
	case err != nil:
		return c.keep(b, err)
	case moved:
		b.hold = nil
		return errMoved
	}
	b.handed = after.Seq
	select {
	case to.wake[c.name] <- struct{}{}:
	default:
	}
	return nil
}

// keep decides about what could not be handed over: it stays in the outbox, unless the shared state
// cannot be used; then it is held back in the log's own.
func (c *courier) keep(b *batch, err error) error {
	var se *StateError
	if errors.As(err, &se) {
		return nil
	}
	b.hold = nil
	return err
}

// bereft has it told if what logs handed over is lost: the shared state is gone, or an older copy. As nobody
// knows what was in it, it counts as one delivery to each sink that was given up. Whichever log comes first
// looks for all: from then on the shared state is written again, and would soon not look older any more.
func (m *Monitor) bereft(ctx context.Context) error {
	handed := m.handed(ctx)
	if len(handed) == 0 {
		return nil
	}
	newest := slices.Max(slices.Collect(maps.Values(handed)))
	now, err := m.shared.journal.load(ctx)
	if err == nil && now.Seq < newest { // as this process knows it
		now, err = m.shared.journal.reload(ctx)
	}
	if err != nil || now.Seq >= newest {
		return nil // that it cannot be used is told where it is used
	}
	m.shared.log.Error("what was held back is lost: the state that all logs share is gone, or an older copy", "key", m.shared.journal.key)
	_, err = m.shared.journal.update(ctx, nil, func(s *state) {
		for _, sink := range slices.Sorted(maps.Keys(handed)) {
			if _, ok := m.options.Routes[sink]; ok && handed[sink] > s.Seq {
				s.lose(sink)
			}
		}
	})
	for _, t := range m.outboxes() {
		if st := t.journal.peek(); err == nil && st != nil && len(st.Handed) > 0 {
			_, err = t.journal.update(ctx, nil, func(s *state) { s.Handed = nil })
		}
	}
	if err != nil {
		return fmt.Errorf("noting that what was held back is lost: %w", err)
	}
	return nil
}

// handed returns by sink the newest Seq of the shared state that some log knows to have handed over with.
func (m *Monitor) handed(ctx context.Context) map[string]int64 {
	all := map[string]int64{}
	for _, t := range m.outboxes() {
		st := t.journal.peek()
		if st == nil {
			st, _ = t.journal.load(ctx) // that it cannot be used is told where its log is followed
		}
		if st == nil {
			continue
		}
		for sink, seq := range st.Handed {
			all[sink] = max(all[sink], seq)
		}
	}
	return all
}

// lose gives up what was held back for a sink and is not there any more, once for all logs.
func (s *state) lose(sink string) {
	e := Event{ID: eventID("held back", sink), Time: time.Now().UTC(), Index: NoIndex, Summary: "what was held back to be sent as one"}
	if !slices.ContainsFunc(s.Failures, func(f Failure) bool { return f.Event.ID == e.ID }) {
		s.giveUp(e, sink, "the state in which all logs hold back for it is gone, or an older copy")
	}
}

// taken returns the IDs of the events that the log handed over last.
func (c *courier) taken() map[string]bool {
	st := c.tail.m.shared.journal.peek()
	if st == nil {
		return nil
	}
	ids := map[string]bool{}
	for _, id := range st.Taken[takenKey(c.tail.cfg.Origin, c.name)] {
		ids[id] = true
	}
	return ids
}

func takenKey(origin, sink string) string { return origin + "\n" + sink }

// waitsFor returns the IDs of the events that a sink has not taken.
func (s *state) waitsFor(sink string) map[string]bool {
	ids := map[string]bool{}
	for _, p := range s.Outbox {
		if _, waits := p.Sinks[sink]; waits {
			ids[p.Event.ID] = true
		}
	}
	return ids
}

// takeOver holds back events that a log hands over, but for those that it handed over before. Of these
// it remembers what is still in the log's outbox: waits.
func (s *state) takeOver(key, sink string, all []held, waits map[string]bool) {
	var ids []string
	before := map[string]bool{}
	for _, id := range s.Taken[key] {
		if waits[id] {
			ids, before[id] = append(ids, id), true
		}
	}
	for _, h := range all {
		if !before[h.event.ID] {
			ids = append(ids, h.event.ID)
			s.hold(sink, h)
		}
	}
	if s.Taken == nil {
		s.Taken = map[string][]string{}
	}
	s.Taken[key] = ids
}

// A pacer counts the events that are being sent to a sink and that no state counts yet, by identity. It
// is locked while a courier looks how many it may send, and while a state begins to count what was
// sent: couriers of several logs share the limits.
type pacer struct {
	sync.Mutex
	sending map[string]int
}

// newPacers returns one for each sink.
func newPacers(routes map[string]Route) map[string]*pacer {
	all := map[string]*pacer{}
	for name := range routes {
		all[name] = &pacer{sending: map[string]int{}}
	}
	return all
}

// counted calls write, which has a state count the events of b that were sent, and counts them no
// more: nor those that were not.
func (p *pacer) counted(b batch, write func() error) error {
	if len(b.paced) == 0 {
		return write()
	}
	p.Lock()
	defer p.Unlock()
	for _, identity := range b.paced {
		if p.sending[identity]--; p.sending[identity] == 0 {
			delete(p.sending, identity)
		}
	}
	return write()
}

// pace returns since when events of an identity are counted for the sink, and how many there were, in
// all logs. The pacer must be locked.
func (c *courier) pace(own *state, identity string, now time.Time) (since time.Time, sent int) {
	since, sent = now, c.tail.m.pacers[c.name].sending[identity]
	for _, t := range c.tail.m.outboxes() {
		st := own
		if t != c.tail {
			st = t.journal.peek()
		}
		if st == nil {
			continue
		}
		p := st.paced(c.name, identity, c.route.Limit.Window, now)
		sent += p.Sent
		if p.Since.Before(since) {
			since = p.Since
		}
	}
	return since, sent
}
