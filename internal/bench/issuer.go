package bench

import (
	"crypto/ecdsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// An issuer makes certificates that have what Fulcio's for a workflow have, and their size. A log
// parses them; it does not verify who issued them.
type issuer struct {
	key        *ecdsa.PrivateKey
	parent     *x509.Certificate
	extensions []pkix.Extension
}

func newIssuer(key *ecdsa.PrivateKey) (*issuer, error) {
	i := &issuer{key: key, parent: &x509.Certificate{
		Subject:      pkix.Name{Organization: []string{"sigstore.dev"}, CommonName: "sigstore-intermediate"},
		SubjectKeyId: make([]byte, 20),
	}}
	for n, claim := range []string{
		"https://token.actions.githubusercontent.com", "push", "0123456789abcdef0123456789abcdef01234567", "Release", "example/project", "refs/heads/main",
	} {
		i.add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n + 1}, []byte(claim))
	}
	for n, claim := range []string{
		"https://token.actions.githubusercontent.com", "https://github.com/example/project/.github/workflows/release.yml@refs/heads/main",
		"github-hosted", "https://github.com/example/project", "0123456789abcdef0123456789abcdef01234567",
	} {
		value, err := asn1.MarshalWithParams(claim, "utf8")
		if err != nil {
			return nil, fmt.Errorf("encoding certificate extension: %w", err)
		}
		i.add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n + 8}, value)
	}
	sct, err := asn1.Marshal(make([]byte, 121)) // a list of one
	if err != nil {
		return nil, fmt.Errorf("encoding certificate extension: %w", err)
	}
	i.add(asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2}, sct)
	return i, nil
}

func (i *issuer) add(id asn1.ObjectIdentifier, value []byte) {
	i.extensions = append(i.extensions, pkix.Extension{Id: id, Value: value})
}

// issue returns the certificate of entry n.
func (i *issuer) issue(n int64, key *ecdsa.PrivateKey) ([]byte, error) {
	serial := binary.BigEndian.AppendUint64([]byte("sigstore...."), uint64(n))
	der, err := x509.CreateCertificate(nil, &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial),
		NotBefore:    time.Unix(1_790_000_000, 0), NotAfter: time.Unix(1_790_000_600, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		SubjectKeyId:    serial,
		URIs:            []*url.URL{{Scheme: "https", Host: "github.com", Path: "/example/project/.github/workflows/release.yml@refs/heads/main"}},
		ExtraExtensions: i.extensions,
	}, i.parent, key.Public(), i.key)
	if err != nil {
		return nil, fmt.Errorf("issuing certificate %d: %w", n, err)
	}
	return der, nil
}
