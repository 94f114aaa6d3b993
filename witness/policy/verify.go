package policy

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/cloudflare/circl/sign/mldsa/mldsa44"
	"golang.org/x/crypto/cryptobyte"
)

var errBadSignature = errors.New("signature does not verify")

// Verify checks that sig, the bytes of a signature line after its key ID, is k's signature of the
// note text. It returns the time the signature states: seconds of a cosignature, milliseconds of
// an RFC 6962 tree head. The time is zero for a key of type 0x01, which states none, and for a
// ML-DSA statement with timestamp 0, which does not claim that its signer keeps an append-only
// view: it is no cosignature of a checkpoint.
func (k Key) Verify(text string, sig []byte) (time.Time, error) {
	if k.verify == nil {
		return time.Time{}, errors.New("verifying with the zero key")
	}
	return k.verify(text, sig)
}

func verifyEd25519(pub ed25519.PublicKey) func(string, []byte) (time.Time, error) {
	return func(text string, sig []byte) (time.Time, error) {
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(pub, []byte(text), sig) {
			return time.Time{}, errBadSignature
		}
		return time.Time{}, nil
	}
}

func verifyCosignature(pub ed25519.PublicKey) func(string, []byte) (time.Time, error) {
	return func(text string, sig []byte) (time.Time, error) {
		t, sig, err := cutTimestamp(sig)
		if err != nil {
			return time.Time{}, err
		}
		if len(sig) != ed25519.SignatureSize || !ed25519.Verify(pub, CosignatureMessage(t, text), sig) {
			return time.Time{}, errBadSignature
		}
		if t == 0 {
			return time.Time{}, errors.New("cosignature has timestamp 0")
		}
		return time.Unix(t, 0), nil
	}
}

func verifyMLDSA(name string, pub *mldsa44.PublicKey) func(string, []byte) (time.Time, error) {
	return func(text string, sig []byte) (time.Time, error) {
		t, sig, err := cutTimestamp(sig)
		if err != nil {
			return time.Time{}, err
		}
		tree, err := ParseTree(text)
		if err != nil {
			return time.Time{}, err
		}
		msg, err := SubtreeMessage(name, t, tree.Origin, 0, tree.Size, tree.Root)
		if err != nil {
			return time.Time{}, err
		}
		if len(sig) != mldsa44.SignatureSize || !mldsa44.Verify(pub, msg, nil, sig) {
			return time.Time{}, errBadSignature
		}
		if t == 0 {
			return time.Time{}, nil
		}
		return time.Unix(t, 0), nil
	}
}

// verifyTreeHead verifies the signature line of a certificate log (c2sp.org/static-ct-api):
// milliseconds, then the DigitallySigned of RFC 6962 section 3.5. The origin is not signed, so
// that it must be the key's name, and neither are extension lines, so that there may be none.
func verifyTreeHead(name string, pub crypto.PublicKey) func(string, []byte) (time.Time, error) {
	return func(text string, sig []byte) (time.Time, error) {
		tree, err := ParseTree(text)
		if err != nil {
			return time.Time{}, err
		}
		if tree.Origin != name || len(tree.Extensions) > 0 {
			return time.Time{}, errors.New("RFC 6962 signature does not cover this origin or extension")
		}
		var (
			in      = cryptobyte.String(sig)
			millis  uint64
			hash    uint8
			scheme  uint8
			payload cryptobyte.String
		)
		if !in.ReadUint64(&millis) || !in.ReadUint8(&hash) || !in.ReadUint8(&scheme) ||
			!in.ReadUint16LengthPrefixed(&payload) || !in.Empty() || millis > math.MaxInt64 {
			return time.Time{}, errors.New("malformed RFC 6962 signature")
		}
		head := []byte{0, 1} // version v1, signature type tree_hash
		head = binary.BigEndian.AppendUint64(head, millis)
		head = binary.BigEndian.AppendUint64(head, uint64(tree.Size))
		digest := sha256.Sum256(append(head, tree.Root[:]...))
		if !verifyDigest(pub, hash, scheme, digest[:], payload) {
			return time.Time{}, errBadSignature
		}
		return time.UnixMilli(int64(millis)), nil
	}
}

// verifyDigest knows the two signature schemes of RFC 6962, named as in RFC 5246 section 7.4.1.4.1.
func verifyDigest(pub crypto.PublicKey, hash, scheme uint8, digest, sig []byte) bool {
	const sha256ID, rsaID, ecdsaID = 4, 1, 3
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		return hash == sha256ID && scheme == ecdsaID && ecdsa.VerifyASN1(p, digest, sig)
	case *rsa.PublicKey:
		return hash == sha256ID && scheme == rsaID && rsa.VerifyPKCS1v15(p, crypto.SHA256, digest, sig) == nil
	}
	return false
}

// cutTimestamp splits the body of a timestamped signature: eight bytes of seconds, big endian,
// below 2^63, then the signature.
func cutTimestamp(body []byte) (int64, []byte, error) {
	if len(body) < 8 {
		return 0, nil, errors.New("signature is too short for a timestamp")
	}
	t := binary.BigEndian.Uint64(body)
	if t > math.MaxInt64 {
		return 0, nil, errors.New("signature timestamp is not below 2^63")
	}
	return int64(t), body[8:], nil
}

// CosignatureMessage returns what a key of type 0x04 signs to cosign text at the time given in
// Unix seconds (c2sp.org/tlog-cosignature): all of the text, extension lines included.
func CosignatureMessage(timestamp int64, text string) []byte {
	return fmt.Appendf(nil, "cosignature/v1\ntime %d\n%s", timestamp, text)
}

// SubtreeMessage returns what a key of type 0x06 of the given cosigner name signs for the subtree
// [start, end) of origin's tree (c2sp.org/tlog-cosignature), and for a checkpoint with start 0.
// The timestamp is in Unix seconds, and 0 if start is not. Names and origins have 1 to 255 bytes.
func SubtreeMessage(cosigner string, timestamp int64, origin string, start, end int64, hash [32]byte) ([]byte, error) {
	switch {
	case len(cosigner) < 1 || len(cosigner) > 255:
		return nil, fmt.Errorf("cosigner name of %d bytes", len(cosigner))
	case len(origin) < 1 || len(origin) > 255:
		return nil, fmt.Errorf("origin of %d bytes", len(origin))
	case timestamp < 0 || start < 0 || end < start:
		return nil, errors.New("negative timestamp or range")
	case start > 0 && timestamp > 0:
		return nil, errors.New("subtree that does not start at 0 has a timestamp")
	}
	msg := make([]byte, 0, 12+1+len(cosigner)+8+1+len(origin)+8+8+32)
	msg = append(msg, "subtree/v1\n\x00"...)
	msg = append(msg, byte(len(cosigner)))
	msg = append(msg, cosigner...)
	msg = binary.BigEndian.AppendUint64(msg, uint64(timestamp))
	msg = append(msg, byte(len(origin)))
	msg = append(msg, origin...)
	msg = binary.BigEndian.AppendUint64(msg, uint64(start))
	msg = binary.BigEndian.AppendUint64(msg, uint64(end))
	return append(msg, hash[:]...), nil
}
