package entry_test

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"errors"
	"math/big"
	"testing"

	"tallywood/log/entry"
)

// TestFormOfSignatures: whatever was signed, a signature has the form of its key, and not of another.
func TestFormOfSignatures(t *testing.T) {
	t.Parallel()
	signers := accepted(t)
	for i, s := range signers {
		for n := range 4 {
			_, sig := s.sign(t, []byte{byte(n)})
			good := entry.Signature{Content: sig, PublicKey: s.spki(t)}
			if err := good.CheckForm(); err != nil {
				t.Errorf("%s: %v", s.name, err)
			}
			if err := (entry.Signature{Content: sig, Certificate: s.certificate(t)}).CheckForm(); err != nil {
				t.Errorf("%s by certificate: %v", s.name, err)
			}
			for _, bad := range [][]byte{nil, sig[1:], append(bytes.Clone(sig), 0), bytes.Repeat([]byte{0xff}, len(sig))} {
				one := good
				one.Content = bad
				if err := one.CheckForm(); err == nil || errors.Is(err, entry.ErrUnverifiable) {
					t.Errorf("%s: %d bytes %.8x…: %v", s.name, len(bad), bad, err)
				}
			}
			// A key of another size or kind; a curve takes the numbers of a smaller one.
			if other := signers[(i+1)%len(signers)]; i > 2 {
				if err := (entry.Signature{Content: sig, PublicKey: other.spki(t)}).CheckForm(); err == nil {
					t.Errorf("%s has the form of %s", s.name, other.name)
				}
			}
		}
	}
}

func TestFormTellsForgeries(t *testing.T) {
	t.Parallel()
	der := func(r, s *big.Int) []byte {
		b, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	p256 := newECDSA(t, elliptic.P256())
	n := elliptic.P256().Params().N
	refused := 0
	for r := range int64(64) { // half of all large numbers are of no point
		if (entry.Signature{Content: der(new(big.Int).Sub(n, big.NewInt(r+1)), big.NewInt(1)), PublicKey: signer{"", p256}.spki(t)}).CheckForm() != nil {
			refused++
		}
	}
	if refused < 16 || refused > 48 {
		t.Errorf("%d of 64 numbers are of no point", refused)
	}
	key := readRSA(t, 2048)
	digest := sha256.Sum256([]byte("artifact"))
	pkcs, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	bare, err := rsa.SignPKCS1v15(nil, key, 0, digest[:]) // without saying which hash
	if err != nil {
		t.Fatal(err)
	}
	pss, err := rsa.SignPSS(rand.Reader, key, crypto.SHA256, digest[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	foreign, err := rsa.SignPKCS1v15(nil, stranger, crypto.SHA256, digest[:])
	if err != nil {
		t.Fatal(err)
	}
	foreign[0] = 0 // below any modulus of that size
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large := ed25519.Sign(ed, digest[:])
	large[63] |= 0x20
	for name, tc := range map[string]struct {
		sig     []byte
		key     crypto.Signer
		details entry.KeyDetails
		ok      bool
	}{
		"numbers of the order":      {der(n, n), p256, 0, false},
		"zero":                      {der(new(big.Int), big.NewInt(1)), p256, 0, false},
		"RSA":                       {pkcs, key, 0, true},
		"RSA, no name of a hash":    {bare, key, 0, false},
		"RSA-PSS":                   {pss, key, 16, true},
		"RSA-PSS by another name":   {pss, key, entry.RSA2048, false},
		"RSA by another key":        {foreign, key, entry.RSA2048, false},
		"Ed25519 beyond the order":  {large, ed, 7, false},
		"Ed25519, the message pure": {ed25519.Sign(ed, digest[:]), ed, 7, true},
	} {
		err := (entry.Signature{Content: tc.sig, PublicKey: signer{"", tc.key}.spki(t), KeyDetails: tc.details}).CheckForm()
		if (err == nil) != tc.ok || errors.Is(err, entry.ErrUnverifiable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (entry.Signature{Content: pkcs, PublicKey: []byte("no key")}).CheckForm(); !errors.Is(err, entry.ErrUnverifiable) {
		t.Errorf("without a key: %v", err)
	}
}
