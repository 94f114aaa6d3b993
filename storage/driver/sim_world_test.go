package driver_test

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/trial"
	"tallywood/storage/driver"
)

const (
	quorumOf3 = 2   // witnesses that make a quorum
	traceLen  = 120 // operations shown when something is wrong
)

// A world is one simulated run: a store, witnesses, a network, and hosts on which processes run.
type world struct {
	t       *testing.T
	seed    uint64
	options driver.Options
	burst   int           // entries a client adds at a time, at most
	pace    time.Duration // of the network
	doubt   float64       // share of the requests whose outcome is not known
	naps    float64       // share of the records during whose way the process stops
	calm    atomic.Bool   // nothing goes wrong any more
	era     atomic.Uint64 // requests of an earlier one do not land: the store was rolled back since

	violation atomic.Pointer[string]
	failed    chan struct{} // closed when there is one

	running, adding sync.WaitGroup // processes; additions under way

	mu        sync.Mutex
	store     simStore
	referee   *trial.Referee
	witnesses []*simWitness
	hosts     []*host
	trace     [traceLen]operation
	traced    int
	acks      int
	lull      time.Time // clients add nothing until then
	refusals  int       // processes that refused a store that was rolled back
}

type operation struct {
	at                     time.Time
	who, what, on, outcome string
}

// A host runs one process after the other, all with its URL.
type host struct {
	url    string
	starts int
	p      *process // nil: down
	deaf   time.Time
	alone  time.Time // no witness answers it before
}

// A process is a replica from its start to its end.
type process struct {
	*host
	w      *world
	name   string
	cancel context.CancelFunc
	killed chan struct{}
	ended  chan struct{}
	b      *simBucket

	// Under the world's mutex.
	replica *driver.Replica
	dead    bool      // killed
	leaving bool      // told to stop
	until   time.Time // it is stopped until then
	cut     time.Time // and cut off from the store
	draws   map[string]uint64
	shown   int64 // size it has published
}

// newWorld draws a world from the seed.
func newWorld(t *testing.T, seed uint64) *world {
	r := rand.New(rand.NewPCG(seed, 0))
	w := &world{t: t, seed: seed, failed: make(chan struct{})}
	w.pace = between(r, time.Millisecond, 15*time.Millisecond)
	w.burst = []int{2, 4, 16}[r.IntN(3)]
	w.doubt = []float64{0.05, 0.15, 0.25}[r.IntN(3)]
	w.naps = []float64{0.002, 0.01, 0.03}[r.IntN(3)]
	w.store = simStore{objects: map[string]simObject{}, haunt: map[string]time.Time{}, byContent: r.IntN(2) == 0}
	w.referee = trial.NewReferee("test", origin, w.fail)
	for i := range 3 + r.IntN(2) {
		w.hosts = append(w.hosts, &host{url: string(rune('a' + i))})
	}
	w.options = options(t, nil)
	w.options.GCInterval = between(r, 100*time.Millisecond, time.Second)
	w.options.GCKeepAge = between(r, time.Nanosecond, time.Second)
	w.options.GCKeepSlots = 1 + r.Int64N(4)
	w.options.SuspectAfter = between(r, 300*time.Millisecond, 2*time.Second)
	w.options.Republish = between(r, time.Second, 30*time.Second)
	w.options.PublishInterval = []time.Duration{0, 0, 50 * time.Millisecond, 300 * time.Millisecond}[r.IntN(4)]
	w.options.DrainTimeout = 3 * time.Second
	w.options.BatchMaxSize = w.burst * 2
	if r.IntN(3) > 0 { // else quorum none
		for i := range 3 {
			w.witnesses = append(w.witnesses, &simWitness{name: fmt.Sprintf("w%d", i), cosigned: map[int64]tlog.Hash{}})
		}
		w.referee.Cosigners, w.referee.Quorum = w.cosigners, quorumOf3
	}
	return w
}

// fail notes the first violation. Whoever runs the world looks for it.
func (w *world) fail(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if w.violation.CompareAndSwap(nil, &s) {
		close(w.failed)
	}
}

// note keeps an operation for the trace. The mutex is held.
func (w *world) note(who, what, on, outcome string) {
	w.trace[w.traced%traceLen] = operation{time.Now(), who, what, on, outcome}
	w.traced++
}

// report is the trace as text.
func (w *world) report(began time.Time) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var b strings.Builder
	for i := max(0, w.traced-traceLen); i < w.traced; i++ {
		o := w.trace[i%traceLen]
		fmt.Fprintf(&b, "%12v %-4s %-7s %s: %s\n", o.at.Sub(began).Round(time.Microsecond), o.who, o.what, o.on, o.outcome)
	}
	return b.String()
}

// start starts a process on h.
func (w *world) start(h *host) {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, cancel := context.WithCancel(context.Background())
	p := &process{
		host: h, w: w, cancel: cancel, name: fmt.Sprint(h.url, h.starts),
		killed: make(chan struct{}), ended: make(chan struct{}), draws: map[string]uint64{},
	}
	h.starts++
	h.p = p
	p.b = &simBucket{p, map[string]uint64{}}
	w.note(p.name, "start", "", "")
	w.running.Go(func() {
		defer close(p.ended)
		p.run(ctx)
	})
}

