package driver

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/sync/errgroup"

	"tallywood/storage"
)

// An oddity is damage that was met at a slot.
type oddity struct {
	slot int64
	err  error
}

func (o *oddity) Error() string { return o.err.Error() }
func (o *oddity) Unwrap() error { return o.err }

// rebuild makes tree and entry bundles those of the state s that the tail search gave: from the
// tiles of the bucket's checkpoint, and from the records after it, each read in full and verified.
// It only reads. Afterwards l.undone has what those records want written, and l.published what the
// bucket's checkpoint says. Takeover steps a2 and d.
func (l *Log) rebuild(ctx context.Context, f floor, s state) error {
	l.tree, l.bundles = newTree(l.readTile), newBundles()
	l.undone, l.published, l.found = nil, Published{}, false
	at := f.state(s.log)
	pub, found, err := l.readCheckpoint(ctx)
	switch {
	case err != nil:
		return err
	case found && s.n == f.N && f.Size > 0 && pub.Size == f.Size && pub.Root == f.Root:
		// Imported, and without a record yet: its tree is where the floor begins.
		if err := l.readEdge(ctx, at); err != nil {
			return err
		}
		l.published, l.found = pub, true
	case found && s.n == f.N:
		return damagef("there is a checkpoint of size %d but no record", pub.Size)
	case found:
		if at, err = l.locate(ctx, f, s, pub); err != nil {
			return err
		}
		if err := l.readEdge(ctx, at); err != nil {
			return err
		}
		pub.slot = at.n - 1
		l.published, l.found = pub, true
	case f.N > 0:
		return damagef("records are collected up to slot %d but there is no checkpoint", f.N)
	}
	return l.replay(ctx, at, s)
}

// locate returns the state after the last record whose tree is the checkpoint's. Checkpoints exist
// only at record boundaries.
func (l *Log) locate(ctx context.Context, f floor, s state, pub Published) (state, error) {
	h, line, low, err := l.search(ctx, f.N, s.n, pub.Size)
	if err != nil {
		return state{}, l.missing(low, err)
	}
	why := ""
	switch {
	case h.Log != s.log:
		why = "belongs to another log"
	case h.NewSize != pub.Size:
		why = fmt.Sprintf("has size %d", h.NewSize)
	case h.NewRoot != pub.Root:
		why = "has another root"
	default:
		return after(h, line), nil
	}
	return state{}, &oddity{low, damagef("the checkpoint of size %d is of no record: slot %d %s", pub.Size, low, why)}
}

// search returns the header and the slot of the last record in [low, high) whose tree is not larger
// than size, or the record at low. Sizes grow with slots, so it bisects. After an error the slot is
// that which could not be read.
func (l *Log) search(ctx context.Context, low, high, size int64) (header, hash, int64, error) {
	for high-low > 1 {
		mid := low + (high-low)/2
		h, _, err := l.readHeader(ctx, mid)
		if err != nil {
			return header{}, hash{}, mid, err
		}
		if h.NewSize <= size {
			low = mid
		} else {
			high = mid
		}
	}
	h, line, err := l.readHeader(ctx, low)
	return h, line, low, err
}

// missing turns the absence of a slot that must exist into damage.
func (l *Log) missing(n int64, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		err = damagef("slot %d is missing", n)
	}
	return &oddity{n, err}
}

