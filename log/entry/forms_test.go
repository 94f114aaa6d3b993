package entry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	mathrand "math/rand/v2"
	"net/url"
	"strings"
	"testing"
	"time"
)

// choices decide between forms: a seeded generator's, or a fuzzer's.
type choices interface{ IntN(n int) int }

// A tape is the choices that a fuzzer makes; at its end the first of all.
type tape []byte

func (c *tape) IntN(n int) int {
	if len(*c) == 0 {
		return 0
	}
	v := int((*c)[0])
	*c = (*c)[1:]
	return v % n
}

// A form is a public key or a certificate of a signer.
type form struct {
	name        string
	certificate bool
	raw         []byte
}

// A holder is a signer, all forms in which verifiers may get its key, and signatures made before,
// for keys that take long to sign.
type holder struct {
	signer
	details int32 // the number of its keyDetails
	forms   []form
	signed  []artifact
}

// An artifact is what a request says, before it is written as JSON.
type artifact struct {
	digest, sig []byte
	form        form
	details     string
	number      int32
	payloadType string // with payload in DSSE requests
	payload     []byte // nil: hashedrekord
}

// holders returns a holder for each accepted algorithm, the same at each call but for signatures in
// certificates.
func holders(t testing.TB) []*holder {
	scalar := sha256.Sum256([]byte("P-256"))
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), scalar[:])
	if err != nil {
		t.Fatal(err)
	}
	p384, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), append(make([]byte, 16), scalar[:]...))
	if err != nil {
		t.Fatal(err)
	}
	p521, err := ecdsa.ParseRawPrivateKey(elliptic.P521(), append(make([]byte, 34), scalar[:]...))
	if err != nil {
		t.Fatal(err)
	}
	all := []*holder{
		{signer: signer{"PKIX_ECDSA_P256_SHA_256", p256}, details: 5},
		{signer: signer{"PKIX_ECDSA_P384_SHA_384", p384}, details: 12},
		{signer: signer{"PKIX_ECDSA_P521_SHA_512", p521}, details: 13},
		{signer: signer{"PKIX_RSA_PKCS1V15_2048_SHA256", readRSA(t, 2048)}, details: 9},
		{signer: signer{"PKIX_RSA_PKCS1V15_3072_SHA256", readRSA(t, 3072)}, details: 10},
		{signer: signer{"PKIX_RSA_PKCS1V15_4096_SHA256", readRSA(t, 4096)}, details: 11},
		{signer: signer{"PKIX_ED25519_PH", ed25519.NewKeyFromSeed(scalar[:])}, details: 8},
	}
	for _, h := range all {
		h.forms = h.allForms(t)
		for i := range 6 {
			h.signed = append(h.signed, h.sign(t, fmt.Append(nil, i)))
		}
		r := mathrand.New(mathrand.NewPCG(uint64(h.details), 0))
		for range 3 {
			h.signed = append(h.signed, h.chosen(t, r))
		}
	}
	return all
}

// sign returns an artifact with the digest of message and a signature, which the key and message
// alone decide.
func (h *holder) sign(t testing.TB, message []byte) artifact {
	w := h.hash().New()
	w.Write(message)
	a := artifact{digest: w.Sum(nil), form: h.forms[0], details: h.name, number: h.details}
	var err error
	if a.sig, err = h.key.Sign(nil, a.digest, h.hash()); err != nil {
		t.Fatal(err)
	}
	return a
}

// allForms returns the key, and certificates that no log looks into further than to the key.
func (h *holder) allForms(t testing.TB) []form {
	plain := h.certificate(t)
	broken := bytes.Clone(plain)
	broken[len(broken)-1] ^= 1
	return []form{
		{"key", false, h.spki(t)},
		{"certificate", true, plain},
		{"certificate with a wrong signature", true, broken},
		{"certificate of Fulcio's kind", true, h.issued(t, fulcioLike(), x509.ECDSAWithSHA384)},
		{"expired certificate", true, h.issued(t, &x509.Certificate{
			SerialNumber: new(big.Int).Lsh(big.NewInt(1), 150), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1, 0),
			Subject: pkix.Name{CommonName: "söme \"name\"\\", Organization: []string{"a/b+c", "日本"}},
		}, x509.SHA256WithRSAPSS)},
		{"long certificate", true, h.issued(t, &x509.Certificate{
			SerialNumber: big.NewInt(127), NotBefore: time.Now(), NotAfter: time.Now().AddDate(80, 0, 0), IsCA: true,
			BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, DNSNames: []string{"a.example.org", "*.b.example.org"},
			ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Critical: true, Value: make([]byte, 20_000)}},
		}, x509.PureEd25519)},
	}
}

// fulcioLike is what a keyless signer's certificate has in it.
func fulcioLike() *x509.Certificate {
	identity := &url.URL{Scheme: "https", Host: "github.com", Path: "/o/r/.github/workflows/w.yml@refs/heads/main"}
	c := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(bytes.Repeat([]byte{0x5a}, 20)), NotBefore: time.Now(), NotAfter: time.Now().Add(10 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		URIs: []*url.URL{identity}, EmailAddresses: []string{"you@example.com"},
	}
	for n := range 20 {
		c.ExtraExtensions = append(c.ExtraExtensions, pkix.Extension{
			Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n + 1}, Value: fmt.Appendf(nil, "\x0c\x18https://github.com/o/r/%d", n%10),
		})
	}
	return c
}

// issued returns a certificate of the key by a CA whose algorithm is another.
func (h *holder) issued(t testing.TB, template *x509.Certificate, alg x509.SignatureAlgorithm) []byte {
	var ca crypto.Signer
	switch alg {
	case x509.ECDSAWithSHA384:
		ca = newECDSA(t, elliptic.P384())
	case x509.PureEd25519:
		_, key, err := ed25519.GenerateKey(nil)
		if err != nil {
			t.Fatal(err)
		}
		ca = key
	default:
		ca = readRSA(t, 2048)
	}
	template.SignatureAlgorithm = alg
	parent := &x509.Certificate{Subject: pkix.Name{Organization: []string{"sigstore.dev"}, CommonName: "sigstore-intermediate"}, SubjectKeyId: []byte{1, 2, 3}}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, h.key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// choose returns a valid artifact: signed anew, or before with a key that signs slowly.
func choose(t testing.TB, c choices, all []*holder) artifact {
	h := all[c.IntN(len(all))]
	a := h.signed[c.IntN(len(h.signed))]
	if fast := h.name == "PKIX_ECDSA_P256_SHA_256" || h.name == "PKIX_ED25519_PH"; fast {
		a = h.chosen(t, c)
	}
	a.form = h.forms[c.IntN(len(h.forms))]
	return a
}

// chosen signs what the choices say: of four artifacts one is an envelope.
func (h *holder) chosen(t testing.TB, c choices) artifact {
	if c.IntN(4) != 3 {
		return h.sign(t, fmt.Append(nil, c.IntN(1<<30)))
	}
	types := []string{"application/vnd.in-toto+json", "t", "tëxt/日本", "\"\\/\b\f\n\r\t\U0001F600", strings.Repeat("x", 300)}
	return h.signEnvelope(t, types[c.IntN(len(types))], bytes.Repeat([]byte{byte(c.IntN(256))}, 1+c.IntN(1000)))
}

func (h *holder) signEnvelope(t testing.TB, payloadType string, payload []byte) artifact {
	a := h.sign(t, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	a.payloadType, a.payload = payloadType, payload
	return a
}
