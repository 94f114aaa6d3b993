package witness

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/httpx"
	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/witness/policy"
)

// Options configure a Witness.
type Options struct {
	Keys     keys.Witness     // name and keys; required
	Rotation []keys.Witness   // further keys of that name; each signs in its time
	PastKeys []string         // vkeys of own keys that sign no more: their cosignatures are still ours
	Bucket   storage.Bucket   // where the state is kept; required
	Export   storage.Bucket   // another one than Bucket, for the monitoring prefix and the lease; nil: none
	Logs     []Log            // known from the start; two of one origin are one log with all keys
	Disabled []string         // origins of logs that are not cosigned, known ones or others
	About    string           // who runs it, shown on the status page; optional
	Via      func() []Reach   // bastions through which it is reached, for the status page; optional
	Now      func() time.Time // clock that is signed; nil: time.Now
	Log      *slog.Logger     // nil: discard
}

// A Log is a log that the witness cosigns.
type Log struct {
	Origin  string       // origin line of its checkpoints, 1 to 255 bytes
	Keys    []policy.Key // its keys: 0x01, 0x05 or 0x06; any of them suffices
	QPD     int64        // requests per day it may make; 0: no limit
	Contact string       // of its operator; optional
	Source  string       // the file or list that names it, for people; optional
}

// A Witness cosigns the checkpoints of the logs it knows. Its methods may be called concurrently.
type Witness struct {
	bucket   storage.Bucket
	signer   *signer
	turns    turns
	about    string
	via      func() []Reach
	now      func() time.Time
	log      *slog.Logger
	instance string // random; tells our writes of the state from another process's
	metrics  metrics
	lists    listBook
	alarms   alarmBook
	kept     evidenceBook
	refusals *httpx.Limiter // of requests that were in vain, by address
	key      keyState       // of keys that are elsewhere

	exporter *exporter
	lease    lease

	endOnce sync.Once
	ended   chan struct{} // closed when the bucket takes no writes any more
	failure error         // why; not changed once ended is closed

	rendered notes    // what the monitoring prefix served lately
	lost     sync.Map // IDs of own keys that the state names and that are missing; said once

	mu       sync.RWMutex
	testing  bool                // there are temporary logs
	logs     map[string]*entry   // by origin
	hash     map[string]*entry   // by origin hash; the same entries
	sorted   []*entry            // see entries; nil: to be made
	disabled map[string]struct{} // by origin
}

// An entry is a log with what is remembered of it.
type entry struct {
	origin  string
	hash    string // lower-case hex of SHA-256(origin)
	lock    chan struct{}
	queue   queue // for the lock
	quota   quota // of larger trees
	resigns quota // of the same tree once more: strangers can spend it, and no more than it

	temporary bool // a throw-away log; see AddTemporary

	// Guarded by lock, which is held by whoever can send into it.
	known    bool // head and version are what the bucket last said
	version  storage.Version
	head     state    // its note and keys are empty: they stay in the bucket
	signed   keySet   // the keys of the state
	text     [32]byte // SHA-256 of the note's text
	tried    uint64   // highest counter of a write we attempted
	evidence int      // objects of evidence, -1 before they were counted
	removed  bool     // a temporary log whose time is over

	mu       sync.Mutex // guards the fields below
	about    Log        // replaced as a whole, its keys too
	snapshot snapshot
	durable  storage.Version // of the state; known to survive a power failure
	exported storage.Version // of what we exported last; "": not known
	compared int64           // epoch of the lease in which the state was compared with that
}

