// Package trial puts replicas of a log through a story while their bucket fails, and has a referee
// hold what they do against the storage protocol and invariants I1 to I5 of the reliability
// reference: entries that were acknowledged stay at their index, each size has one root, tiles and
// bundles lead to it, and nothing is signed that is not in the bucket. I6, bounded memory and
// descriptors, is for the test around it: a bubble of testing/synctest does not end while a goroutine
// is left.
//
// What fails, and how, is up to the bucket that a Trial is given: a faultbucket.Bucket over a Store,
// or a real client of an object store behind a Proxy. Only tests use this package.
package trial

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
	"tallywood/storage/driver"
)

const (
	logName = "test"
	origin  = "log.example.org"
)

// A Trial is a log's replicas on one bucket, its witnesses and a referee.
type Trial struct {
	*Referee

	// Open returns a new process's way to the bucket, and what cuts it when the process is killed.
	Open func(who string) (b storage.Bucket, cut func())
	// Options are those of every process, but for what makes it one.
	Options driver.Options
	// Pace is what the story waits between two steps.
	Pace time.Duration
	// Limit is how long the log may take no entries.
	Limit time.Duration
	// Between is called between two parts of the story, which are numbered from 0.
	Between func(part int)
	// Healed is called when nothing may fail any more.
	Healed func()

	t      testing.TB
	panel  *panel
	failed atomic.Pointer[string]
	cut    atomic.Bool // an answer was cut short: a healthy store may seem damaged
	stray  atomic.Bool // a request landed so late that nobody looks for what it left

	mu        sync.Mutex          // guards the fields below
	processes map[string]*Process // by URL, those that were not killed and did not leave
	started   []*Process
	added     int
}

// A Process is a replica from its start to its end.
type Process struct {
	url, who string
	w        *Trial
	stop     context.CancelFunc
	cut      func()
	ended    chan struct{}

	mu      sync.Mutex // guards the fields below
	replica *driver.Replica
	dead    bool
	shown   int64 // size it has shown published
}

var errDead = errors.New("process is dead")

// keys makes note.GenerateKey deterministic.
type keys struct{ *rand.ChaCha8 }

// New returns the Trial of a log that does not exist yet, with garbage collected as soon as a few
// records have gone by.
func New(t testing.TB) *Trial {
	t.Helper()
	w := &Trial{t: t, Pace: 200 * time.Millisecond, Limit: 2 * time.Minute, processes: map[string]*Process{},
		Between: func(int) {}, Healed: func() {}}
	w.Referee = NewReferee(logName, origin, w.fail)
	w.panel = newPanel(w.Referee)
	skey, vkey, err := note.GenerateKey(keys{rand.NewChaCha8(sha256.Sum256([]byte(origin)))}, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	w.Options = driver.Options{
		Name: logName, Origin: origin, Layout: driver.TlogTiles(),
		Signers: []note.Signer{signer}, VKeys: []string{vkey}, Satisfied: satisfied, Sizes: w.panel.sizes,
		GCInterval: 300 * time.Millisecond, GCKeepAge: 300 * time.Millisecond, GCKeepSlots: 1,
		DrainTimeout: 3 * time.Second, BatchMaxSize: 100,
	}
	return w
}

// fail notes the first violation.
func (w *Trial) fail(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	w.failed.CompareAndSwap(nil, &s)
}

// Violation returns the first violation, "" if there was none.
func (w *Trial) Violation() string {
	if s := w.failed.Load(); s != nil {
		return *s
	}
	return ""
}

// Cut says that a Get returned part of an object without an error. No bucket may do that; if one does
// the log may refuse to go on, but nothing may be signed over it.
func (w *Trial) Cut() { w.cut.Store(true) }

// Stray says that a request may land so late that nobody looks for what it leaves.
func (w *Trial) Stray() { w.stray.Store(true) }

// start starts a process at url.
func (w *Trial) start(url string) *Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	ctx, stop := context.WithCancel(context.Background())
	p := &Process{url: url, who: fmt.Sprint(url, len(w.started)), w: w, stop: stop, ended: make(chan struct{})}
	w.started = append(w.started, p)
	w.processes[url] = p
	var b storage.Bucket
	b, p.cut = w.Open(p.who)
	go func() {
		defer close(p.ended)
		p.run(ctx, b)
	}()
	return p
}

