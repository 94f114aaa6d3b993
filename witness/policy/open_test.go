package policy_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"

	"filippo.io/mldsa"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/witness/policy"
)

// policyVKey encodes a vkey by the definition in c2sp.org/signed-note.
func policyVKey(name string, alg byte, public []byte) string {
	h := sha256.Sum256(slices.Concat([]byte(name+"\n"), []byte{alg}, public))
	return fmt.Sprintf("%s+%08x+%s", name, h[:4], base64.StdEncoding.EncodeToString(append([]byte{alg}, public...)))
}

// twoOfThree is a policy of one log and three witnesses, of which the third signs with ML-DSA.
func twoOfThree(t testing.TB) *policy.Policy {
	t.Helper()
	_, logVKey := logSigner(t, origin)
	_, pq := cosigner(t, "w3", true)
	return mustPolicy(t, "log "+logVKey+"\nwitness w1 "+vkeyOf(t, "w1")+"\nwitness w2 "+vkeyOf(t, "w2")+
		"\nwitness w3 "+pq+"\ngroup g 2 w1 w2 w3\nquorum g\n")
}

func TestOpenAtQuorum(t *testing.T) {
	p := twoOfThree(t)
	l, _ := logSigner(t, origin)
	w1, _ := cosigner(t, "w1", false)
	w3, _ := cosigner(t, "w3", true)
	msg := sign(t, body(9), l, w3, w1)
	c, err := p.Open([]byte(msg))
	if err != nil {
		t.Fatal(err)
	}
	if c.Origin() != origin || c.Size() != 9 || c.Text() != body(9) || string(c.Note()) != msg || c.Root() != sha256.Sum256([]byte{9}) {
		t.Errorf("checkpoint = %+v", c)
	}
	cs := c.Cosignatures()
	if len(cs) != 2 || cs[0].Witness != "w1" || cs[1].Witness != "w3" || cs[1].Time.IsZero() {
		t.Errorf("Cosignatures = %+v", cs)
	}
	c.Note()[0] = 'X'
	if string(c.Note()) != msg {
		t.Error("a verified checkpoint can be changed from outside")
	}
}

func TestOpenRefusesWithoutQuorum(t *testing.T) {
	p := twoOfThree(t)
	l, _ := logSigner(t, origin)
	w1, _ := cosigner(t, "w1", false)
	stranger, _ := cosigner(t, "stranger", false)
	// One witness twice and a stranger are one witness.
	msg := sign(t, body(9), l, w1, stranger)
	msg += strings.SplitAfter(msg, "\n")[5]
	_, err := p.Open([]byte(msg))
	var qe *policy.QuorumError
	if !errors.As(err, &qe) {
		t.Fatalf("Open = %v, want a QuorumError", err)
	}
	if !slices.Equal(qe.Have, []string{"w1"}) || !slices.Equal(qe.Missing, []string{"w2", "w3"}) || qe.Size != 9 {
		t.Errorf("QuorumError = %+v", qe)
	}
	if c, err := p.OpenLog([]byte(msg)); err != nil || len(c.Cosignatures()) != 1 {
		t.Errorf("OpenLog = %+v, %v", c, err)
	}
}

func TestOpenRefusesForgedLines(t *testing.T) {
	p := twoOfThree(t)
	l, logVKey := logSigner(t, origin)
	w1, w1VKey := cosigner(t, "w1", false)
	w2, _ := cosigner(t, "w2", false)
	good := sign(t, body(9), l, w1, w2)
	other := strings.SplitAfter(sign(t, body(8), l, w1), "\n")
	elsewhere, _ := logSigner(t, "elsewhere.example.org")
	logKey, w1Key := mustKey(t, logVKey), mustKey(t, w1VKey)
	for name, msg := range map[string]string{
		"log's line over another tree":           body(9) + "\n" + other[4],
		"second, forged line of the log":         good + other[4],
		"second, forged line of a witness":       good + other[5],
		"garbage under the log's key ID":         good + policy.FormatSignature(origin, logKey.ID(), []byte{1}),
		"garbage under a witness's key ID":       good + policy.FormatSignature("w1", w1Key.ID(), []byte{1}),
		"no line of the log":                     sign(t, body(9), w1, w2),
		"another log's line":                     sign(t, body(9), elsewhere, w1, w2),
		"origin of another log, signed by ours":  sign(t, strings.Replace(body(9), origin, "elsewhere.example.org", 1), l),
		"the origin's key name, another key ID":  body(9) + "\n" + policy.FormatSignature(origin, 1, make([]byte, 64)),
		"the log's key ID under a witness' name": body(9) + "\n" + policy.FormatSignature("w1", logKey.ID(), make([]byte, 64)),
	} {
		_, err := p.Open([]byte(msg))
		var se *policy.SignatureError
		if !errors.As(err, &se) {
			t.Errorf("%s: Open = %v, want a SignatureError", name, err)
		}
	}
	// A line of a key we do not know is nobody's, whatever it holds.
	unknown := good + policy.FormatSignature(origin, logKey.ID()+1, []byte("garbage")) + policy.FormatSignature("w9", w1Key.ID(), []byte("x"))
	if _, err := p.Open([]byte(unknown)); err != nil {
		t.Errorf("unknown keys: %v", err)
	}
}

