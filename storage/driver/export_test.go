package driver

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"slices"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
)

// Leading reports whether Run takes entries.
func Leading(l *Log) bool { return l.appender.Load() != nil && l.admits() }

// PausedAdd and PausedAddCT return Add and AddCT from the moment on at which they have found that
// this Log leads.
func PausedAdd(l *Log) tessera.AddFn { return l.appender.Load().add }

func PausedAddCT(l *Log) func(context.Context, *ctonly.Entry) tessera.IndexFuture {
	return l.appender.Load().addCT
}

// Outstanding returns how many bytes of entries are outstanding, and whether that is the limit.
func Outstanding(l *Log) (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := l.queuedSize + l.head.bytes - l.spilled
	return n, n >= l.o.MaxOutstandingBytes
}

// ParseHeader parses a header line, encodes it again, and returns that with the line's length.
func ParseHeader(b []byte) (again []byte, size int, err error) {
	h, size, err := parseHeader(b)
	if err != nil {
		return nil, 0, err
	}
	again, err = h.encode()
	return again, size, err
}

// ParseIdentity and ParseFloor parse an object and encode it again.
func ParseIdentity(b []byte) ([]byte, error) {
	i, err := parseIdentity(b)
	if err != nil {
		return nil, err
	}
	return i.encode()
}

func ParseFloor(b []byte) ([]byte, error) {
	f, err := parseFloor(b)
	if err != nil {
		return nil, err
	}
	return f.encode()
}

// GoldenHeaders returns a LEADER and a BATCH record header with fixed identifiers.
func GoldenHeaders() (leader, batch []byte, err error) {
	s := state{log: id{1}, rec: hash{2}, root: emptyHash, rng: []hash{}, leader: -1}
	l := s.leaderHeader(id{3}, "https://a.example/?x=1&y=2")
	l.Nonce = id{4}
	leader, err = l.encode()
	if err != nil {
		return nil, nil, err
	}
	s = after(l, sum(leader))
	b := s.nextHeader(typeBatch, id{3})
	b.Nonce = id{5}
	b.NewSize, b.Count, b.Payload = 1, 1, sum([]byte("\x00\x05hello"))
	b.NewRoot = hash(leafHash(nil, []byte("hello")))
	b.Range = []hash{b.NewRoot}
	batch, err = b.encode()
	return leader, batch, err
}

// Chain verifies a sequence of records, headers and payloads, from an identity's hash on and
// returns the size it leads to.
func Chain(o Options, log [16]byte, identity [sha256.Size]byte, records [][]byte) (int64, error) {
	l := &Log{o: o, tree: newTree(nil), bundles: newBundles()}
	s := state{log: log, rec: identity, root: emptyHash, rng: []hash{}, leader: -1}
	for _, r := range records {
		var err error
		if s, err = l.replayRecord(s, r); err != nil {
			return 0, err
		}
	}
	return s.size, nil
}

// LogUUID returns the log's identifier.
func LogUUID(l *Log) [16]byte { return l.state.log }

// RefreshRetry is the pause after a refresh without quorum.
const RefreshRetry time.Duration = refreshRetry

// FlipRow, FlipBundle and FlipRange flip a bit in memory: of the first hash in the tile at the right
// edge, of the last byte of the entry bundle there, of the compact range.
func FlipRow(l *Log, level int) {
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	l.tree.edge[level].nodes[0] ^= 1
}

func FlipBundle(l *Log) {
	l.bundles.mu.Lock()
	defer l.bundles.mu.Unlock()
	l.bundles.edge.flip()
}

func FlipRange(l *Log) {
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	l.tree.rng.Hashes()[0][0] ^= 1
}

// FlipFullRow and FlipFullBundle do so in the first tile and the first entry bundle, if they are
// full and not written yet.
func FlipFullRow(l *Log) bool {
	l.tree.mu.Lock()
	defer l.tree.mu.Unlock()
	t := l.tree.pending[tileID{0, 0}]
	if t != nil {
		t.nodes[0] ^= 1
	}
	return t != nil
}

func FlipFullBundle(l *Log) bool {
	l.bundles.mu.Lock()
	defer l.bundles.mu.Unlock()
	b := l.bundles.pending[0]
	if b != nil {
		b.flip()
	}
	return b != nil
}

func (b *bundle) flip() {
	b.data = slices.Clone(b.data) // the written one is shared
	b.data[len(b.data)-1] ^= 1
}

// Takes reports whether the replica takes entries.
func Takes(r *Replica) bool {
	_, leading, _ := r.Term()
	return leading && Leading(r.current())
}

// SetJitter makes draw the source of jitter until restore.
func SetJitter(draw func(time.Duration) time.Duration) (restore func()) {
	old := jitter
	jitter = draw
	return func() { jitter = old }
}

// Establish makes a log of what the bucket publishes: tiles of the given size, whose root and
// checkpoint the caller knows.
func Establish(ctx context.Context, o Options, p Published) error {
	l, err := newLog(o)
	if err != nil {
		return err
	}
	l.tree, l.bundles = newTree(l.readTile), newBundles()
	if err := l.readEdge(ctx, state{size: p.Size, root: p.Root}); err != nil {
		return err
	}
	return l.establish(ctx, p)
}

// ErrUnsteady is what Verify and Inspect give up with.
var ErrUnsteady = errUnsteady

// ParseFreeze and ParseFrozen parse the objects that end a log.
func ParseFreeze(b []byte, log [16]byte) error {
	_, err := parseFreeze(b, log)
	return err
}

func ParseFrozen(b []byte, log [16]byte) (Frozen, error) { return parseFrozen(b, log) }

// FrozenLine is the object that ends a log.
func FrozenLine(log [16]byte, at time.Time, size int64, root [sha256.Size]byte, next Successor) []byte {
	line, err := json.Marshal(frozenObject{V: 1, Log: log, Time: at.UTC().Format(time.RFC3339), Size: size, Root: root, Next: next})
	if err != nil {
		panic(err)
	}
	return append(line, '\n')
}
