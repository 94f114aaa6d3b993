package kms

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"maps"
	"slices"
	"strings"

	_ "crypto/sha256" // the hashes of
	_ "crypto/sha512" // the algorithms below
)

// An algorithm is how a key signs.
type algorithm struct {
	name string      // the service's
	hash crypto.Hash // of what is signed; 0 for Ed25519, which takes the message
}

// algorithms are those that logs and authorities sign with, by the service's word for the kind of a
// key. RSA is PKCS #1 v1.5. Others, such as RSA-PSS or secp256k1, no client of ours verifies.
var algorithms = map[string]map[string]algorithm{
	aws: {
		"ECC_NIST_P256":         {"ECDSA_SHA_256", crypto.SHA256},
		"ECC_NIST_P384":         {"ECDSA_SHA_384", crypto.SHA384},
		"ECC_NIST_P521":         {"ECDSA_SHA_512", crypto.SHA512},
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", 0},
		"RSA_2048":              {"RSASSA_PKCS1_V1_5_SHA_256", crypto.SHA256},
		"RSA_3072":              {"RSASSA_PKCS1_V1_5_SHA_256", crypto.SHA256},
		"RSA_4096":              {"RSASSA_PKCS1_V1_5_SHA_256", crypto.SHA256},
	},
	gcp: {
		"EC_SIGN_P256_SHA256":        {"EC_SIGN_P256_SHA256", crypto.SHA256},
		"EC_SIGN_P384_SHA384":        {"EC_SIGN_P384_SHA384", crypto.SHA384},
		"EC_SIGN_ED25519":            {"EC_SIGN_ED25519", 0},
		"RSA_SIGN_PKCS1_2048_SHA256": {"RSA_SIGN_PKCS1_2048_SHA256", crypto.SHA256},
		"RSA_SIGN_PKCS1_3072_SHA256": {"RSA_SIGN_PKCS1_3072_SHA256", crypto.SHA256},
		"RSA_SIGN_PKCS1_4096_SHA256": {"RSA_SIGN_PKCS1_4096_SHA256", crypto.SHA256},
	},
}

// algorithmOf returns the algorithm of a key of that kind.
func algorithmOf(cloud, kind string) (algorithm, error) {
	a, ok := algorithms[cloud][kind]
	if !ok {
		return a, &failure{hint: hintKind, err: fmt.Errorf("the key is of kind %q; want one of %s", kind,
			strings.Join(slices.Sorted(maps.Keys(algorithms[cloud])), ", "))}
	}
	return a, nil
}

// hashOf returns what is hashed with before a key signs, 0 for Ed25519.
func hashOf(pub crypto.PublicKey) (hash crypto.Hash, ok bool) {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		switch pub.Curve {
		case elliptic.P256():
			return crypto.SHA256, true
		case elliptic.P384():
			return crypto.SHA384, true
		case elliptic.P521():
			return crypto.SHA512, true
		}
	case *rsa.PublicKey:
		return crypto.SHA256, true
	case ed25519.PublicKey:
		return 0, true
	}
	return 0, false
}

// check returns an error unless that is what the algorithm signs.
func (a algorithm) check(message []byte, opts crypto.SignerOpts) error {
	if opts == nil || opts.HashFunc() != a.hash {
		return fmt.Errorf("algorithm %s does not sign what is asked for", a.name)
	}
	if _, pss := opts.(*rsa.PSSOptions); pss {
		return fmt.Errorf("algorithm %s makes no PSS signatures", a.name)
	}
	if ed, ok := opts.(*ed25519.Options); ok && ed.Context != "" {
		return fmt.Errorf("algorithm %s takes no context", a.name)
	}
	if a.hash != 0 && len(message) != a.hash.Size() {
		return fmt.Errorf("digest of %d bytes; algorithm %s wants %d", len(message), a.name, a.hash.Size())
	}
	return nil
}

// verify reports whether signature is one of message, a digest unless the key is Ed25519, by pub.
func (a algorithm) verify(pub crypto.PublicKey, message, signature []byte) bool {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(pub, message, signature)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(pub, a.hash, message, signature) == nil
	case ed25519.PublicKey:
		return ed25519.Verify(pub, message, signature)
	}
	return false
}