// readEdge restores the tree at s from the tiles at its right edge, and the entry bundle there.
func (l *Log) readEdge(ctx context.Context, s state) error {
	rows := make([][]byte, edgeLevels(s.size))
	var data []byte
	g, gctx := errgroup.WithContext(ctx)
	for level := range rows {
		if width := edgeWidth(s.size, level); width > 0 {
			t := tileID{level, s.size >> (layout.TileHeight * (level + 1))}
			g.Go(func() (err error) {
				rows[level], err = l.readPartial(gctx, l.tileKey(t, width), l.tileKey(t, 0))
				rows[level] = rows[level][:min(len(rows[level]), width*sha256.Size)]
				return err
			})
		}
	}
	index, width := s.size/bundleWidth, edgeWidth(s.size, 0)
	if width > 0 {
		g.Go(func() (err error) {
			data, err = l.readPartial(gctx, l.bundleKey(index, width), l.bundleKey(index, 0))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := l.tree.restore(s.size, s.root, rows); err != nil {
		return err
	}
	b, leaves, err := l.parseBundle(index, data)
	if err != nil {
		return err
	}
	if len(leaves) < width {
		return damagef("entry bundle %d has %d entries, not %d", index, len(leaves), width)
	}
	for i, leaf := range leaves[:width] {
		if !slices.Equal(leaf, rows[0][i*sha256.Size:(i+1)*sha256.Size]) {
			return damagef("entry %d does not match its tile", index*bundleWidth+int64(i))
		}
	}
	l.bundles.edge = bundle{index: index, ends: slices.Clone(b.ends[:width])}
	if width > 0 {
		l.bundles.edge.data = slices.Clone(data[:b.ends[width-1]])
	}
	return nil
}

// readPartial returns a partial tile or bundle, or what replaced it once it was full. One that a
// published checkpoint needs must exist.
func (l *Log) readPartial(ctx context.Context, key, full string) ([]byte, error) {
	b, _, err := l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		b, _, err = l.o.Bucket.Get(ctx, full, storage.Range{})
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, damagef("%s is missing", key)
	}
	if err != nil {
		return nil, fmt.Errorf("reading the right edge: %w", err)
	}
	return b, nil
}

// replay reads the records from state at up to state s.
func (l *Log) replay(ctx context.Context, at, s state) error {
	for at.n < s.n {
		raw, _, err := l.o.Bucket.Get(ctx, l.slotKey(at.n), storage.Range{})
		if err != nil {
			return l.missing(at.n, fmt.Errorf("reading slot %d: %w", at.n, err))
		}
		at, err = l.replayRecord(at, raw)
		if o := (*oddity)(nil); err != nil && !errors.As(err, &o) {
			return &oddity{at.n, err}
		} else if err != nil {
			return err
		}
	}
	if at.rec != s.rec {
		return &oddity{s.n - 1, damagef("slot %d changed while it was read", s.n-1)}
	}
	return nil
}

// replayRecord verifies the record raw in slot at.n, header and payload, and appends its entries.
func (l *Log) replayRecord(at state, raw []byte) (state, error) {
	h, size, err := parseHeader(raw)
	if err != nil {
		return at, damagef("slot %d: %w", at.n, err)
	}
	next, err := at.follow(h, sum(raw[:size]))
	if err != nil {
		// One of the two may be a ghost. If it is the one before, it may be the last below the floor.
		return at, &oddity{at.n - 1, &DamageError{err}}
	}
	payload := raw[size:]
	if len(payload) > maxPayload || sum(payload) != h.Payload {
		return at, damagef("slot %d: the entries are not those of the header", at.n)
	}
	b, leaves, err := l.parseEntries(payload)
	if err != nil {
		return at, damagef("slot %d: %w", at.n, err)
	}
	if int64(len(leaves)) != h.Count {
		return at, damagef("slot %d: %d entries, not %d", at.n, len(leaves), h.Count)
	}
	entries := make([][]byte, len(leaves))
	for i := range entries {
		entries[i] = b.entry(i)
	}
	work, err := l.extend(entries, leaves, payload)
	if err != nil {
		return at, err
	}
	if _, root, rng := l.tree.head(); root != h.NewRoot || !slices.Equal(rng, h.Range) {
		return at, damagef("slot %d: the entries do not lead to its root", at.n)
	}
	l.undone = append(l.undone, work...)
	return next, nil
}

// readTile reads the object of a full tile.
func (l *Log) readTile(ctx context.Context, t tileID) ([]byte, error) {
	b, _, err := l.o.Bucket.Get(ctx, l.tileKey(t, 0), storage.Range{})
	return b, err
}
