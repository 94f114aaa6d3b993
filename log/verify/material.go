package verify

import (
	"crypto"
	"crypto/x509"
	"fmt"
	"maps"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// Material is what a trusted root trusts, taken apart for those that check other things than
// bundles. When which of it was in use is not in it.
type Material struct {
	CAs    []*x509.Certificate // roots and issuing certificates of the certificate authorities
	CTLogs []crypto.PublicKey  // of the certificate logs: what their SCTs verify with
}

// ParseMaterial takes a trusted root (media type …trustedroot+json;version=0.1) apart.
func ParseMaterial(trustedRoot []byte) (Material, error) {
	tr, err := root.NewTrustedRootFromJSON(trustedRoot)
	if err != nil {
		return Material{}, fmt.Errorf("parsing trusted root: %w", err)
	}
	var m Material
	for _, authority := range tr.FulcioCertificateAuthorities() {
		if a, ok := authority.(*root.FulcioCertificateAuthority); ok {
			m.CAs = append(append(m.CAs, a.Intermediates...), a.Root)
		}
	}
	logs := tr.CTLogs()
	for _, id := range slices.Sorted(maps.Keys(logs)) {
		m.CTLogs = append(m.CTLogs, logs[id].PublicKey)
	}
	return m, nil
}
