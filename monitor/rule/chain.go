package rule

import (
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
)

// unknownCA says why c does not chain to a pinned CA, at the time it began to be valid; empty if it
// does. The extensions that crypto/x509 does not know and this package has read do not count against it.
func (s *Set) unknownCA(c *Certificate) string {
	cert, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		return fmt.Sprintf("is not in the form that verifiers read, so that it chains to no pinned CA: %q", Clip(err.Error()))
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions,
		func(id asn1.ObjectIdentifier) bool { return id.Equal(oidSAN) || id.Equal(oidPoison) })
	_, err = cert.Verify(x509.VerifyOptions{
		Roots:       s.cas,
		CurrentTime: cert.NotBefore,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "does not chain to a pinned CA"
	}
	return ""
}
