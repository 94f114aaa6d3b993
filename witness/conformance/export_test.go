package conformance

// Internals under test.
var (
	NewTree      = newTree
	ValidSubtree = validSubtree
	DeepProof    = deepProof
)

// Hash is a hash.
type Hash = hash

// Root is MTH(D[start:end]).
func (t *tree) Root(start, end int64) hash { return t.root(start, end) }

// Proof is a consistency proof.
func (t *tree) Proof(old, size int64) []hash { return t.proof(old, size) }

// SubtreeProof is a subtree consistency proof.
func (t *tree) SubtreeProof(start, end, size int64) []hash { return t.subtreeProof(start, end, size) }
