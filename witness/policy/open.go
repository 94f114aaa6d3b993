package policy

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// A Checkpoint is a verified checkpoint. Only [Policy.Open] and [Policy.OpenLog] make one; the
// zero Checkpoint is of no log and size 0.
type Checkpoint struct {
	tree         Tree
	text         string
	note         string
	cosignatures []Cosignature
}

// A Cosignature is a verified cosignature of a witness that the policy lists.
type Cosignature struct {
	Witness string    // its name in the policy
	Key     Key       // the key that signed
	Time    time.Time // when it says it signed
}

// Origin returns the log's origin, which is the name of the key that signed.
func (c Checkpoint) Origin() string { return c.tree.Origin }

// Size returns the number of entries in the tree.
func (c Checkpoint) Size() int64 { return c.tree.Size }

// Root returns the root hash.
func (c Checkpoint) Root() [32]byte { return c.tree.Root }

// Tree returns the verified statement, extension lines included.
func (c Checkpoint) Tree() Tree { return c.tree }

// Text returns the signed text, which ends in LF.
func (c Checkpoint) Text() string { return c.text }

// Note returns the note as it was opened: signature lines of unknown keys are in it too.
func (c Checkpoint) Note() []byte { return []byte(c.note) }

// NoteString is Note as a string, which takes no copy.
func (c Checkpoint) NoteString() string { return c.note }

// Cosignatures returns the verified cosignatures, in the order of the policy's witnesses.
// Of several by one key it is the newest.
func (c Checkpoint) Cosignatures() []Cosignature {
	return append([]Cosignature(nil), c.cosignatures...)
}

// A SignatureError reports a checkpoint that is not what a listed log signed.
type SignatureError struct {
	Origin string // as the note has it, unverified
	Name   string // key name of the line that failed; empty if a line is missing
	Err    error
}

func (e *SignatureError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("checkpoint of %q: %v", e.Origin, e.Err)
	}
	return fmt.Sprintf("checkpoint of %q: signature line of %s: %v", e.Origin, e.Name, e.Err)
}

// Unwrap returns the reason.
func (e *SignatureError) Unwrap() error { return e.Err }

// A QuorumError reports a checkpoint that its log did sign, and too few witnesses did.
type QuorumError struct {
	Origin  string
	Size    int64
	Have    []string // names of the policy's witnesses that cosigned
	Missing []string // names of those that did not
}

func (e *QuorumError) Error() string {
	have := strings.Join(e.Have, ", ")
	if have == "" {
		have = "none"
	}
	return fmt.Sprintf("checkpoint of %q, size %d: no quorum: cosigned by %s; not by %s",
		e.Origin, e.Size, have, strings.Join(e.Missing, ", "))
}

// ErrExtensions reports extension lines that no signature of the log covers.
var ErrExtensions = errors.New("extension lines that no signature of the log covers")

// MaxSize is the largest tree a Checkpoint has: golang.org/x/mod/sumdb/tlog, which everyone
// verifies proofs with, does not come to an end above it, TreeHash not even at 2^62.
const MaxSize = 1<<62 - 1

// ErrSize reports a checkpoint of a tree larger than MaxSize.
var ErrSize = fmt.Errorf("larger than any tree can be, %d entries", int64(MaxSize))

var (
	errNoLog     = errors.New("no log of this origin in the policy")
	errNoLogLine = errors.New("no signature of the log")
)

// Open verifies a checkpoint: a listed log whose key name is the origin has signed it, no
// signature line of a known key is wrong, and the cosignatures meet the quorum. The errors of the
// three are [SignatureError], the same, and [QuorumError]; other errors mean malformed bytes.
func (p *Policy) Open(note []byte) (Checkpoint, error) {
	c, err := p.OpenLog(note)
	if err != nil {
		return Checkpoint{}, err
	}
	has := map[string]bool{}
	for _, cs := range c.cosignatures {
		has[cs.Witness] = true
	}
	if p.Satisfied(func(name string) bool { return has[name] }) {
		return c, nil
	}
	qe := &QuorumError{Origin: c.Origin(), Size: c.Size()}
	for _, w := range p.witnesses {
		if has[w.Name] {
			qe.Have = append(qe.Have, w.Name)
		} else {
			qe.Missing = append(qe.Missing, w.Name)
		}
	}
	return Checkpoint{}, qe
}

// OpenLog is Open without the quorum: a checkpoint that is still to be cosigned.
func (p *Policy) OpenLog(note []byte) (Checkpoint, error) {
	n, err := ParseNote(note)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("parsing note: %w", err)
	}
	tree, err := ParseTree(n.Text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	if err := p.verifyLog(n, tree); err != nil {
		return Checkpoint{}, err
	}
	if tree.Size > MaxSize {
		return Checkpoint{}, fmt.Errorf("size %d of %q: %w", tree.Size, tree.Origin, ErrSize)
	}
	cosignatures, err := p.verifyWitnesses(n, tree.Origin)
	if err != nil {
		return Checkpoint{}, err
	}
	return Checkpoint{tree: tree, text: n.Text, note: string(note), cosignatures: cosignatures}, nil
}

func (p *Policy) verifyLog(n Note, tree Tree) error {
	var keys []Key
	for _, l := range p.logs {
		if l.Key.Name() == tree.Origin {
			keys = append(keys, l.Key)
		}
	}
	if len(keys) == 0 {
		return &SignatureError{Origin: tree.Origin, Err: errNoLog}
	}
	covered, err := VerifyLog(n, keys)
	if err != nil {
		return err
	}
	if len(tree.Extensions) > 0 && !covered {
		return &SignatureError{Origin: tree.Origin, Err: ErrExtensions}
	}
	return nil
}

// VerifyLog verifies every signature line of n by one of keys, which are a log's. It returns a
// [SignatureError] if there is none, or if any fails. It reports whether one of them covers
// extension lines: only those of type 0x01 do, and with another one alone a middleman could have
// written them, so that the caller refuses them with [ErrExtensions].
func VerifyLog(n Note, keys []Key) (extensions bool, err error) {
	origin, _, _ := strings.Cut(n.Text, "\n")
	signed := false
	for _, sig := range n.Signatures {
		for _, k := range keys {
			if !k.Matches(sig) {
				continue
			}
			if _, err := k.Verify(n.Text, sig.Sig); err != nil {
				return false, &SignatureError{Origin: origin, Name: k.Name(), Err: err}
			}
			signed = true
			extensions = extensions || k.Alg() == AlgEd25519
		}
	}
	if !signed {
		return false, &SignatureError{Origin: origin, Err: errNoLogLine}
	}
	return extensions, nil
}

// verifyWitnesses verifies every signature line of a listed witness.
func (p *Policy) verifyWitnesses(n Note, origin string) ([]Cosignature, error) {
	var verified []Cosignature
	for _, w := range p.witnesses {
		newest := Cosignature{Witness: w.Name, Key: w.Key}
		for _, sig := range n.Signatures {
			if !w.Key.Matches(sig) {
				continue
			}
			t, err := w.Key.Verify(n.Text, sig.Sig)
			if err != nil {
				return nil, &SignatureError{Origin: origin, Name: w.Key.Name(), Err: err}
			}
			if t.After(newest.Time) { // a zero time is a statement about a subtree, not a cosignature
				newest.Time = t
			}
		}
		if !newest.Time.IsZero() {
			verified = append(verified, newest)
		}
	}
	return verified, nil
}
