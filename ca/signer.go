package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// signer signs certificates with one key.
type signer struct {
	crypto.Signer
	hash      crypto.Hash // zero for Ed25519
	algorithm []byte      // DER AlgorithmIdentifier
}

// newSigner picks the algorithm for a key and checks that it is the certificate's.
func newSigner(key crypto.Signer, issuer *x509.Certificate) (signer, error) {
	pub, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(issuer.PublicKey) {
		return signer{}, errors.New("ca: the signer's key is not that of the issuing certificate")
	}
	switch pub := key.Public().(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return signer{key, crypto.SHA256, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 2)}, nil
		case elliptic.P384():
			return signer{key, crypto.SHA384, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 3)}, nil
		case elliptic.P521():
			return signer{key, crypto.SHA512, algorithmIdentifier(false, 1, 2, 840, 10045, 4, 3, 4)}, nil
		}
	case *rsa.PublicKey:
		return signer{key, crypto.SHA256, algorithmIdentifier(true, 1, 2, 840, 113549, 1, 1, 11)}, nil
	case ed25519.PublicKey:
		return signer{key, 0, algorithmIdentifier(false, 1, 3, 101, 112)}, nil
	}
	return signer{}, errors.New("ca: the signer's key is not ECDSA P-256, P-384, P-521, RSA or Ed25519")
}

// algorithmIdentifier encodes an algorithm. RSA wants NULL parameters (RFC 4055 section 5), the
// others none (RFC 5758 section 3.2, RFC 8410 section 3).
func algorithmIdentifier(null bool, oid ...int) []byte {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1ObjectIdentifier(oid)
			if null {
				b.AddASN1NULL()
			}
		})
	})
}

// sign wraps a TBSCertificate into a signed Certificate.
func (s signer) sign(tbs []byte) ([]byte, error) {
	message := tbs
	if s.hash != 0 {
		h := s.hash.New()
		h.Write(tbs)
		message = h.Sum(nil)
	}
	signature, err := s.Sign(rand.Reader, message, s.hash)
	if err != nil {
		return nil, err
	}
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddBytes(tbs)
			b.AddBytes(s.algorithm)
			b.AddASN1BitString(signature)
		})
	}), nil
}
