package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"tallywood/internal/span"
)

// refreshRetry is the pause after a refresh of an unchanged checkpoint found no quorum.
const refreshRetry = 30 * time.Second

// A round is one attempt to get a checkpoint cosigned. Rounds are numbered in the order in which
// their checkpoints were signed: sizes never fall from one to the next, and in a certificate log the
// times of the tree heads grow.
type round struct {
	number int64
	cancel context.CancelFunc
}

// publish signs and publishes the newest committed size whenever it is not published, and again
// when it is but grows old, until ctx ends. One round is under way at a time; those that missed
// their quorum timeout may still end well on the side.
func (l *Log) publish(ctx context.Context) error {
	var wait backoff
	var began time.Time
	for l.due(ctx) && l.rest(ctx, began.Add(l.o.PublishInterval)) {
		began = time.Now()
		err := l.publishHead(ctx)
		l.observe(StagePublish, began, err)
		var damage *DamageError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &damage), unusable(err):
			return err
		case err == nil:
			wait = backoff{}
			continue
		}
		// Witnesses cosign nothing for a process that was overtaken without noticing.
		if overtaken, oerr := l.overtaken(ctx, l.newestSlot()+1, -1); oerr == nil && overtaken {
			return errOvertaken
		}
		l.o.Log.WarnContext(ctx, "publishing", "origin", l.o.Origin, "err", err)
		if errors.Is(err, ErrNoQuorum) {
			wait = backoff{} // the timeout was pause enough
		} else if !wait.sleep(ctx) {
			return nil
		}
	}
	return nil
}

// due blocks until there is something to publish and reports whether there is, or ctx has ended.
func (l *Log) due(ctx context.Context) bool {
	for {
		l.mu.Lock()
		grown := !l.found || l.head.size > l.published.Size
		refresh, changed := time.Until(l.refreshAt), l.changed
		l.mu.Unlock()
		if grown || refresh <= 0 {
			return ctx.Err() == nil
		}
		t := time.NewTimer(refresh)
		select {
		case <-t.C:
		case <-changed:
		case <-ctx.Done():
		}
		if t.Stop(); ctx.Err() != nil {
			return false
		}
	}
}

// rest waits until the time of the next publication, or until the leadership ends, which does not
// wait for it. It reports whether ctx still goes on.
func (l *Log) rest(ctx context.Context, until time.Time) bool {
	ended, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	l.await(ended, func() bool { return !l.admitting || l.last != nil })
	return ctx.Err() == nil
}

// publishHead makes the newest committed size durable in tiles, signs it, has it cosigned and
// publishes it.
func (l *Log) publishHead(ctx context.Context) error {
	l.mu.Lock()
	snap, traced := l.head, l.traced
	l.refreshAt = time.Now().Add(refreshRetry)
	if l.published.round < l.outdated {
		l.refreshAt = time.Now() // what is published counts for nothing any more
	}
	l.traced = span.Point{}
	l.mu.Unlock()
	ctx, sp := traced.Start(ctx, "publish")
	sp.Int("size", snap.size)
	err := l.publishSize(ctx, snap)
	sp.End(err)
	return err
}

// publishSize is publishHead for what was committed.
func (l *Log) publishSize(ctx context.Context, snap snapshot) error {
	if err := l.writePartials(ctx, snap); err != nil {
		return err
	}
	if !l.await(ctx, func() bool { return l.durable >= snap.size }) {
		return ctx.Err()
	}
	l.mu.Lock()
	l.integrated = max(l.integrated, snap.size)
	if l.unsigned.IsZero() {
		l.unsigned = time.Now()
	}
	l.mu.Unlock()
	signed, err := l.sign(ctx, snap.size, snap.root[:])
	if err != nil {
		return fmt.Errorf("signing size %d: %w", snap.size, err)
	}
	l.mu.Lock()
	l.unsigned = time.Time{}
	l.lastRound++
	p := Published{Size: snap.size, Root: snap.root, Note: signed, round: l.lastRound, slot: snap.next - 1, traced: span.At(ctx)}
	l.mu.Unlock()
	if l.o.Cosign == nil {
		l.announce(p)
		return nil
	}
	return l.cosign(ctx, p)
}

// cosign gets p cosigned and announces it. After the quorum timeout it returns ErrNoQuorum and
// lets the round go on: slow witnesses would otherwise mean no publication at all.
func (l *Log) cosign(ctx context.Context, p Published) error {
	rctx, cancel := context.WithTimeout(ctx, l.o.LateTimeout)
	r := &round{number: p.round, cancel: cancel}
	l.mu.Lock()
	l.rounds[r] = struct{}{}
	l.mu.Unlock()
	result := make(chan error, 1)
	l.late.Go(func() {
		result <- l.runRound(rctx, p)
		cancel()
		l.mu.Lock()
		delete(l.rounds, r)
		l.mu.Unlock()
	})
	t := time.NewTimer(l.o.QuorumTimeout)
	defer t.Stop()
	select {
	case err := <-result:
		return err
	case <-t.C:
		return fmt.Errorf("cosigning size %d: %w", p.Size, ErrNoQuorum)
	}
}

