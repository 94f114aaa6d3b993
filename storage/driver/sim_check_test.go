package driver_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/transparency-dev/tessera/api/layout"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage/driver"
)

// A referee sees every change of a simulated store, every signature and every acknowledgement at the
// moment it happens, and holds it against the protocol. What is committed is the first record that
// was ever created in each slot. It has its own Merkle code and its own parsers. Its methods are
// called under the world's mutex.
type referee struct {
	w        *world
	identity string // hash of that object

	slots   []simRecord
	tree    oracle
	entries []string
	logged  map[string]bool     // the entries again
	writers map[string]bool     // of LEADER records
	roots   map[int64]tlog.Hash // of the sizes at which records end
	ghosts  int                 // LEADER records that landed in collected slots

	signed    map[int64]tlog.Hash
	published tlog.Tree // the bucket's checkpoint
	floor     simFloor
	swept     int64    // the records below were seen deleted
	whole     [3]int64 // by level, how many full tiles were seen in the store; level 0 with bundles

	rolledBack bool // nothing may be written or signed any more
}

// A simRecord is a header, and what else the referee keeps of a record.
type simRecord struct {
	N       int64  `json:"n"`
	Type    string `json:"type"`
	Epoch   int64  `json:"epoch"`
	Leader  int64  `json:"leader"`
	Writer  string `json:"writer"`
	Prev    string `json:"prev"`
	OldSize int64  `json:"old_size"`
	NewSize int64  `json:"new_size"`
	NewRoot string `json:"new_root"`
	Count   int64  `json:"count"`
	Payload string `json:"payload_sha256"`

	line    string // hash of the header line
	raw     [sha256.Size]byte
	removed bool // was deleted once
	again   bool // and created again
}

// A simFloor is a floor object.
type simFloor struct {
	Seq, N, Size, Epoch, Leader, Swept int64
	Rec, Root                          string
}

func newReferee(w *world) *referee {
	return &referee{
		w: w, logged: map[string]bool{}, writers: map[string]bool{},
		roots: map[int64]tlog.Hash{}, signed: map[int64]tlog.Hash{},
	}
}

func hexSum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// put judges an object that was just stored.
func (f *referee) put(who, key string, data []byte) {
	var n int64
	switch {
	case f.rolledBack && (strings.HasPrefix(key, "state/test/log/") || strings.HasPrefix(key, "logs/")):
		f.w.fail("%s wrote %s in a store that was rolled back", who, key)
	case f.rolledBack:
	case key == "state/test/identity":
		f.identity = hexSum(data)
	case key == "state/test/floor":
		f.raise(who, data)
	case key == "logs/test/checkpoint":
		f.publish(who, data)
	case second(fmt.Sscanf(key, "state/test/log/%d", &n)) == nil:
		f.record(who, n, data)
	}
}

// record judges a record in slot n.
func (f *referee) record(who string, n int64, raw []byte) {
	line, payload, _ := bytes.Cut(raw, []byte{'\n'})
	r := simRecord{line: hexSum(raw[:len(line)+1]), raw: sha256.Sum256(raw)}
	if err := json.Unmarshal(line, &r); err != nil {
		f.w.fail("%s wrote slot %d with %q: %v", who, n, line, err)
		return
	}
	switch {
	case n < int64(len(f.slots)):
		old := &f.slots[n]
		old.again = true
		if r.Type == "LEADER" && r.raw != old.raw {
			f.ghosts++
		} else if r.raw != old.raw {
			f.w.fail("%s wrote another record to slot %d, which was collected", who, n)
		}
		return
	case n > int64(len(f.slots)):
		f.w.fail("%s wrote slot %d while slot %d is missing", who, n, len(f.slots))
		return
	}
	if err := f.follows(r, n); err != nil {
		f.w.fail("%s wrote slot %d: %v", who, n, err)
	} else if err := f.append(r, payload); err != nil {
		f.w.fail("%s wrote slot %d: %v", who, n, err)
	}
}

// follows reports how the header of r in slot n does not continue the chain.
func (f *referee) follows(r simRecord, n int64) error {
	last := simRecord{Leader: -1, NewRoot: hexSum(nil), line: f.identity}
	leader := int64(-1)
	if n > 0 {
		last = f.slots[n-1]
		if leader = last.Leader; last.Type == "LEADER" {
			leader = last.N
		}
	}
	switch {
	case r.N != n:
		return fmt.Errorf("the record says slot %d", r.N)
	case r.Prev != last.line:
		return fmt.Errorf("the record does not follow the one before it")
	case r.OldSize != last.NewSize || r.NewSize != r.OldSize+r.Count:
		return fmt.Errorf("from size %d to %d after size %d", r.OldSize, r.NewSize, last.NewSize)
	case r.Leader != leader:
		return fmt.Errorf("leader is slot %d, not %d", r.Leader, leader)
	case r.Type == "LEADER" && (r.Epoch != last.Epoch+1 || r.Count != 0):
		return fmt.Errorf("LEADER of epoch %d with %d entries after epoch %d", r.Epoch, r.Count, last.Epoch)
	case r.Type == "LEADER" && f.writers[r.Writer]:
		return fmt.Errorf("writer %s leads a second time", r.Writer)
	case r.Type == "BATCH" && (r.Epoch != last.Epoch || leader < 0 || f.slots[leader].Writer != r.Writer):
		return fmt.Errorf("BATCH of epoch %d by writer %s, who does not lead", r.Epoch, r.Writer)
	case r.Type != "LEADER" && r.Type != "BATCH":
		return fmt.Errorf("type %q", r.Type)
	}
	return nil
}

