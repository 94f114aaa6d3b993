package verify_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"filippo.io/torchwood"
	fnote "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/formats/proof"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

// A foreignLog is a log of which nothing is ours: x/mod signs and hashes, and each witness is of
// torchwood or of formats.
type foreignLog struct {
	t       *testing.T
	signers []note.Signer // the log's first
	policy  string
	stored  []tlog.Hash
	size    int64
}

func newForeignLog(t *testing.T) *foreignLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	l := &foreignLog{t: t, signers: []note.Signer{signer}, policy: "log " + vkey + "\n"}
	var names []string
	for _, w := range foreignWitnesses(t) {
		l.signers = append(l.signers, w.Signer)
		l.policy += fmt.Sprintf("witness %s %s\n", w.Name(), w.vkey)
		names = append(names, w.Name())
	}
	l.policy += "group everyone all " + strings.Join(names, " ") + "\nquorum everyone\n"
	return l
}

type foreignWitness struct {
	note.Signer
	vkey string
}

// foreignWitnesses are of torchwood and of formats, with keys of both types.
func foreignWitnesses(t *testing.T) []foreignWitness {
	t.Helper()
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	check(err)
	wood, err := torchwood.NewCosignatureSigner("torchwood.example.org", ed)
	check(err)
	pq, err := mldsa.GenerateKey(mldsa.MLDSA44())
	check(err)
	woodPQ, err := torchwood.NewCosignatureSigner("torchwood-pq.example.org", pq)
	check(err)
	skey, vkey, err := note.GenerateKey(rand.Reader, "formats.example.org")
	check(err)
	formats, err := fnote.NewSignerForCosignatureV1(skey)
	check(err)
	vkey, err = fnote.VKeyToCosignatureV1(vkey)
	check(err)
	skeyPQ, vkeyPQ, err := fnote.GenerateMLDSAKey("formats-pq.example.org")
	check(err)
	formatsPQ, err := fnote.NewMLDSASigner(skeyPQ)
	check(err)
	return []foreignWitness{{wood, wood.Verifier().String()}, {woodPQ, woodPQ.Verifier().String()}, {formats, vkey}, {formatsPQ, vkeyPQ}}
}

// ReadHashes implements tlog.HashReader.
func (l *foreignLog) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, at := range indexes {
		out[i] = l.stored[at]
	}
	return out, nil
}

func foreignEntry(i int64) []byte { return fmt.Appendf(nil, "entry %d\n", i) }

// grow adds entries up to size and returns the cosigned checkpoint.
func (l *foreignLog) grow(size int64) []byte {
	l.t.Helper()
	for ; l.size < size; l.size++ {
		hashes, err := tlog.StoredHashes(l.size, foreignEntry(l.size), l)
		if err != nil {
			l.t.Fatal(err)
		}
		l.stored = append(l.stored, hashes...)
	}
	root, err := tlog.TreeHash(size, l)
	if err != nil {
		l.t.Fatal(err)
	}
	text := torchwood.Checkpoint{Origin: origin, Tree: tlog.Tree{N: size, Hash: root}}.String()
	checkpoint, err := note.Sign(&note.Note{Text: text}, l.signers...)
	if err != nil {
		l.t.Fatal(err)
	}
	return checkpoint
}

// TestProofsOfOthersVerify has torchwood and formats write proofs of logs of many sizes.
func TestProofsOfOthersVerify(t *testing.T) {
	l := newForeignLog(t)
	p, err := policy.Parse([]byte(l.policy))
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int64{1, 2, 3, 5, 8, 256, 257} {
		checkpoint := l.grow(size)
		for _, index := range slices.Compact([]int64{0, size / 2, size - 1}) {
			record, err := tlog.ProveRecord(size, index, l)
			if err != nil {
				t.Fatal(err)
			}
			theirs := proof.TLogProof{Index: uint64(index), Checkpoint: checkpoint}
			for _, h := range record {
				theirs.Hashes = append(theirs.Hashes, h)
			}
			plain := theirs.Marshal()
			theirs.ExtraData = []byte("extra\n")
			for name, data := range map[string][]byte{
				"torchwood":            torchwood.FormatProof(index, record, checkpoint),
				"torchwood with extra": torchwood.FormatProofWithExtraData(index, []byte("extra\n"), record, checkpoint),
				"formats":              plain,
				"formats with extra":   theirs.Marshal(),
			} {
				got, err := verify.Proof(data, bytes.NewReader(foreignEntry(index)), p)
				if err != nil {
					t.Errorf("%s, index %d of %d: %v", name, index, size, err)
					continue
				}
				if got.Index != index || got.Size != size || got.Origin != origin || len(got.Witnesses) != 4 ||
					(string(got.UnverifiedExtra) == "extra\n") != strings.Contains(name, "extra") {
					t.Errorf("%s, index %d of %d: got %+v", name, index, size, got)
				}
			}
		}
	}
}
