package entry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	_ "crypto/sha256" // KeyDetails.Hash answers hashes that are linked
	_ "crypto/sha512"
	"fmt"
	"strconv"
)

// KeyDetails names a key type with its signature scheme: the enum PublicKeyDetails of
// dev.sigstore.common.v1 (github.com/sigstore/protobuf-specs), zero being unspecified.
type KeyDetails int32

// The values this log accepts.
const (
	RSA2048   KeyDetails = 9  // PKIX_RSA_PKCS1V15_2048_SHA256
	RSA3072   KeyDetails = 10 // PKIX_RSA_PKCS1V15_3072_SHA256
	RSA4096   KeyDetails = 11 // PKIX_RSA_PKCS1V15_4096_SHA256
	ECDSAP256 KeyDetails = 5  // PKIX_ECDSA_P256_SHA_256
	ECDSAP384 KeyDetails = 12 // PKIX_ECDSA_P384_SHA_384
	ECDSAP521 KeyDetails = 13 // PKIX_ECDSA_P521_SHA_512
	Ed25519ph KeyDetails = 8  // PKIX_ED25519_PH
)

// pureEd25519 is a value that signs messages, not digests, and gets an explanation of its own.
const pureEd25519 KeyDetails = 7

// detailsNames holds the names of the whole enum: a request with another one is malformed, a
// request with one that is not accepted gets told so.
var detailsNames = map[KeyDetails]string{
	0: "PUBLIC_KEY_DETAILS_UNSPECIFIED",
	1: "PKCS1_RSA_PKCS1V5", 2: "PKCS1_RSA_PSS", 3: "PKIX_RSA_PKCS1V5", 4: "PKIX_RSA_PSS",
	RSA2048: "PKIX_RSA_PKCS1V15_2048_SHA256", RSA3072: "PKIX_RSA_PKCS1V15_3072_SHA256",
	RSA4096: "PKIX_RSA_PKCS1V15_4096_SHA256",
	16:      "PKIX_RSA_PSS_2048_SHA256", 17: "PKIX_RSA_PSS_3072_SHA256", 18: "PKIX_RSA_PSS_4096_SHA256",
	6:         "PKIX_ECDSA_P256_HMAC_SHA_256",
	ECDSAP256: "PKIX_ECDSA_P256_SHA_256", ECDSAP384: "PKIX_ECDSA_P384_SHA_384",
	ECDSAP521:   "PKIX_ECDSA_P521_SHA_512",
	pureEd25519: "PKIX_ED25519", Ed25519ph: "PKIX_ED25519_PH",
	19: "PKIX_ECDSA_P384_SHA_256", 20: "PKIX_ECDSA_P521_SHA_256",
	14: "LMS_SHA256", 15: "LMOTS_SHA256",
	21: "ML_DSA_65", 22: "ML_DSA_87", 23: "ML_DSA_44",
}

var detailsByName = func() map[string]KeyDetails {
	m := make(map[string]KeyDetails, len(detailsNames))
	for k, name := range detailsNames {
		m[name] = k
	}
	return m
}()

// String returns the enum's name of k, or its number if it has none.
func (k KeyDetails) String() string {
	if name, ok := detailsNames[k]; ok {
		return name
	}
	return strconv.Itoa(int(k))
}

// Hash returns the hash that makes the digest k signs, or 0 if this log does not accept k.
func (k KeyDetails) Hash() crypto.Hash {
	switch k {
	case RSA2048, RSA3072, RSA4096, ECDSAP256:
		return crypto.SHA256
	case ECDSAP384:
		return crypto.SHA384
	case ECDSAP521, Ed25519ph:
		return crypto.SHA512
	}
	return 0
}

// curve returns the curve of an accepted ECDSA k, else nil.
func (k KeyDetails) curve() elliptic.Curve {
	switch k {
	case ECDSAP256:
		return elliptic.P256()
	case ECDSAP384:
		return elliptic.P384()
	case ECDSAP521:
		return elliptic.P521()
	}
	return nil
}

// KeyDetailsFor returns the only KeyDetails this log accepts for key, which is also the one
// verifiers put into the entry they rebuild; an error if it accepts no such key.
func KeyDetailsFor(key crypto.PublicKey) (KeyDetails, error) {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		for _, k := range []KeyDetails{ECDSAP256, ECDSAP384, ECDSAP521} {
			if key.Curve == k.curve() {
				return k, nil
			}
		}
		return 0, fmt.Errorf("unsupported curve %s", key.Curve.Params().Name)
	case *rsa.PublicKey:
		switch bits := key.Size() * 8; bits {
		case 2048:
			return RSA2048, nil
		case 3072:
			return RSA3072, nil
		case 4096:
			return RSA4096, nil
		default:
			return 0, fmt.Errorf("unsupported RSA size %d", bits)
		}
	case ed25519.PublicKey:
		return Ed25519ph, nil
	}
	return 0, fmt.Errorf("unsupported key type %T", key)
}

// hashNames maps names of the enum HashAlgorithm of dev.sigstore.common.v1.
var hashNames = map[string]crypto.Hash{
	"SHA2_256": crypto.SHA256, "SHA2_384": crypto.SHA384, "SHA2_512": crypto.SHA512,
	"SHA3_256": crypto.SHA3_256, "SHA3_384": crypto.SHA3_384,
}

// hashName returns the enum's name of h, one of the three that KeyDetails.Hash answers.
func hashName(h crypto.Hash) string {
	switch h {
	case crypto.SHA384:
		return "SHA2_384"
	case crypto.SHA512:
		return "SHA2_512"
	}
	return "SHA2_256"
}
