// Package log is the log engine: it turns an entry into an index, and an index into a receipt,
// an inclusion proof under a checkpoint that satisfies the policy (c2sp.org/tlog-tiles,
// c2sp.org/tlog-checkpoint, c2sp.org/tlog-policy).
//
// Entries come from the handlers of the log's kind, which have validated them. An entry whose
// duplicate key was seen before gets the index it got then; the package owns that index and keeps
// it exact across restarts and under concurrent equal adds. Sequencing, tiles and publication are
// the driver's. Every receipt is checked before it leaves: its proof against the checkpoint's
// root, the checkpoint's exact bytes against the policy.
//
// The caller must give each log its own keys, and see that Run is running: without it nothing is
// accepted.
package log

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/log/duplicates"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/witness/policy"
)

// Errors of Sequence and Add, always wrapped. To a client all but the last mean: try the same again later.
var (
	// ErrUnavailable reports that the log takes no adds now: it does not lead, is full, cannot be
	// read, or its duplicate index has not caught up.
	ErrUnavailable = errors.New("log is not available")
	// ErrUnpublished comes with ErrUnavailable and says why: what is in the log already has waited
	// too long for a checkpoint that satisfies the policy. The call logged nothing.
	ErrUnpublished = driver.ErrUnpublished
	// ErrFull comes with ErrUnavailable too: more waits to be logged than would be logged in time.
	ErrFull = driver.ErrFull
	// ErrNoQuorum reports that no checkpoint covering the entry satisfied the policy in time. The
	// entry is durable all the same, and adding it again later answers its receipt.
	ErrNoQuorum = driver.ErrNoQuorum
	// ErrUnsigned comes with ErrNoQuorum and says why: the log's own key does not sign.
	ErrUnsigned = driver.ErrUnsigned
	// ErrFrozen reports that the log takes no entries any more, unlike the others for good.
	ErrFrozen = driver.ErrFrozen
)

// TooLargeError reports an entry that does not fit an entry bundle.
type TooLargeError struct{ Size, Limit int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("entry of %d bytes is over the limit of %d", e.Size, e.Limit)
}

// A ProofFunc returns the consistency proof between two sizes of the log.
type ProofFunc = func(ctx context.Context, oldSize, size int64) ([][]byte, error)

// Alive is what a replica says of its leadership, and Leader where writes go.
type (
	Alive  = driver.Alive
	Leader = driver.Leader
)

// A Cosigner collects cosignatures of witnesses. *witness/client.Client is one.
type Cosigner interface {
	// Cosign returns the signed checkpoint with cosignatures that meet the quorum added, or an
	// error. It returns as soon as they do, and gives up when ctx ends.
	Cosign(ctx context.Context, checkpoint []byte, prove ProofFunc) ([]byte, error)
	// Sizes asks every witness for the tree it last cosigned, without moving any forward.
	Sizes(ctx context.Context, checkpoint []byte) ([]policy.WitnessSize, error)
}

// Options configure a Log.
type Options struct {
	Name   string // the log's objects are below logs/<Name>/ and state/<Name>/
	Origin string // first line of its checkpoints, name of its keys
	Kind   Kind
	Bucket storage.Bucket

	Signers []note.Signer // [0] of type 0x01 named Origin; kind ct: then its 0x05 signer
	VKeys   []string      // the log's vkeys, in the order of Signers

	// The first rules, which SetRules replaces; see Rules.
	Policy   *policy.Policy
	Cosigner Cosigner
	Full     func() []byte

	QuorumTimeout   time.Duration // how long an add waits for publication; default 3 s
	CommitInterval  time.Duration // least time between commits, but for a full batch; default 0
	PublishInterval time.Duration // least time between publications; default 0: as soon as possible
	SwapInterval    time.Duration // least time between writes of the bucket's checkpoint; default 0
	// MaxQueueAge is how long, beyond CommitInterval, what an add would wait behind may have waited for
	// its index before the add is refused; default 2 s.
	MaxQueueAge time.Duration

	CacheDir string // directory of the duplicate index; empty: it is kept in memory
	URL      string // where replicas reach this process; optional
	// Probe asks the replica at url about its leadership; see driver.Options. Optional.
	Probe func(ctx context.Context, url string, ready bool) (Alive, error)
	// SkipGate leads although too few witnesses answer to rule out that the bucket was rolled back.
	SkipGate     bool
	FullInterval time.Duration // least time between two writes of Full; default 1 s
	// Observe is told how long each stage of a publication took; see driver.Options. Optional.
	Observe func(s driver.Stage, d time.Duration, err error)
	Log     *slog.Logger // nil discards
}

