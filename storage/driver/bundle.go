package driver

import (
	"context"
	"fmt"
	"sync"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/storage"
)

const (
	bundleWidth = layout.EntryBundleWidth

	cachedBundles = 32 // full entry bundles kept in memory once they are durable
)

// A bundle is an entry bundle, or the beginning of one.
type bundle struct {
	index int64
	data  []byte
	ends  []int // where each entry ends in data
}

// entry returns entry i as it is encoded.
func (b *bundle) entry(i int) []byte {
	start := 0
	if i > 0 {
		start = b.ends[i-1]
	}
	return b.data[start:b.ends[i]:b.ends[i]]
}

// bundles holds the entry bundle at the right edge, the full ones that are not durable yet, and a
// bounded number of others.
type bundles struct {
	seen *cache[int64, *bundle]

	mu      sync.RWMutex
	edge    bundle            // appended to, never changed in place
	pending map[int64]*bundle // full, not durable
}

func newBundles() *bundles {
	return &bundles{seen: newCache[int64, *bundle](cachedBundles), pending: make(map[int64]*bundle)}
}

// append adds encoded entries and returns the indexes of the bundles they completed, pending from
// now on. joined is the entries concatenated; bundles that lie in it whole share its memory, so it
// must not change any more.
func (b *bundles) append(entries [][]byte, joined []byte) []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var done []int64
	for len(entries) > 0 {
		n := min(bundleWidth-len(b.edge.ends), len(entries))
		if n < bundleWidth && b.edge.data == nil {
			b.edge.data = make([]byte, 0, bundleWidth*(len(joined)/len(entries)))
		}
		size := 0
		for _, e := range entries[:n] {
			size += len(e)
			b.edge.ends = append(b.edge.ends, len(b.edge.data)+size)
		}
		if n == bundleWidth {
			b.edge.data = joined[:size:size]
		} else {
			b.edge.data = append(b.edge.data, joined[:size]...)
		}
		entries, joined = entries[n:], joined[size:]
		if len(b.edge.ends) == bundleWidth {
			full := b.edge
			b.pending[full.index] = &full
			done = append(done, full.index)
			b.edge = bundle{index: full.index + 1}
		}
	}
	return done
}

// durable says that the bundle is in the bucket, so that memory may forget it.
func (b *bundles) durable(index int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if full := b.pending[index]; full != nil {
		b.seen.add(index, full)
		delete(b.pending, index)
	}
}

// get returns what memory holds of a bundle. Later appends do not change it.
func (b *bundles) get(index int64) (*bundle, bool) {
	b.mu.RLock()
	full, edge := b.pending[index], b.edge
	b.mu.RUnlock()
	switch {
	case full != nil:
		return full, true
	case edge.index == index:
		return &edge, true
	}
	return b.seen.get(index)
}

// bundle returns the entry bundle, verified against the tree if it comes from the bucket.
func (l *Log) bundle(ctx context.Context, index int64) (*bundle, error) {
	if b, ok := l.bundles.get(index); ok {
		return b, nil
	}
	key := l.bundleKey(index, 0)
	data, _, err := l.o.Bucket.Get(ctx, key, storage.Range{})
	if err != nil {
		return nil, fmt.Errorf("reading entry bundle %d: %w", index, err)
	}
	b, leaves, err := l.parseBundle(index, data)
	if err != nil {
		return nil, err
	}
	if len(leaves) != bundleWidth {
		return nil, damagef("entry bundle %d has %d entries", index, len(leaves))
	}
	t := &tile{index: index}
	for i, leaf := range leaves {
		copy(t.at(0, uint64(i)), leaf)
	}
	t.fill(tileWidth)
	root, err := l.tree.node(ctx, compact.NewNodeID(layout.TileHeight, uint64(index)))
	if err != nil {
		return nil, err
	}
	if t.root() != root {
		return nil, damagef("entry bundle %d does not match the tree", index)
	}
	l.tree.seen.add(tileID{0, index}, t) // of which a proof of the entry needs the hashes
	l.bundles.seen.add(index, b)
	return b, nil
}

// parseBundle splits an entry bundle and hashes its entries.
func (l *Log) parseBundle(index int64, data []byte) (*bundle, [][]byte, error) {
	b, leaves, err := l.parseEntries(data)
	if err != nil {
		return nil, nil, damagef("entry bundle %d: %w", index, err)
	}
	b.index = index
	return b, leaves, nil
}

// parseEntries splits concatenated entries, those of a bundle or of a record, and hashes them.
func (l *Log) parseEntries(data []byte) (*bundle, [][]byte, error) {
	entries, err := l.o.Layout.Split(data)
	if err != nil {
		return nil, nil, err
	}
	b := &bundle{data: data}
	leaves := make([][]byte, len(entries))
	end := 0
	for i, e := range entries {
		if leaves[i], err = l.o.Layout.LeafHash(e); err != nil {
			return nil, nil, fmt.Errorf("hashing entry %d: %w", i, err)
		}
		end += len(e)
		b.ends = append(b.ends, end)
	}
	return b, leaves, nil
}

// Entry returns the committed entry at index as it stands in its entry bundle, verified against
// the tree. The caller must not change it.
func (l *Log) Entry(ctx context.Context, index int64) ([]byte, error) {
	if size, _ := l.Head(); index < 0 || index >= size {
		return nil, fmt.Errorf("reading entry %d: the log has %d", index, size)
	}
	b, err := l.bundle(ctx, index/bundleWidth)
	if err != nil {
		return nil, fmt.Errorf("reading entry %d: %w", index, err)
	}
	return b.entry(int(index % bundleWidth)), nil
}
