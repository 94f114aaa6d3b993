package monitor

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

const (
	deliverBatch   = 512            // events sent between two writes of the state, of a sink that is quick
	deliverSlowly  = 32             // of one that takes longer than deliverFor for so many
	deliverFor     = time.Second    // what a crash may have sent again, in time
	giveUpSending  = 3              // failures in a row after which a sink is left alone for a while
	firstResend    = time.Second    // doubled with every try
	slowestResend  = time.Hour      // at most
	abandonAfter   = 72 * time.Hour // since the first try
	deliverTimeout = 30 * time.Second
	slowestPass    = time.Minute     // between two passes over what is due, while the sink is down
	settleTimeout  = 5 * time.Second // of writing what came of it, after the end
)

// deliver has every sink get what waits for it, once, and independent of the others.
func (t *tail) deliver(ctx context.Context) {
	var wg sync.WaitGroup
	for _, name := range sinkNames(t.routes) {
		wg.Go(func() { newCourier(t, name).deliver(ctx, true) })
	}
	wg.Wait()
}

// A courier brings events of one log's outbox to one sink. One goroutine uses it.
type courier struct {
	tail  *tail
	name  string
	route Route
	sent  map[string]bool // taken by the sink, while the state does not know it yet
	idle  int             // passes in a row that were broken off
	quiet time.Time       // until then the sink does not want to be asked
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

// A batch is what is done between two writes of the state.
type batch struct {
	send   []Event
	hold   []held   // events that are held back
	handed int64    // Seq of the shared state that they are in; 0: they are not
	ripe   bool     // something that was held back is to be sent
	paced  []string // identities of those of send that count towards the limit
	failed map[string]error
}

// deliver sends what is due, or with all set everything that waits but digests, in order, and
// returns when to do so again. It breaks off when the sink fails several times in a row, or says
// when to come again.
func (c *courier) deliver(ctx context.Context, all bool) time.Duration {
	failures := 0
	c.idle++
	again := min(firstResend<<min(c.idle-1, 10), slowestPass)
	for tried := map[string]bool{}; failures < giveUpSending && ctx.Err() == nil; {
		st, err := c.tail.journal.load(ctx)
		if err != nil {
			return again
		}
		b := c.plan(st, tried, all)
		if len(b.send)+len(b.hold) == 0 && !b.ripe {
			c.idle = 0
			return c.untilDue(st)
		}
		failures = c.sendAll(ctx, &b, tried, failures)
		if err := c.settle(ctx, b, all); err != nil {
			return again
		}
		clear(c.sent)
	}
	return max(again, time.Until(c.quiet))
}

// sendAll sends what b has to send, notes what failed, and returns how many have failed in a row.
func (c *courier) sendAll(ctx context.Context, b *batch, tried map[string]bool, failures int) int {
	begin := time.Now()
	for i, e := range b.send {
		if failures >= giveUpSending || ctx.Err() != nil || i >= deliverSlowly && time.Since(begin) > deliverFor {
			break
		}
		tried[e.ID] = true
		if c.sent[e.ID] {
			continue
		}
		err := c.send(ctx, e)
		if err == nil || ctx.Err() == nil {
			c.tail.metrics.deliveries.WithLabelValues(c.name, result(err == nil)).Inc()
		}
		if err == nil {
			failures = 0
			c.sent[e.ID] = true
			continue
		}
		if ctx.Err() != nil { // our fault, not the sink's
			break
		}
		failures++
		b.failed[e.ID] = err
		c.tail.log.Warn("delivering event", "origin", e.Origin, "key", c.name, "err", err)
		if pause, ok := asked(err); ok {
			c.quiet = time.Now().Add(pause)
			failures = giveUpSending
		}
	}
	return failures
}

func (c *courier) send(ctx context.Context, e Event) error {
	ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
	defer cancel()
	return c.route.Sink.Send(ctx, e)
}

// asked returns how long a sink wants to be left alone, if its error says so.
func asked(err error) (time.Duration, bool) {
	var again *RetryError
	if !errors.As(err, &again) {
		return 0, false
	}
	return max(firstResend, min(again.After, slowestResend)), true
}

// plan returns what to do next with events that were not tried yet. With all set, those that the
// sink has refused often come last: it must not be only them that are tried.
func (c *courier) plan(s *state, tried map[string]bool, all bool) batch {
	b := batch{failed: map[string]error{}}
	now := time.Now()
	if !all && now.Before(c.quiet) {
		return b
	}
	b.ripe, _ = s.ripe(c.name, now, all)
	var waits []pending
	for _, p := range s.Outbox {
		if a, ok := p.Sinks[c.name]; ok && !tried[p.Event.ID] && (all || !a.Due.After(now)) {
			waits = append(waits, p)
		}
	}
	if all {
		slices.SortStableFunc(waits, func(p, q pending) int {
			return p.Sinks[c.name].Tries/giveUpSending - q.Sinks[c.name].Tries/giveUpSending
		})
	}
	c.sort(s, waits, now, &b)
	return b
}

// sort decides about each event that waits.
func (c *courier) sort(s *state, waits []pending, now time.Time, b *batch) {
	pacer, taken := c.tail.m.pacers[c.name], c.taken()
	pacer.Lock()
	defer pacer.Unlock()
	for _, p := range waits {
		e := p.Event
		since, sent := now, 0
		counts := c.route.counts(e)
		if counts {
			since, sent = c.pace(s, e.Identity, now)
		}
		f := c.route.fate(e, p.Sinks[c.name], sent)
		switch {
		case taken[e.ID]: // it is held already
			b.hold = append(b.hold, held{event: e})
		case f == holdForDigest && !c.sent[e.ID]:
			b.hold = append(b.hold, held{e, true, now.Truncate(c.route.Digest).Add(c.route.Digest)})
		case f == holdForGroup && !c.sent[e.ID]:
			b.hold = append(b.hold, held{e, false, since.Add(c.route.Limit.Window)})
		case len(b.send) < deliverBatch:
			b.send = append(b.send, e)
			if counts {
				pacer.sending[e.Identity]++
				b.paced = append(b.paced, e.Identity)
			}
		}
	}
}

// untilDue returns how long nothing is due: a minute at most.
func (c *courier) untilDue(s *state) time.Duration {
	wait := time.Minute
	for _, p := range s.Outbox {
		if a, waits := p.Sinks[c.name]; waits {
			wait = min(wait, time.Until(a.Due))
		}
	}
	if _, next := s.ripe(c.name, time.Now(), false); !next.IsZero() {
		wait = min(wait, time.Until(next))
	}
	return max(wait, firstResend/10, min(time.Until(c.quiet), time.Minute))
}

// settle notes in the state what came of b, at the end of the process too: what is not noted is sent
// again.
func (c *courier) settle(ctx context.Context, b batch, all bool) error {
	ctx, cancel := outlasting(ctx, deliverTimeout, settleTimeout)
	defer cancel()
	handErr := c.handOver(ctx, &b)
	err := c.tail.m.pacers[c.name].counted(b, func() error {
		return c.tail.journal.apply(ctx, func(s *state) { c.note(s, b, all) })
	})
	return errors.Join(handErr, err)
}

// outlasting returns a context that ends after a time, or a while after ctx has ended.
func outlasting(ctx context.Context, most, after time.Duration) (context.Context, context.CancelFunc) {
	out, cancel := context.WithTimeout(context.WithoutCancel(ctx), most)
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(after, cancel) })
	return out, func() {
		stop()
		cancel()
	}
}

