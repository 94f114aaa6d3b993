package conformance

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"filippo.io/mldsa"
)

// Signature types of c2sp.org/signed-note and c2sp.org/tlog-cosignature.
const (
	algEd25519     = 0x01
	algCosignature = 0x04
	algMLDSA       = 0x06
)

// emDash begins a signature line.
const emDash = "\u2014 "

func keyID(name string, alg byte, public []byte) (id [4]byte) {
	sum := sha256.Sum256(append(append([]byte(name+"\n"), alg), public...))
	copy(id[:], sum[:])
	return id
}

func formatVKey(name string, alg byte, public []byte) string {
	return fmt.Sprintf("%s+%x+%s", name, keyID(name, alg, public),
		base64.StdEncoding.EncodeToString(append([]byte{alg}, public...)))
}

// signatureLine returns a signature line without its LF.
func signatureLine(name string, id [4]byte, sig []byte) string {
	return emDash + name + " " + base64.StdEncoding.EncodeToString(append(id[:], sig...))
}

// A signer is a key of a log.
type signer struct {
	name   string
	alg    byte
	public []byte
	sign   func(text string) []byte

	signMLDSA func(m mldsaMessage) []byte // if alg is algMLDSA
}

func (s signer) id() [4]byte             { return keyID(s.name, s.alg, s.public) }
func (s signer) vkey() string            { return formatVKey(s.name, s.alg, s.public) }
func (s signer) line(text string) string { return signatureLine(s.name, s.id(), s.sign(text)) }

// forged returns a signature line of s that does not verify: one bit of the signature is another.
func (s signer) forged(text string) string {
	sig := s.sign(text)
	sig[len(sig)-1] ^= 1
	return signatureLine(s.name, s.id(), sig)
}

func newEd25519Signer(name string, seed [32]byte) signer {
	private := ed25519.NewKeyFromSeed(seed[:])
	return signer{
		name: name, alg: algEd25519, public: private.Public().(ed25519.PublicKey),
		sign: func(text string) []byte { return ed25519.Sign(private, []byte(text)) },
	}
}

// logTime is the time in the ML-DSA-44 signatures of logs. It says nothing: what a log's own signature
// has there the specification leaves to it.
const logTime = 1_700_000_000

// newMLDSASigner returns a log's key of type 0x06. Its signatures are of the whole tree.
func newMLDSASigner(name string, seed [32]byte) (signer, error) {
	private, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), seed[:])
	if err != nil {
		return signer{}, fmt.Errorf("making ML-DSA-44 key: %w", err)
	}
	s := signer{name: name, alg: algMLDSA, public: private.PublicKey().Bytes()}
	s.signMLDSA = func(m mldsaMessage) []byte {
		sig, err := private.SignDeterministic(subtreeMessage(m.cosigner, m.timestamp, m.origin, m.start, m.end, m.root), nil)
		if err != nil {
			panic(err) // a message of any bytes can be signed
		}
		return sig
	}
	s.sign = func(text string) []byte {
		return append(binary.BigEndian.AppendUint64(nil, logTime), s.signMLDSA(newMLDSAMessage(name, logTime, text))...)
	}
	return s, nil
}

// An mldsaMessage is what an ML-DSA-44 signature is over.
type mldsaMessage struct {
	cosigner   string
	timestamp  uint64
	origin     string
	start, end uint64
	root       hash
}

// newMLDSAMessage returns the message about the whole tree of a checkpoint's text.
func newMLDSAMessage(cosigner string, timestamp uint64, text string) mldsaMessage {
	lines := strings.Split(text, "\n")
	m := mldsaMessage{cosigner: cosigner, timestamp: timestamp, origin: lines[0]}
	m.end, _ = strconv.ParseUint(lines[1], 10, 64) // else 0: the case is about a size that is none
	if b, err := base64.StdEncoding.DecodeString(lines[2]); err == nil {
		copy(m.root[:], b)
	}
	return m
}

// subtreeMessage is the structure cosigned_message of c2sp.org/tlog-cosignature.
func subtreeMessage(cosigner string, timestamp uint64, origin string, start, end uint64, root hash) []byte {
	m := []byte("subtree/v1\n\x00")
	m = append(append(m, byte(len(cosigner))), cosigner...)
	m = binary.BigEndian.AppendUint64(m, timestamp)
	m = append(append(m, byte(len(origin))), origin...)
	m = binary.BigEndian.AppendUint64(m, start)
	m = binary.BigEndian.AppendUint64(m, end)
	return append(m, root[:]...)
}

// A statement is what a cosignature is about.
type statement struct {
	text       string // of the checkpoint; not used for a subtree
	origin     string
	start, end uint64
	root       hash
}

// A witnessKey is a verifier key of the witness under test.
type witnessKey struct {
	name   string
	alg    byte
	public []byte
	pq     *mldsa.PublicKey // if alg is algMLDSA
}

func parseWitnessKey(vkey string) (witnessKey, error) {
	parts := strings.SplitN(vkey, "+", 3)
	if len(parts) != 3 {
		return witnessKey{}, fmt.Errorf("vkey %.60q is not of the form name+hash+base64", vkey)
	}
	blob, err := base64.StdEncoding.DecodeString(parts[2])
	if err != nil || len(blob) < 2 {
		return witnessKey{}, fmt.Errorf("vkey %.60q has no base64 of a type and a key", vkey)
	}
	k := witnessKey{name: parts[0], alg: blob[0], public: blob[1:]}
	switch {
	case k.alg == algCosignature && len(k.public) == ed25519.PublicKeySize:
	case k.alg == algMLDSA:
		if k.pq, err = mldsa.NewPublicKey(mldsa.MLDSA44(), k.public); err != nil {
			return witnessKey{}, fmt.Errorf("parsing vkey %.60q: %w", vkey, err)
		}
	default:
		return witnessKey{}, fmt.Errorf("vkey %.60q has type %#02x and %d bytes; a witness has 0x04 (Ed25519) or 0x06 (ML-DSA-44)", vkey, k.alg, len(k.public))
	}
	if got := fmt.Sprintf("%x", k.id()); got != parts[1] {
		return witnessKey{}, fmt.Errorf("vkey %.60q has key ID %s, which should be %s", vkey, parts[1], got)
	}
	return k, nil
}

func (k witnessKey) id() [4]byte { return keyID(k.name, k.alg, k.public) }

// verify checks what follows the key ID in a signature line, and returns its timestamp.
func (k witnessKey) verify(s statement, sig []byte) (uint64, error) {
	if len(sig) < 8 {
		return 0, errors.New("signature is too short for a timestamp")
	}
	timestamp, sig := binary.BigEndian.Uint64(sig), sig[8:]
	if timestamp > math.MaxInt64 {
		return 0, errors.New("timestamp exceeds 2^63-1")
	}
	if k.alg == algMLDSA {
		if err := mldsa.Verify(k.pq, subtreeMessage(k.name, timestamp, s.origin, s.start, s.end, s.root), sig, nil); err != nil {
			return 0, fmt.Errorf("verifying ML-DSA-44 cosignature of [%d, %d): %w", s.start, s.end, err)
		}
		return timestamp, nil
	}
	message := fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", timestamp, s.text)
	if len(sig) != ed25519.SignatureSize || !ed25519.Verify(k.public, message, sig) {
		return 0, errors.New("the Ed25519 cosignature does not verify")
	}
	return timestamp, nil
}