// append takes in a record that follows, unless its entries are not what it says.
func (f *referee) append(r simRecord, payload []byte) error {
	if r.Payload != hexSum(payload) {
		return fmt.Errorf("payload hash %s", r.Payload)
	}
	for len(payload) > 0 {
		n := int(binary.BigEndian.Uint16(payload)) + 2
		e := string(payload[2:n])
		payload = payload[n:]
		if f.logged[e] {
			return fmt.Errorf("entry %q is logged twice", e)
		}
		hashes, err := tlog.StoredHashes(int64(len(f.entries)), []byte(e), &f.tree)
		if err != nil {
			return err
		}
		f.tree.hashes = append(f.tree.hashes, hashes...)
		f.entries = append(f.entries, e)
		f.logged[e] = true
	}
	root := tlog.Hash(sha256.Sum256(nil))
	var err error
	if r.NewSize > 0 {
		if root, err = tlog.TreeHash(r.NewSize, &f.tree); err != nil {
			return err
		}
	}
	if int64(len(f.entries)) != r.NewSize || hex.EncodeToString(root[:]) != r.NewRoot {
		return fmt.Errorf("%d entries lead to root %v, not %s", len(f.entries), root, r.NewRoot)
	}
	f.roots[r.NewSize] = root
	if r.Type == "LEADER" {
		f.writers[r.Writer] = true
	}
	f.slots = append(f.slots, r)
	return nil
}

// raise judges a floor.
func (f *referee) raise(who string, raw []byte) {
	old := f.floor
	if err := json.Unmarshal(raw, &f.floor); err != nil {
		f.w.fail("%s wrote floor %q: %v", who, raw, err)
		return
	}
	n := f.floor.N
	if n < old.N || f.floor.Seq != old.Seq+1 || f.floor.Swept < old.Swept || f.floor.Swept > n {
		f.w.fail("%s moved the floor from %+v to %+v", who, old, f.floor)
		return
	}
	for ; f.swept < f.floor.Swept; f.swept++ {
		if r := f.slots[f.swept]; r.Type == "BATCH" && !r.removed {
			f.w.fail("%s says that records below slot %d are deleted, but slot %d was not", who, f.floor.Swept, f.swept)
			return
		}
	}
	if n == 0 {
		return
	}
	if n >= int64(len(f.slots)) || f.slots[n].removed || f.slots[n].NewSize > f.published.N {
		f.w.fail("%s moved the floor to slot %d, which is not of the published size %d (invariant F)", who, n, f.published.N)
		return
	}
	r := f.slots[n-1]
	leader := r.Leader
	if r.Type == "LEADER" {
		leader = r.N
	}
	if f.floor.Rec != r.line || f.floor.Size != r.NewSize || f.floor.Root != r.NewRoot || f.floor.Epoch != r.Epoch || f.floor.Leader != leader {
		f.w.fail("%s wrote a floor that is not the log's state: %+v after %+v", who, f.floor, r)
	}
}

// removed judges a deletion.
func (f *referee) removed(who, key string, raw []byte) {
	var n int64
	full, _, partial := strings.Cut(key, ".p/")
	_, replaced := f.w.store.objects[full]
	switch {
	case second(fmt.Sscanf(key, "state/test/log/%d", &n)) == nil:
		r := &f.slots[n]
		switch first := r.raw == sha256.Sum256(raw); {
		case n >= f.floor.N:
			f.w.fail("%s deleted slot %d, which is not below the floor at %d", who, n, f.floor.N)
		case first && r.Type == "LEADER":
			f.w.fail("%s deleted the LEADER record in slot %d", who, n)
		case first:
			r.removed = true
		}
	case !partial || !replaced:
		f.w.fail("%s deleted %s", who, key)
	}
}

// parse returns the tree of a checkpoint.
func (f *referee) parse(who string, text []byte) (tree tlog.Tree, ok bool) {
	lines := strings.Split(string(text), "\n")
	_, err := fmt.Sscan(lines[1], &tree.N)
	if err == nil {
		tree.Hash, err = tlog.ParseHash(lines[2])
	}
	if err != nil || lines[0] != origin {
		f.w.fail("%s made checkpoint %q: %v", who, text, err)
		return tree, false
	}
	return tree, true
}

