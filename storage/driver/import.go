package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"
)

// importChunk is how many entry bundles are read, checked and written at a time.
const importChunk = 64

// A Fetch returns an object of a published log by its path below the log's prefix, such as
// checkpoint or tile/0/000. A missing one wraps fs.ErrNotExist.
type Fetch = func(ctx context.Context, path string) ([]byte, error)

// Import copies a published log into the bucket, where it holds no log of that name yet, and makes
// it one that this driver goes on with: with the same key, from the same tree. Every entry is checked
// against the signed checkpoint before it is written. What wrote the log so far must have stopped
// for good: two writers with one key make two logs. Import may be repeated after it was cut short.
func Import(ctx context.Context, o Options, fetch Fetch, progress func(done, size int64)) (Published, error) {
	l, err := newLog(o)
	if err != nil {
		return Published{}, err
	}
	if err := l.importable(ctx); err != nil {
		return Published{}, fmt.Errorf("importing log %q: %w", l.o.Name, err)
	}
	raw, err := fetch(ctx, "checkpoint")
	if err != nil {
		return Published{}, fmt.Errorf("importing log %q: reading its checkpoint: %w", l.o.Name, err)
	}
	p, err := l.openCheckpoint(raw)
	if err != nil {
		return Published{}, fmt.Errorf("importing log %q: %w", l.o.Name, err)
	}
	l.tree, l.bundles = newTree(l.readTile), newBundles()
	if err := l.importEntries(ctx, p, fetch, progress); err != nil {
		return Published{}, fmt.Errorf("importing log %q: %w", l.o.Name, err)
	}
	if err := l.establish(ctx, p); err != nil {
		return Published{}, fmt.Errorf("importing log %q: %w", l.o.Name, err)
	}
	return p, nil
}

// importable refuses a name that has a log already. What an import that was cut short left is none.
func (l *Log) importable(ctx context.Context) error {
	written, err := l.exists(ctx, l.slotKey(0))
	if err != nil {
		return fmt.Errorf("looking for slot 0: %w", err)
	}
	if written {
		return fmt.Errorf("%w: %s has records", ErrOtherLog, l.stateKey(""))
	}
	return nil
}

// importEntries copies tiles and entry bundles of the tree p.
func (l *Log) importEntries(ctx context.Context, p Published, fetch Fetch, progress func(done, size int64)) error {
	tiles := &sourceTiles{ctx: func() context.Context { return ctx }, fetch: fetch, seen: map[tlog.Tile][]byte{}}
	hashes := tlog.TileHashReader(tlog.Tree{N: p.Size, Hash: tlog.Hash(p.Root)}, tiles)
	bundles := (p.Size + bundleWidth - 1) / bundleWidth
	for first := int64(0); first < bundles; first += importChunk {
		n := min(importChunk, bundles-first)
		read, err := l.fetchBundles(ctx, p, fetch, hashes, first, n)
		if err != nil {
			return err
		}
		var work []fullObject
		for _, b := range read {
			done, err := l.extend(b.entries, b.leaves, b.data)
			if err != nil {
				return err
			}
			work = append(work, done...)
		}
		if err := l.writeAll(ctx, work); err != nil {
			return err
		}
		progress(min((first+n)*bundleWidth, p.Size), p.Size)
	}
	if size, root, _ := l.tree.head(); size != p.Size || root != p.Root {
		return errors.New("the entries are not those of the checkpoint")
	}
	return l.writePartials(ctx, l.snapshot(0, p.Size, p.Root))
}

type sourceBundle struct {
	data            []byte
	entries, leaves [][]byte
}

