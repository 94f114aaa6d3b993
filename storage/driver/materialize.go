package driver

import (
	"context"

	"golang.org/x/sync/errgroup"
)

// A fullObject is a full tile, or the entry bundle above the leaves of a level 0 tile.
type fullObject struct {
	tileID
	bundle bool
}

// partialID names the width up to which a partial was written.
type partialID struct {
	index int64
	width int
}

// A partial is a tile or entry bundle at the right edge.
type partial struct {
	object
	partialID
	level int // of a tile; tileLevels for the entry bundle
}

// A snapshot is a committed tree and what its right edge consists of.
type snapshot struct {
	next  int64 // the slot after the record
	size  int64
	bytes int64 // of the entries committed since Open
	root  hash
	edges []partial
}

// extend appends entries to the tree and the bundles in memory and returns what is full now. joined
// is the entries concatenated, which bundles keep.
func (l *Log) extend(entries, leaves [][]byte, joined []byte) ([]fullObject, error) {
	tiles, err := l.tree.append(leaves)
	if err != nil {
		return nil, err
	}
	var work []fullObject
	for _, t := range tiles {
		work = append(work, fullObject{tileID: t})
	}
	for _, index := range l.bundles.append(entries, joined) {
		work = append(work, fullObject{tileID{0, index}, true})
	}
	return work, nil
}

// snapshot returns the right edge of size and root, which must be the present ones of the tree;
// next is the slot after the record. What it refers to does not change as the tree grows.
func (l *Log) snapshot(next, size int64, root hash) snapshot {
	snap := snapshot{next: next, size: size, root: root}
	for level := range edgeLevels(size) {
		width := edgeWidth(size, level)
		if width == 0 {
			continue
		}
		t, row := l.tree.edgeRow(level, width)
		snap.edges = append(snap.edges, partial{
			object{l.tileKey(t, width), l.tileKey(t, 0), row}, partialID{t.index, width}, level,
		})
		if level == 0 {
			b, _ := l.bundles.get(t.index)
			snap.edges = append(snap.edges, partial{
				object{l.bundleKey(t.index, width), l.bundleKey(t.index, 0), b.data},
				partialID{t.index, width}, tileLevels,
			})
		}
	}
	return snap
}

// writeTiles writes full tiles and bundles as commits complete them, while the next commit is
// under way, until ctx ends.
func (l *Log) writeTiles(ctx context.Context) error {
	for {
		var work []fullObject
		var size, bytes int64
		if !l.await(ctx, func() bool {
			work, size, bytes = l.work, l.head.size, l.head.bytes
			l.work, l.writing = nil, len(work) > 0
			return l.writing
		}) {
			return nil
		}
		if err := l.writeAll(ctx, work); err != nil {
			return quiet(ctx, err)
		}
		l.mu.Lock()
		l.writing = false
		if len(l.work) == 0 {
			size, bytes = l.head.size, l.head.bytes // what was committed meanwhile had nothing to write
		}
		l.durable, l.spilled = size, bytes
		l.notifyLocked()
		l.mu.Unlock()
	}
}

// writeFull checks and materializes one full tile or bundle and lets memory forget it.
func (l *Log) writeFull(ctx context.Context, w fullObject) error {
	if w.bundle {
		b, _ := l.bundles.get(w.index)
		leaves, err := l.rehash(w.index, b.data)
		if err != nil {
			return err
		}
		if err := l.checkFull(ctx, w, leaves); err != nil {
			return err
		}
		err = l.materialize(ctx, object{key: l.bundleKey(w.index, 0), data: b.data})
		if err == nil {
			l.bundles.durable(w.index)
		}
		return err
	}
	row := l.tree.full(w.tileID)
	if err := l.checkFull(ctx, w, row); err != nil {
		return err
	}
	err := l.materialize(ctx, object{key: l.tileKey(w.tileID, 0), data: row})
	if err == nil {
		l.tree.durable(w.tileID)
	}
	return err
}

// writePartials checks the right edge of snap and materializes it but for what was written before.
func (l *Log) writePartials(ctx context.Context, snap snapshot) error {
	if err := l.checkEdge(snap); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for _, p := range snap.edges {
		if l.wrote[p.level] != p.partialID {
			g.Go(func() error { return l.materialize(gctx, p.object) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, p := range snap.edges {
		if l.wrote[p.level] != p.partialID {
			l.wrote[p.level] = p.partialID
			l.partials = append(l.partials, writtenPartial{p.key, p.level % tileLevels, p.index})
		}
	}
	return nil
}

// quiet is err, or nil if it only says that ctx has ended.
func quiet(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}
