package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

const (
	// decideTimeout bounds Open's wait for a definite answer to the LEADER record or to what init
	// creates; finishTimeout bounds its writing of what a predecessor left out.
	decideTimeout = 30 * time.Second
	finishTimeout = 5 * time.Minute
	// parallelPuts is how many tiles and bundles are written at a time.
	parallelPuts = 64
)

// Open takes over the log, creating it if the bucket has none: it locks the log where the bucket
// can (another process then gets an error), verifies the stored state, makes this process the
// leader by a LEADER record and writes what tiles its predecessor left out. It starts nothing.
// Stored state that does not verify gives a *DamageError, a log of another format ErrFormat, one of
// another origin or other keys ErrOtherLog.
func Open(ctx context.Context, o Options) (*Log, error) {
	l, err := newLog(o)
	if err != nil {
		return nil, err
	}
	if l.unlock, err = l.lock(); err != nil {
		return nil, fmt.Errorf("opening log %q: %w", l.o.Name, err)
	}
	if err := l.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("opening log %q: %w", l.o.Name, err), l.unlock())
	}
	return l, nil
}

// lock refuses a second process on the log, in buckets where that can be told.
func (l *Log) lock() (unlock func() error, err error) {
	b, ok := l.o.Bucket.(locker)
	if !ok {
		return func() error { return nil }, nil
	}
	if unlock, err = b.Lock(l.stateKey("lock")); err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	return unlock, nil
}

// A locker is a bucket that can tell whether another process lives.
type locker interface {
	// Lock takes the lock named key for this process, or fails. Unlock, or the end of the process,
	// gives it back.
	Lock(key string) (unlock func() error, err error)
}

func (l *Log) open(ctx context.Context) error {
	if err := l.syncAll(ctx); err != nil {
		return err
	}
	ident, object, err := l.init(ctx)
	if err != nil {
		return err
	}
	var wait backoff
	for {
		err := l.takeOver(ctx, ident.UUID, object, nil)
		if !errors.Is(err, errOvertaken) {
			return err
		}
		l.o.Log.InfoContext(ctx, "starting over: another process wrote to the log", "origin", l.o.Origin)
		if !wait.sleep(ctx) {
			return err
		}
	}
}

// syncAll makes durable what a predecessor linked or renamed and did not live to sync.
func (l *Log) syncAll(ctx context.Context) error {
	return l.sync(ctx, "logs/"+l.o.Name, "state/"+l.o.Name, l.stateKey("log"))
}

// takeOver is one attempt at leadership, storage-protocol section 4.1 steps a to e. Unless it is nil,
// seen is the state in which there was reason for it: whoever has written since leads.
func (l *Log) takeOver(ctx context.Context, log id, identity hash, seen *state) error {
	l.writer = newID() // never that of an earlier attempt
	f, err := l.readFloor(ctx)
	if err != nil {
		return err
	}
	if f.N == 0 && f.Rec != identity {
		return damagef("the floor is not that of the identity")
	}
	at := int64(-1)
	if seen != nil {
		at = seen.n - 1
	}
	s, err := l.tail(ctx, f, at, log) // a
	if err != nil {
		return l.refuse(ctx, err, -1, f.N)
	}
	if seen != nil && (s.n != seen.n || s.rec != seen.rec) {
		return errOvertaken
	}
	if err := l.rebuild(ctx, f, s); err != nil { // a2
		return l.refuse(ctx, err, s.n, -1)
	}
	if err := l.passGate(ctx, f, s); err != nil {
		return l.refuse(ctx, err, s.n, -1)
	}
	if s, err = l.announceLeader(ctx, s); err != nil { // b
		return err
	}
	if f, err = l.readFloor(ctx); err != nil { // c
		return err
	}
	if f.N >= s.n {
		return errOvertaken // our record landed in a slot that had been collected: a ghost
	}
	if err := l.syncAll(ctx); err != nil {
		return err
	}
	l.state = s
	if err := l.finish(ctx); err != nil { // d
		return err
	}
	return l.awaitGate(ctx, f, s) // e
}

// awaitGate passes the gate again now that nobody else leads. While too few witnesses answer it
// asks again, unless another process takes over.
func (l *Log) awaitGate(ctx context.Context, f floor, s state) error {
	var wait backoff
	for {
		err := l.passGate(ctx, f, s)
		if !errors.Is(err, ErrGate) {
			return l.refuse(ctx, err, s.n, -1)
		}
		l.o.Log.WarnContext(ctx, "not leading yet", "origin", l.o.Origin, "err", err)
		if overtaken, oerr := l.overtaken(ctx, s.n, -1); oerr == nil && overtaken {
			return errOvertaken
		}
		if !wait.sleep(ctx) {
			return err
		}
	}
}

// announceLeader puts the LEADER record after s and returns the state after it.
func (l *Log) announceLeader(ctx context.Context, s state) (state, error) {
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	return l.commit(ctx, s, s.leaderHeader(l.writer, l.o.URL), payload{})
}

// finish writes what the replayed records want written and makes the log ready to run.
func (l *Log) finish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, finishTimeout)
	defer cancel()
	if err := l.writeAll(ctx, l.undone); err != nil {
		return err
	}
	l.undone = nil
	l.head = l.snapshot(l.state.n, l.state.size, l.state.root)
	if err := l.writePartials(ctx, l.head); err != nil {
		return err
	}
	l.durable, l.integrated = l.head.size, l.head.size
	if l.found {
		l.stored, l.storedSize, l.storedSlot = l.published.Note, l.published.Size, l.published.slot
	}
	if !l.found || l.published.Size < l.head.size {
		l.waiting = []milestone{{size: l.head.size, at: time.Now(), done: make(chan struct{})}}
	}
	return nil
}

// writeAll materializes the full tiles and bundles that work names, in parallel.
func (l *Log) writeAll(ctx context.Context, work []fullObject) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(parallelPuts)
	for _, w := range work {
		g.Go(func() error { return l.writeFull(gctx, w) })
	}
	return g.Wait()
}
