package driver

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/storage"
)

const (
	gcDeletes = 1000 // keys of one Delete
	// gcLists bounds how many tiles a new leader looks through for partials of its predecessor.
	gcLists = 10_000
)

// A published record is where a checkpoint of the bucket was at some time.
type publishedAt struct {
	at   time.Time
	slot int64 // whose record has the checkpoint's size
}

// collect removes records and partial tiles that nobody needs, now and then, until ctx ends.
func (l *Log) collect(ctx context.Context) error {
	if l.o.GCInterval < 0 {
		return nil
	}
	var past []publishedAt
	listed := false
	for pause(ctx, l.o.GCInterval) {
		l.mu.Lock()
		size, slot := l.storedSize, l.storedSlot
		l.mu.Unlock()
		if size < 0 {
			continue
		}
		past = append(past, publishedAt{time.Now(), slot})
		n := l.pickFloor(&past)
		err := l.sweepPartials(ctx, size, &listed)
		if err == nil { // the floor says where a successor is to look for partials
			err = l.sweepSlots(ctx, size, n)
		}
		if unusable(err) {
			return err
		}
		if err != nil && ctx.Err() == nil {
			l.o.Log.WarnContext(ctx, "collecting garbage", "origin", l.o.Origin, "err", err)
		}
	}
	return nil
}

// pickFloor returns the slot up to which records may go: old enough for an operator to have looked,
// and no later than the bucket's checkpoint (invariant F). It forgets what is older.
func (l *Log) pickFloor(past *[]publishedAt) int64 {
	newest := (*past)[len(*past)-1]
	n := int64(0)
	for i := len(*past) - 1; i >= 0; i-- {
		p := (*past)[i]
		if newest.at.Sub(p.at) >= l.o.GCKeepAge && newest.slot-p.slot >= l.o.GCKeepSlots {
			n = p.slot
			*past = (*past)[i:]
			break
		}
	}
	return n
}

// sweepSlots moves the floor to slot n and deletes BATCH records below it, storage-protocol section 3
// step 7. LEADER records stay for ever: they keep a slot that a process asleep would write next.
func (l *Log) sweepSlots(ctx context.Context, pubSize, n int64) error {
	f, v, err := l.readFloorVersion(ctx)
	if err != nil {
		return err
	}
	l.setCollected(f.Swept)
	if n <= f.N {
		return nil
	}
	h, line, err := l.readHeader(ctx, n-1)
	if err != nil {
		return fmt.Errorf("moving the floor: %w", err)
	}
	s := after(h, line)
	swept := max(f.Swept, l.swept)
	next := floor{
		Seq: f.Seq + 1, N: n, Size: s.size, Root: s.root, Range: s.rng, Rec: s.rec, Epoch: s.epoch,
		Leader: s.leader, PubSize: pubSize, Swept: swept,
	}
	if err := l.swapFloor(ctx, next, v); err != nil {
		return err
	}
	leaders := map[int64]bool{}
	for at := s.leader; at >= swept; {
		leaders[at] = true
		h, _, err := l.readHeader(ctx, at)
		if err != nil {
			return fmt.Errorf("following the LEADER records: %w", err)
		}
		at = h.Leader
	}
	var keys []string
	for slot := swept; slot < n; slot++ {
		if !leaders[slot] {
			keys = append(keys, l.slotKey(slot))
		}
	}
	if err := l.deleteAll(ctx, keys); err != nil {
		return err
	}
	l.swept = n // the next floor says so
	l.setCollected(n)
	return nil
}

// swapFloor replaces the floor of version v, to a definite answer.
func (l *Log) swapFloor(ctx context.Context, f floor, v storage.Version) error {
	data, err := f.encode()
	if err != nil {
		return err
	}
	o := private
	o.If = storage.Match(v)
	if _, err = l.put(ctx, l.stateKey("floor"), data, o); err == nil {
		return nil
	}
	stored, rerr := l.readFloor(ctx)
	if rerr != nil {
		return errors.Join(fmt.Errorf("moving the floor: %w", err), rerr)
	}
	if again, eerr := stored.encode(); eerr != nil || string(again) != string(data) {
		return fmt.Errorf("moving the floor: %w", err)
	}
	return nil // the answer was lost
}

func (l *Log) deleteAll(ctx context.Context, keys []string) error {
	for len(keys) > 0 {
		n := min(len(keys), gcDeletes)
		if err := l.o.Bucket.Delete(ctx, keys[:n]...); err != nil {
			return fmt.Errorf("collecting %s and others: %w", keys[0], err)
		}
		keys = keys[n:]
	}
	return nil
}

// A writtenPartial is a partial tile or bundle in the bucket.
type writtenPartial struct {
	key   string
	level int // of the tile; 0 for a bundle
	index int64
}

// sweepPartials deletes the partials of tiles and bundles that are full below the published size.
// Of a predecessor's it learns by listing, once.
func (l *Log) sweepPartials(ctx context.Context, size int64, listed *bool) error {
	if !*listed {
		head, _ := l.Head() // a predecessor wrote some of what it did not live to publish
		if err := l.listPartials(ctx, head); err != nil {
			return err
		}
		*listed = true
	}
	var keys []string
	var swept []writtenPartial
	l.mu.Lock()
	kept := make([]writtenPartial, 0, len(l.partials))
	for _, p := range l.partials {
		if p.index < size>>(layout.TileHeight*(p.level+1)) {
			keys, swept = append(keys, p.key), append(swept, p)
		} else {
			kept = append(kept, p)
		}
	}
	l.partials = kept
	l.mu.Unlock()
	err := l.deleteAll(ctx, keys)
	if err != nil { // next time
		l.mu.Lock()
		defer l.mu.Unlock()
		l.partials = append(l.partials, swept...)
	}
	return err
}

// listPartials lists the partials of the tiles at the right edge of size, and of those that were filled
// since the floor was written.
func (l *Log) listPartials(ctx context.Context, size int64) error {
	f, err := l.readFloor(ctx)
	if err != nil {
		return err
	}
	var found []writtenPartial
	list := func(full string, level int, index int64) error {
		for key, err := range l.o.Bucket.List(ctx, full+".p/") {
			if err != nil {
				return fmt.Errorf("listing partial tiles: %w", err)
			}
			found = append(found, writtenPartial{key, level, index})
		}
		return nil
	}
	lists := 0
	for level := range edgeLevels(size) {
		shift := layout.TileHeight * (level + 1)
		for n := f.PubSize >> shift; n <= size>>shift && lists < gcLists; n++ {
			if err := list(l.tileKey(tileID{level, n}, 0), level, n); err != nil {
				return err
			}
			if level == 0 {
				if err := list(l.bundleKey(n, 0), level, n); err != nil {
					return err
				}
			}
			lists++
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partials = append(l.partials, found...)
	return nil
}
