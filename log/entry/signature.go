package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// ErrUnverifiable reports a signature that cannot be verified over a digest by anyone, or not by us:
// it is of a scheme that signs messages, or that we do not know. It may be good or bad.
var ErrUnverifiable = errors.New("no digest can tell")

// Values of KeyDetails that this log does not accept, others do, and that sign a digest.
const (
	pssRSA2048      KeyDetails = 16
	pssRSA3072      KeyDetails = 17
	pssRSA4096      KeyDetails = 18
	ecdsaP384SHA256 KeyDetails = 19
	ecdsaP521SHA256 KeyDetails = 20
)

// Verify returns nil if s signs digest, which h made, with the key and the scheme that s names. An
// entry of any log may be asked about, so more schemes are known than this log accepts. The key is that
// of s.PublicKey, or of s.Certificate, of which nothing else is looked at.
func (s Signature) Verify(h crypto.Hash, digest []byte) error {
	return s.verify(h, digest, KeyDetails.of)
}

// VerifyAnySize is Verify for a key that may be of another size or curve than s names: other logs take
// such entries. That clients refuse them does not make the signature another's.
func (s Signature) VerifyAnySize(h crypto.Hash, digest []byte) error {
	return s.verify(h, digest, KeyDetails.ofKind)
}

func (s Signature) verify(h crypto.Hash, digest []byte, fits func(KeyDetails, crypto.PublicKey) bool) error {
	if _, named := detailsNames[s.KeyDetails]; !named || s.KeyDetails == 0 {
		return s.verifyUnnamed(h, digest)
	}
	want, sign := s.KeyDetails.digest()
	if !sign {
		return fmt.Errorf("verifying signature by %s: %w", s.KeyDetails, ErrUnverifiable)
	}
	key, err := s.key()
	switch {
	case err != nil:
		return fmt.Errorf("verifying signature: %w", err)
	case h != want || len(digest) != want.Size():
		return fmt.Errorf("verifying signature: %d bytes of %v were signed, %s wants %v", len(digest), h, s.KeyDetails, want)
	case !fits(s.KeyDetails, key):
		return fmt.Errorf("verifying signature: the key is %s, not of %s", KeyKind(key), s.KeyDetails)
	}
	switch s.KeyDetails {
	case pssRSA2048, pssRSA3072, pssRSA4096:
		pub := key.(*rsa.PublicKey)
		if err := rsa.VerifyPSS(pub, h, digest, s.Content, nil); err != nil {
			return fmt.Errorf("verifying signature: %w", err)
		}
		return nil
	}
	if !validSignature(key, h, digest, s.Content) {
		return errors.New("verifying signature: it does not match")
	}
	return nil
}

// verifyUnnamed verifies a signature whose scheme is not said by the only one this log accepts for
// its key: leaving it out must not be a way around being verified.
func (s Signature) verifyUnnamed(h crypto.Hash, digest []byte) error {
	key, err := s.key()
	if err == nil {
		s.KeyDetails, err = KeyDetailsFor(key)
	}
	if err != nil {
		return fmt.Errorf("verifying signature of no known scheme: %w", ErrUnverifiable)
	}
	return s.Verify(h, digest)
}

// digest returns the hash whose digest k signs, and whether k signs digests and is one we can verify.
func (k KeyDetails) digest() (crypto.Hash, bool) {
	switch k {
	case pssRSA2048, pssRSA3072, pssRSA4096, ecdsaP384SHA256, ecdsaP521SHA256:
		return crypto.SHA256, true
	}
	return k.Hash(), k.Hash() != 0
}

// of reports whether key is of the type that k names, one for which digest reports true.
func (k KeyDetails) of(key crypto.PublicKey) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		switch k {
		case ecdsaP384SHA256:
			return key.Curve == elliptic.P384()
		case ecdsaP521SHA256:
			return key.Curve == elliptic.P521()
		}
		return k.curve() != nil && key.Curve == k.curve()
	case *rsa.PublicKey:
		bits := map[KeyDetails]int{RSA2048: 2048, RSA3072: 3072, RSA4096: 4096, pssRSA2048: 2048, pssRSA3072: 3072, pssRSA4096: 4096}
		return key.Size()*8 == bits[k]
	case ed25519.PublicKey:
		return k == Ed25519ph
	}
	return false
}

// maxRSA is how long an RSA key may be, in bytes, that is not of the size that is named: far longer
// ones keep a processor busy.
const maxRSA = 8192 / 8

// ofKind reports whether key is of the kind that k names, one for which digest reports true, of
// whatever size.
func (k KeyDetails) ofKind(key crypto.PublicKey) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return k.curve() != nil || k == ecdsaP384SHA256 || k == ecdsaP521SHA256
	case *rsa.PublicKey:
		return key.Size() <= maxRSA && slices.Contains([]KeyDetails{RSA2048, RSA3072, RSA4096, pssRSA2048, pssRSA3072, pssRSA4096}, k)
	}
	return k.of(key)
}

// KeyKind says for people what key is, such as "ECDSA P-256" or "RSA 2048"; of a kind that no entry has, its Go
// type.
func KeyKind(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", key.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	}
	return fmt.Sprintf("%T", key)
}

func (s Signature) key() (crypto.PublicKey, error) {
	if len(s.PublicKey) > 0 {
		key, err := x509.ParsePKIXPublicKey(s.PublicKey)
		if err != nil {
			return nil, fmt.Errorf("reading public key: %w", err)
		}
		return key, nil
	}
	cert, err := x509.ParseCertificate(s.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	return cert.PublicKey, nil
}
