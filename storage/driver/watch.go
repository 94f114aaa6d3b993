package driver

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

const (
	probeInterval = 300 * time.Millisecond
	probeAgain    = 100 * time.Millisecond // after one that failed
	probeTimeout  = 500 * time.Millisecond
	probeFailures = 3 // in a row that make a leader suspect
	// lookTimeout bounds a look into the bucket, so that requests lost on the way are repeated.
	lookTimeout = 3 * time.Second
)

// An Alive is a leader's answer to a probe, storage-protocol section 4. Being wrong about it costs
// availability, never safety.
type Alive struct {
	LogUUID string `json:"log_uuid"`
	Writer  string `json:"writer"`  // of the leadership's LEADER record
	Leading bool   `json:"leading"` // it leads and its commits come through
	Slot    int64  `json:"slot"`    // the newest slot it has committed
	Pending bool   `json:"pending"` // it is committing the next
	Quorum  bool   `json:"quorum"`  // its checkpoints are cosigned
}

// A watch finds out when a standby has reason to lead. It is used by one goroutine.
type watch struct {
	r    *Replica
	l    *Log // for reading; it never leads
	lock func() error

	at      state // after the newest record seen
	end     bool  // that record says that its leadership has ended
	since   int64 // slot of leader's record
	leader  Leader
	slot    int64     // the newest of which the leader told
	ready   bool      // the leader has no quorum, but the witnesses answer us
	failed  int       // probes in a row
	moved   time.Time // when the log was last seen to grow, or since when it is watched
	jitter  time.Duration
	resting time.Time // no reason counts before
}

func newWatch(r *Replica) *watch {
	l, err := newLog(r.o)
	if err != nil {
		panic(err) // the options were checked
	}
	w := &watch{r: r, l: l}
	w.reset()
	return w
}

// reset starts the watch over: somebody else is at it, and gets the lock.
func (w *watch) reset() {
	w.close()
	w.failed, w.moved = 0, time.Now()
	w.jitter = jitter(w.r.o.SuspectAfter)
}

// deposed is reset after a leadership of our own ended, for a while in which others may do better.
func (w *watch) deposed() {
	w.reset()
	w.resting = time.Now().Add(2 * w.r.o.SuspectAfter)
}

// close gives back the lock.
func (w *watch) close() {
	if w.lock != nil {
		_ = w.lock() // the file of a lock is closed in any case
		w.lock = nil
	}
}

// wait blocks until there is reason to lead and reports whether there is, or ctx has ended.
func (w *watch) wait(ctx context.Context) bool {
	for {
		reason, err := w.reason(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			w.r.explain(fmt.Errorf("looking for the leader: %w", err))
			w.r.o.Log.WarnContext(ctx, "looking for the leader", "origin", w.r.o.Origin, "err", err)
		case reason && time.Now().After(w.resting):
			return ctx.Err() == nil
		}
		next := probeInterval
		if err == nil && w.r.Frozen() != nil {
			next = frozenInterval
		} else if err == nil && w.failed > 0 {
			next = probeAgain
		}
		if !pause(ctx, next) {
			return false
		}
	}
}

// reason reports whether nobody seems to lead.
func (w *watch) reason(ctx context.Context) (bool, error) {
	known := w.leader
	if known.Writer != "" && w.r.Frozen() == nil && w.alive(ctx) {
		return false, nil
	}
	if frozen, err := w.frozen(ctx); frozen || err != nil {
		return false, err
	}
	if err := w.look(ctx); err != nil {
		return false, err
	}
	if w.at.n == 0 || w.end {
		w.r.setLeader(Leader{}, errors.New("the last leader has left"))
		_, locks := w.l.o.Bucket.(locker)
		return !locks || w.hold() || w.still(), nil // who has the lock is about to lead, or to end
	}
	if w.leader != known && w.alive(ctx) {
		return false, nil
	}
	w.r.setLeader(Leader{}, fmt.Errorf("the leader at %q does not answer", w.leader.URL))
	// Whoever holds the lock of a directory knows that no other process which had it is left.
	if w.hold() {
		return true, nil
	}
	return w.failed >= probeFailures && w.still(), nil
}

// still reports whether the log has not grown for so long that somebody else may go on.
func (w *watch) still() bool { return time.Since(w.moved) > w.r.o.SuspectAfter+w.jitter }

