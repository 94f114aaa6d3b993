// Package driver is a Tessera driver (github.com/transparency-dev/tessera v1.0.4) that keeps a log
// as plain objects in a storage.Bucket, by the slot protocol of the storage-protocol reference: a
// batch of entries is committed by one create-only Put of a slot record, and tiles, entry bundles
// and the checkpoint are functions of what has been committed.
//
// Entries go in through Add and AddCT, which resolve to durable indexes; checkpoints come out
// through Await and Published once Options.Cosign has brought the quorum. A Log signs only sizes
// that are committed and whose tiles are durable.
//
// The caller must guarantee that the Bucket honours conditional Puts and that the keys in Signers
// sign for no other log. Open does the reading and takes the log over, Run leads it, Close lets go.
package driver

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/internal/span"
	"tallywood/storage"
	"tallywood/witness/policy"
)

// Errors of Add, AddCT and Await, always wrapped. Each means the same to a client: try again later.
// Add fails with a wrapped tessera.ErrPushback too.
var (
	// ErrNotLeading reports that this Log does not sequence: not yet, no longer, or not any more.
	ErrNotLeading = errors.New("not leading")
	// ErrNoQuorum reports that no checkpoint with a quorum of cosignatures came in time. Only Await
	// gives it: the entry is logged all the same.
	ErrNoQuorum = errors.New("no quorum of cosignatures in time")
	// ErrUnsigned comes with ErrNoQuorum and says why: the checkpoint lacks the log's own signature.
	// A key in memory signs always; one elsewhere may sign again later.
	ErrUnsigned = errors.New("the checkpoint was not signed in time")
	// ErrUnpublished reports that Add or AddCT took no entry because what was committed before could
	// not be published in time, for want of a quorum most likely. The entry is not logged.
	ErrUnpublished = errors.New("what is logged could not be published in time")
	// ErrFull reports that Add or AddCT took no entry because too much waits to be committed, or has
	// waited for too long.
	ErrFull = errors.New("too much waits to be logged")
)

// Errors of Open, always wrapped: the bucket may be whole, but is not for these Options.
var (
	// ErrFormat reports a log of a storage format that this program does not know.
	ErrFormat = errors.New("unknown storage format")
	// ErrOtherLog reports that the bucket has, under this name, a log of other origin or keys.
	ErrOtherLog = errors.New("another log is stored here")
)

// ProofFunc returns the consistency proof between two sizes of the log.
type ProofFunc = func(ctx context.Context, oldSize, size int64) ([][]byte, error)

// Options configure a Log.
type Options struct {
	Bucket  storage.Bucket
	Name    string        // the log's objects are below logs/<Name>/ and state/<Name>/
	Origin  string        // the checkpoints' first line
	Layout  Layout        // TlogTiles() or StaticCT()
	Signers []note.Signer // [0]: Ed25519, type 0x01, named Origin; more lines follow its own in order
	VKeys   []string      // the log's vkeys as its identity records them; [0] belongs to Signers[0]

	// Cosign returns the checkpoint with a quorum of cosignatures added. It gives up when ctx
	// ends. Nil: the policy is "quorum none" and checkpoints are published as signed.
	Cosign func(ctx context.Context, checkpoint []byte, prove ProofFunc) ([]byte, error)

	// Sizes asks every witness for the tree it last cosigned, without moving any forward, and
	// Satisfied tells whether the witnesses that has names meet the quorum: the anti-rollback gate
	// of a takeover. Both nil: the policy is "quorum none". SkipGate leads even if too few answer.
	Sizes     func(ctx context.Context, checkpoint []byte) ([]policy.WitnessSize, error)
	Satisfied func(has func(witness string) bool) bool
	SkipGate  bool

	// Probe asks the process at url whether it leads; ready tells it that this one could do better.
	// Nil: a leader is believed to live as long as it commits.
	Probe        func(ctx context.Context, url string, ready bool) (Alive, error)
	SuspectAfter time.Duration // how long a silent leader's log must stand still; default 1 s

	// Records are deleted that GCKeepSlots slots and GCKeepAge have gone by since they were published,
	// every GCInterval (negative: never). Default 1,000, 1 hour, 1 minute.
	GCInterval, GCKeepAge time.Duration
	GCKeepSlots           int64

	QuorumTimeout   time.Duration // how long Await waits for a publication; default 3 s
	LateTimeout     time.Duration // how long a late quorum is still welcome; default 30 s
	CommitInterval  time.Duration // least time from one commit to the next, but for a full batch; default 0
	PublishInterval time.Duration // least time between publications; default 0: as soon as possible
	SwapInterval    time.Duration // least time between writes of the bucket's checkpoint; default 0
	Republish       time.Duration // refresh of an idle log's checkpoint; default 10 min, negative: off
	DrainTimeout    time.Duration // how long Run goes on after its context ends; default 10 s

	BatchMaxAge    time.Duration // how long a busy log lets a batch grow; default 10 ms
	BatchMaxSize   int           // entries per batch; default 4,096
	MaxOutstanding int           // entries queued or committed but not integrated; default 16,384

	// MaxOutstandingBytes is how many bytes of entries may be queued, or committed but not in tiles
	// yet, before adds are refused; of entries of 16 KiB or more, half as many. Default 64 MiB. Memory
	// holds those in the queue twice.
	MaxOutstandingBytes int64

	// MaxQueueAge is how long, beyond CommitInterval, what an add would wait behind may have waited
	// before it is refused: the commit in flight, or the oldest entry if there is more than one commit
	// before its own. Default 2 s.
	MaxQueueAge time.Duration

	// MaxUnpublished is the age of the oldest committed but unpublished entry from which on adds
	// are refused. Default 5 s after PublishInterval; with the StaticCT layout 60 s.
	MaxUnpublished time.Duration

	// Full returns a published checkpoint with the cosignatures that came after the quorum too, nil
	// without one; it goes into the bucket beside the checkpoint, at most once in FullInterval. Nil:
	// there is no such object. Default of FullInterval: 1 s.
	Full         func() []byte
	FullInterval time.Duration

	// Observe is told how long each stage took and what came of it; optional. It must not block.
	Observe func(s Stage, d time.Duration, err error)

	URL   string       // where replicas reach this process, recorded in LEADER records; optional
	Store string       // where the log lives, recorded for people when it is created; optional
	Log   *slog.Logger // nil discards
}

