package driver

import (
	"context"
	"crypto/sha256"
	"fmt"
	"math/bits"
	"sync"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"
)

const (
	tileWidth  = layout.TileWidth
	tileLevels = 8 // levels of tiles: more than any size needs
	tileNodes  = 2*tileWidth - 2

	// cachedTiles bounds the memory for full tiles, about 16 KB each.
	cachedTiles = 512
)

var ranges = compact.RangeFactory{Hash: hashChildren}

// tileID names a tile; level counts in tiles.
type tileID struct {
	level int
	index int64
}

// A tile holds the bottom row of a tile and above it all interior nodes but the root, which is in
// the bottom row of the tile's parent: 256 hashes of level 0, 128 of level 1, up to 2 of level 7.
type tile struct {
	index int64
	nodes [tileNodes * sha256.Size]byte
}

func (t *tile) at(level uint, index uint64) []byte {
	row := 2*tileWidth - 2*tileWidth>>level
	at := (row + int(index)) * sha256.Size
	return t.nodes[at : at+sha256.Size : at+sha256.Size]
}

// row returns the first width hashes of the bottom row: the tile as it is stored.
func (t *tile) row(width int) []byte { return t.nodes[: width*sha256.Size : width*sha256.Size] }

// fill computes the interior nodes that the first width hashes of the bottom row complete.
func (t *tile) fill(width int) {
	for level := uint(1); level < layout.TileHeight; level++ {
		for i := uint64(0); i < uint64(width)>>level; i++ {
			copy(t.at(level, i), hashChildren(t.at(level-1, 2*i), t.at(level-1, 2*i+1)))
		}
	}
}

func (t *tile) root() hash {
	return hash(hashChildren(t.at(layout.TileHeight-1, 0), t.at(layout.TileHeight-1, 1)))
}

// tree is the Merkle tree: its right edge, the full tiles that are not durable yet, and a bounded
// number of others, read from the bucket and checked against the edge as they are needed.
type tree struct {
	read func(ctx context.Context, t tileID) ([]byte, error) // a full tile's object
	seen *cache[tileID, *tile]

	mu      sync.RWMutex
	rng     *compact.Range
	edge    [tileLevels]*tile // by level, the tile that is not full; nil if there is none
	pending map[tileID]*tile  // full, not durable
}

func newTree(read func(ctx context.Context, t tileID) ([]byte, error)) *tree {
	return &tree{
		read: read, seen: newCache[tileID, *tile](cachedTiles),
		rng: ranges.NewEmptyRange(0), pending: make(map[tileID]*tile),
	}
}

// restore sets an empty tree to the given size from the rows of its right edge, one for each
// level, and fails unless they lead to root.
func (t *tree) restore(size int64, root hash, rows [][]byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for level, row := range rows {
		width := edgeWidth(size, level)
		if len(row) != width*sha256.Size {
			return damagef("tile level %d of size %d has %d bytes at the edge", level, size, len(row))
		}
		if width > 0 {
			e := &tile{index: size >> (layout.TileHeight * (level + 1))}
			copy(e.nodes[:], row)
			e.fill(width)
			t.edge[level] = e
		}
	}
	var hashes [][]byte
	for b := 63; b >= 0; b-- {
		if size>>b&1 == 1 {
			level, _, node, index := layout.NodeCoordsToTileAddress(uint64(b), uint64(size>>b-1))
			hashes = append(hashes, t.edge[level].at(node, index))
		}
	}
	rng, err := ranges.NewRange(0, uint64(size), hashes)
	if err != nil {
		return fmt.Errorf("restoring the tree of size %d: %w", size, err)
	}
	if t.rng = rng; t.rootLocked() != root {
		return damagef("the tiles of size %d do not lead to its root", size)
	}
	return nil
}

// edgeWidth returns how many hashes the tile at the right edge has in the tree of size.
func edgeWidth(size int64, level int) int {
	return int(size>>(layout.TileHeight*level)) % tileWidth
}

// edgeLevels returns how many levels of tiles the tree of size has.
func edgeLevels(size int64) int {
	return (bits.Len64(uint64(size)) + layout.TileHeight - 1) / layout.TileHeight
}

