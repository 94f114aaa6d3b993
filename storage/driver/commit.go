package driver

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var errUndecided = errors.New("undecided whether the record was written")

// A milestone is a committed size that no published checkpoint covers yet.
type milestone struct {
	size int64
	at   time.Time     // when it was committed, or found so by Open
	done chan struct{} // closed when it is published
}

// sequence commits batches, one at a time, until ctx ends or another process has taken over.
func (l *Log) sequence(ctx context.Context) error {
	for {
		b := l.nextBatch(ctx)
		if b == nil {
			return nil
		}
		if err := l.commitBatch(ctx, b); err != nil {
			l.admit(false) // before whoever waits looks why
			b.resolve(0, fmt.Errorf("committing: %w: %w", errNotLeading, err))
			return err
		}
	}
}

// commitBatch sequences b: it assigns indexes, extends the tree and commits the record. The tree in
// memory runs ahead of the committed one meanwhile, which no reader sees; if the commit fails, this
// process leads no more.
func (l *Log) commitBatch(ctx context.Context, b *batch) error {
	first := l.state.size
	payload := l.encodedBatch(b, first)
	work, err := l.extend(payload.entries, payload.leaves, payload.joined())
	if err != nil {
		return err
	}
	h := l.state.nextHeader(typeBatch, l.writer)
	h.Count, h.Payload = int64(len(payload.entries)), payload.sum
	h.NewSize, h.NewRoot, h.Range = l.tree.head()
	snap := l.snapshot(h.N+1, h.NewSize, h.NewRoot)
	if err := snap.checkRoot(); err != nil {
		return err // before a record makes it permanent
	}
	began := time.Now()
	l.setCommitting(began)
	ctx, sp := b.traced.Start(ctx, "commit", b.others...)
	sp.Int("entries", h.Count)
	sp.Int("size", h.NewSize)
	next, err := l.commit(ctx, l.state, h, payload)
	l.observe(StageCommit, began, err)
	sp.End(err)
	if err != nil {
		return err // and the leadership ends
	}
	l.state = next
	now := time.Now()

	l.mu.Lock()
	l.committing = time.Time{}
	snap.bytes = l.head.bytes + int64(b.bytes)
	l.head, l.lastCount, l.lastAt = snap, len(b.entries), now
	if !l.traced.Traced() {
		l.traced = b.traced
	}
	l.queued -= len(b.entries)
	l.queuedSize -= int64(b.bytes)
	l.work = append(l.work, work...)
	if len(l.work) == 0 && !l.writing {
		l.durable, l.spilled = snap.size, snap.bytes
	}
	l.waiting = append(l.waiting, milestone{snap.size, now, make(chan struct{})})
	l.notifyLocked()
	l.mu.Unlock()
	b.resolve(first, nil)
	return nil
}

func (l *Log) setCommitting(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.committing = since
}

// commit puts the record h with payload after s and returns the state after it. The answer is
// definite: nil, errOvertaken because another writer's record has the slot, or errUndecided when
// ctx ended before the bucket said.
func (l *Log) commit(ctx context.Context, s state, h header, payload payload) (state, error) {
	line, err := h.encode()
	if err != nil {
		return state{}, err
	}
	data := payload.after(line)
	stored, err := l.create(ctx, l.slotKey(s.n), data, private, maxHeader)
	if err != nil {
		l.undecided = true
		return state{}, fmt.Errorf("committing slot %d: %w: %w", s.n, errUndecided, err)
	}
	got, _, err := parseHeader(stored)
	if err != nil {
		return state{}, l.refuse(ctx, damagef("slot %d: %w", s.n, err), -1, s.n)
	}
	if got.Writer != h.Writer || got.Nonce != h.Nonce {
		return state{}, fmt.Errorf("committing slot %d: %w", s.n, errOvertaken)
	}
	return after(h, sum(line)), nil
}
