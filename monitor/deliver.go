package monitor

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	deliverBatch   = 32             // events sent between two writes of the state
	giveUpSending  = 3              // failures in a row after which a sink is left alone for a while
	firstResend    = time.Second    // doubled with every try
	slowestResend  = time.Hour      // at most
	abandonAfter   = 72 * time.Hour // since the first try
	deliverTimeout = 30 * time.Second
	slowestPass    = time.Minute // between two passes over what is due, while the sink is down
	settleTimeout  = 5 * time.Second
)

// A courier brings events of one log's outbox to one sink. One goroutine uses it.
type courier struct {
	tail  *tail
	name  string
	route Route
	sent  map[string]bool // taken by the sink, while the state does not know it yet
	idle  int             // passes in a row that were broken off
}

func newCourier(t *tail, name string) *courier {
	return &courier{tail: t, name: name, route: t.routes[name], sent: map[string]bool{}}
}

// run delivers until ctx ends.
func (c *courier) run(ctx context.Context) {
	for ctx.Err() == nil {
		pause := c.deliver(ctx, false)
		wake := c.tail.wake[c.name]
		if c.idle > 0 {
			wake = nil // a sink that is down is not asked more often because there is more to say
		}
		timer := time.NewTimer(pause)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// deliver sends what is due, or with all set everything that waits, in order, and returns when to
// do so again. It breaks off when the sink fails several times in a row.
func (c *courier) deliver(ctx context.Context, all bool) time.Duration {
	failures := 0
	c.idle++
	again := min(firstResend<<min(c.idle-1, 10), slowestPass)
	for tried := map[string]bool{}; failures < giveUpSending && ctx.Err() == nil; {
		st, err := c.tail.journal.load(ctx)
		if err != nil {
			return again
		}
		batch := c.due(st, tried, all)
		if len(batch) == 0 {
			c.idle = 0
			return c.untilDue(st)
		}
		failed := map[string]error{}
		for _, e := range batch {
			if failures == giveUpSending || ctx.Err() != nil {
				break
			}
			tried[e.ID] = true
			if c.sent[e.ID] {
				continue
			}
			if err := c.send(ctx, e); err != nil {
				if ctx.Err() != nil { // our fault, not the sink's
					break
				}
				failures++
				failed[e.ID] = err
				c.tail.log.Warn("delivering event", "origin", e.Origin, "key", c.name, "err", err)
				continue
			}
			failures = 0
			c.sent[e.ID] = true
		}
		if err := c.settle(ctx, failed); err != nil {
			return again
		}
		clear(c.sent)
	}
	return again
}

func (c *courier) send(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	return c.route.Sink.Send(ctx, e)
}

// due returns the next events to send that were not tried yet.
func (c *courier) due(s *state, tried map[string]bool, all bool) []Event {
	var events []Event
	now := time.Now()
	for _, p := range s.Outbox {
		a, waits := p.Sinks[c.name]
		if waits && !tried[p.Event.ID] && (all || !a.Due.After(now)) && len(events) < deliverBatch {
			events = append(events, p.Event)
		}
	}
	return events
}

// untilDue returns how long nothing is due: a minute at most.
func (c *courier) untilDue(s *state) time.Duration {
	wait := time.Minute
	for _, p := range s.Outbox {
		if a, waits := p.Sinks[c.name]; waits {
			wait = min(wait, time.Until(a.Due))
		}
	}
	return max(wait, firstResend/10)
}

// settle notes in the state what was sent and what failed, at the end of the process too.
func (c *courier) settle(ctx context.Context, failed map[string]error) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), settleTimeout)
	defer cancel()
	_, err := c.tail.journal.update(ctx, nil, func(s *state) { c.note(s, failed) })
	return err
}

func (c *courier) note(s *state, failed map[string]error) {
	now := time.Now().UTC()
	for i, p := range s.Outbox {
		a, waits := p.Sinks[c.name]
		if !waits {
			continue
		}
		if c.sent[p.Event.ID] {
			delete(p.Sinks, c.name)
			continue
		}
		err, bad := failed[p.Event.ID]
		if !bad {
			continue
		}
		if a.Tries++; a.Since.IsZero() {
			a.Since = now
		}
		if now.Sub(a.Since) > abandonAfter {
			delete(p.Sinks, c.name)
			s.giveUp(p.Event, c.name, clipped(err.Error(), maxError))
			c.tail.log.Error("giving up on delivering event", "origin", p.Event.Origin, "key", c.name, "err", err)
			continue
		}
		pause := min(firstResend<<min(a.Tries-1, 20), slowestResend)
		a.Due, a.Error = now.Add(pause+rand.N(pause/4)), clipped(err.Error(), maxError)
		s.Outbox[i].Sinks[c.name] = a
	}
	s.Outbox = slices.DeleteFunc(s.Outbox, func(p pending) bool { return len(p.Sinks) == 0 })
}
