// Package stack turns a configuration into running parts: it opens the bucket, the logs, the
// certificate and timestamp authorities, the witnesses, the monitor and the development issuer,
// wires them, and serves them on one listener.
//
// It is the only package that knows all parts. The parts know each other through the interfaces
// they declare; what runs in this process and what runs elsewhere is decided here.
package stack

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/semaphore"

	"tallywood/ca"
	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/internal/tlsfile"
	"tallywood/log"
	"tallywood/monitor"
	"tallywood/storage"
	"tallywood/witness"
)

// now is the clock of everything here that does not sign.
func now() time.Time { return time.Now() }

// Options say what to run besides what the configuration says.
type Options struct {
	Config *config.Config // required
	Watch  []string       // mail addresses to watch for this run, besides the monitor's own
	Dev    bool           // runs as "tallywood up": the page says what is not for production
	Log    *slog.Logger   // nil discards
	Build  Build          // for the metrics
	Tracer trace.Tracer   // begins the spans of requests; nil: nothing is traced
	// Reread reads Config again, for Reload. Nil: only the files that Config names are read again.
	Reread func() (*config.Config, error)
}

// A Stack is a set of parts that belong to one configuration.
type Stack struct {
	cfg       *config.Config
	dev       bool
	log       *slog.Logger
	pair      *tlsfile.Pair // of the listener; nil: it speaks plain HTTP
	bucket    storage.Bucket
	keys      keyring
	set       atomic.Pointer[logSet] // the logs
	witnesses []*witnessPart
	lists     []*witness.Lists
	ca, tsa   *slot // nil without such a part
	monitor   atomic.Pointer[monitor.Monitor]
	monitored config.Monitor         // what it was made from
	pages     atomic.Pointer[string] // directory of its pages; nil: it has none
	remonitor chan struct{}          // of capacity 1: another one is to run
	watch     []string               // mail addresses to watch for this run
	handler   http.Handler
	peers     *http.Client // for requests to other replicas
	metrics   *metrics
	limits    *limits
	replays   *semaphore.Weighted            // what bodies of requests take that may be passed on again
	tracer    trace.Tracer                   // nil: nothing is traced
	reread    func() (*config.Config, error) // nil: the configuration stays

	reloading sync.Mutex // held by Reload and Close
	closers   []io.Closer

	starter starter
	writing sync.Mutex // held while client files are written
}

// Open opens every part the configuration has. It starts nothing; Close gives back what it took.
func Open(ctx context.Context, o Options) (_ *Stack, err error) {
	if o.Config == nil {
		return nil, errors.New("opening the stack: no configuration")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &Stack{cfg: o.Config, dev: o.Dev, log: o.Log, metrics: newMetrics(o.Build), peers: newPeerClient(), reread: o.Reread, tracer: o.Tracer,
		limits: newLimits(o.Config.Limits), replays: semaphore.NewWeighted(maxReplays),
		remonitor: make(chan struct{}, 1)}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if err := checkMoved(s.cfg.Dir); err != nil {
		return nil, err
	}
	s.openKeys(ctx, true)
	if err := errors.Join(s.openTLS(), s.readLogs()); err != nil {
		return nil, err
	}
	if err := s.openBucket(ctx); err != nil {
		return nil, fmt.Errorf("opening storage %s: %w", s.cfg.Storage, err)
	}
	set := s.current()
	for _, l := range set.logs {
		if err := s.openLog(ctx, l); err != nil {
			return nil, err
		}
	}
	set.handler = byName(set.logs)
	mux := http.NewServeMux()
	s.routeLogs(mux)
	for _, open := range []func(*http.ServeMux) error{s.openWitnesses, s.openCA, s.openTSA, s.openDevOIDC} {
		if err := open(mux); err != nil {
			return nil, err
		}
	}
	if err := s.restoreLists(ctx); err != nil {
		return nil, err
	}
	if err := s.openMonitor(o.Watch); err != nil {
		return nil, fmt.Errorf("opening monitor: %w", err)
	}
	s.routePeople(mux)
	s.handler = s.limits.identify(httpx.CollapseSlashes(s.byOrigin(mux)))
	return s, nil
}

// Check reads the files that the configuration names (keys, policies, chains, issuers, the
// monitor's configuration) as Open does, and says all that Open would refuse in them. It touches
// neither the storage nor the network, so that it believes what is said of keys in a KMS.
func Check(c *config.Config) error {
	s := &Stack{cfg: c, log: slog.New(slog.DiscardHandler), bucket: unopened{}, limits: newLimits(c.Limits)}
	s.openKeys(context.Background(), false)
	errs := []error{checkMoved(c.Dir), s.openTLS(), s.readLogs()}
	mux := http.NewServeMux()
	errs = append(errs, s.openWitnesses(mux), s.openTSA(mux), s.openDevOIDC(mux))
	if c.CA != nil {
		if _, err := s.newCA(unopened{}, s.authorityKey); err != nil {
			errs = append(errs, within("opening ca", err))
		}
	}
	if err := s.checkMonitor(); err != nil {
		errs = append(errs, fmt.Errorf("opening monitor: %w", err))
	}
	return errors.Join(errors.Join(errs...), s.Close())
}

// unopened stands in for a bucket or a log where none may be touched: a call of it is a fault.
type unopened struct {
	storage.Bucket
	ca.CTLog
}

// closerFunc is a function as an io.Closer.
type closerFunc func() error

// Close calls f.
func (f closerFunc) Close() error { return f() }

// Close releases the logs. A stack that ran must have stopped.
func (s *Stack) Close() error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	var errs []error
	for _, c := range s.closers {
		errs = append(errs, c.Close())
	}
	s.closers = nil
	return errors.Join(errs...)
}

