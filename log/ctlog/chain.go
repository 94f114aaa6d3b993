package ctlog

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"slices"

	"tallywood/log/ctentry"
)

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// chains decides which submissions are accepted.
type chains struct {
	roots *x509.CertPool
	list  []*x509.Certificate
}

func newChains(roots []*x509.Certificate) chains {
	c := chains{roots: x509.NewCertPool(), list: roots}
	for _, root := range roots {
		c.roots.AddCert(root)
	}
	return c
}

// check returns the verified path from the leaf of a submission to an accepted root, which the
// submission may leave out. It refuses anything but a code signing certificate, or
// precertificate, followed by its issuers in order.
func (c chains) check(chain [][]byte, precert bool) ([]*x509.Certificate, error) {
	certs, err := parseChain(chain)
	if err != nil {
		return nil, err
	}
	leaf := certs[0]
	switch poisoned, err := ctentry.IsPrecertificate(leaf.Raw); {
	case err != nil:
		return nil, reject("reading the first certificate: %w", err)
	case precert && !poisoned:
		return nil, reject("the first certificate is no precertificate: submit it to add-chain")
	case !precert && poisoned:
		return nil, reject("the first certificate is a precertificate: submit it to add-pre-chain")
	}
	if !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageCodeSigning) {
		return nil, reject("the first certificate is not for code signing (extended key usage)")
	}
	for i, cert := range certs[1:] {
		// RFC 6962 section 3.1 allows these, and logs may refuse them: their keys make
		// precertificates in the name of a CA that need not know.
		if slices.ContainsFunc(cert.UnknownExtKeyUsage, ctentry.OIDPrecertSigner.Equal) {
			return nil, reject("precertificate signing certificates are not accepted")
		}
		if !bytes.Equal(certs[i].RawIssuer, cert.RawSubject) {
			return nil, reject("certificate %d is not issued by the one after it", i+1)
		}
	}
	if err := c.authenticate(certs); err != nil {
		return nil, err
	}
	return c.verify(certs, precert)
}

// authenticate checks the signatures of a chain from its end, which is an accepted root or issued by
// one, down to the leaf: so each is checked with a key that an accepted root vouches for. With one
// that a stranger has chosen, an RSA key of as many bits as a submission holds, a single check would
// take half a minute.
func (c chains) authenticate(certs []*x509.Certificate) error {
	last := certs[len(certs)-1]
	if !slices.ContainsFunc(c.list, func(root *x509.Certificate) bool {
		return root.Equal(last) || bytes.Equal(root.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(root) == nil
	}) {
		return reject("the chain does not end at an accepted root, or at a certificate issued by an accepted root")
	}
	for i := len(certs) - 1; i > 0; i-- {
		if err := certs[i-1].CheckSignatureFrom(certs[i]); err != nil {
			return reject("the chain does not verify up to an accepted root: certificate %d: %.200s", i, err.Error())
		}
	}
	return nil
}

func (c chains) verify(certs []*x509.Certificate, precert bool) ([]*x509.Certificate, error) {
	leaf := *certs[0]
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(leaf.UnhandledCriticalExtensions),
		func(oid asn1.ObjectIdentifier) bool {
			// crypto/x509 does not handle a SAN that has only names it does not know.
			return precert && oid.Equal(ctentry.OIDPoison) || oid.Equal(oidSubjectAltName)
		})
	intermediates := x509.NewCertPool()
	for _, cert := range certs[1:] {
		intermediates.AddCert(cert)
	}
	paths, err := leaf.Verify(x509.VerifyOptions{
		Roots: c.roots, Intermediates: intermediates,
		// Certificates of ten minutes stay loggable, whenever they come.
		CurrentTime: leaf.NotBefore,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	})
	if err != nil {
		return nil, reject("the chain does not verify up to an accepted root: %.200s", err.Error())
	}
	for _, path := range paths {
		path[0] = certs[0]
		if len(path) > 1 && len(path) <= maxChain+1 &&
			(len(certs) == len(path) || len(certs) == len(path)-1) &&
			slices.EqualFunc(certs, path[:len(certs)], (*x509.Certificate).Equal) {
			return path, nil
		}
	}
	return nil, reject("the chain holds other certificates than the path to an accepted root")
}

func parseChain(chain [][]byte) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, reject("the chain is empty")
	}
	if len(chain) > maxChain {
		return nil, reject("the chain has %d certificates; at most %d are accepted", len(chain), maxChain)
	}
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		var err error
		if certs[i], err = x509.ParseCertificate(der); err != nil {
			return nil, reject("certificate %d is malformed: %.200s", i+1, err.Error())
		}
	}
	return certs, nil
}