// hold takes the lock if the bucket has one that is free, and reports whether this process has it. While it
// rests it leaves the lock to others.
func (w *watch) hold() bool {
	if b, ok := w.l.o.Bucket.(locker); ok && w.lock == nil && time.Now().After(w.resting) {
		if unlock, err := b.Lock(w.l.stateKey("lock")); err == nil {
			w.lock = unlock
		}
	}
	return w.lock != nil
}

// keepHolding takes the lock as soon as it is free while this process leads, until stop: then a single probe
// that is answered late makes nobody believe that this process is gone.
func (w *watch) keepHolding(ctx context.Context) (stop func()) {
	if _, ok := w.l.o.Bucket.(locker); !ok {
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var holding sync.WaitGroup
	holding.Go(func() {
		for !w.hold() && pause(ctx, lookInterval) {
		}
	})
	return func() {
		cancel()
		holding.Wait()
	}
}

// frozen reports whether the log has reached its end: then nobody is to lead.
func (w *watch) frozen(ctx context.Context) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	before := w.r.Frozen()
	f, err := w.l.readFrozen(ctx, w.r.identity.UUID)
	if err != nil {
		return before != nil, err
	}
	w.r.sawFrozen(f)
	switch {
	case f != nil:
		w.close()
		w.r.setLeader(Leader{}, ErrFrozen)
	case before != nil:
		w.r.o.Log.WarnContext(ctx, "log is frozen no longer", "origin", w.r.o.Origin)
		w.reset()
	}
	return f != nil, nil
}

// look reads the newest record, and who leads since when.
func (w *watch) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	for {
		f, err := w.l.readFloor(ctx)
		if err != nil {
			return err
		}
		low := max(f.N, w.at.n) - 1
		if w.at.n == 0 { // the first look
			low = w.l.fromHint(ctx, low)
		}
		s, h, err := w.l.newest(ctx, f, low, w.r.identity.UUID)
		if err != nil {
			return w.l.refuse(ctx, err, -1, f.N)
		}
		// What is missing may be collected, and what is there a ghost: only a floor that is no
		// further makes it the tail.
		if f, err = w.l.readFloor(ctx); err != nil {
			return err
		}
		if f.N <= s.n {
			return w.note(ctx, s, h)
		}
	}
}

// note takes in the state after the newest record h.
func (w *watch) note(ctx context.Context, s state, h header) error {
	if s.n != w.at.n || s.rec != w.at.rec {
		w.moved, w.at, w.end = time.Now(), s, h.Released
	}
	if s.leader < 0 || s.leader == w.since && w.leader.Writer != "" {
		return nil
	}
	lead, _, err := w.l.readHeader(ctx, s.leader)
	if err != nil {
		return err
	}
	w.since, w.failed = s.leader, 0
	w.leader = Leader{URL: lead.URL, Writer: lead.Writer.String()}
	return nil
}

// alive probes the leader.
func (w *watch) alive(ctx context.Context) bool {
	o := w.r.o
	if o.Probe == nil || w.leader.URL == "" {
		w.failed++
		return false
	}
	pctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	a, err := o.Probe(pctx, w.leader.URL, w.ready)
	if err != nil || a.LogUUID != w.r.identity.UUID.String() || a.Writer != w.leader.Writer || !a.Leading {
		w.failed++
		return false
	}
	w.failed = 0
	if a.Slot > w.slot || a.Slot == w.slot && !a.Pending {
		w.slot, w.moved = a.Slot, time.Now()
	}
	w.ready = false
	if !a.Quorum {
		w.ready = w.l.witnessesAnswer(ctx)
	}
	w.r.setLeader(w.leader, nil)
	return true
}

// Alive answers a probe. ready tells that the process which probes could do better: a leader without
// quorum then hands over.
func (r *Replica) Alive(ready bool) Alive {
	l, leading := r.role()
	if !leading {
		return Alive{LogUUID: r.identity.UUID.String()}
	}
	a := l.alive(r.o.SuspectAfter)
	a.LogUUID = r.identity.UUID.String()
	if ready && a.Leading && !a.Quorum {
		l.retire()
	}
	return a
}

// alive describes a leadership: it leads unless a commit is under way for longer than patience. For
// a quorum it may wait twice as long.
func (l *Log) alive(patience time.Duration) Alive {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	stuck := !l.committing.IsZero() && now.Sub(l.committing) > patience
	return Alive{
		Writer: l.writer.String(), Slot: l.head.next - 1,
		Leading: l.admitting && !stuck, Pending: !l.committing.IsZero(), Quorum: l.staleLocked(now) <= 2*patience,
	}
}