var (
	validName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
	hostname  = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)
)

func (o *Options) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !validName.MatchString(o.Name) {
		bad("name %q is not made of lower-case letters, digits, dots, dashes and underscores", o.Name)
	}
	if err := o.Kind.checkOrigin(o.Origin); err != nil {
		errs = append(errs, err)
	}
	if o.Bucket == nil {
		bad("no bucket")
	}
	if len(o.Signers) == 0 || o.Signers[0] == nil {
		bad("no signer")
	}
	if len(o.VKeys) != len(o.Signers) {
		bad("%d vkeys for %d signers", len(o.VKeys), len(o.Signers))
	}
	if o.QuorumTimeout < 0 || o.CommitInterval < 0 || o.PublishInterval < 0 || o.MaxQueueAge < 0 {
		bad("negative duration")
	}
	if err := o.rules().check(o.Origin, o.VKeys); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (o *Options) rules() Rules { return Rules{Policy: o.Policy, Cosigner: o.Cosigner, Full: o.Full} }

// checkOrigin refuses origins that clients cannot work with: those of signature logs take the
// host name of a log's URL for its key name, and ` - <digits>` at the end for another protocol.
func (k Kind) checkOrigin(origin string) error {
	switch {
	case k != KindRekor && k != KindCT && k != KindTlog:
		return fmt.Errorf("unknown kind %d", k)
	case k == KindRekor && !hostname.MatchString(origin):
		return fmt.Errorf("origin %q is not a lower-case host name", origin)
	case !policy.ValidName(origin) || strings.ToLower(origin) != origin:
		return fmt.Errorf("origin %q is not a lower-case key name", origin)
	}
	return nil
}

// A Log is one log in a bucket. All methods may be called concurrently.
type Log struct {
	o      Options
	driver *driver.Replica
	index  store

	rules   atomic.Pointer[Rules]
	opened  verifiedNote
	lookups lookups // in index

	wake    chan struct{} // of capacity 1: something landed
	futures sync.WaitGroup

	mu       sync.Mutex // guards what follows
	caughtUp int64      // the leadership in which every entry below the head is in index, flights or both; 0 none
	broken   error      // why index cannot be believed any more
	rebuild  *rebuild   // of index, while it reads the log
	epoch    int        // counts how often that happened
	flights  map[[32]byte]*flight
	landed   []duplicates.Record // sequenced, not in index yet
}

