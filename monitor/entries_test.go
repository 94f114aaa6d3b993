package monitor_test

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
)

const (
	alice      = "alice@example.com"
	bob        = "bob@example.com"
	goodIssuer = "https://accounts.example.com"
	evilIssuer = "https://accounts.evil.example"
)

// A testCA issues certificates in the manner of Fulcio.
type testCA struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	n    int64

	made  time.Time     // begin of what it certifies; zero: a minute ago
	lives time.Duration // from made on; zero: 10 minutes
}

func newTestCA(t testing.TB) *testCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test CA"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &testCA{t: t, key: key, cert: cert, n: 1}
}

// certificate issues a certificate for a mail address; no issuer extensions if issuer is empty.
func (ca *testCA) certificate(email, issuer string, extra ...pkix.Extension) []byte {
	ca.t.Helper()
	ca.n++
	from, lives := time.Now().Add(-time.Minute), 11*time.Minute
	if !ca.made.IsZero() {
		from, lives = ca.made, cmp.Or(ca.lives, 10*time.Minute)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(ca.n), NotBefore: from, NotAfter: from.Add(lives),
		EmailAddresses: []string{email}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	if issuer != "" {
		oid := asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}
		der, err := asn1.MarshalWithParams(issuer, "utf8")
		if err != nil {
			ca.t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{
			{Id: append(oid[:len(oid):len(oid)], 1), Value: []byte(issuer)},
			{Id: append(oid[:len(oid):len(oid)], 8), Value: der}}
	}
	template.ExtraExtensions = append(template.ExtraExtensions, extra...)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return der
}

// entry returns the canonical bytes of a signature by the certificate of email and issuer.
func (ca *testCA) entry(email, issuer string) []byte {
	ca.t.Helper()
	cert := ca.certificate(email, issuer)
	digest := sha256.Sum256(cert)
	sig, err := ecdsa.SignASN1(rand.Reader, ca.key, digest[:])
	if err != nil {
		ca.t.Fatal(err)
	}
	canonical, err := entry.Canonical(digest[:], entry.Signature{Content: sig, Certificate: cert, KeyDetails: entry.ECDSAP256})
	if err != nil {
		ca.t.Fatal(err)
	}
	return canonical
}

// tileLeaf returns a precertificate's entry of a ct log at an index.
func (ca *testCA) tileLeaf(email, issuer string, index int64) []byte {
	ca.t.Helper()
	pre := ca.certificate(email, issuer, pkix.Extension{Id: ctentry.OIDPoison, Critical: true, Value: []byte{5, 0}})
	tbs, err := ctentry.PrecertTBS(pre)
	if err != nil {
		ca.t.Fatal(err)
	}
	extensions, err := ctentry.MarshalExtensions(index)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := ctentry.Entry{Timestamp: time.Now().UnixMilli(), Precert: true,
		IssuerKeyHash: sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo), Certificate: tbs, Extensions: extensions,
		UnverifiedPrecertificate: pre, UnverifiedFingerprints: [][32]byte{sha256.Sum256(ca.cert.Raw)}}.TileLeaf()
	if err != nil {
		ca.t.Fatal(err)
	}
	return leaf
}

// filler returns n entries that concern nobody who is watched.
func filler(ca *testCA, n int) [][]byte {
	one := ca.certificate(bob, goodIssuer)
	digest := sha256.Sum256(one)
	out := make([][]byte, n)
	for i := range out {
		var sig []byte
		for len(sig) < 70 { // so that all entries are as long
			var err error
			if sig, err = ecdsa.SignASN1(rand.Reader, ca.key, digest[:]); err != nil {
				ca.t.Fatal(err)
			}
		}
		canonical, err := entry.Canonical(digest[:], entry.Signature{Content: sig, Certificate: one, KeyDetails: entry.ECDSAP256})
		if err != nil {
			ca.t.Fatal(err)
		}
		out[i] = canonical
	}
	return out
}