// run opens the log, with patience, and takes part.
func (p *process) run(ctx context.Context) {
	o := p.w.options
	// Every process has a clock of its own.
	r := rand.New(rand.NewPCG(p.w.seed, p.draw("clock")))
	for _, d := range []*time.Duration{&o.SuspectAfter, &o.GCInterval, &o.GCKeepAge, &o.Republish, &o.QuorumTimeout} {
		*d = time.Duration(float64(*d) * (0.6 + r.Float64()))
	}
	o.Bucket, o.URL, o.Probe, o.Log = p.b, p.url, p.probe, slog.New(alarms{p})
	o.Signers = []note.Signer{simSigner{o.Signers[0], p}}
	if len(p.w.witnesses) > 0 {
		o.Cosign, o.Sizes, o.Satisfied = p.cosign, p.sizes, p.w.satisfied
	}
	for ctx.Err() == nil {
		replica, err := driver.OpenReplica(ctx, o)
		if err != nil {
			if p.judge(err) || p.wait(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		p.w.mu.Lock()
		p.replica = replica
		p.w.mu.Unlock()
		err = replica.Run(ctx)
		if !p.judge(err) && ctx.Err() == nil && !p.isDead() {
			p.w.fail("%s ended by itself: %v", p.name, err)
		}
		return
	}
}

// judge reports whether err is a refusal, and fails if the store is healthy.
func (p *process) judge(err error) bool {
	var damage *driver.DamageError
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.dead || !errors.As(err, &damage) {
		return false
	}
	if p.w.refusals++; !p.w.referee.RolledBack {
		p.w.fail("%s refused a healthy store: %v", p.name, err)
	}
	p.w.note(p.name, "refused", "", err.Error())
	return true
}

// draw returns a number that the seed, the process, what and how often it was drawn determine.
func (p *process) draw(what string) uint64 {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.draws[what]++
	h := fnv.New64a()
	fmt.Fprint(h, p.name, what, p.draws[what])
	return h.Sum64()
}

func (p *process) isDead() bool {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	return p.dead
}

// held blocks while the process is stopped.
func (p *process) held() error {
	for {
		p.w.mu.Lock()
		dead, left := p.dead, time.Until(p.until)
		p.w.mu.Unlock()
		if dead {
			return errKilled
		}
		if left <= 0 {
			return nil
		}
		if err := p.wait(context.Background(), left); err != nil {
			return err
		}
	}
}

// wait pauses for d.
func (p *process) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-p.killed:
		return errKilled
	}
}

// stop stops the process for d: what it asks for, and what it is answered, has to wait.
func (p *process) stop(d time.Duration) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.until = time.Now().Add(d)
	p.w.note(p.name, "stopped", "", d.String())
}

// kill ends the process where it is.
func (p *process) kill() {
	p.w.mu.Lock()
	if !p.dead {
		p.dead = true
		close(p.killed)
		p.w.note(p.name, "killed", "", "")
	}
	if p.host.p == p {
		p.host.p = nil
	}
	p.w.mu.Unlock()
	p.cancel()
}

// leave tells the process to hand over, and waits for its end.
func (p *process) leave() {
	p.w.mu.Lock()
	p.leaving = true
	p.w.note(p.name, "leaving", "", "")
	p.w.mu.Unlock()
	p.cancel()
	<-p.ended
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.host.p == p {
		p.host.p = nil
	}
}

// probe asks the process at url whether it leads.
func (p *process) probe(ctx context.Context, url string, ready bool) (driver.Alive, error) {
	if err := p.held(); err != nil {
		return driver.Alive{}, err
	}
	r := rand.New(rand.NewPCG(p.w.seed, p.draw("probe")))
	if err := p.wait(ctx, p.w.travel(r)); err != nil {
		return driver.Alive{}, err
	}
	now := time.Now()
	p.w.mu.Lock()
	var q *process
	var replica *driver.Replica
	for _, h := range p.w.hosts {
		if h.url == url && h.p != nil && !now.Before(h.deaf) && !now.Before(h.p.until) {
			q, replica = h.p, h.p.replica
		}
	}
	p.w.mu.Unlock()
	if replica == nil || !p.w.calm.Load() && r.IntN(20) == 0 {
		return driver.Alive{}, errNoPath
	}
	a := replica.Alive(ready)
	if err := q.wait(ctx, p.w.travel(r)); err != nil {
		return driver.Alive{}, err
	}
	return a, p.held()
}

// A simSigner shows the referee what a process signs.
type simSigner struct {
	note.Signer
	p *process
}

func (s simSigner) Sign(msg []byte) ([]byte, error) {
	s.p.w.mu.Lock()
	if !s.p.dead {
		s.p.w.referee.Sign(s.p.name, msg)
	}
	s.p.w.mu.Unlock()
	return s.Signer.Sign(msg)
}

// alarms is a slog.Handler: what a process says about damage is an alarm.
type alarms struct{ p *process }

func (a alarms) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (a alarms) WithAttrs([]slog.Attr) slog.Handler           { return a }
func (a alarms) WithGroup(string) slog.Handler                { return a }

func (a alarms) Handle(_ context.Context, r slog.Record) error {
	var err error
	r.Attrs(func(attr slog.Attr) bool {
		if e, ok := attr.Value.Any().(error); ok {
			err = e
		}
		return true
	})
	a.p.w.mu.Lock()
	defer a.p.w.mu.Unlock()
	if a.p.dead {
		return nil
	}
	what := ""
	if err != nil {
		what = err.Error()
	}
	a.p.w.note(a.p.name, "says", r.Message, what)
	var damage *driver.DamageError
	if errors.As(err, &damage) && !a.p.w.referee.RolledBack {
		a.p.w.fail("%s raised an alarm in a healthy store: %s: %v", a.p.name, r.Message, err)
	}
	return nil
}
