package driver

import (
	"bytes"
	"context"
	"crypto/sha256"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
)

// The root that is signed comes from a compact range, tiles from rows of hashes, bundles from the
// encoded entries: a bit that flips in one of them leaves the others as they are. What is here
// computes one from the other on a second path, golang.org/x/mod/sumdb/tlog, over the very bytes
// that are written. Where they differ nothing is written or signed; what the bucket has is sound
// then, so that a restart mends it.
//
// It takes, for each entry, one more leaf hash and two node hashes, and for each publication those of
// the right edge again, at most 255 leaves and twice as many nodes per level: about 0.2 ms.

// checkRoot fails unless the rows at the right edge of s lead to its root.
func (s snapshot) checkRoot() error {
	var rows [tileLevels]partial
	for _, p := range s.edges {
		if p.level < tileLevels {
			rows[p.level] = p
		}
	}
	root, err := tlog.TreeHash(s.size, tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, index := range indexes {
			level, _ := tlog.SplitStoredHashIndex(index)
			p := rows[level/layout.TileHeight]
			var err error
			if hashes[i], err = tlog.HashFromTile(p.tile(), p.data, index); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	}))
	if err != nil {
		return damagef("checking the tiles of size %d in memory: %w", s.size, err)
	}
	if hash(root) != s.root {
		return damagef("the tiles of size %d in memory do not lead to its root", s.size)
	}
	return nil
}

func (p partial) tile() tlog.Tile {
	return tlog.Tile{H: layout.TileHeight, L: p.level, N: p.index, W: p.width}
}

// checkEdge fails unless the entry bundle at the right edge of s, if it is to be written, matches
// the tile there, and that and the others lead to the root.
func (l *Log) checkEdge(s snapshot) error {
	var row, entries *partial
	for i, p := range s.edges {
		switch p.level {
		case 0:
			row = &s.edges[i]
		case tileLevels:
			entries = &s.edges[i]
		}
	}
	if entries != nil && l.wrote[tileLevels] != entries.partialID {
		leaves, err := l.rehash(entries.index, entries.data)
		if err != nil {
			return err
		}
		if !bytes.Equal(leaves, row.data) {
			return damagef("entry bundle %d in memory does not match its tile", entries.index)
		}
	}
	return s.checkRoot()
}

// rehash returns the leaf hashes of the entry bundle index, concatenated as in a tile.
func (l *Log) rehash(index int64, data []byte) ([]byte, error) {
	_, leaves, err := l.parseEntries(data)
	if err != nil {
		return nil, damagef("entry bundle %d in memory: %w", index, err)
	}
	return bytes.Join(leaves, nil), nil
}

// checkFull fails unless row, a full tile or the leaf hashes of a full entry bundle, has the root
// that the tile's parent knows.
func (l *Log) checkFull(ctx context.Context, w fullObject, row []byte) error {
	what := "tile"
	if w.bundle {
		what = "entry bundle of tile"
	}
	if len(row) != tileWidth*sha256.Size {
		return damagef("the %s %d/%d in memory has %d hashes", what, w.level, w.index, len(row)/sha256.Size)
	}
	t := tlog.Tile{H: layout.TileHeight, L: w.level, N: w.index, W: tileWidth}
	var halves [2]tlog.Hash
	for i := range halves {
		index := tlog.StoredHashIndex(layout.TileHeight*(w.level+1)-1, 2*w.index+int64(i))
		var err error
		if halves[i], err = tlog.HashFromTile(t, row, index); err != nil {
			return damagef("checking the %s %d/%d in memory: %w", what, w.level, w.index, err)
		}
	}
	root, err := l.tree.node(ctx, compact.NewNodeID(layout.TileHeight*uint(w.level+1), uint64(w.index)))
	if err != nil {
		return err
	}
	if hash(tlog.NodeHash(halves[0], halves[1])) != root {
		return damagef("the %s %d/%d in memory does not match the tree", what, w.level, w.index)
	}
	return nil
}
