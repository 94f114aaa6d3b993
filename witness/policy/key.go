package policy

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
)

// The algorithm bytes of keys that [ParseVKey] knows.
const (
	AlgEd25519       byte = 0x01 // Ed25519 over the text: logs
	AlgCosignatureV1 byte = 0x04 // timestamped Ed25519, c2sp.org/tlog-cosignature: witnesses
	AlgRFC6962       byte = 0x05 // RFC 6962 tree head, c2sp.org/static-ct-api: certificate logs
	AlgMLDSA44       byte = 0x06 // ML-DSA-44, c2sp.org/tlog-cosignature: witnesses and logs
)

// A Key is a verifier key. The zero Key verifies nothing; [ParseVKey] makes the others.
type Key struct {
	name   string
	id     uint32
	alg    byte
	public []byte
	verify func(text string, sig []byte) (time.Time, error)
}

// Name returns the key name, which is the origin if the key is a log's.
func (k Key) Name() string { return k.name }

// ID returns the key ID, which together with the name picks the key's signature lines.
func (k Key) ID() uint32 { return k.id }

// Alg returns the algorithm byte.
func (k Key) Alg() byte { return k.alg }

// Public returns the raw public key: 32 bytes of Ed25519, 1312 of ML-DSA-44, or the DER of the
// SubjectPublicKeyInfo of a 0x05 key.
func (k Key) Public() []byte { return bytes.Clone(k.public) }

// String returns the vkey.
func (k Key) String() string {
	return fmt.Sprintf("%s+%08x+%s", k.name, k.id, base64.StdEncoding.EncodeToString(append([]byte{k.alg}, k.public...)))
}

// Equal reports whether k and other are the same key under the same name.
func (k Key) Equal(other Key) bool {
	return k.name == other.name && k.alg == other.alg && bytes.Equal(k.public, other.public)
}

// Matches reports whether sig claims to be k's: the same name and the same key ID. With only one
// of them equal it is a line of an unknown key.
func (k Key) Matches(sig Signature) bool { return k.name == sig.Name && k.id == sig.KeyID }

// ParseVKey parses a verifier key, `name+hhhhhhhh+base64(algorithm || public key)`, of one of the
// four algorithms above, and checks the hash in it.
func ParseVKey(vkey string) (Key, error) {
	name, rest, ok1 := strings.Cut(vkey, "+")
	hash, b64, ok2 := strings.Cut(rest, "+")
	if !ok1 || !ok2 {
		return Key{}, errors.New("vkey is not of the form name+hash+base64")
	}
	if !ValidName(name) {
		return Key{}, errors.New("vkey has an invalid key name")
	}
	blob, err := decodeBase64(b64)
	if err != nil {
		return Key{}, fmt.Errorf("vkey public key %w", err)
	}
	if len(blob) < 2 {
		return Key{}, errors.New("vkey has no public key")
	}
	k := Key{name: name, alg: blob[0], public: blob[1:]}
	if err := k.init(); err != nil {
		return Key{}, fmt.Errorf("vkey of %s: %w", name, err)
	}
	if hash != fmt.Sprintf("%08x", k.id) {
		return Key{}, fmt.Errorf("vkey of %s: key ID is %08x, not %q", name, k.id, hash)
	}
	return k, nil
}

// init sets what follows from the algorithm and the public key.
func (k *Key) init() error {
	identified := k.public // what the key ID is a hash of, after name, LF and algorithm
	switch k.alg {
	case AlgEd25519, AlgCosignatureV1:
		if len(k.public) != ed25519.PublicKeySize {
			return fmt.Errorf("Ed25519 public key of %d bytes", len(k.public))
		}
		k.verify = verifyEd25519(k.public)
		if k.alg == AlgCosignatureV1 {
			k.verify = verifyCosignature(k.public)
		}
	case AlgMLDSA44:
		var pub mldsa44.PublicKey
		if err := pub.UnmarshalBinary(k.public); err != nil {
			return fmt.Errorf("ML-DSA-44 public key of %d bytes: %w", len(k.public), err)
		}
		if len(k.name) > 255 {
			return errors.New("name of a ML-DSA-44 key is longer than 255 bytes")
		}
		k.verify = verifyMLDSA(k.name, &pub)
	case AlgRFC6962:
		pub, err := parseSPKI(k.public)
		if err != nil {
			return err
		}
		logID := sha256.Sum256(k.public)
		identified = logID[:]
		k.verify = verifyTreeHead(k.name, pub)
	default:
		return fmt.Errorf("unknown key algorithm %#02x", k.alg)
	}
	h := sha256.New()
	h.Write([]byte(k.name + "\n"))
	h.Write([]byte{k.alg})
	h.Write(identified)
	k.id = binary.BigEndian.Uint32(h.Sum(nil))
	return nil
}

// parseSPKI parses the public key of a certificate log; RFC 6962 knows P-256 and RSA.
func parseSPKI(der []byte) (crypto.PublicKey, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the public key: %w", err)
	}
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if p.Curve != elliptic.P256() {
			return nil, fmt.Errorf("curve of a certificate log is %s, not P-256", p.Params().Name)
		}
	case *rsa.PublicKey:
		if p.N.BitLen() < 2048 {
			return nil, fmt.Errorf("RSA key of %d bits", p.N.BitLen())
		}
	default:
		return nil, fmt.Errorf("public key of type %T in a certificate log's vkey", pub)
	}
	return pub, nil
}
