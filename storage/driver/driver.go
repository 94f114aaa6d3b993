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
	"iter"
	"log/slog"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
)

// Errors of Add, AddCT and Await, always wrapped. Each means the same to a client: try again later.
// Add fails with a wrapped tessera.ErrPushback too.
var (
	// ErrNotLeading reports that this Log does not sequence: not yet, no longer, or not any more.
	ErrNotLeading = errors.New("not leading")
	// ErrNoQuorum reports that no checkpoint with a quorum of cosignatures came in time.
	ErrNoQuorum = errors.New("no quorum of cosignatures in time")
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

	QuorumTimeout   time.Duration // how long Await waits for a publication; default 3 s
	LateTimeout     time.Duration // how long a late quorum is still welcome; default 30 s
	PublishInterval time.Duration // least time between publications; default 0: as soon as possible
	Republish       time.Duration // refresh of an idle log's checkpoint; default 10 min, negative: off
	DrainTimeout    time.Duration // how long Run goes on after its context ends; default 10 s

	BatchMaxAge    time.Duration // how long a busy log lets a batch grow; default 10 ms
	BatchMaxSize   int           // entries per batch; default 4,096
	MaxOutstanding int           // entries queued or committed but not integrated; default 16,384

	// MaxUnpublished is the age of the oldest committed but unpublished entry from which on adds
	// are refused. Default 5 s; with the StaticCT layout 60 s.
	MaxUnpublished time.Duration

	URL string       // where replicas reach this process, recorded in LEADER records; optional
	Log *slog.Logger // nil discards
}

// Published is a published checkpoint.
type Published struct {
	Size int64
	Root [32]byte
	Note []byte    // the signed note with its cosignatures
	Time time.Time // when this process published it, or opened the log and found it
}

// Log is one log in a Bucket. All methods may be called concurrently.
type Log struct{}

// Open takes over the log, creating it if the bucket has none: it locks the log where the bucket
// can (another process then gets an error), verifies the stored state, makes this process the
// leader by a LEADER record and writes what tiles its predecessor left out. It starts nothing.
func Open(ctx context.Context, o Options) (*Log, error) { return nil, errors.ErrUnsupported }

// Run leads the log until ctx ends: it commits what is added, and signs and publishes what is
// committed. Then it refuses adds, drains within Options.DrainTimeout and returns nil. Any other
// return means that leading ended for the reason returned. Run may be called once.
func (l *Log) Run(ctx context.Context) error { return errors.ErrUnsupported }

// Close releases the lock of Open. Run must have returned.
func (l *Log) Close() error { return nil }

// Add queues e and returns a future that resolves to its durable index. Without Run it fails with
// ErrNotLeading.
func (l *Log) Add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture { return nil }

// AddCT is Add for the StaticCT layout. The caller must not change e before the future resolved.
func (l *Log) AddCT(ctx context.Context, e *ctonly.Entry) tessera.IndexFuture { return nil }

// Head returns the committed size and its root. Not all of it need be published.
func (l *Log) Head() (size int64, root [32]byte) { return 0, root }

// Published returns the newest published checkpoint, which may not have reached the bucket yet.
func (l *Log) Published() (Published, bool) { return Published{}, false }

// Await returns a published checkpoint of at least size. It fails with ErrNoQuorum when there is
// none after Options.QuorumTimeout.
func (l *Log) Await(ctx context.Context, size int64) (Published, error) { return Published{}, nil }

// InclusionProof returns the inclusion proof of the entry at index in the tree of size, which
// must be committed.
func (l *Log) InclusionProof(ctx context.Context, index, size int64) ([][]byte, error) {
	return nil, nil
}

// ConsistencyProof returns the consistency proof between the trees of oldSize and size.
func (l *Log) ConsistencyProof(ctx context.Context, oldSize, size int64) ([][]byte, error) {
	return nil, nil
}

// Entry returns the committed entry at index as it stands in its entry bundle, verified against
// the tree.
func (l *Log) Entry(ctx context.Context, index int64) ([]byte, error) { return nil, nil }

// Entries yields the committed entries from index from up to but not including to, as Entry does.
func (l *Log) Entries(ctx context.Context, from, to int64) iter.Seq2[[]byte, error] { return nil }

// OldestUnpublished returns the commit time of the oldest committed entry that no published
// checkpoint covers, and whether there is one.
func (l *Log) OldestUnpublished() (time.Time, bool) { return time.Time{}, false }