// Bucket returns the bucket of the stack.
func (s *Stack) Bucket() storage.Bucket { return s.bucket }

// Handler serves every part.
func (s *Stack) Handler() http.Handler { return s.handler }

// Run serves the stack on ln, and its metrics on metricsLn unless that is nil, until ctx ends
// or a part fails for good. It calls ready once, when clients may begin.
//
// At the end the logs publish what they have committed while the listener still answers, since
// witnesses may sit behind it; then the requests under way finish.
func (s *Stack) Run(ctx context.Context, ln, metricsLn net.Listener, ready func()) error {
	g, gctx := errgroup.WithContext(ctx)
	serveCtx, stopServing := context.WithCancel(context.WithoutCancel(ctx))
	defer stopServing()

	g.Go(func() error {
		err := s.runLogs(gctx)
		stopServing()
		return err
	})
	s.listen(serveCtx, gctx.Done(), g, ln, metricsLn)
	if s.pair != nil {
		g.Go(func() error { return s.pair.Run(gctx) })
	}
	for _, l := range s.lists {
		g.Go(func() error { return l.Run(gctx) })
	}
	if s.ca != nil {
		g.Go(func() error { return s.ca.run(gctx) })
	}
	started := make(chan struct{})
	g.Go(func() error {
		if err := s.awaitReady(gctx); err == nil { // else it ended before it was ready
			close(started)
			ready()
		}
		return nil
	})
	if s.cfg.Monitor != nil {
		g.Go(func() error {
			awaitLogs(gctx, started)
			return s.runMonitor(gctx)
		})
	}
	return g.Wait()
}

// listen serves on the listeners until ctx ends, which it is about to once leaving is closed.
func (s *Stack) listen(ctx context.Context, leaving <-chan struct{}, g *errgroup.Group, ln, metricsLn net.Listener) {
	o := httpx.ServeOptions{Conns: s.limits.conns, Leaving: leaving, Log: s.log}
	if s.pair != nil {
		o.TLS = s.pair.Config()
	}
	g.Go(func() error { return httpx.Serve(ctx, ln, s.metrics.instrument(traced(s.tracer, s.handler)), o) })
	if metricsLn != nil {
		g.Go(func() error { return httpx.Serve(ctx, metricsLn, s.metricsHandler(), httpx.ServeOptions{Log: s.log}) })
	}
}

// monitorDelay is how long the monitor waits for the logs of this process, whose first checkpoint
// it would not find yet. A log that has none by then may lack its witnesses for days, and then
// whatever else is watched is watched all the more.
const monitorDelay = 3 * time.Second

// awaitLogs waits for started, but not for longer than monitorDelay.
func awaitLogs(ctx context.Context, started <-chan struct{}) {
	delay := time.NewTimer(monitorDelay)
	defer delay.Stop()
	select {
	case <-started:
	case <-delay.C:
	case <-ctx.Done():
	}
}

// awaitReady waits until every log takes entries and has published a checkpoint that everyone can
// read: one is in force a moment before the bucket has it.
func (s *Stack) awaitReady(ctx context.Context) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for s.Ready() != nil || !s.readable(ctx) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// readable reports whether the bucket has a checkpoint of every log that serves.
func (s *Stack) readable(ctx context.Context) bool {
	for _, l := range s.parts() {
		if s.current().succeeds(l) {
			continue
		}
		if _, _, err := s.bucket.Get(ctx, "logs/"+l.cfg.Name+"/checkpoint", storage.Range{}); err != nil {
			return false
		}
	}
	return true
}

// Ready reports why the stack cannot serve in full, or nil if it can. A log that is to take the place
// of another and cannot yet, as witnesses may not know it, keeps nobody waiting: the other one serves.
func (s *Stack) Ready() error {
	var errs []error
	set := s.current()
	for _, l := range set.logs {
		if set.succeeds(l) {
			continue
		}
		if err := l.log.Ready(); err != nil {
			errs = append(errs, fmt.Errorf("log %q: %w", l.cfg.Name, err))
		}
	}
	return errors.Join(errs...)
}

// logKind gives the engine's kind for the configuration's word.
var logKind = map[string]log.Kind{"rekor": log.KindRekor, "ct": log.KindCT, "tlog": log.KindTlog}
