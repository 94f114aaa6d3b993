package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/internal/span"
)

const (
	// A log counts as busy while its last batch had busyBatch entries and is not older than
	// busyFor: then the next batch gets time to grow. On an idle log an entry is committed at once.
	busyBatch = 8
	busyFor   = 100 * time.Millisecond
	// arrivalGap is how long after the last arrival a batch stops growing: whoever was woken by
	// the last publication has come again by then.
	arrivalGap = time.Millisecond

	// An entry of largeEntry bytes or more is large. Large ones may take maxLarge bytes of a batch and
	// 1/largeShare of what may be outstanding, so that small ones never wait behind many of them.
	largeEntry = 16 << 10
	maxLarge   = 2 << 20
	largeShare = 2
)

// A batch is what one record commits.
type batch struct {
	entries []queued
	bytes   int
	large   int // bytes of large entries
	opened  time.Time
	arrived time.Time // when the last entry was added

	traced span.Point   // of the first entry that is traced
	others []span.Point // of more of them

	encoding chan payload // gives what encodeAhead made; nil: nothing is encoded ahead

	done  chan struct{} // closed when the fields below are set
	first int64         // index of entries[0]
	err   error
}

// queued is an entry in a batch.
type queued struct {
	entry   *tessera.Entry
	encoded []byte // as in a bundle; with an indexed layout, for index 0
}

// maxLinks bounds what the span of a commit links.
const maxLinks = 64

// trace notes that an entry of the batch is traced at p, if it is.
func (b *batch) trace(p span.Point) {
	switch {
	case !p.Traced():
	case !b.traced.Traced():
		b.traced = p
	case len(b.others) < maxLinks:
		b.others = append(b.others, p)
	}
}

// resolve ends the batch: its entries are durable from index first on, or err.
func (b *batch) resolve(first int64, err error) {
	b.first, b.err = first, err
	close(b.done)
}

// future is the tessera.IndexFuture of entry i.
func (b *batch) future(i int) tessera.IndexFuture {
	return func() (tessera.Index, error) {
		<-b.done
		if b.err != nil {
			return tessera.Index{}, b.err
		}
		return tessera.Index{Index: uint64(b.first) + uint64(i)}, nil
	}
}

var errNotLeading = fmt.Errorf("%w: %w", tessera.ErrPushback, ErrNotLeading)

func failed(err error) tessera.IndexFuture {
	return func() (tessera.Index, error) { return tessera.Index{}, fmt.Errorf("adding entry: %w", err) }
}

// Add queues e and returns a future that resolves to its durable index. Unless Run leads it fails
// with ErrNotLeading. The caller must not change e before the future has resolved.
func (l *Log) Add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
	a := l.appender.Load()
	if a == nil {
		return failed(errNotLeading)
	}
	if l.o.Layout.indexed {
		return failed(errors.New("a static-ct log takes entries by AddCT"))
	}
	return a.add(span.Keep(ctx), e)
}

// AddCT is Add for the StaticCT layout.
func (l *Log) AddCT(ctx context.Context, e *ctonly.Entry) tessera.IndexFuture {
	a := l.appender.Load()
	if a == nil {
		return failed(errNotLeading)
	}
	if !l.o.Layout.indexed {
		return failed(errors.New("only a static-ct log takes entries by AddCT"))
	}
	return a.addCT(span.Keep(ctx), e)
}

