package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"time"

	"tallywood/internal/keys"
)

// A CA certifies: an intermediate certificate under a root.
type CA struct {
	Root         *x509.Certificate
	Intermediate *x509.Certificate

	key     *ecdsa.PrivateKey // of the intermediate
	keyHash [32]byte          // of its SubjectPublicKeyInfo, as certificate logs have it
}

// When authorities are valid: whatever the time of a story.
var (
	authorityFrom = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	authorityTo   = time.Date(2049, 12, 31, 0, 0, 0, 0, time.UTC)
)

// Authority derives a CA from its name.
func (w *World) Authority(name string) (*CA, error) {
	rootKey, err := w.ecdsa(elliptic.P256(), "root "+name)
	if err != nil {
		return nil, err
	}
	key, err := w.ecdsa(elliptic.P256(), "intermediate "+name)
	if err != nil {
		return nil, err
	}
	root := authorityTemplate(name+".example", name, 1)
	ca := &CA{key: key}
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
