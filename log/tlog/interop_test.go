package tlog_test

import (
	"fmt"
	"testing"

	"filippo.io/torchwood"
	flog "github.com/transparency-dev/formats/log"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	merkle "github.com/transparency-dev/merkle/proof"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/note"
	xtlog "golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/bubble"
)

// TestOthersVerifyOurProofs gives proofs of this log, at many sizes, to torchwood, and to formats
// with transparency-dev's own Merkle proofs. Each has its own reader of the proof, and torchwood of
// the policy, too.
func TestOthersVerifyOurProofs(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		w := newCosigner(t)
		s := serve(t, w, nil)
		trust, err := torchwood.ParsePolicy([]byte(s.policy))
		if err != nil {
			t.Fatal(err)
		}
		logVerifier, err := note.NewVerifier(s.options.VKeys[0])
		if err != nil {
			t.Fatal(err)
		}
		witness, err := fnote.NewVerifierForCosignatureV1(w.vkey)
		if err != nil {
			t.Fatal(err)
		}
		const entries = 300 // more than one bundle
		for i := range entries {
			e := fmt.Sprintf("entry %d", i)
			ours := s.add(e)
			s.accepted(ours)
			if i > 9 && i%64 != 0 && i < 254 {
				continue
			}
			for _, posted := range []string{e, "entry 0"} { // the second is a duplicate under a newer checkpoint
				body := s.add(posted).body
				if err := torchwood.VerifyProof(trust, xtlog.RecordHash([]byte(posted)), body); err != nil {
					t.Errorf("torchwood about %q: %v in\n%s", posted, err, body)
				}
				if err := torchwood.VerifyProof(trust, xtlog.RecordHash([]byte(posted+"!")), body); err == nil {
					t.Errorf("torchwood verifies another entry than %q", posted)
				}
				if err := verifyAsFormats(body, posted, logVerifier, witness); err != nil {
					t.Errorf("formats about %q: %v in\n%s", posted, err, body)
				}
				if err := verifyAsFormats(body, posted+"!", logVerifier, witness); err == nil {
					t.Errorf("formats verifies another entry than %q", posted)
				}
			}
		}
	})
}

// verifyAsFormats does what users of the formats module do with a proof.
func verifyAsFormats(data []byte, entry string, log, witness note.Verifier) error {
	var p proof.TLogProof
	if err := p.Unmarshal(data); err != nil {
		return err
	}
	checkpoint, _, n, err := flog.ParseCheckpoint(p.Checkpoint, log.Name(), log, witness)
	if err != nil {
		return err
	}
	if len(n.Sigs) != 2 {
		return fmt.Errorf("%d signatures of known keys", len(n.Sigs))
	}
	hashes := make([][]byte, len(p.Hashes))
	for i, h := range p.Hashes {
		hashes[i] = h[:]
	}
	leaf := rfc6962.DefaultHasher.HashLeaf([]byte(entry))
	return merkle.VerifyInclusion(rfc6962.DefaultHasher, p.Index, checkpoint.Size, leaf, hashes, checkpoint.Hash)
}
