package verify

import (
	"cmp"
	"crypto"
	"crypto/x509"
	"fmt"
	"maps"
	"net/url"
	"slices"

	"github.com/sigstore/sigstore-go/pkg/root"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
)

// Material is what a trusted root trusts, taken apart for those that check other things than
// bundles. When which of it was in use is not in it.
type Material struct {
	CAs    []*x509.Certificate // roots and issuing certificates of the certificate authorities
	CTLogs []crypto.PublicKey  // of the certificate logs: what their SCTs verify with
	// VKeys are the verifier keys of the logs' checkpoints: of signature logs named after their host,
	// as clients have it; of certificate logs after their URL without scheme (c2sp.org/static-ct-api).
	VKeys []string
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
	for _, l := range inOrder(tr.RekorLogs()) {
		// A Rekor v1 log signs with other keys, and its checkpoints are read by nothing here.
		if key, err := logKey(l); err == nil {
			m.VKeys = append(m.VKeys, keys.VKey(key.Name(), key.Alg(), key.Public()))
		}
	}
	for _, l := range inOrder(tr.CTLogs()) {
		m.CTLogs = append(m.CTLogs, l.PublicKey)
		if vkey, err := treeHeadVKey(l); err == nil {
			m.VKeys = append(m.VKeys, vkey)
		}
	}
	return m, nil
}

func inOrder(logs map[string]*root.TransparencyLog) []*root.TransparencyLog {
	return slices.SortedFunc(maps.Values(logs), func(a, b *root.TransparencyLog) int { return cmp.Compare(a.BaseURL, b.BaseURL) })
}

// treeHeadVKey returns the verifier key of a certificate log.
func treeHeadVKey(l *root.TransparencyLog) (string, error) {
	u, err := url.Parse(l.BaseURL)
	if err != nil {
		return "", err
	}
	spki, err := x509.MarshalPKIXPublicKey(l.PublicKey)
	if err != nil {
		return "", err
	}
	id, err := ctentry.LogID(l.PublicKey)
	if err != nil {
		return "", err
	}
	return keys.TreeHeadVKey(u.Host+u.Path, id, spki), nil
}
