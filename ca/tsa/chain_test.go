package tsa_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"

	"tallywood/ca/tsa"
)

var (
	timeStamping = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 8}
	codeSigning  = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
)

// usage is an extended key usage extension.
func usage(critical bool, oids ...asn1.ObjectIdentifier) []pkix.Extension {
	value, err := asn1.Marshal(oids)
	if err != nil {
		panic(err)
	}
	return []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: critical, Value: value}}
}

// chainFor returns options for a leaf with key under fresh CAs. edit may spoil the templates,
// which are leaf, intermediate and root.
func chainFor(t testing.TB, key crypto.Signer, edit func(templates []*x509.Certificate)) tsa.Options {
	t.Helper()
	names := []string{"leaf", "intermediate", "root"}
	templates := make([]*x509.Certificate, len(names))
	keys := []crypto.Signer{key, nil, nil}
	for i, name := range names {
		templates[i] = &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: name},
			NotBefore: start.Truncate(time.Second), NotAfter: start.AddDate(1, 0, 0),
			BasicConstraintsValid: true, IsCA: i > 0, KeyUsage: x509.KeyUsageCertSign,
		}
		if i > 0 {
			caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			keys[i] = caKey
		}
	}
	templates[0].KeyUsage = x509.KeyUsageDigitalSignature
	templates[0].ExtraExtensions = usage(true, timeStamping)
	templates[1].ExtraExtensions = usage(false, timeStamping)
	if edit != nil {
		edit(templates)
	}
	chain := make([]*x509.Certificate, len(names))
	for i := len(names) - 1; i >= 0; i-- {
		issuer := min(i+1, len(names)-1)
		der, err := x509.CreateCertificate(rand.Reader, templates[i], templates[issuer], keys[i].Public(), keys[issuer])
		if err != nil {
			t.Fatal(err)
		}
		if chain[i], err = x509.ParseCertificate(der); err != nil {
			t.Fatal(err)
		}
	}
	return tsa.Options{Chain: chain, Signer: key, Now: func() time.Time { return start }}
}

func TestChainsThatClientsRefuseDoNotStart(t *testing.T) {
	for name, tc := range map[string]struct {
		templates func(c []*x509.Certificate)
		options   func(o *tsa.Options)
		want      string
	}{
		"leaf alone":            {nil, func(o *tsa.Options) { o.Chain = o.Chain[:1] }, "at least a root"},
		"no root":               {nil, func(o *tsa.Options) { o.Chain = o.Chain[:2] }, "is not a root"},
		"no intermediate":       {nil, func(o *tsa.Options) { o.Chain = []*x509.Certificate{o.Chain[0], o.Chain[2]} }, "order is leaf to root"},
		"root first":            {nil, func(o *tsa.Options) { o.Chain[0], o.Chain[2] = o.Chain[2], o.Chain[0] }, "the leaf certificate is a CA"},
		"leaf is a CA":          {func(c []*x509.Certificate) { c[0].IsCA = true }, nil, "the leaf certificate is a CA"},
		"intermediate is no CA": {func(c []*x509.Certificate) { c[1].IsCA = false }, nil, "certificate 2 of the chain is not a CA"},
		"leaf without usage":    {func(c []*x509.Certificate) { c[0].ExtraExtensions = nil }, nil, "not timeStamping alone"},
		"leaf with two usages":  {func(c []*x509.Certificate) { c[0].ExtraExtensions = usage(true, timeStamping, codeSigning) }, nil, "not timeStamping alone"},
		"leaf with unknown": {func(c []*x509.Certificate) {
			c[0].ExtraExtensions = usage(true, timeStamping, asn1.ObjectIdentifier{1, 2, 3})
		}, nil, "not timeStamping alone"},
		"usage not critical":    {func(c []*x509.Certificate) { c[0].ExtraExtensions = usage(false, timeStamping) }, nil, "is not critical"},
		"intermediate no usage": {func(c []*x509.Certificate) { c[1].ExtraExtensions = nil }, nil, "lacks the extended key usage timeStamping"},
		"intermediate for code": {func(c []*x509.Certificate) { c[1].ExtraExtensions = usage(false, codeSigning) }, nil, "lacks the extended key usage timeStamping"},
		"leaf key usage":        {func(c []*x509.Certificate) { c[0].KeyUsage = x509.KeyUsageKeyAgreement }, nil, "lacks the key usage digitalSignature"},
		"another key":           {nil, func(o *tsa.Options) { o.Signer = ecdsaKey(t, elliptic.P256()) }, "is not for the signer's key"},
		"expired":               {nil, func(o *tsa.Options) { o.Now = func() time.Time { return start.AddDate(2, 0, 0) } }, "expired"},
		"not yet valid":         {nil, func(o *tsa.Options) { o.Now = func() time.Time { return start.AddDate(-1, 0, 0) } }, "not yet valid"},
		"intermediate expired": {func(c []*x509.Certificate) {
			c[1].NotAfter = start.Add(-time.Minute)
			c[1].NotBefore = start.AddDate(-1, 0, 0)
		}, nil, "expired"},
		"path too long":           {func(c []*x509.Certificate) { c[2].MaxPathLenZero = true }, nil, "too many intermediates"},
		"P-224":                   {nil, func(o *tsa.Options) { *o = chainFor(t, ecdsaKey(t, elliptic.P224()), nil) }, "P-224"},
		"no signer":               {nil, func(o *tsa.Options) { o.Signer = nil }, "no signer"},
		"no chain":                {nil, func(o *tsa.Options) { o.Chain = nil }, "at least a root"},
		"malformed policy":        {nil, func(o *tsa.Options) { o.Policies = []asn1.ObjectIdentifier{{9}} }, "policy 9"},
		"digest that is too weak": {nil, func(o *tsa.Options) { o.Digest = crypto.SHA1 }, "SHA-1"},
	} {
		o := chainFor(t, ecdsaKey(t, elliptic.P256()), tc.templates)
		if tc.options != nil {
			tc.options(&o)
		}
		if _, err := tsa.New(o); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v; want %q", name, err, tc.want)
		}
	}
	if _, err := tsa.New(chainFor(t, ecdsaKey(t, elliptic.P256()), nil)); err != nil {
		t.Error(err)
	}
}

func TestCreatedChainIsOfWholeSeconds(t *testing.T) {
	chain, signer, err := tsa.CreateChain("example.org", start)
	if err != nil {
		t.Fatal(err)
	}
	if err := tsa.CheckChain(chain, signer.Public(), start.Truncate(time.Second)); err != nil {
		t.Errorf("in the second it was made: %v", err)
	}
	if err := tsa.CheckChain(chain, signer.Public(), start.AddDate(5, 0, 0).Truncate(time.Second)); err != nil {
		t.Errorf("after five years: %v", err)
	}
	if chain[1].NotAfter.Year() != 2036 || chain[2].NotAfter.Year() != 2036 {
		t.Errorf("CAs end %v and %v", chain[1].NotAfter, chain[2].NotAfter)
	}
}
