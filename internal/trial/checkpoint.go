package trial

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"
)

// Parse returns the tree of a checkpoint, which must be of the log.
func (f *Referee) Parse(who string, text []byte) (tree tlog.Tree, ok bool) {
	lines := append(strings.Split(string(text), "\n"), "", "")
	_, err := fmt.Sscan(lines[1], &tree.N)
	if err == nil {
		tree.Hash, err = tlog.ParseHash(lines[2])
	}
	if err != nil || lines[0] != f.Origin {
		f.Fail("%s made checkpoint %q: %v", who, text, err)
		return tree, false
	}
	return tree, true
}

// Sign judges what is about to be signed: one root for each size, a committed one, whose tiles and
// bundles are in the store. The empty tree may be signed before there is a record.
func (f *Referee) Sign(who string, text []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.Parse(who, text)
	if !ok || t.N == 0 && t.Hash == tlog.Hash(sha256.Sum256(nil)) {
		return
	}
	if root, ok := f.roots[t.N]; !ok || root != t.Hash {
		f.Fail("%s signed size %d with root %v, which is not committed", who, t.N, t.Hash)
	} else if f.RolledBack {
		f.Fail("%s signed size %d of a store that was rolled back", who, t.N)
	} else if old, ok := f.signed[t.N]; ok && old != t.Hash {
		f.Fail("%s signed a second root at size %d", who, t.N)
	} else if err := f.present(t.N); err != nil {
		f.Fail("%s signed size %d: %v", who, t.N, err)
	}
	f.signed[t.N] = t.Hash
}

// publish judges the bucket's checkpoint.
func (f *Referee) publish(who string, raw []byte) {
	t, ok := f.Parse(who, raw)
	if !ok {
		return
	}
	if t.N < f.Published.N {
		f.Fail("%s swapped the checkpoint from size %d to %d", who, f.Published.N, t.N)
	}
	f.Published = t
	f.cosigned(who, raw)
}

// Cosigned fails unless what is published, be it in a receipt only, was signed and has its quorum.
func (f *Referee) Cosigned(who string, raw []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cosigned(who, raw)
}

func (f *Referee) cosigned(who string, raw []byte) {
	t, ok := f.Parse(who, raw)
	if !ok {
		return
	}
	if t.N > 0 && f.signed[t.N] != t.Hash {
		f.Fail("%s published size %d, which nobody has signed", who, t.N)
	}
	if f.Cosigners == nil {
		return
	}
	if have := f.Cosigners(raw, t); have < f.Quorum {
		f.Fail("%s published size %d with %d cosignatures", who, t.N, have)
	}
}

// Acked judges an acknowledgement: the entry is committed, with that index.
func (f *Referee) Acked(who string, index int64, entry string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.RolledBack:
		f.Fail("%s took an entry into a store that was rolled back", who)
	case index >= int64(len(f.Entries)) || f.Entries[index] != entry:
		f.Fail("%s acknowledged %q at index %d, which is not what is committed there", who, entry, index)
	}
}

// present returns what is missing or wrong of the tiles and bundles of a committed size.
func (f *Referee) present(size int64) error {
	for level := range f.whole {
		shift := layout.TileHeight * (level + 1)
		for ; f.whole[level] < size>>shift; f.whole[level]++ {
			if err := f.holds(level, f.whole[level], 0); err != nil {
				return err
			}
		}
		if width := int(size>>(shift-layout.TileHeight)) % layout.TileWidth; width > 0 {
			if err := f.holds(level, size>>shift, width); err != nil {
				return err
			}
		}
	}
	return nil
}

// holds returns how a tile, or the bundle above it, is not as it should be. A partial may have been
// replaced.
func (f *Referee) holds(level int, index int64, width int) error {
	t := tlog.Tile{H: layout.TileHeight, L: level, N: index, W: width}
	if width == 0 {
		t.W = layout.TileWidth
	}
	want, err := tlog.ReadTileData(t, &f.tree)
	if err != nil {
		return err
	}
	check := func(path func(p uint8) string, want []byte) error {
		data, ok := f.objects[f.public(path(uint8(width)))]
		if !ok {
			data, ok = f.objects[f.public(path(0))]
		}
		if !ok || !bytes.HasPrefix(data, want) || width == 0 && len(data) != len(want) {
			return fmt.Errorf("%s is missing or wrong", path(uint8(width)))
		}
		return nil
	}
	if err := check(func(p uint8) string { return layout.TilePath(uint64(level), uint64(index), p) }, want); err != nil || level > 0 {
		return err
	}
	var bundle []byte
	for _, e := range f.Entries[index*layout.TileWidth:][:t.W] {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(e))), e...)
	}
	return check(func(p uint8) string { return layout.EntriesPath(uint64(index), p) }, bundle)
}

// End judges what is left behind once the log has come to rest.
func (f *Referee) End() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.Published.N != int64(len(f.Entries)) {
		f.Fail("the log came to rest at size %d, but only %d are published", len(f.Entries), f.Published.N)
	}
	f.whole = [3]int64{}
	if err := f.present(f.Published.N); err != nil {
		f.Fail("the log came to rest at size %d: %v", f.Published.N, err)
	}
	for n, r := range f.Slots {
		raw, ok := f.objects[f.slot(int64(n))]
		switch same := ok && sha256.Sum256(raw) == r.raw; {
		case (r.Type == "LEADER" || int64(n) >= f.Floor.N) && !same:
			f.Fail("the %s record in slot %d is gone", r.Type, n)
		case r.Type == "BATCH" && int64(n) < f.Floor.Swept && ok && !r.again:
			f.Fail("the record in slot %d was not collected", n)
		}
	}
}

// Unpublished returns how many entries are committed that the bucket's checkpoint does not cover.
func (f *Referee) Unpublished() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return int64(len(f.Entries)) - f.Published.N
}

// Leftovers returns the objects that garbage collection should have removed: partials beside what
// replaced them.
func (f *Referee) Leftovers() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var left []string
	for key := range f.objects {
		if full, _, partial := strings.Cut(key, ".p/"); partial {
			if _, replaced := f.objects[full]; replaced {
				left = append(left, key)
			}
		}
	}
	slices.Sort(left)
	return left
}
