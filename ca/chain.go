package ca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"
)

// checkChain holds a chain, issuing certificate first and root last, against the profile: what
// clients or auditors would object to later is refused at start.
func checkChain(chain []*x509.Certificate, now time.Time) error {
	if len(chain) == 0 || slices.Contains(chain, nil) {
		return errors.New("ca: a certificate chain is required")
	}
	var errs []error
	bad := func(n int, format string, args ...any) {
		errs = append(errs, fmt.Errorf("ca: certificate %d of the chain (%s): %w", n+1, chain[n].Subject, fmt.Errorf(format, args...)))
	}
	for n, cert := range chain {
		parent := chain[min(n+1, len(chain)-1)] // the root is its own
		if err := cert.CheckSignatureFrom(parent); err != nil {
			bad(n, "its issuer is not the next: %w", err)
		}
		if !bytes.Equal(cert.RawIssuer, parent.RawSubject) {
			bad(n, "its issuer's name is not that of the next")
		}
		if !cert.IsCA || !cert.BasicConstraintsValid {
			bad(n, "not a CA")
		}
		if cert.KeyUsage != x509.KeyUsageCertSign|x509.KeyUsageCRLSign {
			bad(n, "key usage is not exactly certSign and cRLSign")
		}
		if len(cert.SubjectKeyId) == 0 {
			bad(n, "no subject key identifier")
		}
		if now.Before(cert.NotBefore) || !now.Before(cert.NotAfter) {
			bad(n, "not valid now, but from %s to %s", cert.NotBefore.Format(time.RFC3339), cert.NotAfter.Format(time.RFC3339))
		}
		if cert.PublicKeyAlgorithm != parent.PublicKeyAlgorithm {
			bad(n, "key type differs from its issuer's")
		}
		if n == len(chain)-1 {
			continue
		}
		if !bytes.Equal(cert.AuthorityKeyId, parent.SubjectKeyId) {
			bad(n, "authority key identifier is not its issuer's")
		}
		if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}) || len(cert.UnknownExtKeyUsage) > 0 {
			bad(n, "extended key usage is not exactly codeSigning")
		}
		if cert.MaxPathLen != n || n == 0 && !cert.MaxPathLenZero {
			bad(n, "path length constraint is not %d", n)
		}
		if cert.NotBefore.Before(parent.NotBefore) || cert.NotAfter.After(parent.NotAfter) {
			bad(n, "lifetime exceeds its issuer's")
		}
	}
	if root := chain[len(chain)-1]; len(chain) > 1 && len(root.ExtKeyUsage)+len(root.UnknownExtKeyUsage) > 0 {
		bad(len(chain)-1, "a root has no extended key usage")
	}
	return errors.Join(errs...)
}

// ChainOptions configure [CreateChain].
type ChainOptions struct {
	// Organization is the subject organization of both certificates. Required.
	Organization string
	// Lifetime of both certificates; zero means ten years.
	Lifetime time.Duration
	// Now is the moment validity starts; zero means the current time.
	Now time.Time
}

// CreateChain makes a root and an intermediate certificate, both ECDSA P-256, and returns the
// chain, intermediate first, with the intermediate's key. The root's key is thrown away: nothing
// else can ever be issued under that root.
func CreateChain(o ChainOptions) ([]*x509.Certificate, crypto.Signer, error) {
	if o.Organization == "" {
		return nil, nil, errors.New("ca: an Organization is required")
	}
	if o.Lifetime == 0 {
		o.Lifetime = 10 * 365 * 24 * time.Hour
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	rootKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating root key: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, fmt.Errorf("generating intermediate key: %w", err)
	}
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber:          new(big.Int).SetBytes(newSerial()),
			Subject:               pkix.Name{Organization: []string{o.Organization}, CommonName: name},
			NotBefore:             o.Now.UTC().Truncate(time.Second),
			NotAfter:              o.Now.UTC().Truncate(time.Second).Add(o.Lifetime),
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
			BasicConstraintsValid: true, IsCA: true,
		}
	}
	rootTemplate := template(o.Organization + " root")
	root, err := createCertificate(rootTemplate, rootTemplate, rootKey.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("creating root: %w", err)
	}
	issuing := template(o.Organization + " intermediate")
	issuing.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	issuing.MaxPathLenZero = true
	intermediate, err := createCertificate(issuing, root, key.Public(), rootKey)
	if err != nil {
		return nil, nil, fmt.Errorf("creating intermediate: %w", err)
	}
	return []*x509.Certificate{intermediate, root}, key, nil
}

func createCertificate(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
