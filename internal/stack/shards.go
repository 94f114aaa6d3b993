package stack

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/log"
	"tallywood/storage"
)

// A log that grows for ever is followed by another one: it is frozen, which its configuration asks for
// (state: frozen) and its bucket says when it has come about. In between the successor has to have a
// checkpoint that satisfies its policy, so that witnesses which do not know it yet stop nothing; from
// then on it is in charge at the paths that clients know, in the signing config and for the CA. A
// moment later the old log is asked to end. Each process does that for itself, and whoever leads the
// old log ends it.

// handoverDelay is how long after the successor is in charge the old log goes on taking entries, so
// that other processes, whose clocks differ by less, have put it in charge too.
const handoverDelay = 2 * time.Second

// retireInterval is how often a process looks whether a log can be frozen, or is.
const retireInterval = 100 * time.Millisecond

// waitReport is how often it says what it waits for.
const waitReport = time.Minute

// A shardState is where a log is on the way to its end.
type shardState struct {
	cfg        atomic.Pointer[config.Log] // with the state, start, end, successor and URL of the last reload
	superseded atomic.Bool                // its successor is in charge
	retired    atomic.Bool                // it has ended, and the client files say so

	// Owned by retireLogs.
	since time.Time // when it was superseded
	asked bool      // for its end
}

func newShardState(l config.Log) *shardState {
	s := new(shardState)
	s.cfg.Store(&l)
	return s
}

// want is the configuration of the log as it is now.
func (l *logPart) want() config.Log { return *l.shard.cfg.Load() }

// A logSet is the logs of a stack at one time. It is never changed.
type logSet struct {
	logs    []*logPart
	ctLog   string // name of the CA's log; "" without CA
	handler http.Handler
}

// A FrozenError reports a log that is active in the configuration and frozen in its bucket.
type FrozenError struct {
	Log string
	At  time.Time
}

// Error says since when.
func (e *FrozenError) Error() string {
	return fmt.Sprintf("log %q is active in the configuration, but was frozen at %s", e.Log, e.At.Format(time.RFC3339))
}

// checkState fails unless a configuration and the bucket agree about a log that has been opened.
func checkState(l *logPart, c config.Log) error {
	if f := l.log.Frozen(); f != nil && c.State != config.StateFrozen {
		return &FrozenError{c.Name, f.Time}
	}
	return nil
}

// checkThere fails if a log is to be frozen that the bucket does not have: it would be made for that.
func (s *Stack) checkThere(ctx context.Context, l config.Log) error {
	if l.State != config.StateFrozen {
		return nil
	}
	_, _, err := s.bucket.Get(ctx, "state/"+l.Name+"/identity", storage.Range{Length: 1})
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("log %q has state: frozen, but the storage has no log of that name", l.Name)
	}
	return err
}

// current returns the logs as they are now.
func (s *Stack) current() *logSet {
	if set := s.set.Load(); set != nil {
		return set
	}
	return &logSet{}
}

// parts returns them as a list.
func (s *Stack) parts() []*logPart { return s.current().logs }

// named returns the log of that name, nil if there is none.
func (t *logSet) named(name string) *logPart {
	i := slices.IndexFunc(t.logs, func(l *logPart) bool { return l.cfg.Name == name })
	if i < 0 {
		return nil
	}
	return t.logs[i]
}

// ended reports whether l takes no entries any more, or would not if another process did as this one:
// its successor is in charge.
func (l *logPart) ended() bool { return l.shard.superseded.Load() || l.log.Frozen() != nil }

// next returns the log that takes entries in the place of one that has ended, nil if none does.
func (t *logSet) next(l *logPart) *logPart {
	for l != nil && l.ended() {
		l = t.named(l.want().Successor)
	}
	return l
}

// inCharge returns the log that takes what is meant for l: a predecessor that has not ended.
func (t *logSet) inCharge(l *logPart) *logPart {
	for _, old := range t.logs {
		if old.want().Successor == l.cfg.Name && !old.ended() {
			return t.inCharge(old)
		}
	}
	return l
}

// signatures returns the log at the paths where clients know the signature log: the active one or its
// predecessor, without one the last of the frozen ones, or nil.
func (t *logSet) signatures() *logPart {
	var last *logPart
	for _, l := range t.logs {
		if l.cfg.Kind != "rekor" {
			continue
		}
		if last = l; l.want().State == config.StateActive {
			return t.inCharge(l)
		}
	}
	return last
}

// anything returns the first log of kind tlog that takes entries, without one the first, or nil.
func (t *logSet) anything() *logPart {
	for _, l := range t.logs {
		if l.cfg.Kind != "tlog" {
			continue
		}
		if next := t.next(l); next != nil {
			return next
		}
		return l
	}
	return nil
}

// certificates returns the log that the CA's certificates go to.
func (t *logSet) certificates() *logPart {
	if l := t.named(t.ctLog); l != nil {
		return t.inCharge(l)
	}
	return nil
}

// succeeds reports whether l is to be in charge when another log has ended.
func (t *logSet) succeeds(l *logPart) bool { return t.inCharge(l) != l }