func TestOpenDoesNotCountSubtreeStatements(t *testing.T) {
	_, logVKey := logSigner(t, origin)
	l, _ := logSigner(t, origin)
	w, pq := cosigner(t, "w", true)
	p := mustPolicy(t, "log "+logVKey+"\nwitness w "+pq+"\nquorum w\n")
	tree, err := policy.ParseTree(body(9))
	if err != nil {
		t.Fatal(err)
	}
	// sign-subtree over [0, 9): a valid ML-DSA line with timestamp 0, which promises nothing
	// about what else its signer has seen.
	line, err := w.SignSubtree(origin, 0, 9, tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	var qe *policy.QuorumError
	if _, err := p.Open([]byte(sign(t, body(9), l) + string(line))); !errors.As(err, &qe) {
		t.Errorf("Open = %v, want a QuorumError", err)
	}
	if _, err := p.Open([]byte(sign(t, body(9), l, w))); err != nil {
		t.Error(err)
	}
}

func TestOpenRefusesExtensionsNobodySigned(t *testing.T) {
	// A log whose only key is ML-DSA: its signature covers origin, size and root alone.
	key := mldsaKey(t, "pq log")
	vkey := policyVKey(origin, policy.AlgMLDSA44, key.PublicKey().Bytes())
	p := mustPolicy(t, "log "+vkey+"\nquorum none\n")
	tree, err := policy.ParseTree(body(9))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := policy.SubtreeMessage(origin, 1700000000, origin, 0, 9, tree.Root)
	if err != nil {
		t.Fatal(err)
	}
	sig, err := key.Sign(nil, msg, crypto.Hash(0))
	if err != nil {
		t.Fatal(err)
	}
	line := policy.FormatSignature(origin, mustKey(t, vkey).ID(), append(binary.BigEndian.AppendUint64(nil, 1700000000), sig...))
	if _, err := p.Open([]byte(body(9) + "\n" + line)); err != nil {
		t.Errorf("without extensions: %v", err)
	}
	var se *policy.SignatureError
	if _, err := p.Open([]byte(body(9, "written by a middleman") + "\n" + line)); !errors.As(err, &se) {
		t.Errorf("with extension: %v, want a SignatureError", err)
	}
	if len(sig) != mldsa.MLDSA44SignatureSize {
		t.Errorf("signature of %d bytes", len(sig))
	}
}

func TestOpenTakesACertificateLogWithBothKeys(t *testing.T) {
	l, logVKey := logSigner(t, origin)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	logID := sha256.Sum256(spki)
	hash := sha256.Sum256(slices.Concat([]byte(origin+"\n\x05"), logID[:]))
	vkey := fmt.Sprintf("%s+%08x+%s", origin, hash[:4], base64.StdEncoding.EncodeToString(append([]byte{5}, spki...)))
	tree, err := policy.ParseTree(body(9))
	if err != nil {
		t.Fatal(err)
	}
	head := binary.BigEndian.AppendUint64([]byte{0, 1}, 1700000000123)
	head = append(binary.BigEndian.AppendUint64(head, 9), tree.Root[:]...)
	digest := sha256.Sum256(head)
	asn1, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	sig := append(binary.BigEndian.AppendUint64(nil, 1700000000123), 4, 3, 0, byte(len(asn1)))
	line := policy.FormatSignature(origin, mustKey(t, vkey).ID(), append(sig, asn1...))
	both := mustPolicy(t, "log "+logVKey+"\nlog "+vkey+"\nquorum none\n")
	for name, msg := range map[string]string{
		"both lines":         sign(t, body(9), l) + line,
		"tree head alone":    body(9) + "\n" + line,
		"Ed25519 line alone": sign(t, body(9), l),
	} {
		if _, err := both.Open([]byte(msg)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := both.Open([]byte(sign(t, body(8), l) + line)); err == nil {
		t.Error("a tree head line over another tree is taken")
	}
}

func TestOpenTellsMalformedFromUnsigned(t *testing.T) {
	p := mustPolicy(t, "log "+romeVKey+"\nquorum none\n")
	if _, err := p.Open([]byte(romeNote)); err != nil {
		t.Error(err)
	}
	for _, msg := range []string{"", "x", "o\n5\n\n— o AAAAAAA=\n", neumannNote} {
		_, err := p.Open([]byte(msg))
		var se *policy.SignatureError
		if err == nil || errors.As(err, &se) {
			t.Errorf("Open(%.20q) = %v", msg, err)
		}
	}
}

// TestProofsComeToAnEndAtMaxSize reads hashes of the largest tree, and proves and verifies that an entry
// is in it.
func TestProofsComeToAnEndAtMaxSize(t *testing.T) {
	none := errors.New("there are no hashes")
	read := tlog.HashReaderFunc(func([]int64) ([]tlog.Hash, error) { return nil, none })
	if _, err := tlog.TreeHash(policy.MaxSize, read); err != none {
		t.Errorf("TreeHash: %v", err)
	}
	if _, err := tlog.ProveRecord(policy.MaxSize, policy.MaxSize-1, read); err != none {
		t.Errorf("ProveRecord: %v", err)
	}
	if err := tlog.CheckRecord(make(tlog.RecordProof, 62), policy.MaxSize, tlog.Hash{}, 0, tlog.Hash{}); err == nil {
		t.Error("CheckRecord takes a proof of nothing")
	}
}

func TestOpenRefusesSizesNoProofCanBeCheckedFor(t *testing.T) {
	p := twoOfThree(t)
	l, _ := logSigner(t, origin)
	w1, _ := cosigner(t, "w1", false)
	w2, _ := cosigner(t, "w2", false)
	root := base64.StdEncoding.EncodeToString(make([]byte, 32))
	for size, refused := range map[int64]bool{policy.MaxSize: false, policy.MaxSize + 1: true, math.MaxInt64: true} {
		_, err := p.Open([]byte(sign(t, fmt.Sprintf("%s\n%d\n%s\n", origin, size, root), l, w1, w2)))
		if errors.Is(err, policy.ErrSize) != refused || !refused && err != nil {
			t.Errorf("size %d: %v", size, err)
		}
	}
}
