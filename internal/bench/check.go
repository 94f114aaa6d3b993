package bench

import (
	"bytes"
	"errors"
	"fmt"

	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/witness/policy"
)

// check looks for wrong answers: an index given to two entries in any reply, or one that another entry
// was known to have, and in the sampled ones anything that a verifier would refuse. It returns how many were looked at fully.
func (b *load) check(tallies ...tally) (checked int, err error) {
	var wrong WrongError
	found := func(err error) {
		wrong.Answers++
		if wrong.Err == nil {
			wrong.Err = err
		}
	}
	owner := make(map[int64]int64) // number of the entry, by index
	for _, t := range tallies {
		for _, r := range t.replies {
			if known := r.number < b.o.Known; known != (r.index < b.o.Known) || known && r.index != r.number {
				found(fmt.Errorf("index %d was given to entry %d, of %d that the log has", r.index, r.number, b.o.Known))
			}
			if other, taken := owner[r.index]; taken && other != r.number {
				found(fmt.Errorf("index %d was given to the entries %d and %d", r.index, other, r.number))
			}
			owner[r.index] = r.number
			if r.body == nil {
				continue
			}
			checked++
			if err := checkReply(b.corpus.entry(r.entry), r, b.o.Policy); err != nil {
				found(fmt.Errorf("index %d: %w", r.index, err))
			}
		}
	}
	if wrong.Answers > 0 {
		return 0, &wrong
	}
	return checked, nil
}

// checkReply verifies a reply to s: the entry is the one posted, and in the tree of the checkpoint,
// which is of a log and cosigned as p says, if it says anything.
func checkReply(s signed, r reply, p *policy.Policy) error {
	tle := new(rekor.TransparencyLogEntry)
	if err := protojson.Unmarshal(r.body, tle); err != nil {
		return fmt.Errorf("decoding reply: %w", err)
	}
	want, err := s.canonical()
	if err != nil {
		return fmt.Errorf("rendering entry: %w", err)
	}
	proof := tle.GetInclusionProof()
	note := []byte(proof.GetCheckpoint().GetEnvelope())
	tree, err := parseCheckpoint(note)
	if err != nil {
		return err
	}
	switch {
	case !bytes.Equal(tle.GetCanonicalizedBody(), want):
		return errors.New("canonicalizedBody is not the entry that was posted")
	case tle.GetLogIndex() != r.index || proof.GetLogIndex() != r.index:
		return errors.New("the reply has two different indexes")
	case proof.GetTreeSize() != tree.Size || !bytes.Equal(proof.GetRootHash(), tree.Root[:]):
		return errors.New("the proof is for another tree than the checkpoint")
	case tree.Size > policy.MaxSize:
		return fmt.Errorf("its tree of size %d is larger than any can be", tree.Size)
	case r.index >= tree.Size:
		return fmt.Errorf("it is not in the checkpoint's tree of size %d", tree.Size)
	}
	var hashes tlog.RecordProof
	for _, h := range proof.GetHashes() {
		if len(h) != tlog.HashSize {
			return errors.New("a hash of the proof is not 32 bytes long")
		}
		hashes = append(hashes, tlog.Hash(h))
	}
	if err := tlog.CheckRecord(hashes, tree.Size, tlog.Hash(tree.Root), r.index, tlog.RecordHash(want)); err != nil {
		return fmt.Errorf("verifying inclusion: %w", err)
	}
	if p == nil {
		return nil
	}
	if _, err := p.Open(note); err != nil {
		return fmt.Errorf("verifying checkpoint: %w", err)
	}
	return nil
}

func parseCheckpoint(note []byte) (policy.Tree, error) {
	n, err := policy.ParseNote(note)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return policy.Tree{}, fmt.Errorf("parsing checkpoint: %w", err)
	}
	return tree, nil
}