// enqueue is the driver's tessera.AddFn. It encodes in the caller's goroutine and never blocks.
func (l *Log) enqueue(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
	encoded := e.MarshalBundleData(0) // the length does not depend on the index
	if len(encoded) > l.o.Layout.maxEntry {
		return failed(fmt.Errorf("entry of %d bytes is larger than %d", len(encoded), l.o.Layout.maxEntry))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if err := l.admitLocked(now, len(encoded)); err != nil {
		return failed(err)
	}
	b := l.batchLocked(len(encoded), now)
	b.trace(span.At(ctx))
	b.entries = append(b.entries, queued{e, encoded})
	b.bytes += len(encoded)
	if len(encoded) >= largeEntry {
		b.large += len(encoded)
	}
	b.arrived = now
	l.queued++
	l.queuedSize += int64(len(encoded))
	if len(b.entries) == l.o.BatchMaxSize {
		l.encodeAhead(b)
		l.wakeSequencer()
	}
	return b.future(len(b.entries) - 1)
}

// batchLocked returns the first batch in the queue that has room for an entry of size bytes, or a new
// one. So small entries overtake large ones, of which a batch takes a few.
func (l *Log) batchLocked(size int, now time.Time) *batch {
	for _, b := range l.queue {
		if l.hasRoomLocked(b, size) {
			return b
		}
	}
	if n := len(l.queue); n > 0 && l.fullLocked(l.queue[n-1], largeEntry) {
		l.encodeAhead(l.queue[n-1]) // hardly anything would still go in
	}
	b := &batch{opened: now, done: make(chan struct{})}
	l.queue = append(l.queue, b)
	l.wakeSequencer()
	return b
}

func (l *Log) hasRoomLocked(b *batch, size int) bool {
	return b.encoding == nil && !l.fullLocked(b, size) && (size < largeEntry || b.large == 0 || b.large+size <= maxLarge)
}

func (l *Log) fullLocked(b *batch, more int) bool {
	return len(b.entries) >= l.o.BatchMaxSize || b.bytes+more > maxPayload
}

func (l *Log) wakeSequencer() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// admitLocked refuses entries of size bytes before they are sequenced, storage-protocol section 3
// step 0.
func (l *Log) admitLocked(now time.Time, size int) error {
	allowed := l.o.MaxOutstandingBytes
	if size >= largeEntry {
		allowed /= largeShare
	}
	switch {
	case !l.admitting:
		return errNotLeading
	case l.last != nil:
		return ErrFrozen
	case l.queued+int(l.head.size-l.integrated) >= l.o.MaxOutstanding:
		return fmt.Errorf("%w: %w: %d entries wait", tessera.ErrPushbackIntegration, ErrFull, l.o.MaxOutstanding)
	case l.queuedSize+l.head.bytes-l.spilled >= allowed:
		return fmt.Errorf("%w: %w: %d bytes of entries wait", tessera.ErrPushbackIntegration, ErrFull, allowed)
	case l.queueAgeLocked(now, size) > l.o.MaxQueueAge+l.o.CommitInterval:
		return fmt.Errorf("%w: %w: entries have waited for %v to be committed", tessera.ErrPushback, ErrFull, l.o.MaxQueueAge)
	case l.queued+int(l.head.size-l.published.Size) >= maxUnpublished:
		return fmt.Errorf("%w: %w: %d entries wait", tessera.ErrPushbackIntegration, ErrUnpublished, maxUnpublished)
	case l.staleLocked(now) > l.o.MaxUnpublished:
		return fmt.Errorf("%w: %w", tessera.ErrPushback, ErrUnpublished)
	}
	return nil
}

// queueAgeLocked returns for how long what an entry of size bytes would wait behind has waited: the
// commit in flight, if the entry goes into the next one, else the oldest entry not committed.
func (l *Log) queueAgeLocked(now time.Time, size int) time.Duration {
	since := l.committing
	if len(l.queue) > 0 && !l.hasRoomLocked(l.queue[0], size) {
		if since = l.queue[0].opened; !l.committing.IsZero() {
			since = l.oldest
		}
	}
	if since.IsZero() {
		return 0
	}
	return now.Sub(since)
}

// staleLocked returns for how long something unpublished has waited for a quorum. A certificate
// log promises a merge delay, so there each entry's own age counts; elsewhere any publication shows
// that quorums still come.
func (l *Log) staleLocked(now time.Time) time.Duration {
	m, ok := l.oldestLocked()
	if !ok {
		return 0
	}
	if !l.o.Layout.indexed && l.published.Time.After(m.at) {
		return now.Sub(l.published.Time)
	}
	return now.Sub(m.at)
}

// nextBatch returns the batch to commit next, or nil when ctx has ended.
func (l *Log) nextBatch(ctx context.Context) *batch {
	for {
		l.mu.Lock()
		wait := time.Duration(-1)
		if len(l.queue) > 0 {
			b := l.queue[0]
			if wait = l.growLocked(b); wait <= 0 {
				l.queue[0] = nil
				l.queue = l.queue[1:]
				l.oldest = b.opened
				l.mu.Unlock()
				return b
			}
		}
		l.mu.Unlock()
		var grown <-chan time.Time
		if wait > 0 {
			grown = time.After(wait)
		}
		select {
		case <-l.wake:
		case <-grown:
		case <-ctx.Done():
			return nil
		}
	}
}

// growLocked returns how much longer the batch should grow: until its turn has come, and on a busy
// log until it is old enough or nothing arrives any more.
func (l *Log) growLocked(b *batch) time.Duration {
	if len(l.queue) > 1 || !l.admitting || l.last != nil || l.fullLocked(b, 0) {
		return 0
	}
	if turn := l.o.CommitInterval - time.Since(l.lastAt); turn > 0 {
		return turn
	}
	if l.lastCount < busyBatch {
		return 0
	}
	if time.Since(l.lastAt) > busyFor {
		return 0
	}
	return min(l.o.BatchMaxAge-time.Since(b.opened), arrivalGap-time.Since(b.arrived))
}
