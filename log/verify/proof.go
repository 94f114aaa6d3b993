package verify

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// MaxProof is how many bytes of a tlog-proof are read: a checkpoint with a hundred post-quantum
// cosignatures has 330,000.
const MaxProof = 1 << 20

// An Inclusion says what a tlog-proof that passed every check proves.
type Inclusion struct {
	Origin    string   `json:"origin"`    // of the log
	Index     int64    `json:"index"`     // of the entry in that log
	Size      int64    `json:"size"`      // of the tree whose checkpoint covers the entry
	Witnesses []string `json:"witnesses"` // names of the policy that cosigned

	// UnverifiedExtra is the proof's extra data, nil if it has none. Nobody has signed it:
	//
	//	> Applications MUST NOT implicitly trust the extra data, as it is not authenticated.
	//	> (c2sp.org/tlog-proof)
	UnverifiedExtra []byte `json:"unverified_extra,omitempty"`
}

// Proof checks that a tlog-proof (https://c2sp.org/tlog-proof) shows the whole of entry to be in a
// log that p lists, under a checkpoint that satisfies p. The entry is read once, as a stream, and is
// what the leaf hash is over (RFC 6962 section 2.1). A proof that does not show it is an [*Error];
// any other error is one of reading the entry, or that p is nil.
func Proof(proof []byte, entry io.Reader, p *policy.Policy) (*Inclusion, error) {
	if p == nil {
		return nil, errors.New("checking a tlog-proof: there is no policy, and nothing else says whose logs count")
	}
	if len(proof) > MaxProof {
		return nil, refusef(CheckProof, "%d bytes, and at most %d are read", len(proof), MaxProof)
	}
	u, err := policy.ParseProof(proof)
	if err != nil {
		return nil, refuse(CheckProof, err)
	}
	// > Check that the checkpoint origin line is acceptable, and that the checkpoint is signed by a
	// > log public key configured for that origin line. [...] Verify all cosignatures for witnesses
	// > known to the verifier. (c2sp.org/tlog-proof)
	checkpoint, err := openWitnessed(p, u.Checkpoint)
	if err != nil {
		return nil, err
	}
	leaf, err := leafHash(entry)
	if err != nil {
		return nil, err
	}
	// > Check that the inclusion proof is valid, to bind the leaf hash [...] to the root hash of the
	// > signed checkpoint. (c2sp.org/tlog-proof)
	if u.Index >= checkpoint.Size() {
		return nil, refusef(CheckInclusion, "index %d is not in a tree of size %d", u.Index, checkpoint.Size())
	}
	hashes := make(tlog.RecordProof, len(u.Hashes))
	for i, hash := range u.Hashes {
		hashes[i] = hash
	}
	if err := tlog.CheckRecord(hashes, checkpoint.Size(), checkpoint.Root(), u.Index, leaf); err != nil {
		return nil, refusef(CheckInclusion, "it does not lead from these bytes at index %d to the checkpoint's root hash: they were changed, or it is another entry's proof", u.Index)
	}
	in := &Inclusion{Origin: checkpoint.Origin(), Index: u.Index, Size: checkpoint.Size(),
		Witnesses: []string{}, UnverifiedExtra: u.UnverifiedExtra}
	for _, c := range checkpoint.Cosignatures() {
		in.Witnesses = append(in.Witnesses, c.Witness)
	}
	return in, nil
}

// leafHash computes the hash of the leaf that holds what r has.
//
//	> MTH({d(0)}) = SHA-256(0x00 || d(0)) (RFC 6962 section 2.1)
func leafHash(r io.Reader) (tlog.Hash, error) {
	h := sha256.New()
	h.Write([]byte{0})
	if _, err := io.Copy(h, r); err != nil {
		return tlog.Hash{}, fmt.Errorf("reading entry: %w", err)
	}
	return tlog.Hash(h.Sum(nil)), nil
}
