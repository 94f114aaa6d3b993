package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"time"

	"tallywood/internal/keys"
)

// A CA certifies: an intermediate certificate under a root.
type CA struct {
	Root         *x509.Certificate
	Intermediate *x509.Certificate

	key       *ecdsa.PrivateKey // of the intermediate
	keyHash   [32]byte          // of its SubjectPublicKeyInfo, as certificate logs have it
	hash      crypto.Hash       // that it signs with
	algorithm asn1.ObjectIdentifier
}

// When authorities are valid: whatever the time of a story.
var (
	authorityFrom = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityTo   = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

// Signature algorithms of authorities.
var (
	oidECDSA256 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2} // ecdsa-with-SHA256
	oidECDSA384 = asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3} // ecdsa-with-SHA384
)

// Authority derives a CA from its name. Its keys are of P-256, which sign many times faster than those
// of P-384 that Sigstore's public authority has.
func (w *World) Authority(name string) (*CA, error) { return w.authority(elliptic.P256(), name) }

// Authority384 is Authority with keys of P-384.
func (w *World) Authority384(name string) (*CA, error) { return w.authority(elliptic.P384(), name) }

func (w *World) authority(curve elliptic.Curve, name string) (*CA, error) {
	rootKey, err := w.ecdsa(curve, "root "+name)
	if err != nil {
		return nil, err
	}
	key, err := w.ecdsa(curve, "intermediate "+name)
	if err != nil {
		return nil, err
	}
	root := authorityTemplate(name+".example", name, 1)
	ca := &CA{key: key, hash: crypto.SHA256, algorithm: oidECDSA256}
	if curve == elliptic.P384() {
		ca.hash, ca.algorithm = crypto.SHA384, oidECDSA384
	}
	if ca.Root, err = certify(root, root, rootKey.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("making authority %q: %w", name, err)
	}
	between := authorityTemplate(name+".example", name+"-intermediate", 2)
	between.MaxPathLenZero, between.ExtKeyUsage = true, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	if ca.Intermediate, err = certify(between, ca.Root, key.Public(), rootKey); err != nil {
		return nil, fmt.Errorf("making authority %q: %w", name, err)
	}
	ca.keyHash = sha256.Sum256(ca.Intermediate.RawSubjectPublicKeyInfo)
	return ca, nil
}

func authorityTemplate(organization, name string, serial int64) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{Organization: []string{organization}, CommonName: name},
		NotBefore: authorityFrom, NotAfter: authorityTo,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
}

func certify(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(nil, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// PEM returns the chain, the intermediate certificate first.
func (ca *CA) PEM() []byte {
	return keys.FormatChain([]*x509.Certificate{ca.Intermediate, ca.Root})
}
