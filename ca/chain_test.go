package ca_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"strings"
	"testing"
	"time"

	"tallywood/ca"
)

func rootTemplate(name string) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
		NotBefore: testNow.Add(-time.Hour), NotAfter: testNow.Add(1000 * time.Hour),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
}

func intermediateTemplate() *x509.Certificate {
	c := rootTemplate("intermediate")
	c.MaxPathLenZero = true
	c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	return c
}

func TestChainsOutsideTheProfileAreRefused(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		spoil  func(root, issuing *x509.Certificate)
		rootBy crypto.Signer // nil: P-256
		want   string        // in the error; empty: accepted
	}{
		"as it should be":     {spoil: func(_, _ *x509.Certificate) {}},
		"expired":             {spoil: func(_, i *x509.Certificate) { i.NotAfter = testNow }, want: "not valid now"},
		"not yet valid":       {spoil: func(r, i *x509.Certificate) { i.NotBefore = testNow.Add(time.Minute) }, want: "not valid now"},
		"outlives the root":   {spoil: func(r, i *x509.Certificate) { i.NotAfter = r.NotAfter.Add(time.Hour) }, want: "lifetime exceeds"},
		"any purpose":         {spoil: func(_, i *x509.Certificate) { i.ExtKeyUsage = nil }, want: "extended key usage"},
		"more purposes":       {spoil: func(_, i *x509.Certificate) { i.ExtKeyUsage = append(i.ExtKeyUsage, x509.ExtKeyUsageTimeStamping) }, want: "extended key usage"},
		"root with purpose":   {spoil: func(r, _ *x509.Certificate) { r.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning} }, want: "a root has no"},
		"signs more":          {spoil: func(_, i *x509.Certificate) { i.KeyUsage |= x509.KeyUsageDigitalSignature }, want: "key usage"},
		"no path length":      {spoil: func(_, i *x509.Certificate) { i.MaxPathLenZero, i.MaxPathLen = false, -1 }, want: "path length"},
		"root of another key": {spoil: func(_, _ *x509.Certificate) {}, rootBy: rsaKey, want: "key type differs"},
	} {
		root, issuing := rootTemplate("root"), intermediateTemplate()
		tc.spoil(root, issuing)
		var rootKey crypto.Signer = ecKey(t, elliptic.P256())
		if tc.rootBy != nil {
			rootKey = tc.rootBy
		}
		key := ecKey(t, elliptic.P256())
		chain := []*x509.Certificate{create(t, issuing, root, key.Public(), rootKey), create(t, root, root, rootKey.Public(), rootKey)}
		_, err := ca.New(ca.Options{Chain: chain, Signer: key, NoCT: true, Now: fixedNow})
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func create(t *testing.T, template, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) *x509.Certificate {
	t.Helper()
	if len(parent.SubjectKeyId) == 0 {
		parent.SubjectKeyId = []byte(parent.Subject.CommonName)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, by)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestChainInWrongOrderOrOfWrongKeyIsRefused(t *testing.T) {
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	other, otherSigner, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	for name, o := range map[string]ca.Options{
		"no chain":       {Signer: signer},
		"nil in chain":   {Chain: []*x509.Certificate{chain[0], nil}, Signer: signer},
		"no signer":      {Chain: chain},
		"root first":     {Chain: []*x509.Certificate{chain[1], chain[0]}, Signer: signer},
		"no root":        {Chain: chain[:1], Signer: signer},
		"another root":   {Chain: []*x509.Certificate{chain[0], other[1]}, Signer: signer},
		"another signer": {Chain: chain, Signer: otherSigner},
	} {
		o.NoCT = true
		if _, err := ca.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestCreatedChainIsInProfile(t *testing.T) {
	if _, _, err := ca.CreateChain(ca.ChainOptions{}); err == nil {
		t.Error("a chain without organization was created")
	}
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example", Now: testNow})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.New(ca.Options{Chain: chain, Signer: signer, NoCT: true, Now: fixedNow})
	if err != nil {
		t.Fatal(err)
	}
	if years := c.NotAfter().Sub(testNow).Hours() / 24 / 365; years < 9.9 || years > 10.1 {
		t.Errorf("lives %.1f years", years)
	}
	if chain[0].Subject.CommonName == chain[1].Subject.CommonName || c.Logged() || len(c.Chain()) != 2 {
		t.Error("chain is not an intermediate and a root")
	}
}