func (l *Log) runRound(ctx context.Context, p Published) error {
	began := time.Now()
	ctx, sp := p.traced.Start(ctx, "cosign")
	cosigned, err := l.o.Cosign(ctx, p.Note, l.ConsistencyProof)
	l.observe(StageCosign, began, err)
	sp.End(err)
	if err != nil {
		return fmt.Errorf("cosigning size %d: %w", p.Size, err)
	}
	if !bytes.HasPrefix(cosigned, p.Note) {
		return fmt.Errorf("cosigning size %d: the note came back changed", p.Size)
	}
	p.Note = cosigned
	l.announce(p)
	return nil
}

// announce publishes p in memory and wakes who waits for it, unless it would go back: to a smaller
// size, or, at the same size, to a checkpoint that was signed earlier.
func (l *Log) announce(p Published) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found && (p.Size < l.published.Size || p.round < l.published.round) {
		return
	}
	p.Time = time.Now()
	l.published, l.found = p, true
	l.refreshAt = p.Time.Add(l.o.Republish)
	if l.o.Republish < 0 {
		l.refreshAt = p.Time.AddDate(100, 0, 0)
	}
	if p.round < l.outdated {
		l.refreshAt = p.Time
	}
	covered := 0
	for ; covered < len(l.waiting) && l.waiting[covered].size <= p.Size; covered++ {
		close(l.waiting[covered].done)
	}
	l.waiting = slices.Delete(l.waiting, 0, covered)
	for r := range l.rounds {
		if r.number < p.round {
			r.cancel()
		}
	}
	l.notifyLocked()
}

// refresh has what is published signed and cosigned anew, because other witnesses count now.
func (l *Log) refresh() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.outdated, l.refreshAt = l.lastRound+1, time.Now()
	l.notifyLocked()
}

// Refresh has the published checkpoint signed and cosigned anew, if this replica leads. It is to be
// called when other cosignatures are wanted than before.
func (r *Replica) Refresh() {
	if l, leading := r.role(); leading {
		l.refresh()
	}
}

// Published returns the newest published checkpoint, which may not have reached the bucket yet.
func (l *Log) Published() (Published, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.published, l.found
}

// OldestUnpublished returns the commit time of the oldest committed entry that no published
// checkpoint covers, and whether there is one. Of entries committed before Open it is the time
// of that.
func (l *Log) OldestUnpublished() (time.Time, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	m, ok := l.oldestLocked()
	return m.at, ok
}

// oldestLocked returns the oldest milestone that has entries.
func (l *Log) oldestLocked() (milestone, bool) {
	waiting := l.waiting
	if len(waiting) > 0 && waiting[0].size == 0 {
		waiting = waiting[1:]
	}
	if len(waiting) == 0 {
		return milestone{}, false
	}
	return waiting[0], true
}

// Await returns a published checkpoint of at least size, which must be committed. It fails with
// ErrNoQuorum when there is none after Options.QuorumTimeout.
func (l *Log) Await(ctx context.Context, size int64) (Published, error) {
	p, done, err := l.awaiting(size)
	if done == nil {
		return p, err
	}
	t := time.NewTimer(l.o.QuorumTimeout)
	defer t.Stop()
	select {
	case <-done:
	case <-l.stopped:
		err = ErrNotLeading
	case <-t.C:
		err = l.unpublished()
	case <-ctx.Done():
		err = ctx.Err()
	}
	if p, _ = l.Published(); p.Size >= size && p.Note != nil {
		return p, nil
	}
	return Published{}, fmt.Errorf("waiting for the publication of size %d: %w", size, err)
}

// unpublished is why a checkpoint is not published in time.
func (l *Log) unpublished() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.unsigned.IsZero() && time.Since(l.unsigned) > l.o.QuorumTimeout/2 {
		return fmt.Errorf("%w: %w", ErrNoQuorum, ErrUnsigned)
	}
	return ErrNoQuorum
}

// awaiting returns the published checkpoint if it covers size, or what is closed when one does.
func (l *Log) awaiting(size int64) (Published, chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.found && l.published.Size >= size {
		return l.published, nil, nil
	}
	i, _ := slices.BinarySearchFunc(l.waiting, size, func(m milestone, size int64) int {
		return int(min(max(m.size-size, -1), 1))
	})
	if i == len(l.waiting) && !l.started.Load() {
		return Published{}, nil, fmt.Errorf("waiting for the publication of size %d: %w", size, ErrNotLeading)
	}
	if i == len(l.waiting) {
		return Published{}, nil, fmt.Errorf("waiting for the publication of size %d: only %d are committed", size, l.head.size)
	}
	return Published{}, l.waiting[i].done, nil
}
