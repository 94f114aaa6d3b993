package tsa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

var (
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidTimeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
)

// CheckChain returns nil if clients accept timestamps of chain (leaf first, root last) at now,
// and otherwise an error that names every rule it breaks. The leaf's key must be public.
func CheckChain(chain []*x509.Certificate, public crypto.PublicKey, now time.Time) error {
	if len(chain) < 2 {
		return fmt.Errorf("certificate chain has %d certificates; want a leaf and at least a root", len(chain))
	}
	leaf, root := chain[0], chain[len(chain)-1]
	errs := []error{checkLeaf(leaf, public)}
	intermediates := x509.NewCertPool()
	for i, cert := range chain[1:] {
		if !cert.BasicConstraintsValid || !cert.IsCA {
			errs = append(errs, fmt.Errorf("certificate %d of the chain is not a CA", i+2))
		}
		if cert == root {
			break
		}
		intermediates.AddCert(cert)
		if !slices.Contains(cert.ExtKeyUsage, x509.ExtKeyUsageTimeStamping) {
			errs = append(errs, fmt.Errorf("intermediate, certificate %d of the chain, lacks the extended key usage timeStamping", i+2))
		}
	}
	if !bytes.Equal(root.RawIssuer, root.RawSubject) {
		errs = append(errs, errors.New("the last certificate of the chain is not a root"))
	}
	for i := range chain[1:] {
		if !bytes.Equal(chain[i].RawIssuer, chain[i+1].RawSubject) {
			errs = append(errs, fmt.Errorf("certificate %d of the chain is not issued by the next one: the order is leaf to root", i+1))
		}
	}
	roots := x509.NewCertPool()
	roots.AddCert(root)
	_, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping},
	})
	if err != nil {
		errs = append(errs, fmt.Errorf("verifying certificate chain: %w", err))
	}
	return errors.Join(errs...)
}

// checkLeaf checks the rules about the leaf alone.
func checkLeaf(leaf *x509.Certificate, public crypto.PublicKey) error {
	var errs []error
	if leaf.IsCA {
		errs = append(errs, errors.New("the leaf certificate is a CA"))
	}
	// > The corresponding certificate MUST contain only one instance of the extended key usage
	// > field extension [...] with KeyPurposeID having value: id-kp-timeStamping. This extension
	// > MUST be critical. (RFC 3161 section 2.3)
	if len(leaf.ExtKeyUsage) != 1 || leaf.ExtKeyUsage[0] != x509.ExtKeyUsageTimeStamping || len(leaf.UnknownExtKeyUsage) != 0 {
		errs = append(errs, errors.New("the leaf certificate's extended key usage is not timeStamping alone"))
	}
	for _, ext := range leaf.Extensions {
		if ext.Id.Equal(oidExtKeyUsage) && !ext.Critical {
			errs = append(errs, errors.New("the leaf certificate's extended key usage is not critical"))
		}
	}
	if leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		errs = append(errs, errors.New("the leaf certificate lacks the key usage digitalSignature"))
	}
	if key, ok := leaf.PublicKey.(interface{ Equal(crypto.PublicKey) bool }); !ok || !key.Equal(public) {
		errs = append(errs, errors.New("the leaf certificate is not for the signer's key"))
	}
	return errors.Join(errs...)
}

// validity returns the time in which all certificates of chain are valid.
func validity(chain []*x509.Certificate) (notBefore, notAfter time.Time) {
	notBefore, notAfter = chain[0].NotBefore, chain[0].NotAfter
	for _, cert := range chain[1:] {
		if cert.NotBefore.After(notBefore) {
			notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(notAfter) {
			notAfter = cert.NotAfter
		}
	}
	return notBefore, notAfter
}

// CreateChain makes a chain for development, leaf first: the leaf for five years, intermediate
// and root for ten, all P-256, named after organization. It returns the leaf's key; those of
// the CAs are thrown away.
func CreateChain(organization string, now time.Time) ([]*x509.Certificate, crypto.Signer, error) {
	// A token's time is a whole second, and must not lie before the certificate's.
	now = now.UTC().Truncate(time.Second)
	end := now.AddDate(10, 0, 0)
	ca := func(name string) *x509.Certificate {
		return &x509.Certificate{
			Subject: pkix.Name{Organization: []string{organization}, CommonName: name}, NotBefore: now, NotAfter: end,
			KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
		}
	}
	root := ca(organization + " timestamp root")
	intermediate := ca(organization + " timestamp intermediate")
	intermediate.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}
	intermediate.MaxPathLenZero = true
	// crypto/x509 writes the extended key usage as not critical unless it is given whole.
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{oidTimeStamping})
	if err != nil {
		return nil, nil, fmt.Errorf("encoding extended key usage: %w", err)
	}
	leaf := &x509.Certificate{
		Subject:   pkix.Name{Organization: []string{organization}, CommonName: organization + " timestamp authority"},
		NotBefore: now, NotAfter: now.AddDate(5, 0, 0), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: oidExtKeyUsage, Critical: true, Value: usage}},
	}
	var chain []*x509.Certificate
	var key *ecdsa.PrivateKey
	parent, parentKey := root, key
	for _, template := range []*x509.Certificate{root, intermediate, leaf} {
		if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			return nil, nil, fmt.Errorf("generating key: %w", err)
		}
		if template == root {
			parentKey = key
		}
		cert, err := issue(template, parent, &key.PublicKey, parentKey)
		if err != nil {
			return nil, nil, fmt.Errorf("issuing %q: %w", template.Subject.CommonName, err)
		}
		chain = slices.Insert(chain, 0, cert)
		parent, parentKey = cert, key
	}
	return chain, key, nil
}

func issue(template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	serial := make([]byte, 20)
	_, _ = rand.Read(serial) // never fails
	serial[0] = serial[0]&0x7f | 0x40
	template.SerialNumber = new(big.Int).SetBytes(serial)
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(spki)
	template.SubjectKeyId = id[:20]
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
