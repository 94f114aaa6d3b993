package entry_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"testing"
	"time"

	"tallywood/log/entry"
)

// A signer is a key with the keyDetails its owner would state.
type signer struct {
	name string
	key  crypto.Signer
}

// accepted returns one key of each accepted kind. The RSA keys are from testdata, made by
// openssl genpkey for these tests.
func accepted(t testing.TB) []signer {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return []signer{
		{"PKIX_ECDSA_P256_SHA_256", newECDSA(t, elliptic.P256())},
		{"PKIX_ECDSA_P384_SHA_384", newECDSA(t, elliptic.P384())},
		{"PKIX_ECDSA_P521_SHA_512", newECDSA(t, elliptic.P521())},
		{"PKIX_RSA_PKCS1V15_2048_SHA256", readRSA(t, 2048)},
		{"PKIX_RSA_PKCS1V15_3072_SHA256", readRSA(t, 3072)},
		{"PKIX_RSA_PKCS1V15_4096_SHA256", readRSA(t, 4096)},
		{"PKIX_ED25519_PH", ed},
	}
}

func newECDSA(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func readRSA(t testing.TB, bits int) *rsa.PrivateKey {
	data, err := os.ReadFile(fmt.Sprintf("testdata/rsa%d.pem", bits))
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(data)
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return key.(*rsa.PrivateKey)
}

func (s signer) hash() crypto.Hash {
	switch s.name {
	case "PKIX_ECDSA_P384_SHA_384":
		return crypto.SHA384
	case "PKIX_ECDSA_P521_SHA_512", "PKIX_ED25519_PH":
		return crypto.SHA512
	}
	return crypto.SHA256
}

// sign returns the digest of message and a signature over it.
func (s signer) sign(t testing.TB, message []byte) (digest, sig []byte) {
	h := s.hash()
	w := h.New()
	w.Write(message)
	digest = w.Sum(nil)
	sig, err := s.key.Sign(rand.Reader, digest, h)
	if err != nil {
		t.Fatal(err)
	}
	return digest, sig
}

func (s signer) spki(t testing.TB) []byte {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// certificate returns a self-signed certificate of the key.
func (s signer) certificate(t testing.TB) []byte {
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "signer"},
		NotBefore: now, NotAfter: now.Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// verifierJSON returns the message Verifier of the key or of a certificate of it.
func (s signer) verifierJSON(t testing.TB, certificate bool) map[string]any {
	v := map[string]any{"keyDetails": s.name}
	if certificate {
		v["x509Certificate"] = map[string]any{"rawBytes": b64(s.certificate(t))}
	} else {
		v["publicKey"] = map[string]any{"rawBytes": b64(s.spki(t))}
	}
	return v
}

// request returns a valid hashedrekord request as a value to change and to marshal.
func (s signer) request(t testing.TB, certificate bool) map[string]any {
	digest, sig := s.sign(t, []byte("artifact"))
	return map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": b64(digest),
		"signature": map[string]any{
			"content": b64(sig), "verifier": s.verifierJSON(t, certificate),
		},
	}}
}

// dsseRequest returns a valid DSSE request.
func (s signer) dsseRequest(t testing.TB, payload []byte) map[string]any {
	const payloadType = "application/vnd.in-toto+json"
	_, sig := s.sign(t, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload))
	return map[string]any{"dsseRequestV002": map[string]any{
		"envelope": map[string]any{
			"payload": b64(payload), "payloadType": payloadType,
			"signatures": []any{map[string]any{"sig": b64(sig), "keyid": ""}},
		},
		"verifiers": []any{s.verifierJSON(t, false)},
	}}
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

func marshal(t testing.TB, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// at returns the object in v below path.
func at(v map[string]any, path ...string) map[string]any {
	for _, p := range path {
		switch next := v[p].(type) {
		case map[string]any:
			v = next
		case []any:
			v = next[0].(map[string]any)
		}
	}
	return v
}

// twin returns the ECDSA signature (r, n-s).
func twin(t testing.TB, c elliptic.Curve, sig []byte) []byte {
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(sig, &rs); err != nil {
		t.Fatal(err)
	}
	rs.S.Sub(c.Params().N, rs.S)
	out, err := asn1.Marshal(rs)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sum256(b []byte) []byte { h := sha256.Sum256(b); return h[:] }

// oversizedCertificate returns a certificate whose base64 does not fit an entry bundle.
func oversizedCertificate(t testing.TB, s signer) []byte {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 2, 3}, Value: make([]byte, 50_000)}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func mustParse(t testing.TB, request map[string]any) entry.Entry {
	t.Helper()
	e, err := entry.ParseRequest(marshal(t, request))
	if err != nil {
		t.Fatal(err)
	}
	return e
}
