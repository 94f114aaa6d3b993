package conformance

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/bits"
	"sync"
)

// treeSize is the largest tree that the suite's logs have leaves for.
const treeSize = 1100

type hash [32]byte

func (h hash) String() string { return base64.StdEncoding.EncodeToString(h[:]) }

func nodeHash(left, right hash) hash {
	return sha256.Sum256(append(append([]byte{1}, left[:]...), right[:]...))
}

// A tree is a Merkle tree of RFC 6962, section 2.1, that hides nothing: all is computed from its
// leaves as the text has it, without anything that is stored or clever but for whole subtrees.
type tree struct {
	leaves []hash

	mu    sync.Mutex // guards the field below
	whole map[[2]int64]hash
}

// newTree makes a tree whose leaves differ from those of another label from leaf `from` on.
func newTree(label string, from int64) *tree {
	t := &tree{leaves: make([]hash, treeSize), whole: map[[2]int64]hash{}}
	for i := range t.leaves {
		entry := "entry"
		if int64(i) >= from {
			entry = label
		}
		t.leaves[i] = sha256.Sum256(fmt.Appendf([]byte{0}, "%s %d", entry, i))
	}
	return t
}

// root returns MTH(D[start:end]).
func (t *tree) root(start, end int64) hash {
	switch n := end - start; {
	case n == 0:
		return sha256.Sum256(nil)
	case n == 1:
		return t.leaves[start]
	}
	aligned := start&(end-start-1) == 0 && bits.OnesCount64(uint64(end-start)) == 1
	if aligned {
		t.mu.Lock()
		h, ok := t.whole[[2]int64{start, end}]
		t.mu.Unlock()
		if ok {
			return h
		}
	}
	k := start + split(end-start)
	h := nodeHash(t.root(start, k), t.root(k, end))
	if aligned {
		t.mu.Lock()
		t.whole[[2]int64{start, end}] = h
		t.mu.Unlock()
	}
	return h
}

// split returns the largest power of two smaller than n, which is above 1.
func split(n int64) int64 { return 1 << (bits.Len64(uint64(n-1)) - 1) }

// proof returns PROOF(old, D[size]) of RFC 6962, section 2.1.2: nothing if old is 0 or size.
func (t *tree) proof(old, size int64) []hash {
	if old == 0 {
		return nil
	}
	return t.subproof(old, 0, size, true)
}

func (t *tree) subproof(m, start, end int64, whole bool) []hash {
	n := end - start
	switch {
	case m == n && whole:
		return nil
	case m == n:
		return []hash{t.root(start, end)}
	}
	k := split(n)
	if m <= k {
		return append(t.subproof(m, start, start+k, whole), t.root(start+k, end))
	}
	return append(t.subproof(m-k, start+k, end, false), t.root(start, start+k))
}

// subtreeProof returns SUBTREE_PROOF(start, end, D[size]) of draft-ietf-plants-merkle-tree-certs,
// section 4.4.
func (t *tree) subtreeProof(start, end, size int64) []hash {
	return t.subtreeSubproof(start, end, 0, size, true)
}

// subtreeSubproof is about the subtree [start, end) of the tree over the leaves [from, to).
func (t *tree) subtreeSubproof(start, end, from, to int64, whole bool) []hash {
	switch {
	case start == from && end == to && whole:
		return nil
	case start == from && end == to:
		return []hash{t.root(from, to)}
	}
	k := from + split(to-from)
	switch {
	case end <= k:
		return append(t.subtreeSubproof(start, end, from, k, whole), t.root(k, to))
	case k <= start:
		return append(t.subtreeSubproof(start, end, k, to, whole), t.root(from, k))
	default: // the subtree begins where the tree does
		return append(t.subtreeSubproof(k, end, k, to, false), t.root(from, k))
	}
}

// validSubtree reports whether [start, end) is a subtree as section 4.1 of the draft defines it:
// start is a multiple of the smallest power of two that is not less than its number of leaves.
func validSubtree(start, end int64) bool {
	if start < 0 || start >= end {
		return false
	}
	ceil := int64(1)
	for ceil < end-start {
		ceil *= 2
	}
	return start%ceil == 0
}

// deepProof returns the roots of a tree of one entry and of one of size entries that are provably
// consistent, with a proof as long as the tree is deep. Nobody has that many entries: for one entry
// a proof is a path of hashes, and any hashes make a root.
func deepProof(size uint64) (old, root hash, proof []hash) {
	old = sha256.Sum256([]byte{0})
	root = old
	for level := range bits.Len64(size - 1) {
		h := hash(sha256.Sum256(binary.BigEndian.AppendUint64([]byte("level"), uint64(level))))
		proof = append(proof, h)
		root = nodeHash(root, h)
	}
	return old, root, proof
}

func encode(hashes []hash) []string {
	lines := make([]string, len(hashes))
	for i, h := range hashes {
		lines[i] = h.String()
	}
	return lines
}