// run opens the log, with patience, and takes part.
func (p *Process) run(ctx context.Context, b storage.Bucket) {
	o := p.w.Options
	o.Bucket, o.URL, o.Probe, o.Log = b, p.url, p.w.probe, slog.New(alarms{p})
	o.Signers = []note.Signer{signer{o.Signers[0], p}}
	o.Cosign = func(ctx context.Context, checkpoint []byte, prove driver.ProofFunc) ([]byte, error) {
		if p.isDead() {
			return nil, errDead
		}
		return p.w.panel.cosign(ctx, p.who, checkpoint, prove)
	}
	for {
		r, err := driver.OpenReplica(ctx, o)
		if err != nil {
			if p.refuses("", err) || sleep(ctx, 100*time.Millisecond) != nil {
				return
			}
			continue
		}
		p.mu.Lock()
		p.replica = r
		p.mu.Unlock()
		err = r.Run(ctx)
		if !p.refuses("", err) && ctx.Err() == nil {
			p.w.fail("%s ended by itself: %v", p.who, err)
		}
		return
	}
}

// refuses reports whether err is a refusal, which is a violation: the store is healthy.
func (p *Process) refuses(message string, err error) bool {
	var damage *driver.DamageError
	if p.isDead() || !errors.As(err, &damage) {
		return false
	}
	if !p.w.cut.Load() {
		p.w.fail("%s refuses a healthy store: %s: %v", p.who, message, err)
	}
	return true
}

func (p *Process) isDead() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

// Kill ends the process where it is.
func (p *Process) Kill() {
	p.mu.Lock()
	p.dead = true
	p.mu.Unlock()
	p.w.gone(p)
	p.stop()
	p.cut()
}

// leave tells the process to hand over, and waits for its end.
func (p *Process) leave() {
	p.stop()
	<-p.ended
	p.w.gone(p)
	p.cut()
}

func (w *Trial) gone(p *Process) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.processes[p.url] == p {
		delete(w.processes, p.url)
	}
}

// Process returns the process named who, nil if it does not run.
func (w *Trial) Process(who string) *Process {
	for _, p := range w.up() {
		if p.who == who {
			return p
		}
	}
	return nil
}

// up returns the processes that run, but for those that refused to go on: they are gone.
func (w *Trial) up() []*Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	var up []*Process
	for url, p := range w.processes {
		select {
		case <-p.ended:
			delete(w.processes, url)
		default:
			up = append(up, p)
		}
	}
	slices.SortFunc(up, func(a, b *Process) int { return strings.Compare(a.who, b.who) })
	return up
}

func (p *Process) current() *driver.Replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replica
}

// probe asks the process at url whether it leads.
func (w *Trial) probe(ctx context.Context, url string, ready bool) (driver.Alive, error) {
	if err := sleep(ctx, time.Millisecond); err != nil {
		return driver.Alive{}, err
	}
	w.mu.Lock()
	p := w.processes[url]
	w.mu.Unlock()
	if p == nil || p.current() == nil {
		return driver.Alive{}, errors.New("connection refused")
	}
	return p.current().Alive(ready), nil
}

// A signer shows the referee what a process signs.
type signer struct {
	note.Signer
	p *Process
}

func (s signer) Sign(msg []byte) ([]byte, error) {
	if s.p.isDead() {
		return nil, errDead
	}
	s.p.w.Referee.Sign(s.p.who, msg)
	return s.Signer.Sign(msg)
}

// alarms is a slog.Handler: what a process says about damage is an alarm.
type alarms struct{ p *Process }

func (a alarms) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelInfo }
func (a alarms) WithAttrs([]slog.Attr) slog.Handler           { return a }
func (a alarms) WithGroup(string) slog.Handler                { return a }

func (a alarms) Handle(_ context.Context, r slog.Record) error {
	r.Attrs(func(attr slog.Attr) bool {
		if err, ok := attr.Value.Any().(error); ok {
			a.p.refuses(r.Message, err)
		}
		return true
	})
	return nil
}
