package keys

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"filippo.io/mldsa"
	"golang.org/x/mod/sumdb/note"
)

// Signature types of c2sp.org/signed-note and c2sp.org/tlog-cosignature: the byte before the
// public key in a vkey, and in the hash that gives a key ID.
const (
	AlgEd25519       = 0x01 // a log's Ed25519 signature over the note text
	AlgCosignatureV1 = 0x04 // a witness's timestamped Ed25519 cosignature
	AlgRFC6962       = 0x05 // the RFC 6962 tree head signature of a certificate log
	AlgMLDSA44       = 0x06 // a timestamped ML-DSA-44 (co)signature
)

// KeyHash returns SHA-256(name LF alg public): its first four bytes are the key ID of the
// key in notes, and for an Ed25519 log all of it is the log ID. For AlgRFC6962, pub is the
// RFC 6962 log ID, not the key.
func KeyHash(name string, alg byte, pub []byte) [32]byte {
	h := sha256.New()
	h.Write([]byte(name))
	h.Write([]byte{'\n', alg})
	h.Write(pub)
	return [32]byte(h.Sum(nil))
}

// KeyID returns the key ID of a note key: the first four bytes of KeyHash, big-endian.
func KeyID(name string, alg byte, pub []byte) uint32 {
	sum := KeyHash(name, alg, pub)
	return binary.BigEndian.Uint32(sum[:4])
}

// VKey returns the verifier key "name+hhhhhhhh+base64(alg public)" of c2sp.org/signed-note.
func VKey(name string, alg byte, pub []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, KeyID(name, alg, pub),
		base64.StdEncoding.EncodeToString(append([]byte{alg}, pub...)))
}

// LogID returns the identifier of a log in Sigstore trust material. For Ed25519 it is the whole
// key hash, SHA-256(origin LF 01 key); for other keys SHA-256 of the SubjectPublicKeyInfo.
func LogID(origin string, pub crypto.PublicKey) ([32]byte, error) {
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		return KeyHash(origin, AlgEd25519, pub), nil
	case *ecdsa.PublicKey:
		der, err := x509.MarshalPKIXPublicKey(pub)
		if err != nil {
			return [32]byte{}, fmt.Errorf("encoding public key: %w", err)
		}
		return sha256.Sum256(der), nil
	default:
		return [32]byte{}, fmt.Errorf("log key is a %T; want Ed25519 or ECDSA", pub)
	}
}

// CheckName returns an error unless name can name a key in a note: non-empty UTF-8 of at most
// 255 bytes without space or plus sign (c2sp.org/signed-note).
func CheckName(name string) error {
	switch {
	case name == "":
		return errors.New("empty key name")
	case len(name) > 255:
		return fmt.Errorf("key name of %d bytes is longer than 255", len(name))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsSpace) || strings.Contains(name, "+"):
		return fmt.Errorf("key name %q has a space, a plus sign or invalid UTF-8", name)
	}
	return nil
}

// CheckOrigin returns an error unless origin is a lower-case bare host name, the form in which
// Sigstore clients find a log's key by the host of its base URL. A name that ends in
// " - digits" would make them take it for a Rekor v1 log; as it has spaces, it is refused too.
func CheckOrigin(origin string) error {
	if err := CheckName(origin); err != nil {
		return err
	}
	for _, label := range strings.Split(origin, ".") {
		bad := strings.ContainsFunc(label, func(r rune) bool {
			return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
		})
		if label == "" || len(label) > 63 || bad || label[0] == '-' || label[len(label)-1] == '-' {
			return fmt.Errorf("origin %q is not a lower-case host name such as log.example.com (no scheme, port or path)", origin)
		}
	}
	return nil
}

// NoteSigner returns an Ed25519 (type 0x01) note signer named name. The key may be elsewhere, as long
// as it signs messages, not digests of them.
func NoteSigner(name string, key crypto.Signer) (note.Signer, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	pub, ok := key.Public().(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("key is a %T; checkpoints are signed with Ed25519", key.Public())
	}
	return &noteSigner{name: name, id: KeyID(name, AlgEd25519, pub), key: key}, nil
}

type noteSigner struct {
	name string
	id   uint32
	key  crypto.Signer
}

func (s *noteSigner) Name() string    { return s.name }
func (s *noteSigner) KeyHash() uint32 { return s.id }
func (s *noteSigner) Sign(msg []byte) ([]byte, error) {
	return s.key.Sign(rand.Reader, msg, crypto.Hash(0))
}