// caLog is the CA's log: whichever is in charge.
type caLog struct{ s *Stack }

// AddPreChain implements ca.CTLog.
func (c caLog) AddPreChain(ctx context.Context, chain [][]byte) ([]byte, error) {
	return c.s.current().certificates().ct.AddPreChain(ctx, chain)
}

// successor says where the entries of the log of that name go, as far as the configuration knows.
func (s *Stack) successor(name string) func() log.Successor {
	return func() log.Successor {
		set := s.current()
		l := set.named(name)
		if l == nil {
			return log.Successor{}
		}
		next := set.next(set.named(l.want().Successor))
		if next == nil {
			return log.Successor{}
		}
		return log.Successor{Origin: next.cfg.Origin, URL: s.cfg.LogURL(next.want())}
	}
}

// serveInCharge serves the log that find returns at the time.
func (s *Stack) serveInCharge(find func(*logSet) *logPart) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l := find(s.current())
		if l == nil {
			httpx.Error(w, http.StatusNotFound, "no log is served here")
			return
		}
		l.handler.ServeHTTP(w, r)
	})
}

// A starter starts logs that come while others run.
type starter struct {
	mu    sync.Mutex
	start func(*logPart) // nil while none run
}

// runLogs runs all logs until ctx ends or one of them cannot go on.
func (s *Stack) runLogs(ctx context.Context) error {
	logs, lctx := errgroup.WithContext(ctx) // one that cannot go on ends the others
	start := func(l *logPart) {
		logs.Go(func() error {
			if err := l.log.Run(lctx); err != nil {
				return fmt.Errorf("running log %q: %w", l.cfg.Name, err)
			}
			return nil
		})
	}
	s.starter.mu.Lock()
	s.starter.start = start
	for _, l := range s.parts() {
		start(l)
	}
	s.starter.mu.Unlock()
	logs.Go(func() error {
		s.retireLogs(lctx)
		s.starter.mu.Lock()
		defer s.starter.mu.Unlock()
		s.starter.start = nil // before the group has ended
		return nil
	})
	return logs.Wait()
}

// retireLogs sees to it that the logs with state: frozen are, until ctx ends.
func (s *Stack) retireLogs(ctx context.Context) {
	reported := map[string]time.Time{}
	for {
		rest := time.Second
		for _, l := range s.parts() {
			if l.want().State != config.StateFrozen {
				l.shard.asked = false // if it is asked again, it is for another end
				continue
			}
			if l.shard.retired.Load() {
				continue
			}
			rest = retireInterval
			err := s.retire(ctx, l)
			if err == nil || ctx.Err() != nil {
				continue
			}
			if since, ok := reported[l.cfg.Name]; !ok { // it is no news for a minute
				reported[l.cfg.Name] = now()
			} else if now().Sub(since) > waitReport {
				reported[l.cfg.Name] = now()
				s.log.WarnContext(ctx, "a log is to be frozen, and is not yet", "origin", l.cfg.Origin, "err", err)
			}
		}
		if !sleep(ctx, rest) {
			return
		}
	}
}

// retire takes the next step on the way of a log to its end, and returns what it waits for.
func (s *Stack) retire(ctx context.Context, l *logPart) error {
	switch {
	case l.log.Frozen() != nil:
		l.shard.retired.Store(true)
		s.rewriteClientFiles(ctx) // with when it ended
		return nil
	case now().Before(l.want().End.Time):
		return nil
	case !l.shard.superseded.Load():
		set := s.current()
		next := set.next(set.named(l.want().Successor))
		if err := s.publishes(ctx, next); err != nil {
			return fmt.Errorf("waiting for its successor: %w", err)
		}
		s.log.InfoContext(ctx, "successor in charge", "origin", l.cfg.Origin)
		l.shard.superseded.Store(true)
		s.rewriteClientFiles(ctx)
		l.shard.since = now()
		return nil
	case now().Sub(l.shard.since) < handoverDelay, l.shard.asked:
		return nil
	}
	err := l.log.Freeze(ctx, s.successor(l.cfg.Name)())
	l.shard.asked = err == nil
	return err
}

// publishes returns nil if l, unless it is nil, takes entries and everyone can read its checkpoint.
func (s *Stack) publishes(ctx context.Context, l *logPart) error {
	if l == nil {
		return nil
	}
	if err := l.log.Ready(); err != nil {
		return err
	}
	_, _, err := s.bucket.Get(ctx, "logs/"+l.cfg.Name+"/checkpoint", storage.Range{})
	return err
}

// rewriteClientFiles brings the client files up to date, and says so.
func (s *Stack) rewriteClientFiles(ctx context.Context) {
	changed, err := s.WriteClientFiles(ctx)
	if err != nil {
		s.log.ErrorContext(ctx, "writing client files", "err", err)
		return
	}
	for _, name := range changed {
		s.log.InfoContext(ctx, "client file written", "key", name)
	}
}

// sleep waits for d and reports whether ctx still goes on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
