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

// ParseWitnessKey reports whether a vkey is a witness's.
func ParseWitnessKey(vkey string) error { _, err := parseWitnessKey(vkey); return err }

// VerifyAnswer verifies the body of a 200 about some checkpoint.
func VerifyAnswer(vkeys []string, body string) error {
	s := &session{}
	for _, vkey := range vkeys {
		k, err := parseWitnessKey(vkey)
		if err != nil {
			return err
		}
		s.keys = append(s.keys, k)
	}
	_, err := s.verify(body, statement{text: "o\n1\nAAAA\n", origin: "o", end: 1})
	return err
}