// Published is a published checkpoint.
type Published struct {
	Size int64
	Root [32]byte
	Note []byte    // the signed note with its cosignatures
	Time time.Time // when this process published it, or opened the log and found it

	round int64 // the round that brought it; 0: found in the bucket
	slot  int64 // whose record has its size, if this process leads

	traced span.Point // of its publication
}

// Log is one log in a Bucket. All methods may be called concurrently.
type Log struct {
	o        Options
	verifier note.Verifier // of Signers[0]
	unlock   func() error

	started  atomic.Bool
	stopped  chan struct{} // closed when Run has returned
	appender atomic.Pointer[appender]
	wake     chan struct{} // a batch was opened or filled
	retired  chan struct{} // closed when another process is to lead
	retire   func()        // closes it
	patience atomic.Int64  // with a Put, in nanoseconds
	freezing chan struct{} // closed when the log is to be frozen: see freeze.go
	nudged   chan struct{} // of capacity 1: look whether it is

	tree    *tree
	bundles *bundles

	// Owned by Open, then by the sequencing goroutine of Run.
	state     state
	writer    id           // of this leadership
	undone    []fullObject // what Open has to write
	undecided bool         // a commit ended without a definite answer

	// Owned by Open and Run, then by the publishing goroutine of Run.
	sign  func(ctx context.Context, size int64, root []byte) ([]byte, error)
	wrote [tileLevels + 1]partialID // the partial written last, by tile level; [tileLevels]: bundle

	ended *Frozen // set by Run: this leadership was the last

	swept int64 // owned by the goroutine of Run that collects: records below are deleted

	// Owned by the goroutine of Run that swaps the bucket's checkpoint.
	hinted time.Time // when the head hint was written

	late sync.WaitGroup // cosigning rounds, those past their quorum timeout included

	mu         sync.Mutex
	changed    chan struct{} // closed and replaced when anything below has changed
	admitting  bool
	last       *Successor // the log is to be frozen, and its entries go there
	queue      []*batch   // the last one is open
	queued     int        // entries in the queue and in the commit in flight
	queuedSize int64      // their bytes
	lastCount  int        // entries in the last batch
	lastAt     time.Time  // when it was committed
	traced     span.Point // of an entry that was committed since the last publication began
	committing time.Time  // when the commit in flight began; zero without
	oldest     time.Time  // when the batch taken last from the queue was opened
	head       snapshot   // what is committed
	work       []fullObject
	writing    bool  // part of the work is being written
	durable    int64 // full tiles and bundles are durable up to this size
	spilled    int64 // snapshot.bytes at that size
	integrated int64 // all tiles and bundles are, partials for this size included
	published  Published
	found      bool        // there is a published checkpoint
	unsigned   time.Time   // since when the checkpoint to be published waits for our own signature; zero: it does not
	refreshAt  time.Time   // when an unchanged checkpoint is published anew
	waiting    []milestone // commits not covered by published, in order
	lastRound  int64       // number of the newest round
	outdated   int64       // rounds below this one bring what is to be published anew
	rounds     map[*round]struct{}
	stored     []byte // the bucket's checkpoint as last read or written
	storedSize int64  // its size; -1 without
	storedSlot int64  // of the record of that size
	partials   []writtenPartial
	collected  int64 // records below this slot are deleted, as far as we know
}

func newLog(o Options) (*Log, error) {
	o, verifier, err := o.check()
	if err != nil {
		return nil, err
	}
	retired := make(chan struct{})
	return &Log{
		o: o, verifier: verifier, unlock: func() error { return nil },
		stopped: make(chan struct{}), wake: make(chan struct{}, 1),
		retired: retired, retire: sync.OnceFunc(func() { close(retired) }),
		freezing: make(chan struct{}), nudged: make(chan struct{}, 1),
		changed: make(chan struct{}), rounds: make(map[*round]struct{}), storedSize: -1,
	}, nil
}

// Close releases the lock of Open. Run must have returned, or not have been called.
func (l *Log) Close() error { return l.unlock() }

// Head returns the committed size and its root. Not all of it need be published.
func (l *Log) Head() (size int64, root [32]byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head.size, l.head.root
}

// notifyLocked wakes who waits for a change.
func (l *Log) notifyLocked() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// await blocks until met, called under the lock, holds, and reports whether it does: false means
// that ctx has ended.
func (l *Log) await(ctx context.Context, met func() bool) bool {
	for {
		l.mu.Lock()
		ok, changed := met(), l.changed
		l.mu.Unlock()
		if ok {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}
