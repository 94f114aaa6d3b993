package trial

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"golang.org/x/mod/sumdb/tlog"
)

// A Referee sees every change of a log's bucket, every signature and every acknowledgement at the
// moment it happens, and holds it against the storage protocol: what is committed is the first record
// that was ever created in each slot. It has its own Merkle code and its own parsers. Its fields are
// for reading by whoever keeps others from calling it meanwhile.
type Referee struct {
	Name   string                           // of the log, "test" for state/test/ and logs/test/
	Origin string                           // of its checkpoints
	Fail   func(format string, args ...any) // is told of each violation; must not call the Referee

	// Cosigners returns how many witnesses have cosigned the checkpoint. Nil: the policy is "quorum
	// none".
	Cosigners func(checkpoint []byte, t tlog.Tree) int
	Quorum    int // how many it takes

	mu       sync.Mutex // guards the fields below
	objects  map[string][]byte
	identity string // hash of that object

	Slots   []Record
	Entries []string
	Writers map[string]bool // of LEADER records
	Ghosts  int             // LEADER records that landed in collected slots

	tree   hashes
	logged map[string]bool     // the entries again
	roots  map[int64]tlog.Hash // of the sizes at which records end

	signed    map[int64]tlog.Hash
	Published tlog.Tree // the bucket's checkpoint
	Floor     Floor
	swept     int64    // the records below were seen deleted
	whole     [3]int64 // by level, how many full tiles were seen in the store; level 0 with bundles

	// RolledBack says that the bucket was replaced by an older copy: nothing may be written or signed
	// any more.
	RolledBack bool
}

// A Record is a slot record's header, and what else the Referee keeps of it.
type Record struct {
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
	Removed bool `json:"-"` // was deleted once
	again   bool // and created again
}

// A Floor is what the Referee needs to know of a floor object.
type Floor struct {
	Seq, N, Size, Epoch, Leader, Swept int64
	Rec, Root                          string
}

// NewReferee returns a Referee for the log of that name and origin in a bucket that is empty.
func NewReferee(name, origin string, fail func(format string, args ...any)) *Referee {
	return &Referee{
		Name: name, Origin: origin, Fail: fail, objects: map[string][]byte{},
		logged: map[string]bool{}, Writers: map[string]bool{},
		roots: map[int64]tlog.Hash{}, signed: map[int64]tlog.Hash{},
	}
}

// hashes are the stored hashes of a tree, as golang.org/x/mod/sumdb/tlog has them.
type hashes struct{ stored []tlog.Hash }

func (h *hashes) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	var out []tlog.Hash
	for _, i := range indexes {
		out = append(out, h.stored[i])
	}
	return out, nil
}

func (f *Referee) state(key string) string  { return "state/" + f.Name + "/" + key }
func (f *Referee) public(key string) string { return "logs/" + f.Name + "/" + key }
func (f *Referee) slot(n int64) string      { return fmt.Sprintf("%s%020d", f.state("log/"), n) }

// slotOf returns the slot at key, if it is one.
func (f *Referee) slotOf(key string) (n int64, ok bool) {
	digits, ok := strings.CutPrefix(key, f.state("log/"))
	if !ok {
		return 0, false
	}
	_, err := fmt.Sscanf(digits, "%d", &n)
	return n, err == nil
}

func hexSum(b []byte) string {
	h := sha256.Sum256(b)
	return hex.EncodeToString(h[:])
}

// Put judges an object that was just stored. The Referee keeps data.
func (f *Referee) Put(who, key string, data []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[key] = data
	n, isSlot := f.slotOf(key)
	switch {
	case f.RolledBack && (isSlot || strings.HasPrefix(key, "logs/")):
		f.Fail("%s wrote %s in a store that was rolled back", who, key)
	case f.RolledBack:
	case key == f.state("identity"):
		f.identity = hexSum(data)
	case key == f.state("floor"):
		f.raise(who, data)
	case key == f.public("checkpoint"):
		f.publish(who, data)
	case isSlot:
		f.record(who, n, data)
	}
}

// record judges a record in slot n.
func (f *Referee) record(who string, n int64, raw []byte) {
	line, payload, _ := bytes.Cut(raw, []byte{'\n'})
	r := Record{line: hexSum(raw[:len(line)+1]), raw: sha256.Sum256(raw)}
	if err := json.Unmarshal(line, &r); err != nil {
		f.Fail("%s wrote slot %d with %q: %v", who, n, line, err)
		return
	}
	switch {
	case n < int64(len(f.Slots)):
		old := &f.Slots[n]
		old.again = true
		if r.Type == "LEADER" && r.raw != old.raw {
			f.Ghosts++
		} else if r.raw != old.raw {
			f.Fail("%s wrote another record to slot %d, which was collected", who, n)
		}
		return
	case n > int64(len(f.Slots)):
		f.Fail("%s wrote slot %d while slot %d is missing", who, n, len(f.Slots))
		return
	}
	if err := f.follows(r, n); err != nil {
		f.Fail("%s wrote slot %d: %v", who, n, err)
	} else if err := f.append(r, payload); err != nil {
		f.Fail("%s wrote slot %d: %v", who, n, err)
	}
}