func (c *courier) note(s *state, b batch, all bool) {
	now := time.Now().UTC()
	hold := map[string]held{}
	for _, h := range b.hold {
		hold[h.event.ID] = h
	}
	for i, p := range s.Outbox {
		a, waits := p.Sinks[c.name]
		if !waits {
			continue
		}
		h, held := hold[p.Event.ID]
		err, bad := b.failed[p.Event.ID]
		switch {
		case c.sent[p.Event.ID]:
			delete(p.Sinks, c.name)
			s.pass(c.name, c.route, p.Event, now)
		case held && b.handed > 0:
			delete(p.Sinks, c.name)
		case held && a.Tries == 0:
			delete(p.Sinks, c.name)
			s.hold(c.name, h)
		case bad:
			if again := c.failed(s, p.Event, &a, err, now); again {
				s.Outbox[i].Sinks[c.name] = a
			} else {
				delete(p.Sinks, c.name)
			}
		}
	}
	if b.handed > 0 {
		if s.Handed == nil {
			s.Handed = map[string]int64{}
		}
		s.Handed[c.name] = b.handed
	}
	s.unpack(c.name, now, all)
	s.Outbox = slices.DeleteFunc(s.Outbox, func(p pending) bool { return len(p.Sinks) == 0 })
}

// failed notes in a that e could not be sent, and reports whether to try again.
func (c *courier) failed(s *state, e Event, a *attempt, err error, now time.Time) bool {
	if a.Tries++; a.Since.IsZero() {
		a.Since = now
	}
	if now.Sub(a.Since) > abandonAfter {
		s.giveUp(e, c.name, clipped(err.Error(), maxError))
		c.tail.log.Error("giving up on delivering event", "origin", e.Origin, "key", c.name, "err", err)
		return false
	}
	pause := min(firstResend<<min(a.Tries-1, 20), slowestResend)
	if wanted, ok := asked(err); ok {
		pause = wanted
	}
	a.Due, a.Error = now.Add(pause+rand.N(pause/4)), clipped(err.Error(), maxError)
	return true
}
