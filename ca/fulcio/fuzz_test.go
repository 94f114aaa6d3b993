package fulcio_test

import (
	"crypto"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"testing"

	"tallywood/ca"
	"tallywood/ca/fulcio"
)

// FuzzKey looks for keys that crash the parser, the strength check or the proof.
func FuzzKey(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	f.Add([]byte(publicPEM(f, key.Public())), prove(f, key, crypto.SHA256, "x"))
	f.Add([]byte(secp256k1), []byte{})
	f.Add([]byte(publicPEM(f, ecKey(f, elliptic.P521()).Public())), []byte("proof"))
	odd := new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(3), 2046), 0, 1)
	f.Add([]byte(publicPEM(f, &rsa.PublicKey{N: odd, E: 65537})), make([]byte, 256))
	f.Add(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsa.PublicKey{N: odd, E: 3})}), []byte{})
	f.Fuzz(func(t *testing.T, data, proof []byte) {
		pub, err := fulcio.ParseKey(data)
		if err != nil || ca.CheckKey(pub) != nil {
			return
		}
		if fulcio.VerifyProof(pub, []byte("a challenge no seed has signed"), proof) {
			t.Error("a proof over something else was accepted")
		}
	})
}

// FuzzCSR looks for certificate signing requests that crash the parser.
func FuzzCSR(f *testing.F) {
	f.Add(csrPEM(f, ecKey(f, elliptic.P256()), x509.ECDSAWithSHA256))
	f.Add(csrPEM(f, ecKey(f, elliptic.P224()), x509.ECDSAWithSHA256))
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n-----END CERTIFICATE REQUEST-----\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		pub, err := fulcio.ProvenByCSR(data)
		if err == nil && ca.CheckKey(pub) != nil {
			t.Error("a weak key was accepted")
		}
	})
}

// FuzzRequest looks for bodies that crash either version's decoder.
func FuzzRequest(f *testing.F) {
	key := ecKey(f, elliptic.P256())
	f.Add([]byte(requestV2(f, "", publicPEM(f, key.Public()), prove(f, key, crypto.SHA256, "x"))))
	f.Add([]byte(marshal(f, map[string]any{"certificateSigningRequest": csrPEM(f, key, x509.ECDSAWithSHA256)})))
	f.Add([]byte(`{"publicKey":{"content":"AA=="},"signedEmailAddress":"_-"}`))
	f.Add([]byte(`{"publicKeyRequest":null,"credentials":7}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		for _, pub := range fulcio.ParseRequests(body, "x") {
			if ca.CheckKey(pub) != nil {
				t.Error("a weak key was proved")
			}
		}
	})
}