// A Witness holds the keys of a witness under its name. WitnessFromSeed derives both from one seed;
// an Ed25519 key that is elsewhere, in an agent or a KMS, may take the place of the derived one, and
// either key may be absent.
type Witness struct {
	Name        string
	Ed25519     crypto.Signer // its public key is an ed25519.PublicKey, and it signs messages; nil: no such key
	MLDSASeed   [32]byte      // FIPS 204 seed of the ML-DSA-44 key
	MLDSAPublic []byte        // its 1,312-byte public key; nil: no such key
	NotBefore   time.Time     // when the keys begin to sign; zero: at once
	NotAfter    time.Time     // when they no longer do; zero: never
}

// The words for one of a witness's keys without the other.
const (
	OnlyEd25519 = "ed25519"
	OnlyMLDSA44 = "ml-dsa-44"
)

// Only returns the keys without the one of the other algorithm; the empty word stands for both.
func (w Witness) Only(algorithm string) (Witness, error) {
	switch algorithm {
	case "":
	case OnlyEd25519:
		w.MLDSAPublic = nil
	case OnlyMLDSA44:
		w.Ed25519 = nil
	default:
		return w, fmt.Errorf("algorithm %q is neither %s nor %s", algorithm, OnlyEd25519, OnlyMLDSA44)
	}
	return w, nil
}

// Signs reports whether the keys sign at a time.
func (w Witness) Signs(at time.Time) bool {
	return !at.Before(w.NotBefore) && (w.NotAfter.IsZero() || at.Before(w.NotAfter))
}

// Labels of the two derivations. Changing one changes every witness key ever derived.
const (
	labelEd25519 = "tallywood/witness/ed25519/v1"
	labelMLDSA44 = "tallywood/witness/ml-dsa-44/v1"
)

// WitnessFromSeed derives a witness's keys with HKDF-SHA-256: secret seed, the algorithm's label
// as salt, and the name as info. So one seed under two names yields unrelated keys: an Ed25519
// cosignature does not name its cosigner, and a key must never serve two.
func WitnessFromSeed(name string, seed [32]byte) (Witness, error) {
	if err := CheckName(name); err != nil {
		return Witness{}, err
	}
	w := Witness{Name: name}
	ed, err := hkdf.Key(sha256.New, seed[:], []byte(labelEd25519), name, ed25519.SeedSize)
	if err != nil {
		return Witness{}, fmt.Errorf("deriving Ed25519 key: %w", err)
	}
	w.Ed25519 = ed25519.NewKeyFromSeed(ed)
	ml, err := hkdf.Key(sha256.New, seed[:], []byte(labelMLDSA44), name, len(w.MLDSASeed))
	if err != nil {
		return Witness{}, fmt.Errorf("deriving ML-DSA-44 key: %w", err)
	}
	w.MLDSASeed = [32]byte(ml)
	key, err := mldsa.NewPrivateKey(mldsa.MLDSA44(), ml)
	if err != nil {
		return Witness{}, fmt.Errorf("expanding ML-DSA-44 key: %w", err)
	}
	w.MLDSAPublic = key.PublicKey().Bytes()
	return w, nil
}

// VKeys returns the verifier keys: Ed25519 (type 0x04) first, then ML-DSA-44 (0x06), of what is there.
func (w Witness) VKeys() []string {
	var vkeys []string
	if w.Ed25519 != nil {
		public, _ := w.Ed25519.Public().(ed25519.PublicKey) // another type has no key ID, and verifies nothing
		vkeys = append(vkeys, VKey(w.Name, AlgCosignatureV1, public))
	}
	if w.MLDSAPublic != nil {
		vkeys = append(vkeys, VKey(w.Name, AlgMLDSA44, w.MLDSAPublic))
	}
	return vkeys
}

// TreeHeadVKey returns the verifier key of an RFC 6962 tree head key (type 0x05): its key ID is
// made of the log ID, SHA-256 of the SubjectPublicKeyInfo spki, which itself follows in base64.
func TreeHeadVKey(name string, logID [32]byte, spki []byte) string {
	return fmt.Sprintf("%s+%08x+%s", name, KeyID(name, AlgRFC6962, logID[:]),
		base64.StdEncoding.EncodeToString(append([]byte{AlgRFC6962}, spki...)))
}