// Open opens the log, creating it if the bucket has none, and verifies what is published. It starts
// nothing: Run leads, or stands by while another process does.
func Open(ctx context.Context, o Options) (*Log, error) {
	if err := o.check(); err != nil {
		return nil, fmt.Errorf("checking options of log %q: %w", o.Name, err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l := &Log{
		o:       o,
		opened:  verifiedNote{policy: o.Policy},
		wake:    make(chan struct{}, 1),
		flights: make(map[[32]byte]*flight),
	}
	do := driver.Options{
		Bucket: o.Bucket, Name: o.Name, Origin: o.Origin, Layout: o.Kind.layout(),
		Signers: o.Signers, VKeys: o.VKeys,
		QuorumTimeout: o.QuorumTimeout, CommitInterval: o.CommitInterval,
		PublishInterval: o.PublishInterval, SwapInterval: o.SwapInterval, MaxQueueAge: o.MaxQueueAge,
		URL: o.URL, Probe: o.Probe, SkipGate: o.SkipGate, Observe: o.Observe, Log: o.Log,
	}
	rules := o.rules()
	l.rules.Store(&rules)
	if !o.Policy.None() {
		do.Cosign = l.cosign
		do.Sizes = func(ctx context.Context, checkpoint []byte) ([]policy.WitnessSize, error) {
			return l.rules.Load().Cosigner.Sizes(ctx, checkpoint)
		}
		do.Satisfied = func(has func(string) bool) bool { return l.rules.Load().Policy.Satisfied(has) }
		if o.Full != nil {
			do.Full, do.FullInterval = l.full, o.FullInterval
		}
	}
	var err error
	if l.driver, err = driver.OpenReplica(ctx, do); err != nil {
		return nil, err // it says which log
	}
	if err := l.openIndex(ctx); err != nil {
		return nil, fmt.Errorf("opening duplicate index of log %q: %w", o.Name, err)
	}
	return l, nil
}

// cosign is the Cosigner's, and believes no more of it than the policy does: what this returns is
// about to become public.
func (l *Log) cosign(ctx context.Context, checkpoint []byte, prove driver.ProofFunc) ([]byte, error) {
	cosigned, err := l.rules.Load().Cosigner.Cosign(ctx, checkpoint, prove)
	if err != nil {
		return nil, fmt.Errorf("collecting cosignatures: %w", err)
	}
	if _, err := l.opened.open(cosigned); err != nil {
		return nil, fmt.Errorf("checking cosignatures: %w", err)
	}
	return cosigned, nil
}

// full is that of the rules, and believes no more of it than the policy does. What is not published yet is
// nothing to keep.
func (l *Log) full() []byte {
	r := l.rules.Load()
	if r.Full == nil {
		return nil
	}
	note := r.Full()
	if note == nil {
		return nil
	}
	c, err := r.Policy.Open(note)
	if p, ok := l.driver.Published(); err != nil || !ok || c.Size() > p.Size {
		return nil
	}
	return note
}

// Run takes part in the log until ctx ends: it leads or stands by. At the end it completes what is
// under way, within a bound, and hands over. It returns nil after that, and an error if this
// process must not take part any more.
func (l *Log) Run(ctx context.Context) error {
	followCtx, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	followed := make(chan struct{})
	go func() {
		defer close(followed)
		l.follow(followCtx)
	}()
	err := l.driver.Run(ctx)
	l.futures.Wait()
	stop()
	<-followed
	if err != nil {
		return fmt.Errorf("running log %q: %w", l.o.Name, err)
	}
	return nil
}

// Close lets go of the index. Run must have returned, or never been called.
func (l *Log) Close() error { return l.index.Close() }

// Name returns the name the log has in its bucket.
func (l *Log) Name() string { return l.o.Name }

// Leading reports whether this process leads, whether or not it accepts adds at the moment.
func (l *Log) Leading() bool {
	_, leading, _ := l.driver.Term()
	return leading
}

// Takes reports whether adds are for this process to answer: it leads, its duplicate index has caught
// up and its leadership is not ending. It may still refuse them, with a reason that another replica
// would give too.
func (l *Log) Takes() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	term, leading, _ := l.driver.Term()
	return leading && l.caughtUp == term && l.driver.Admits()
}

// Leader returns the replica that leads as far as this one knows, or why it knows none.
func (l *Log) Leader() (Leader, error) { return l.driver.Leader() }

// FindLeader is Leader, and looks into the bucket if Run does not know.
func (l *Log) FindLeader(ctx context.Context) (Leader, error) { return l.driver.FindLeader(ctx) }

// Alive answers the probe of another replica; ready tells that that one could do better.
func (l *Log) Alive(ready bool) Alive { return l.driver.Alive(ready) }

// Ready returns nil while the log has a published checkpoint that satisfies the policy, and accepts
// adds, knows a replica that leads, or is frozen. Otherwise it returns the reason, which wraps ErrUnavailable.
func (l *Log) Ready() error {
	l.mu.Lock()
	err := l.acceptingLocked()
	l.mu.Unlock()
	if err == nil && !l.driver.Admits() {
		err = fmt.Errorf("%w: its leadership is still to begin, or about to end", ErrUnavailable)
	}
	if err != nil && l.driver.Frozen() != nil {
		err = nil // it is to be read, and no more
	}
	if err != nil && !l.Leading() {
		if leader, idle := l.Leader(); idle != nil {
			err = fmt.Errorf("%w: %w", ErrUnavailable, idle)
		} else if leader.URL != "" {
			err = nil
		}
	}
	if err != nil {
		return err
	}
	p, ok := l.driver.Published()
	if !ok {
		return fmt.Errorf("%w: no checkpoint is published yet", ErrUnavailable)
	}
	if _, err := l.opened.open(p.Note); err != nil {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return nil
}

// Published returns the newest published checkpoint, if there is one and it satisfies the policy.
// The bucket may not have it yet.
func (l *Log) Published() (policy.Checkpoint, bool) {
	p, ok := l.driver.Published()
	if !ok {
		return policy.Checkpoint{}, false
	}
	c, err := l.opened.open(p.Note)
	return c, err == nil
}
