package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// releaseTimeout bounds the wait for the record that ends a leadership.
const releaseTimeout = 5 * time.Second

// retireTimeout bounds the drain of a leadership that ends because another process could do better.
const retireTimeout = 500 * time.Millisecond

// Run leads the log until ctx ends: it commits what is added, and signs and publishes what is
// committed. Then it refuses adds, drains within Options.DrainTimeout and returns nil. Any other
// return means that leading ended for the reason returned: ErrNotLeading when another process has
// taken over, ErrFrozen when the log has reached its end, a *DamageError when the bucket holds what
// must not be there. Run may be called once.
//
//	Add -> queue -> sequence -> record -> writeTiles ---> full tiles, bundles
//	                               \                         |
//	                                -> publish -> partials -> sign -> cosign -> Await
//	                                                                    \
//	                                                                     swap -> checkpoint
func (l *Log) Run(ctx context.Context) error {
	if !l.started.CompareAndSwap(false, true) {
		return errors.New("running log: it has run already")
	}
	defer close(l.stopped)
	for _, s := range l.o.Signers {
		if f, ok := s.(forgetter); ok {
			f.Forget()
		}
	}
	life, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	a, err := l.newAppender(life)
	if err != nil {
		return err
	}
	l.sign = a.sign
	g, gctx := errgroup.WithContext(life)
	for _, loop := range []func(context.Context) error{l.sequence, l.writeTiles, l.publish, l.swap, l.collect, l.keepFull} {
		g.Go(func() error { return loop(gctx) })
	}
	log, looked := l.state.log, make(chan struct{})
	g.Go(func() error { return l.awaitFreeze(gctx, log, looked) })
	bound, frozen := l.lead(ctx, gctx, a, looked)
	l.admit(false)
	l.appender.Store(nil)
	l.drain(gctx, a, bound)
	stop()
	err = g.Wait()
	l.late.Wait()
	l.abandon()
	if errors.Is(err, errUndecided) {
		err = errors.Join(err, ErrNotLeading) // whoever leads next will find out
	}
	if err != nil && (ctx.Err() == nil || !errors.Is(err, errUndecided)) {
		return fmt.Errorf("leading log %q: %w", l.o.Name, err)
	}
	return l.leave(ctx, frozen)
}

// lead admits adds until the leadership is to end, and returns how long it may go on then. frozen
// reports that it was the last one, and that all of the log is published.
func (l *Log) lead(ctx, running context.Context, a *appender, looked <-chan struct{}) (bound time.Duration, frozen bool) {
	select {
	case <-looked:
		l.appender.Store(a) // before whoever asks learns that adds are admitted
		l.admit(true)
	case <-ctx.Done():
	case <-running.Done():
	}
	select {
	case <-ctx.Done():
	case <-l.retired:
		return retireTimeout, false // what holds us up does not hold up who takes over
	case <-running.Done():
	case <-l.freezing:
		patient, cancel := context.WithCancel(running)
		defer cancel()
		go func() {
			select {
			case <-ctx.Done():
			case <-l.retired:
			case <-patient.Done():
			}
			cancel()
		}()
		return l.o.DrainTimeout, l.publishAll(patient)
	}
	return l.o.DrainTimeout, false
}

// leave writes the record that ends the leadership, and after the last one the end of the log.
func (l *Log) leave(ctx context.Context, frozen bool) error {
	released := l.release(ctx)
	if frozen && released {
		if err := l.end(ctx); err != nil {
			var damage *DamageError
			if !errors.As(err, &damage) {
				err = errors.Join(err, ErrNotLeading) // whoever leads next does it
			}
			return fmt.Errorf("freezing log %q: %w", l.o.Name, err)
		}
		l.o.Log.InfoContext(ctx, "log frozen", "origin", l.o.Origin, "size", l.ended.Size)
		if ctx.Err() == nil {
			return fmt.Errorf("leading log %q: %w", l.o.Name, ErrFrozen)
		}
	}
	if ctx.Err() == nil {
		return fmt.Errorf("leading log %q: handed over: %w", l.o.Name, ErrNotLeading)
	}
	return nil
}

// A forgetter is a signer that knows what it signed before, and has to look in the bucket what others
// have since.
type forgetter interface{ Forget() }

func (l *Log) admit(yes bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.admitting = yes
	l.wakeSequencer()
	l.notifyLocked()
}

func (l *Log) admits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.admitting
}

// drain waits, within a bound, until all that was admitted is committed, published and in the
// bucket. Then it shuts Tessera's part down.
func (l *Log) drain(ctx context.Context, a *appender, d time.Duration) {
	bound, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	if !l.publishAll(bound) {
		l.o.Log.WarnContext(ctx, "leading ends before all is published", "origin", l.o.Origin)
		cancel() // do not wait again in shutdown
	}
	if err := a.shutdown(bound); err != nil {
		l.o.Log.DebugContext(ctx, "shutting the appender down", "err", err)
	}
}

// abandon fails what is still queued.
func (l *Log) abandon() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.queue {
		b.resolve(0, fmt.Errorf("committing: %w", errNotLeading))
	}
	l.queue = nil
}

// release puts the record that tells a successor not to wait, and reports whether it is there. With a
// commit undecided the slot may be taken by our own record, so there is nothing to do but leave.
func (l *Log) release(ctx context.Context) bool {
	if l.undecided {
		l.o.Log.WarnContext(ctx, "leading ends with a commit undecided", "origin", l.o.Origin)
		return false
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	h := l.state.nextHeader(typeBatch, l.writer)
	h.Released = true
	next, err := l.commit(ctx, l.state, h, payload{})
	if err != nil {
		l.o.Log.WarnContext(ctx, "releasing the leadership", "origin", l.o.Origin, "err", err)
		return false
	}
	l.state = next
	return true
}
