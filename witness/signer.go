package witness

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// A signer holds the keys of a witness, Ed25519 first.
type signer struct {
	name string
	keys []*ownKey
}

func newSigner(o Options) (*signer, error) {
	if err := keys.CheckName(o.Keys.Name); err != nil {
		return nil, fmt.Errorf("witness name: %w", err)
	}
	own, err := openKeys(o)
	if err != nil {
		return nil, err
	}
	return &signer{name: o.Keys.Name, keys: own}, nil
}

// validAt returns the keys that sign at a timestamp.
func (s *signer) validAt(timestamp int64) []*ownKey {
	var valid []*ownKey
	for _, k := range s.keys {
		if k.validAt(timestamp) {
			valid = append(valid, k)
		}
	}
	return valid
}

// anyValidAt reports whether a key of an algorithm signs at a timestamp.
func (s *signer) anyValidAt(timestamp int64, alg byte) bool {
	return slices.ContainsFunc(s.validAt(timestamp), func(k *ownKey) bool { return k.Alg() == alg })
}

// byID returns the key with the ID that the state has, or nil.
func (s *signer) byID(id string) *ownKey {
	if i := slices.IndexFunc(s.keys, func(k *ownKey) bool { return k.idText == id }); i >= 0 {
		return s.keys[i]
	}
	return nil
}

// A keySet is a set of a signer's keys, by their place.
type keySet uint16

// maxKeys is how many keys a witness may have or have had.
const maxKeys = 16

// set returns the set of the keys with the IDs given, without those that are not known.
func (s *signer) set(ids []string) (set keySet) {
	for i, k := range s.keys {
		if slices.Contains(ids, k.idText) {
			set |= 1 << i
		}
	}
	return set
}

// ids returns the IDs of keys, as the state has them.
func ids(of []*ownKey) []string {
	out := make([]string, len(of))
	for i, k := range of {
		out[i] = k.idText
	}
	return out
}

// cosign returns the signature lines of some keys for a checkpoint text. The time is in Unix
// seconds and not zero.
func (s *signer) cosign(valid []*ownKey, text string, tree policy.Tree, timestamp int64) (string, error) {
	var lines strings.Builder
	for _, k := range valid {
		msg := policy.CosignatureMessage(timestamp, text)
		if k.Alg() == policy.AlgMLDSA44 {
			var err error
			if msg, err = policy.SubtreeMessage(s.name, timestamp, tree.Origin, 0, tree.Size, tree.Root); err != nil {
				return "", fmt.Errorf("encoding tree: %w", err)
			}
		}
		line, err := s.line(k, msg, timestamp)
		if err != nil {
			return "", err
		}
		lines.WriteString(line)
	}
	return lines.String(), nil
}

// line returns the signature line of a key for a message that states a timestamp.
func (s *signer) line(k *ownKey, msg []byte, timestamp int64) (string, error) {
	sig, err := k.sign(msg)
	if err != nil {
		return "", err
	}
	stamp := make([]byte, 8, 8+len(sig))
	binary.BigEndian.PutUint64(stamp, uint64(timestamp))
	return policy.FormatSignature(s.name, k.ID(), append(stamp, sig...)), nil
}

// subtree returns the lines for a subtree of the ML-DSA keys that are valid now, with timestamp 0.
func (s *signer) subtree(now int64, origin string, start, end int64, hash [32]byte) (string, error) {
	msg, err := policy.SubtreeMessage(s.name, 0, origin, start, end, hash)
	if err != nil {
		return "", fmt.Errorf("encoding subtree: %w", err)
	}
	var lines strings.Builder
	for _, k := range s.validAt(now) {
		if k.Alg() != policy.AlgMLDSA44 {
			continue
		}
		line, err := s.line(k, msg, 0)
		if err != nil {
			return "", err
		}
		lines.WriteString(line)
	}
	return lines.String(), nil
}

// signsSubtrees reports whether there is an ML-DSA key that signs, now or at another time.
func (s *signer) signsSubtrees() bool {
	for _, k := range s.keys {
		if k.Alg() == policy.AlgMLDSA44 && k.signer != nil {
			return true
		}
	}
	return false
}

// An ownCount says with which kinds of our keys, past ones too, a checkpoint is validly cosigned.
type ownCount struct {
	ed      bool // Ed25519
	pq      bool // ML-DSA-44, with a time
	untimed bool // ML-DSA-44 without one: an answer of sign-subtree about the whole tree
	bogus   int  // lines with the name and ID of a key of ours that do not verify
}

// own counts our lines in n.
func (s *signer) own(n policy.Note) ownCount {
	var c ownCount
	for _, sig := range n.Signatures {
		for _, k := range s.keys {
			if !k.Matches(sig) {
				continue
			}
			t, err := k.Verify(n.Text, sig.Sig)
			switch {
			case err != nil:
				c.bogus++
			case k.Alg() == policy.AlgCosignatureV1:
				c.ed = true
			case t.IsZero():
				c.untimed = true
			default:
				c.pq = true
			}
		}
	}
	return c
}

// ownLines returns our valid cosignature lines in n, the keys they are of, and their latest timestamp.
func (s *signer) ownLines(n policy.Note) (lines string, of []*ownKey, last int64) {
	for _, sig := range n.Signatures {
		for _, k := range s.keys {
			if !k.Matches(sig) || strings.Contains(lines, sig.Line+"\n") {
				continue
			}
			if t, err := k.Verify(n.Text, sig.Sig); err == nil && !t.IsZero() {
				lines += sig.Line + "\n"
				of = append(of, k)
				last = max(last, t.Unix())
			}
		}
	}
	return lines, of, last
}
