package monitor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/transparency-dev/merkle/compact"
	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"tallywood/witness/policy"
)

const (
	tileHeight  = 8
	tileBytes   = bundleWidth * tlog.HashSize
	maxTileCopy = 64 // verified tiles kept in memory, half a MiB
	maxSuspects = 32 // tiles kept as evidence
)

// An inconsistentError reports that a log's hash tiles do not make the root it signed, not even
// when asked past caches, or that it did not answer then.
type inconsistentError struct {
	size  int64
	root  tlog.Hash
	note  []byte
	err   error
	tiles []file // as received
}

func (e *inconsistentError) Error() string {
	return fmt.Sprintf("hash tiles do not make the signed root of size %d: %v", e.size, e.err)
}

func (e *inconsistentError) Unwrap() error { return e.err }

// A tree answers questions about the tree of one checkpoint from hash tiles, each authenticated to
// the root before it is used. It is used by one goroutine.
type tree struct {
	size   int64
	root   tlog.Hash
	note   []byte // the signed checkpoint
	source getter
	tiles  map[tlog.Tile][]byte // authenticated
}

func newTree(s getter, cp policy.Checkpoint) *tree {
	return &tree{size: cp.Size(), root: cp.Root(), note: cp.Note(), source: s, tiles: map[tlog.Tile][]byte{}}
}

// copies returns the tiles read so far as evidence, as many as are kept.
func (t *tree) copies() []file {
	var files []file
	for tile, data := range t.tiles {
		path := tilePath(strconv.Itoa(tile.L), tile.N, tile.W)
		files = append(files, file{name: evidenceName(path), data: data, url: path})
	}
	slices.SortFunc(files, func(a, b file) int { return strings.Compare(a.name, b.name) })
	return files[:min(len(files), maxSuspects)]
}

// hashes returns the hashes with the given storage indexes (see tlog.StoredHashIndex).
func (t *tree) hashes(ctx context.Context, indexes []int64) ([]tlog.Hash, error) {
	if len(indexes) == 0 {
		return nil, nil
	}
	var first *inconsistentError
	for fresh := false; ; fresh = true {
		r := &tileReader{tree: t, ctx: func() context.Context { return ctx }, fresh: fresh}
		hashes, err := tlog.TileHashReader(tlog.Tree{N: t.size, Hash: t.root}, r).ReadHashes(indexes)
		switch {
		case err == nil:
			return hashes, nil
		case r.err != nil && first != nil && ctx.Err() == nil: // what was seen is not unseen
			return nil, errors.Join(first, r.err)
		case r.err != nil:
			return nil, r.err
		}
		first = &inconsistentError{size: t.size, root: t.root, note: t.note, err: err, tiles: r.seen}
		if fresh {
			return nil, first
		}
		clear(t.tiles)
	}
}

// reader returns the tree as a tlog.HashReader for the length of a call.
func (t *tree) reader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) { return t.hashes(ctx, indexes) })
}

// rootAt returns the root that the first n entries had.
func (t *tree) rootAt(ctx context.Context, n int64) (tlog.Hash, error) {
	switch n {
	case 0:
		return sha256.Sum256(nil), nil
	case t.size:
		return t.root, nil
	}
	return tlog.TreeHash(n, t.reader(ctx))
}

// rangeAt returns the compact range of the first n entries.
func (t *tree) rangeAt(ctx context.Context, n int64) (*compact.Range, error) {
	var indexes []int64
	for _, id := range compact.RangeNodes(0, uint64(n), nil) {
		indexes = append(indexes, tlog.StoredHashIndex(int(id.Level), int64(id.Index)))
	}
	hashes, err := t.hashes(ctx, indexes)
	if err != nil {
		return nil, err
	}
	raw := make([][]byte, len(hashes))
	for i := range hashes {
		raw[i] = hashes[i][:]
	}
	return ranges.NewRange(0, uint64(n), raw)
}

// bundleRoots returns the roots of the full bundles [from, to).
func (t *tree) bundleRoots(ctx context.Context, from, to int64) ([]tlog.Hash, error) {
	var indexes []int64
	for n := from; n < to; n++ {
		indexes = append(indexes, tlog.StoredHashIndex(tileHeight, n))
	}
	return t.hashes(ctx, indexes)
}

// leafHashes returns the leaf hashes of entries [from, to).
func (t *tree) leafHashes(ctx context.Context, from, to int64) ([]tlog.Hash, error) {
	var indexes []int64
	for n := from; n < to; n++ {
		indexes = append(indexes, tlog.StoredHashIndex(0, n))
	}
	return t.hashes(ctx, indexes)
}

// prove returns the proof that the entry at index is in the tree, checked.
func (t *tree) prove(ctx context.Context, index int64, leaf tlog.Hash) (tlog.RecordProof, error) {
	p, err := tlog.ProveRecord(t.size, index, t.reader(ctx))
	if err != nil {
		return nil, err
	}
	return p, tlog.CheckRecord(p, t.size, t.root, index, leaf)
}

// A tileReader serves one call of tree.hashes: it meets tlog.TileReader, which knows no context.
type tileReader struct {
	tree  *tree
	ctx   func() context.Context
	fresh bool  // ask past caches, our own included
	err   error // why a tile could not be read at all

	mu   sync.Mutex
	seen []file // tiles fetched, as received
}

// Height implements tlog.TileReader.
func (r *tileReader) Height() int { return tileHeight }

// ReadTiles implements tlog.TileReader.
func (r *tileReader) ReadTiles(tiles []tlog.Tile) ([][]byte, error) {
	out := make([][]byte, len(tiles))
	g, ctx := errgroup.WithContext(r.ctx())
	g.SetLimit(readAhead)
	for i, tile := range tiles {
		if data, ok := r.tree.tiles[tile]; ok {
			out[i] = data
			continue
		}
		g.Go(func() (err error) {
			out[i], err = r.read(ctx, tile)
			return err
		})
	}
	r.err = g.Wait()
	return out, r.err
}

// read fetches a tile. A partial one that is gone is cut from the full one.
func (r *tileReader) read(ctx context.Context, t tlog.Tile) ([]byte, error) {
	path := tilePath(strconv.Itoa(t.L), t.N, t.W)
	data, err := r.tree.source.get(ctx, path, tileBytes, r.fresh)
	if errors.Is(err, fs.ErrNotExist) && t.W < bundleWidth {
		path = tilePath(strconv.Itoa(t.L), t.N, bundleWidth)
		full, fullErr := r.tree.source.get(ctx, path, tileBytes, r.fresh)
		if fullErr == nil {
			data, err = full[:min(len(full), t.W*tlog.HashSize)], nil
		}
	}
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.seen) < maxSuspects {
		r.seen = append(r.seen, file{name: evidenceName(path), data: data, url: path, at: time.Now()})
	}
	return data, nil
}

// SaveTiles implements tlog.TileReader: these are authenticated.
func (r *tileReader) SaveTiles(tiles []tlog.Tile, data [][]byte) {
	if len(r.tree.tiles)+len(tiles) > maxTileCopy {
		clear(r.tree.tiles)
	}
	for i, t := range tiles {
		r.tree.tiles[t] = data[i]
	}
}
