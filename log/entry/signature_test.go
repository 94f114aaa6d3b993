package entry_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"math/big"
	"strings"
	"testing"

	"tallywood/log/entry"
)

// TestVerifyRefusesAnyChange verifies signatures of all accepted kinds, by key and by certificate.
func TestVerifyRefusesAnyChange(t *testing.T) {
	signers := accepted(t)
	for i, s := range signers {
		digest, sig := s.sign(t, []byte("artifact"))
		details, err := entry.KeyDetailsFor(s.key.Public())
		if err != nil {
			t.Fatal(err)
		}
		good := entry.Signature{Content: sig, PublicKey: s.spki(t), KeyDetails: details}
		certified := entry.Signature{Content: sig, Certificate: s.certificate(t), KeyDetails: details}
		unnamed := entry.Signature{Content: sig, PublicKey: s.spki(t)}
		for name, one := range map[string]entry.Signature{"key": good, "certificate": certified, "unnamed": unnamed} {
			if err := one.Verify(s.hash(), digest); err != nil {
				t.Errorf("%s by %s: %v", s.name, name, err)
			}
			other := bytes.Clone(digest)
			other[0] ^= 1
			if one.Verify(s.hash(), other) == nil {
				t.Errorf("%s by %s: another digest verifies", s.name, name)
			}
			one.Content = bytes.Clone(sig)
			one.Content[len(sig)-1] ^= 1
			if err := one.Verify(s.hash(), digest); err == nil || errors.Is(err, entry.ErrUnverifiable) {
				t.Errorf("%s by %s: another signature: %v", s.name, name, err)
			}
		}
		stranger := good
		stranger.PublicKey = signers[(i+1)%len(signers)].spki(t)
		wrongHash := crypto.SHA384
		if s.hash() == crypto.SHA384 {
			wrongHash = crypto.SHA256
		}
		if stranger.Verify(s.hash(), digest) == nil || good.Verify(wrongHash, digest) == nil || good.Verify(s.hash(), digest[1:]) == nil {
			t.Errorf("%s: another key or hash verifies", s.name)
		}
		if good.PublicKey = good.PublicKey[1:]; good.Verify(s.hash(), digest) == nil {
			t.Errorf("%s: verifies without a key", s.name)
		}
	}
}

// TestVerifyKnowsSchemesOfOtherLogs: what this log does not accept, others do.
func TestVerifyKnowsSchemesOfOtherLogs(t *testing.T) {
	key := readRSA(t, 2048)
	digest := sha256.Sum256([]byte("artifact"))
	pss, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	p384 := newECDSA(t, elliptic.P384())
	short, err := p384.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	spki, spki384 := signer{"", key}.spki(t), signer{"", p384}.spki(t)
	for _, tc := range []struct {
		sig          []byte
		spki         []byte
		details      entry.KeyDetails
		ok           bool
		unverifiable bool
	}{
		{pss, spki, 16, true, false},
		{pss, spki, 17, false, false}, // of RSA 3072
		{pss, spki, entry.RSA2048, false, false},
		{pss, spki, 0, false, false},
		{short, spki384, 19, true, false},
		{short, spki384, 20, false, false},
		{short, spki384, entry.ECDSAP384, false, false},
		{short, spki, 19, false, false},
		{short, spki384, 7, false, true},    // pure Ed25519
		{short, spki384, 14, false, true},   // LMS
		{short, spki384, 23, false, true},   // ML-DSA
		{short, spki384, 999, false, false}, // of no name: P-384 signs SHA-384
		{short, []byte("x"), 999, false, true},
	} {
		err := entry.Signature{Content: tc.sig, PublicKey: tc.spki, KeyDetails: tc.details}.Verify(crypto.SHA256, digest[:])
		if (err == nil) != tc.ok || errors.Is(err, entry.ErrUnverifiable) != tc.unverifiable {
			t.Errorf("%s: %v, want ok %v, unverifiable %v", tc.details, err, tc.ok, tc.unverifiable)
		}
	}
}

// TestVerifyAnySizeGoesByTheKey: a key that is called longer or shorter than it is has signed all the
// same, in the scheme and over the hash that are named; one of another kind has not.
func TestVerifyAnySizeGoesByTheKey(t *testing.T) {
	digest := sha256.Sum256([]byte("artifact"))
	weak, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	p224, p256 := newECDSA(t, elliptic.P224()), newECDSA(t, elliptic.P256())
	sign := func(key crypto.Signer) []byte {
		sig, err := key.Sign(rand.Reader, digest[:], crypto.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	long := rsa.PublicKey{N: new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(1), 100_000), 0, 1), E: 65537}
	huge, err := x509.MarshalPKIXPublicKey(&long)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		sig     []byte
		spki    []byte
		details entry.KeyDetails
		ok      bool
	}{
		"RSA of 1024 bits":       {sign(weak), signer{"", weak}.spki(t), entry.RSA2048, true},
		"by another padding":     {sign(weak), signer{"", weak}.spki(t), 16, false},
		"P-224":                  {sign(p224), signer{"", p224}.spki(t), entry.ECDSAP256, true},
		"over another hash":      {sign(p256), signer{"", p256}.spki(t), entry.ECDSAP384, false},
		"called RSA":             {sign(p256), signer{"", p256}.spki(t), entry.RSA2048, false},
		"called ECDSA":           {sign(weak), signer{"", weak}.spki(t), entry.ECDSAP256, false},
		"another's":              {sign(newECDSA(t, elliptic.P256())), signer{"", p256}.spki(t), entry.ECDSAP256, false},
		"RSA that takes minutes": {make([]byte, long.Size()), huge, entry.RSA4096, false},
	} {
		sig := entry.Signature{Content: tc.sig, PublicKey: tc.spki, KeyDetails: tc.details}
		if err := sig.VerifyAnySize(crypto.SHA256, digest[:]); (err == nil) != tc.ok {
			t.Errorf("%s: %v, want ok %v", name, err, tc.ok)
		}
		if err := sig.Verify(crypto.SHA256, digest[:]); err == nil || strings.Contains(err.Error(), "PublicKey") {
			t.Errorf("%s: as what it is called: %v", name, err)
		}
	}
}
