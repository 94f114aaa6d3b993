package rule

import (
	"crypto/x509"
	"encoding/asn1"
	"slices"
)

// fromKnownCA reports whether c chains to a pinned CA, at the time it began to be valid. The
// extensions that crypto/x509 does not know and this package has read do not count against it.
func (s *Set) fromKnownCA(c *Certificate) bool {
	cert, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		return false
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions,
		func(id asn1.ObjectIdentifier) bool { return id.Equal(oidSAN) || id.Equal(oidPoison) })
	_, err = cert.Verify(x509.VerifyOptions{
		Roots:       s.cas,
		CurrentTime: cert.NotBefore,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}
