package fulcio

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
)

// parseKey reads a public key: PEM of type PUBLIC KEY (PKIX) or RSA PUBLIC KEY (PKCS#1), or bare
// PKIX DER.
func parseKey(data []byte) (crypto.PublicKey, error) {
	der, kind := data, "PUBLIC KEY"
	if block, rest := pem.Decode(data); block != nil {
		if len(bytes.TrimSpace(rest)) > 0 {
			return nil, badKey
		}
		der, kind = block.Bytes, block.Type
	}
	var pub crypto.PublicKey
	var err error
	switch kind {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(der)
	case "RSA PUBLIC KEY":
		pub, err = x509.ParsePKCS1PublicKey(der)
	default:
		return nil, badKey
	}
	if err != nil {
		return nil, badKey
	}
	return pub, nil
}

// provenByCSR returns the key of a PEM certificate signing request that is signed by it. Nothing
// else in the request matters: the token says who it is for.
func provenByCSR(data []byte) (crypto.PublicKey, error) {
	block, rest := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE REQUEST" && block.Type != "NEW CERTIFICATE REQUEST" ||
		len(bytes.TrimSpace(rest)) > 0 {
		return nil, badCSR
	}
	csr, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil || csr.PublicKey == nil {
		return nil, badCSR
	}
	if err := checkStrength(csr.PublicKey); err != nil {
		return nil, err
	}
	hash, ok := csrHashes[csr.SignatureAlgorithm]
	if !ok {
		return nil, fmt.Errorf("%w: its signature algorithm %s is not supported", badCSR, csr.SignatureAlgorithm)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, badProof
	}
	return csr.PublicKey, checkAlgorithm(csr.PublicKey, hash)
}

// csrHashes are the signature algorithms of CSRs and the hash each says the key will be used with.
var csrHashes = map[x509.SignatureAlgorithm]crypto.Hash{
	x509.ECDSAWithSHA256: crypto.SHA256,
	x509.ECDSAWithSHA384: crypto.SHA384,
	x509.ECDSAWithSHA512: crypto.SHA512,
	x509.SHA256WithRSA:   crypto.SHA256,
	x509.SHA384WithRSA:   crypto.SHA384,
	x509.SHA512WithRSA:   crypto.SHA512,
	x509.PureEd25519:     0,
}

// defaultHash is the hash that goes with a key: none for Ed25519.
func defaultHash(pub crypto.PublicKey) crypto.Hash {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve.Params().BitSize {
		case 384:
			return crypto.SHA384
		case 521:
			return crypto.SHA512
		}
		return crypto.SHA256
	case *rsa.PublicKey:
		return crypto.SHA256
	}
	return 0
}

// verifyProof checks a signature over a value of the token: ECDSA in ASN.1, RSA PKCS#1 v1.5, or
// pure Ed25519.
func verifyProof(pub crypto.PublicKey, message, proof []byte) bool {
	digest := message
	hash := defaultHash(pub)
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		digest = h.Sum(nil)
	}
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(k, digest, proof)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(k, hash, digest, proof) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(k, digest, proof)
	}
	return false
}

// checkAlgorithm is the allow-list of https://github.com/sigstore/architecture-docs
// (algorithm-registry.md): clients know no other combination by name.
func checkAlgorithm(pub crypto.PublicKey, hash crypto.Hash) error {
	allowed := hash == defaultHash(pub)
	if k, ok := pub.(*rsa.PublicKey); ok {
		bits := k.N.BitLen()
		allowed = allowed && (bits == 2048 || bits == 3072 || bits == 4096)
	}
	if allowed {
		return nil
	}
	name := "no hash"
	if hash != 0 {
		name = hash.String()
	}
	return refusal(fmt.Sprintf("signing algorithm not permitted: %s, %s", describe(pub), name))
}

func describe(pub crypto.PublicKey) string {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		return "ECDSA " + k.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA %d", k.N.BitLen())
	}
	return fmt.Sprintf("%T", pub)
}
