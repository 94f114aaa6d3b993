package ctentry_test

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"math/big"
	"slices"
	"testing"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/log/ctentry"
)

// oddTBS is a TBSCertificate in which extensions are given as raw DER.
func oddTBS(t testing.TB, extensions ...[]byte) []byte {
	t.Helper()
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes([]byte{0xa0, 3, 2, 1, 2})             // version v3
		b.AddBytes([]byte{2, 2, 0, 1})                   // a serial number with a superfluous zero
		b.AddBytes([]byte{0x30, 4, 6, 2, 0x2a, 3})       // some signature algorithm
		b.AddBytes([]byte{0x30, 0, 0x30, 0, 0x30, 0})    // issuer, validity, subject
		b.AddBytes([]byte{0x30, 0})                      // key
		b.AddBytes([]byte{0x81, 1, 0, 0x82, 2, 0, 0xff}) // issuerUniqueID, subjectUniqueID
		if len(extensions) == 0 {
			return
		}
		b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddBytes(bytes.Join(extensions, nil))
			})
		})
	})
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func rawExtension(t testing.TB, oid asn1.ObjectIdentifier, flag, value []byte) []byte {
	t.Helper()
	b := cryptobyte.NewBuilder(nil)
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(oid)
		b.AddBytes(flag)
		b.AddASN1OctetString(value)
	})
	out, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRemoveExtensionKeepsOddEncodings(t *testing.T) {
	pad := make([]byte, 200)                                                                // so that lengths around the poison change their form
	first := rawExtension(t, asn1.ObjectIdentifier{2, 5, 29, 15}, []byte{1, 1, 0}, pad)     // explicit FALSE
	last := rawExtension(t, asn1.ObjectIdentifier{2, 5, 29, 17}, []byte{1, 1, 1}, []byte{}) // a TRUE of 01
	middle := rawExtension(t, ctentry.OIDPoison, []byte{1, 1, 0xff}, asn1.NullBytes)
	for name, tc := range map[string]struct{ in, want []byte }{
		"middle": {oddTBS(t, first, middle, last), oddTBS(t, first, last)},
		"first":  {oddTBS(t, middle, last), oddTBS(t, last)},
		"last":   {oddTBS(t, last, middle), oddTBS(t, last)},
		"only":   {oddTBS(t, middle), oddTBS(t)},
	} {
		got, err := ctentry.RemoveExtension(tc.in, ctentry.OIDPoison)
		if err != nil || !bytes.Equal(got, tc.want) {
			t.Errorf("%s: %v\n got %x\nwant %x", name, err, got, tc.want)
		}
	}
	for name, in := range map[string][]byte{
		"absent":            oddTBS(t, first, last),
		"no extensions":     oddTBS(t),
		"repeated":          oddTBS(t, middle, first, middle),
		"trailing byte":     append(oddTBS(t, middle), 0),
		"truncated":         oddTBS(t, middle)[:30],
		"extension is NULL": oddTBS(t, asn1.NullBytes, middle),
	} {
		if _, err := ctentry.RemoveExtension(in, ctentry.OIDPoison); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestIsPrecertificateRefusesBadPoison(t *testing.T) {
	key := p256(t)
	template := func(extensions ...pkix.Extension) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
			ExtraExtensions: extensions,
		}
	}
	for name, tc := range map[string]struct {
		extensions []pkix.Extension
		is, ok     bool
	}{
		"none":         {nil, false, true},
		"good":         {[]pkix.Extension{poison()}, true, true},
		"not critical": {[]pkix.Extension{{Id: ctentry.OIDPoison, Value: asn1.NullBytes}}, false, false},
		"not NULL":     {[]pkix.Extension{{Id: ctentry.OIDPoison, Critical: true, Value: []byte{4, 0}}}, false, false},
		"empty":        {[]pkix.Extension{{Id: ctentry.OIDPoison, Critical: true, Value: []byte{}}}, false, false},
	} {
		template := template(tc.extensions...)
		cert := sign(t, template, template, key.Public(), key)
		if is, err := ctentry.IsPrecertificate(cert.Raw); is != tc.is || (err == nil) != tc.ok {
			t.Errorf("%s: %v, %v", name, is, err)
		}
	}

	// crypto/x509 makes no repeated extension, so splice a second poison into one it made.
	one := template(poison())
	tbs, err := ctentry.TBS(sign(t, one, one, key.Public(), key).Raw)
	if err != nil {
		t.Fatal(err)
	}
	poisonDER := rawExtension(t, ctentry.OIDPoison, []byte{1, 1, 0xff}, asn1.NullBytes)
	twice, err := ctentry.WrapTBS(oddTBS(t, poisonDER, poisonDER))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ctentry.IsPrecertificate(twice); err == nil {
		t.Error("repeated poison: accepted")
	}
	if _, err := ctentry.PrecertTBS(twice); err == nil {
		t.Error("TBS of a repeated poison: accepted")
	}
	if _, err := ctentry.IsPrecertificate(tbs); err == nil {
		t.Error("a bare TBSCertificate was taken for a certificate")
	}
}

func TestWrappedTBSParses(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	tbs, err := ctentry.PrecertTBS(pre.Raw)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, err := ctentry.WrapTBS(tbs)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(wrapped)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(cert.EmailAddresses, pre.EmailAddresses) || !bytes.Equal(cert.RawTBSCertificate, tbs) {
		t.Error("the wrapped certificate is another")
	}
	if cert.CheckSignatureFrom(a.cert) == nil {
		t.Error("nobody signed it, yet its signature verifies")
	}
}

func TestCheckNamesPrecertSigner(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	signer := *a.cert
	signer.UnknownExtKeyUsage = []asn1.ObjectIdentifier{ctentry.OIDPrecertSigner}
	if err := precertEntry(t, a, pre, 0).Check(&signer); !errors.Is(err, ctentry.ErrPrecertSigner) {
		t.Errorf("got %v", err)
	}
}
