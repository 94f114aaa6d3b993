package ctlog_test

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"strings"
	"testing"
	"time"
)

// largeBits are those of an RSA key with which to check a signature takes minutes, so that nobody has to
// measure seconds. A submission over HTTP has room for one that takes half a minute.
const largeBits = 1 << 20

func noise(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// largeKey returns a public key that nobody has made.
func largeKey() *rsa.PublicKey {
	n := new(big.Int).SetBytes(noise(largeBits / 8))
	return &rsa.PublicKey{N: n.SetBit(n.SetBit(n, largeBits-1, 1), 0, 1), E: 1<<31 - 1}
}

// forge returns cert as if its issuer had a large key: with noise as signature.
func forge(t *testing.T, cert *x509.Certificate) *x509.Certificate {
	t.Helper()
	var c struct {
		TBS struct {
			Version                        int `asn1:"explicit,tag:0"`
			Serial                         *big.Int
			Algorithm                      pkix.AlgorithmIdentifier
			Issuer, Validity, Subject, Key asn1.RawValue
			Extensions                     asn1.RawValue
		}
		Algorithm pkix.AlgorithmIdentifier
		Signature asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.Raw, &c); err != nil {
		t.Fatal(err)
	}
	c.Algorithm = pkix.AlgorithmIdentifier{
		Algorithm: asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 11}, Parameters: asn1.NullRawValue, // sha256WithRSA
	}
	c.TBS.Algorithm = c.Algorithm
	sig := noise(largeBits / 8)
	sig[0] = 0 // below the modulus
	c.Signature = asn1.BitString{Bytes: sig, BitLength: largeBits}
	der, err := asn1.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return forged
}

// TestStrangersKeysCheckNothing: no signature is checked with a key that no accepted root vouches for,
// and which takes as long as the stranger likes.
func TestStrangersKeysCheckNothing(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ct, _, stop := f.run()
	defer stop()
	root := f.ca.chain[1]
	template := *f.ca.chain[0]
	template.AuthorityKeyId, template.SubjectKeyId = nil, nil
	nameless := *root
	nameless.PublicKey = nil // then it may be another key that signs
	der, err := x509.CreateCertificate(rand.Reader, &template, &nameless, largeKey(), p256(t))
	if err != nil {
		t.Fatal(err)
	}
	middle, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	leaf := forge(t, f.ca.leaf(t, true, nil))
	for name, chain := range map[string][][]byte{
		"root left out":    raw(leaf, middle),
		"with its root":    raw(leaf, middle, root),
		"forged all along": raw(leaf, forge(t, middle), root),
	} {
		begun := time.Now()
		_, err := ct.AddPreChain(t.Context(), chain)
		if err == nil || !strings.Contains(err.Error(), "accepted root") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(begun); took > 30*time.Second {
			t.Errorf("%s: refused after %v", name, took)
		}
	}
}