// New returns a Witness. It checks the options, and that two implementations of ML-DSA agree on
// the keys; it does no I/O.
func New(o Options) (*Witness, error) {
	w := &Witness{
		turns:  newTurns(),
		bucket: o.Bucket, about: o.About, via: o.Via, now: o.Now, log: o.Log, instance: rand.Text(),
		logs: map[string]*entry{}, hash: map[string]*entry{}, ended: make(chan struct{}),
		refusals: httpx.NewLimiter(refusalRate, refusalBurst),
	}
	w.exporter = newExporter(o.Export)
	w.lease.epoch.Store(1)
	w.lease.gained, w.lease.err = make(chan struct{}, 1), errLeaseUnknown
	if w.via == nil {
		w.via = func() []Reach { return nil }
	}
	if w.now == nil {
		w.now = time.Now
	}
	if w.log == nil {
		w.log = slog.New(slog.DiscardHandler)
	}
	var errs []error
	if w.bucket == nil {
		errs = append(errs, errors.New("no bucket"))
	}
	var err error
	if w.signer, err = newSigner(o); err != nil {
		errs = append(errs, err)
	} else if err := storage.CheckKey(w.stateKey(strings.Repeat("0", 64))); err != nil {
		errs = append(errs, fmt.Errorf("witness name %q cannot be part of a key: %w", o.Keys.Name, err))
	}
	w.SetDisabled(o.Disabled)
	for _, l := range merge(o.Logs) {
		if _, err := w.AddLog(l); err != nil {
			errs = append(errs, err)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configuring witness: %w", err)
	}
	return w, nil
}

// Run exports what is cosigned and renews the lease, if there is an export, until ctx ends: without
// it, such a witness signs nothing. It returns an error once the bucket takes no writes any more, as
// after a failed sync of a disk. From then on the witness signs nothing: the process should exit,
// and its successor look at what is there.
func (w *Witness) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		select {
		case <-ctx.Done():
			return nil
		case <-w.ended:
			return fmt.Errorf("witness %q can keep no state any more: %w", w.signer.name, w.failure)
		}
	})
	if w.exporter.bucket != nil {
		g.Go(func() error { w.runLease(ctx); return nil })
		g.Go(func() error { w.runCompare(ctx); return nil })
		g.Go(func() error { return w.runExport(ctx) })
	}
	return g.Wait()
}

func (w *Witness) hasEnded() bool {
	select {
	case <-w.ended:
		return true
	default:
		return false
	}
}

// endIfUnusable reports whether err says that the bucket takes no writes any more, and ends Run then.
func (w *Witness) endIfUnusable(err error) bool {
	var u interface {
		error
		Unusable() bool
	}
	if !errors.As(err, &u) || !u.Unusable() {
		return false
	}
	w.endOnce.Do(func() {
		w.failure = err
		close(w.ended)
	})
	return true
}

// merge makes one Log of several with the same origin: their keys together, the largest quota.
func merge(logs []Log) []Log {
	var merged []Log
	at := map[string]int{}
	for _, l := range logs {
		i, ok := at[l.Origin]
		if !ok {
			at[l.Origin] = len(merged)
			l.Keys = slices.Clone(l.Keys)
			merged = append(merged, l)
			continue
		}
		m := &merged[i]
		for _, k := range l.Keys {
			if !slices.ContainsFunc(m.Keys, k.Equal) {
				m.Keys = append(m.Keys, k)
			}
		}
		if m.QPD != 0 && (l.QPD == 0 || l.QPD > m.QPD) {
			m.QPD = l.QPD
		}
	}
	return merged
}

// A KeyError reports that a log known under other keys was to be added with this one. It is an
// alarm: either its operator rotates keys, which ours must confirm, or somebody wants its place.
type KeyError struct {
	Origin string
	VKey   string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("log %q is known under other keys than %s; left as it is", e.Origin, e.VKey)
}

// AddLog makes the witness cosign l from now on, and reports whether its origin is new. Of a known
// origin nothing is changed, and a key that it does not have is a [KeyError]. There is no way to
// remove a log but to start without it.
func (w *Witness) AddLog(l Log) (added bool, err error) {
	if err := l.check(); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.logs[l.Origin]
	if !ok {
		w.introduce(l)
		return true, nil
	}
	known := old.log()
	for _, k := range l.Keys {
		if !known.hasKey(k) {
			return false, &KeyError{Origin: l.Origin, VKey: k.String()}
		}
	}
	return false, nil
}