// follows reports how the header of r in slot n does not continue the chain.
func (f *Referee) follows(r Record, n int64) error {
	last := Record{Leader: -1, NewRoot: hexSum(nil), line: f.identity}
	leader := int64(-1)
	if n > 0 {
		last = f.Slots[n-1]
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
	case r.Type == "LEADER" && f.Writers[r.Writer]:
		return fmt.Errorf("writer %s leads a second time", r.Writer)
	case r.Type == "BATCH" && (r.Epoch != last.Epoch || leader < 0 || f.Slots[leader].Writer != r.Writer):
		return fmt.Errorf("BATCH of epoch %d by writer %s, who does not lead", r.Epoch, r.Writer)
	case r.Type != "LEADER" && r.Type != "BATCH":
		return fmt.Errorf("type %q", r.Type)
	}
	return nil
}

// append takes in a record that follows, unless its entries are not what it says.
func (f *Referee) append(r Record, payload []byte) error {
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
		more, err := tlog.StoredHashes(int64(len(f.Entries)), []byte(e), &f.tree)
		if err != nil {
			return err
		}
		f.tree.stored = append(f.tree.stored, more...)
		f.Entries = append(f.Entries, e)
		f.logged[e] = true
	}
	root := tlog.Hash(sha256.Sum256(nil))
	var err error
	if r.NewSize > 0 {
		if root, err = tlog.TreeHash(r.NewSize, &f.tree); err != nil {
			return err
		}
	}
	if int64(len(f.Entries)) != r.NewSize || hex.EncodeToString(root[:]) != r.NewRoot {
		return fmt.Errorf("%d entries lead to root %v, not %s", len(f.Entries), root, r.NewRoot)
	}
	f.roots[r.NewSize] = root
	if r.Type == "LEADER" {
		f.Writers[r.Writer] = true
	}
	f.Slots = append(f.Slots, r)
	return nil
}

// raise judges a floor.
func (f *Referee) raise(who string, raw []byte) {
	old := f.Floor
	if err := json.Unmarshal(raw, &f.Floor); err != nil {
		f.Fail("%s wrote floor %q: %v", who, raw, err)
		return
	}
	n := f.Floor.N
	if n < old.N || f.Floor.Seq != old.Seq+1 || f.Floor.Swept < old.Swept || f.Floor.Swept > n {
		f.Fail("%s moved the floor from %+v to %+v", who, old, f.Floor)
		return
	}
	for ; f.swept < f.Floor.Swept; f.swept++ {
		if r := f.Slots[f.swept]; r.Type == "BATCH" && !r.Removed {
			f.Fail("%s says that records below slot %d are deleted, but slot %d was not", who, f.Floor.Swept, f.swept)
			return
		}
	}
	if n == 0 {
		return
	}
	if n >= int64(len(f.Slots)) || f.Slots[n].Removed || f.Slots[n].NewSize > f.Published.N {
		f.Fail("%s moved the floor to slot %d, which is not of the published size %d (invariant F)", who, n, f.Published.N)
		return
	}
	r := f.Slots[n-1]
	leader := r.Leader
	if r.Type == "LEADER" {
		leader = r.N
	}
	if f.Floor.Rec != r.line || f.Floor.Size != r.NewSize || f.Floor.Root != r.NewRoot || f.Floor.Epoch != r.Epoch || f.Floor.Leader != leader {
		f.Fail("%s wrote a floor that is not the log's state: %+v after %+v", who, f.Floor, r)
	}
}

// Removed judges the deletion of the object at key, which there need not be.
func (f *Referee) Removed(who, key string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	raw, exists := f.objects[key]
	if !exists {
		return
	}
	delete(f.objects, key)
	full, _, partial := strings.Cut(key, ".p/")
	_, replaced := f.objects[full]
	n, isSlot := f.slotOf(key)
	switch {
	case isSlot:
		r := &f.Slots[n]
		switch first := r.raw == sha256.Sum256(raw); {
		case n >= f.Floor.N:
			f.Fail("%s deleted slot %d, which is not below the floor at %d", who, n, f.Floor.N)
		case first && r.Type == "LEADER":
			f.Fail("%s deleted the LEADER record in slot %d", who, n)
		case first:
			r.Removed = true
		}
	case !partial || !replaced:
		f.Fail("%s deleted %s", who, key)
	}
}
