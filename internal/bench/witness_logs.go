package bench

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

const (
	firstSize = 1_000_000 // entries of a log that a witness sees for the first time
	growth    = 10        // entries by which it grows from one checkpoint to the next
)

// A witnessLog is a log that witnesses are measured with. Its key follows from the seed.
type witnessLog struct {
	origin string
	key    ed25519.PrivateKey
	id     uint32 // key ID
}

func newWitnessLog(seed uint64, number int) *witnessLog {
	label := fmt.Appendf(nil, "tallywood bench witness, log %d of seed ", number)
	s := sha256.Sum256(binary.BigEndian.AppendUint64(label, seed))
	l := &witnessLog{origin: fmt.Sprintf("log%d.bench%d.example.org", number, seed), key: ed25519.NewKeyFromSeed(s[:])}
	l.id = keys.KeyID(l.origin, keys.AlgEd25519, l.public())
	return l
}

func (l *witnessLog) public() ed25519.PublicKey { return l.key.Public().(ed25519.PublicKey) }

func (l *witnessLog) vkey() string { return keys.VKey(l.origin, keys.AlgEd25519, l.public()) }

// text is the checkpoint's text at a size.
func (l *witnessLog) text(size int64) string {
	return policy.Tree{Origin: l.origin, Size: size, Root: equalEntries.root(size)}.Text()
}

// request is the body of an add-checkpoint request (c2sp.org/tlog-witness).
func (l *witnessLog) request(old, size int64) []byte {
	text := l.text(size)
	b := make([]byte, 0, 2048)
	b = fmt.Appendf(b, "old %d\n", old)
	for _, h := range equalEntries.proof(old, size) {
		b = append(base64.StdEncoding.AppendEncode(b, h[:]), '\n')
	}
	b = append(b, '\n')
	b = append(b, text...)
	b = append(b, '\n')
	return append(b, policy.FormatSignature(l.origin, l.id, ed25519.Sign(l.key, []byte(text)))...)
}

// equalEntries is a Merkle tree whose entries are all the same. It has any size and takes no
// memory, and its proofs are as long as any tree's.
var equalEntries = func() (t equalTree) {
	t[0] = tlog.RecordHash([]byte("entry"))
	for i := range t[1:] {
		t[i+1] = tlog.NodeHash(t[i], t[i])
	}
	return t
}()

// An equalTree holds the hashes of full subtrees, by their level.
type equalTree [63]tlog.Hash

// ReadHashes implements tlog.HashReader.
func (t *equalTree) ReadHashes(indexes []int64) ([]tlog.Hash, error) {
	out := make([]tlog.Hash, len(indexes))
	for i, x := range indexes {
		level, _ := tlog.SplitStoredHashIndex(x)
		out[i] = t[level]
	}
	return out, nil
}

func (t *equalTree) root(size int64) tlog.Hash {
	h, err := tlog.TreeHash(size, t)
	if err != nil {
		panic(err) // a HashReader that has every hash
	}
	return h
}

// proof is the consistency proof from old to size; from the empty tree it is empty.
func (t *equalTree) proof(old, size int64) tlog.TreeProof {
	if old == 0 || old == size {
		return nil
	}
	p, err := tlog.ProveTree(size, old, t)
	if err != nil {
		panic(err) // old is less than size, and the HashReader has every hash
	}
	return p
}

// WitnessList returns the logs that Witness grows with a seed, for the configuration of a witness:
// in the witness network's format logs/v0, which witnessctl of litewitness reads, too.
func WitnessList(seed uint64, logs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# the logs of: tallywood bench witness --seed %d --logs %d\nlogs/v0\n", seed, logs)
	for i := range logs {
		fmt.Fprintf(&b, "\nvkey %s\nqpd 2147483647\ncontact nobody\n", newWitnessLog(seed, i).vkey())
	}
	return b.String()
}

// WitnessYAML is WitnessList in the form that omniwitness takes as --additional_logs.
func WitnessYAML(seed uint64, logs int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "# the logs of: tallywood bench witness --seed %d --logs %d\nLogs:\n", seed, logs)
	for i := range logs {
		l := newWitnessLog(seed, i)
		fmt.Fprintf(&b, "  - Origin: %s\n    URL: https://%s/\n    PublicKey: %s\n    Feeder: none\n", l.origin, l.origin, l.vkey())
	}
	return b.String()
}