// ConfirmLog is AddLog by the word of the operator: a known log gets the keys of l beside those it has,
// and the quota, contact and source of l. It reports whether that is anything new.
func (w *Witness) ConfirmLog(l Log) (changed bool, err error) {
	if err := l.check(); err != nil {
		return false, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	old, ok := w.logs[l.Origin]
	if !ok {
		w.introduce(l)
		return true, nil
	}
	old.mu.Lock()
	defer old.mu.Unlock()
	next := l
	next.Keys = slices.Clone(old.about.Keys)
	for _, k := range l.Keys {
		if !next.hasKey(k) {
			next.Keys = append(next.Keys, k)
		}
	}
	changed = len(next.Keys) > len(old.about.Keys) || next.QPD != old.about.QPD || next.Contact != old.about.Contact
	old.about = next
	old.quota.setRate(l.QPD)
	old.resigns.setRate(l.QPD)
	return changed, nil
}

// introduce makes a log known whose origin is new. The caller holds w.mu.
func (w *Witness) introduce(l Log) {
	sum := sha256.Sum256([]byte(l.Origin))
	l.Keys = slices.Clone(l.Keys)
	e := &entry{
		origin: l.Origin, hash: hex.EncodeToString(sum[:]), about: l,
		lock: make(chan struct{}, 1), quota: newQuota(l.QPD), resigns: newQuota(l.QPD), evidence: -1,
	}
	w.logs[e.origin], w.hash[e.hash] = e, e
	w.sorted = nil
}

// log returns what is known of the log. Its keys must not be changed.
func (e *entry) log() Log {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.about
}

func (l Log) check() error {
	switch {
	case len(l.Origin) < 1 || len(l.Origin) > 255:
		// c2sp.org/tlog-cosignature has one byte for the length in the ML-DSA message.
		return fmt.Errorf("log origin of %d bytes; 1 to 255 can be cosigned", len(l.Origin))
	case strings.ContainsFunc(l.Origin, func(r rune) bool { return r < 0x20 || r == 0xfffd }):
		return fmt.Errorf("log origin %q has a control character or invalid UTF-8", l.Origin)
	case len(l.Keys) == 0:
		return fmt.Errorf("log %q has no key", l.Origin)
	case l.QPD < 0 || l.QPD > math.MaxInt32:
		return fmt.Errorf("log %q: %d requests per day are not in 0 to 2^31-1", l.Origin, l.QPD)
	}
	for _, k := range l.Keys {
		switch k.Alg() {
		case policy.AlgEd25519, policy.AlgRFC6962, policy.AlgMLDSA44:
		default:
			return fmt.Errorf("log %q: a key of type %#02x is not a log's", l.Origin, k.Alg())
		}
	}
	return nil
}

// lookup returns the log of an origin, or nil.
func (w *Witness) lookup(origin string) *entry {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.logs[origin]
}

// lookupHash returns the log of an origin hash, or nil.
func (w *Witness) lookupHash(hash string) *entry {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return w.hash[hash]
}

// entries returns all logs but temporary ones in the order of their origins. The caller must not change
// what it returns, which is sorted when it is first asked for and whenever there is another log: anybody
// may ask for pages, and a witness may have tens of thousands of logs.
func (w *Witness) entries() []*entry {
	w.mu.RLock()
	sorted := w.sorted
	w.mu.RUnlock()
	if sorted != nil {
		return sorted
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sorted != nil {
		return w.sorted
	}
	w.sorted = make([]*entry, 0, len(w.logs))
	for _, e := range w.logs {
		if !e.temporary {
			w.sorted = append(w.sorted, e)
		}
	}
	slices.SortFunc(w.sorted, func(a, b *entry) int { return strings.Compare(a.origin, b.origin) })
	return w.sorted
}