// fetchBundles reads n entry bundles and checks the full ones against the checkpoint.
func (l *Log) fetchBundles(ctx context.Context, p Published, fetch Fetch, hashes tlog.HashReader, first, n int64) ([]sourceBundle, error) {
	read := make([]sourceBundle, n)
	g, gctx := errgroup.WithContext(ctx)
	for i := range read {
		g.Go(func() (err error) {
			read[i], err = l.fetchBundle(gctx, p, fetch, first+int64(i))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var indexes []int64
	for i := range read {
		if len(read[i].leaves) == bundleWidth {
			indexes = append(indexes, tlog.StoredHashIndex(layout.TileHeight, first+int64(i)))
		}
	}
	want, err := hashes.ReadHashes(indexes)
	if err != nil {
		return nil, fmt.Errorf("reading hash tiles: %w", err)
	}
	for i := range indexes {
		if rowRoot(bytes.Join(read[i].leaves, nil)) != want[i] {
			return nil, fmt.Errorf("entry bundle %d is not what the checkpoint's tree has", first+int64(i))
		}
	}
	return read, nil
}

func (l *Log) fetchBundle(ctx context.Context, p Published, fetch Fetch, index int64) (sourceBundle, error) {
	width := min(p.Size-index*bundleWidth, bundleWidth)
	path := l.o.Layout.EntriesPath(uint64(index), uint8(width%bundleWidth))
	data, err := fetch(ctx, path)
	if errors.Is(err, fs.ErrNotExist) && width < bundleWidth { // the log has grown since
		data, err = fetch(ctx, l.o.Layout.EntriesPath(uint64(index), 0))
	}
	if err != nil {
		return sourceBundle{}, fmt.Errorf("reading %s: %w", path, err)
	}
	b, leaves, err := l.parseEntries(data)
	if err != nil {
		return sourceBundle{}, fmt.Errorf("reading %s: %w", path, err)
	}
	if int64(len(leaves)) < width {
		return sourceBundle{}, fmt.Errorf("reading %s: it has %d entries, not %d", path, len(leaves), width)
	}
	s := sourceBundle{data: data, leaves: leaves[:width]}
	for i := range width {
		s.entries = append(s.entries, b.entry(int(i)))
	}
	return s, nil
}

// establish writes what makes the copy a log: checkpoint, identity and a floor that begins with its
// tree. A process that then takes the log over goes on from there.
func (l *Log) establish(ctx context.Context, p Published) error {
	stored, err := l.create(ctx, l.publicKey("checkpoint"), p.Note, current)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored, p.Note) {
		return fmt.Errorf("%w: %s is another checkpoint", ErrOtherLog, l.publicKey("checkpoint"))
	}
	raw, err := l.createIdentity(ctx)
	if err != nil {
		return err
	}
	ident, err := parseIdentity(raw)
	if err != nil {
		return err
	}
	if err := l.own(ident); err != nil {
		return err
	}
	_, _, rng := l.tree.head()
	f := floor{Seq: 1, Size: p.Size, Root: p.Root, Range: rng, Rec: sum(raw), Leader: -1, PubSize: p.Size}
	data, err := f.encode()
	if err != nil {
		return err
	}
	stored, err = l.create(ctx, l.stateKey("floor"), data, private)
	if err != nil {
		return err
	}
	if !bytes.Equal(stored, data) {
		return fmt.Errorf("%w: %s is another floor", ErrOtherLog, l.stateKey("floor"))
	}
	return nil
}

// sourceTiles reads the hash tiles of a log that is imported. tlog checks them.
type sourceTiles struct {
	ctx   func() context.Context
	fetch Fetch

	mu   sync.Mutex
	seen map[tlog.Tile][]byte
}

// Height implements tlog.TileReader.
func (s *sourceTiles) Height() int { return layout.TileHeight }

// ReadTiles implements tlog.TileReader.
func (s *sourceTiles) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	g, gctx := errgroup.WithContext(s.ctx())
	g.SetLimit(parallelPuts)
	for i, t := range tiles {
		g.Go(func() (err error) {
			out[i], err = s.readTile(gctx, t)
			return err
		})
	}
	return out, g.Wait()
}

func (s *sourceTiles) readTile(ctx context.Context, t tlog.Tile) ([]byte, error) {
	s.mu.Lock()
	data, ok := s.seen[t]
	s.mu.Unlock()
	if ok {
		return data, nil
	}
	path := strings.Replace(t.Path(), "tile/8/", "tile/", 1)
	data, err := s.fetch(ctx, path)
	if errors.Is(err, fs.ErrNotExist) && t.W < 1<<layout.TileHeight {
		full := t
		full.W = 1 << layout.TileHeight
		data, err = s.fetch(ctx, strings.Replace(full.Path(), "tile/8/", "tile/", 1))
		data = data[:min(len(data), t.W*tlog.HashSize)]
	}
	if err != nil {
		return nil, fmt.Errorf("reading %s: %w", path, err)
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader: it is told of tiles that are as they should be.
func (s *sourceTiles) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, t := range tiles {
		if t.L > 0 { // level 0 is not asked for twice
			s.seen[t] = data[i]
		}
	}
}