// sign judges what is about to be signed: one root for each size, a committed one, whose tiles and
// bundles are in the store. The empty tree may be signed before there is a record.
func (f *referee) sign(who string, text []byte) {
	t, ok := f.parse(who, text)
	if !ok || t.N == 0 && t.Hash == tlog.Hash(sha256.Sum256(nil)) {
		return
	}
	if root, ok := f.roots[t.N]; !ok || root != t.Hash {
		f.w.fail("%s signed size %d with root %v, which is not committed", who, t.N, t.Hash)
	} else if f.rolledBack {
		f.w.fail("%s signed size %d of a store that was rolled back", who, t.N)
	} else if old, ok := f.signed[t.N]; ok && old != t.Hash {
		f.w.fail("%s signed a second root at size %d", who, t.N)
	} else if err := f.present(t.N); err != nil {
		f.w.fail("%s signed size %d: %v", who, t.N, err)
	}
	f.signed[t.N] = t.Hash
}

// publish judges the bucket's checkpoint.
func (f *referee) publish(who string, raw []byte) {
	t, ok := f.parse(who, raw)
	if !ok {
		return
	}
	if t.N < f.published.N {
		f.w.fail("%s swapped the checkpoint from size %d to %d", who, f.published.N, t.N)
	}
	f.published = t
	f.cosigned(who, raw)
}

// cosigned fails unless what is published, be it in a receipt only, was signed and has its quorum.
func (f *referee) cosigned(who string, raw []byte) {
	t, ok := f.parse(who, raw)
	if !ok {
		return
	}
	if t.N > 0 && f.signed[t.N] != t.Hash {
		f.w.fail("%s published size %d, which nobody has signed", who, t.N)
	}
	have := 0
	for _, v := range f.w.witnesses {
		if strings.Contains(string(raw), "\u2014 "+v.name+" ") && v.cosigned[t.N] == t.Hash {
			have++
		}
	}
	if len(f.w.witnesses) > 0 && have < quorumOf3 {
		f.w.fail("%s published size %d with %d cosignatures", who, t.N, have)
	}
}

// acked judges an acknowledgement: the entry is committed, with that index.
func (f *referee) acked(who string, index int64, entry string) {
	switch {
	case f.rolledBack:
		f.w.fail("%s took an entry into a store that was rolled back", who)
	case index >= int64(len(f.entries)) || f.entries[index] != entry:
		f.w.fail("%s acknowledged %q at index %d, which is not what is committed there", who, entry, index)
	}
}

// present returns what is missing or wrong of the tiles and bundles of a committed size.
func (f *referee) present(size int64) error {
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
func (f *referee) holds(level int, index int64, width int) error {
	t := tlog.Tile{H: layout.TileHeight, L: level, N: index, W: width}
	if width == 0 {
		t.W = layout.TileWidth
	}
	want, err := tlog.ReadTileData(t, &f.tree)
	if err != nil {
		return err
	}
	check := func(path func(p uint8) string, want []byte) error {
		o, ok := f.w.store.objects["logs/test/"+path(uint8(width))]
		if !ok {
			o, ok = f.w.store.objects["logs/test/"+path(0)]
		}
		if !ok || !bytes.HasPrefix(o.data, want) || width == 0 && len(o.data) != len(want) {
			return fmt.Errorf("%s is missing or wrong", path(uint8(width)))
		}
		return nil
	}
	if err := check(func(p uint8) string { return layout.TilePath(uint64(level), uint64(index), p) }, want); err != nil || level > 0 {
		return err
	}
	var bundle []byte
	for _, e := range f.entries[index*layout.TileWidth:][:t.W] {
		bundle = append(binary.BigEndian.AppendUint16(bundle, uint16(len(e))), e...)
	}
	return check(func(p uint8) string { return driver.TlogTiles().EntriesPath(uint64(index), p) }, bundle)
}

// end judges what a world leaves behind once it has come to rest.
func (f *referee) end() {
	if f.published.N != int64(len(f.entries)) {
		f.w.fail("the log came to rest at size %d, but only %d are published", len(f.entries), f.published.N)
	}
	f.whole = [3]int64{}
	if err := f.present(f.published.N); err != nil {
		f.w.fail("the log came to rest at size %d: %v", f.published.N, err)
	}
	for n, r := range f.slots {
		o, ok := f.w.store.objects[slotKey(n)]
		switch same := ok && sha256.Sum256(o.data) == r.raw; {
		case (r.Type == "LEADER" || int64(n) >= f.floor.N) && !same:
			f.w.fail("the %s record in slot %d is gone", r.Type, n)
		case r.Type == "BATCH" && int64(n) < f.floor.Swept && ok && !r.again:
			f.w.fail("the record in slot %d was not collected", n)
		}
	}
}