// append adds leaf hashes and returns the tiles they completed, pending from now on.
func (t *tree) append(leaves [][]byte) ([]tileID, error) {
	var done []tileID
	for len(leaves) > 0 {
		n := min(len(leaves), tileWidth) // give readers a chance in between
		if err := t.appendSome(leaves[:n], &done); err != nil {
			return nil, fmt.Errorf("appending to the tree: %w", err)
		}
		leaves = leaves[n:]
	}
	return done, nil
}

func (t *tree) appendSome(leaves [][]byte, done *[]tileID) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, leaf := range leaves {
		if err := t.rng.Append(leaf, t.setLocked); err != nil {
			return err
		}
		size := int64(t.rng.End())
		for level := 0; size%tileWidth == 0; level++ {
			size /= tileWidth
			full := tileID{level, size - 1}
			t.pending[full] = t.edge[level]
			t.edge[level] = nil
			*done = append(*done, full)
		}
	}
	return nil
}

// setLocked stores a complete node in the tile at the right edge it belongs to.
func (t *tree) setLocked(n compact.NodeID, h []byte) {
	level, index, node, at := layout.NodeCoordsToTileAddress(uint64(n.Level), n.Index)
	if t.edge[level] == nil {
		t.edge[level] = &tile{index: int64(index)}
	}
	copy(t.edge[level].at(node, at), h)
}

// durable says that the tile is in the bucket, so that memory may forget it.
func (t *tree) durable(id tileID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tile := t.pending[id]; tile != nil {
		t.seen.add(id, tile)
		delete(t.pending, id)
	}
}

// full returns the bytes of a pending tile.
func (t *tree) full(id tileID) []byte {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.pending[id].row(tileWidth)
}

// edgeRow returns the stored form of the tile at the right edge in the tree of the present size.
// Later appends do not change it.
func (t *tree) edgeRow(level, width int) (tileID, []byte) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	e := t.edge[level]
	return tileID{level, e.index}, e.row(width)
}

// head returns size, root and compact range.
func (t *tree) head() (int64, hash, []hash) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	rng := make([]hash, len(t.rng.Hashes()))
	for i, h := range t.rng.Hashes() {
		rng[i] = hash(h)
	}
	return int64(t.rng.End()), rangeRoot(rng), rng
}

func (t *tree) rootLocked() hash {
	rng := make([]hash, len(t.rng.Hashes()))
	for i, h := range t.rng.Hashes() {
		rng[i] = hash(h)
	}
	return rangeRoot(rng)
}

// node returns the hash of a complete node.
func (t *tree) node(ctx context.Context, n compact.NodeID) (hash, error) {
	level, index, node, at := layout.NodeCoordsToTileAddress(uint64(n.Level), n.Index)
	id := tileID{int(level), int64(index)}
	t.mu.RLock()
	tile := t.pending[id]
	if e := t.edge[level]; e != nil && e.index == id.index {
		h := hash(e.at(node, at)) // under the lock: append may be at work in this tile
		t.mu.RUnlock()
		return h, nil
	}
	t.mu.RUnlock()
	if tile == nil {
		var err error
		if tile, err = t.load(ctx, id); err != nil {
			return hash{}, err
		}
	}
	return hash(tile.at(node, at)), nil
}

// load returns a full tile that is durable. One read from the bucket must have the root that its
// parent knows, and so on up to the edge: what the bucket returns cannot change a proof.
func (t *tree) load(ctx context.Context, id tileID) (*tile, error) {
	if tile, ok := t.seen.get(id); ok {
		return tile, nil
	}
	data, err := t.read(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("reading tile %d/%d: %w", id.level, id.index, err)
	}
	tile := &tile{index: id.index}
	if len(data) != len(tile.row(tileWidth)) {
		return nil, damagef("tile %d/%d has %d bytes", id.level, id.index, len(data))
	}
	copy(tile.nodes[:], data)
	tile.fill(tileWidth)
	root, err := t.node(ctx, compact.NewNodeID(layout.TileHeight*uint(id.level+1), uint64(id.index)))
	if err != nil {
		return nil, err
	}
	if tile.root() != root {
		return nil, damagef("tile %d/%d is not the one the tree has", id.level, id.index)
	}
	t.seen.add(id, tile)
	return tile, nil
}
