package entry

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"strconv"
)

// A request is a decoded one, of either arm, not checked yet.
type request struct {
	dsse     *envelope // nil in a hashedrekord request; then digest is set
	digest   []byte
	content  []byte
	verifier verifier

	// Where in the JSON these were, for error texts.
	arm, contentPath, verifierPath string
}

// A verifier is the message of that name.
type verifier struct {
	present bool
	arm     string // "publicKey", "x509Certificate" or neither
	raw     []byte
	details KeyDetails
}

// An envelope holds what a DSSE signature covers.
type envelope struct {
	payloadType string
	payload     []byte
}

func (r *request) signature() Signature {
	s := Signature{Content: r.content, KeyDetails: r.verifier.details}
	if r.verifier.arm == "x509Certificate" {
		s.Certificate = r.verifier.raw
	} else {
		s.PublicKey = r.verifier.raw
	}
	return s
}

// check applies the rules of a hashedrekord entry, in this order: all parts there, key or
// certificate well-formed, keyDetails acceptable, of this key and with a prehash, digest of its
// length, signature valid. A DSSE request gets its digest on the way.
func (r *request) check(turn func() (end func(), err error)) error {
	if err := r.checkPresence(); err != nil {
		return err
	}
	key, err := r.parseKey()
	if err != nil {
		return err
	}
	if err := r.checkDetails(key); err != nil {
		return err
	}
	h := r.verifier.details.Hash()
	if r.slow() {
		end, err := turn()
		if err != nil {
			return err
		}
		defer end()
	}
	if r.dsse != nil {
		r.digest = r.dsse.digest(h)
	}
	if len(r.digest) != h.Size() {
		return invalid(r.arm+".digest", "is %d bytes long, a %s digest has %d", len(r.digest), hashName(h), h.Size())
	}
	if !validSignature(key, h, r.digest, r.content) {
		what := "the digest"
		if r.dsse != nil {
			what = "the envelope's pre-authentication encoding"
		}
		return invalid(r.contentPath, "is not a valid %s signature over %s", r.verifier.details, what)
	}
	return nil
}

func (r *request) checkPresence() error {
	switch {
	case len(r.content) == 0:
		return invalid(r.contentPath, "is missing")
	case !r.verifier.present:
		return invalid(r.verifierPath, "is missing")
	case r.dsse != nil && len(r.dsse.payload) == 0:
		return invalid(r.arm+".envelope.payload", "is missing")
	case r.dsse != nil && r.dsse.payloadType == "":
		return invalid(r.arm+".envelope.payloadType", "is missing")
	case r.dsse == nil && len(r.digest) == 0:
		return invalid(r.arm+".digest", "is missing")
	case r.verifier.arm == "":
		return invalid(r.verifierPath, "has neither publicKey nor x509Certificate")
	case len(r.verifier.raw) == 0:
		return invalid(r.rawPath(), "is missing")
	}
	return nil
}

func (r *request) rawPath() string { return r.verifierPath + "." + r.verifier.arm + ".rawBytes" }

// p256Prefix is how the SubjectPublicKeyInfo of a P-256 key begins. The uncompressed point follows, and
// nothing else: as most keys are such, they are spared a parser that would have to be checked.
var p256Prefix = []byte("\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00")

// parseKey returns the public key, from DER that verifiers will reproduce.
func (r *request) parseKey() (crypto.PublicKey, error) {
	raw := r.verifier.raw
	if bytes.HasPrefix(raw, []byte("-----BEGIN")) {
		return nil, invalid(r.rawPath(), "is PEM, DER is expected")
	}
	if r.verifier.arm == "x509Certificate" {
		cert, err := x509.ParseCertificate(raw)
		if err != nil {
			return nil, invalid(r.rawPath(), "is not exactly one DER certificate")
		}
		if cert.PublicKey == nil {
			return nil, invalid(r.rawPath(), "is a certificate of an unsupported key type")
		}
		return cert.PublicKey, nil
	}
	if point, ok := bytes.CutPrefix(raw, p256Prefix); ok {
		if key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err == nil {
			return key, nil
		}
	}
	key, err := x509.ParsePKIXPublicKey(raw)
	if err != nil {
		return nil, invalid(r.rawPath(), "is not the DER SubjectPublicKeyInfo of an RSA, ECDSA or Ed25519 key")
	}
	// Verifiers rebuild the entry from the parsed key, so an encoding of their own choice
	// could never be verified.
	again, err := x509.MarshalPKIXPublicKey(key)
	if err != nil || !bytes.Equal(again, raw) {
		return nil, invalid(r.rawPath(), "is not the canonical encoding of its key")
	}
	return key, nil
}

// checkDetails compares keyDetails with the list of what is accepted, then with the key.
func (r *request) checkDetails(key crypto.PublicKey) error {
	details, path := r.verifier.details, r.verifierPath+".keyDetails"
	switch {
	case details == 0:
		return invalid(path, "is missing")
	case detailsNames[details] == "":
		return invalid(path, "is the unknown value %d", int32(details))
	case details.Hash() == 0 && details != pureEd25519:
		return invalid(path, "%s is not supported by this log", details)
	}
	own, err := KeyDetailsFor(key)
	if details == pureEd25519 && own == Ed25519ph {
		if r.dsse != nil {
			return invalid(path, "PKIX_ED25519 signs the whole envelope, which cannot be logged as a digest; use PKIX_ED25519_PH")
		}
		return invalid(path, "PKIX_ED25519 has no prehash and cannot sign a digest; use PKIX_ED25519_PH")
	}
	if err != nil {
		return invalid(path, "%s does not match the key: %s", details, err.Error())
	}
	if details != own {
		return invalid(path, "%s does not match the key, which is for %s", details, own)
	}
	return nil
}

// slow reports whether the signature takes many times as long to verify as one of P-256 (which is in
// assembly), 4 ms instead of 0.1 for P-521, or the payload to hash.
func (r *request) slow() bool {
	d := r.verifier.details
	return d == ECDSAP384 || d == ECDSAP521 || d == RSA3072 || d == RSA4096 || r.dsse != nil && len(r.dsse.payload) > 64<<10
}

// digest hashes the pre-authentication encoding:
//
//	> PAE(type, body) = "DSSEv1" + SP + LEN(type) + SP + type + SP + LEN(body) + SP + body
//
// (github.com/secure-systems-lab/dsse, protocol.md)
func (e *envelope) digest(h crypto.Hash) []byte {
	w := h.New()
	head := make([]byte, 0, 64+len(e.payloadType))
	head = append(head, "DSSEv1 "...)
	head = strconv.AppendInt(head, int64(len(e.payloadType)), 10)
	head = append(head, ' ')
	head = append(head, e.payloadType...)
	head = append(head, ' ')
	head = strconv.AppendInt(head, int64(len(e.payload)), 10)
	head = append(head, ' ')
	w.Write(head)
	w.Write(e.payload)
	return w.Sum(nil)
}

// validSignature verifies sig over digest, made by h, with a key that KeyDetailsFor accepts.
func validSignature(key crypto.PublicKey, h crypto.Hash, digest, sig []byte) bool {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(key, digest, sig)
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(key, h, digest, sig) == nil
	case ed25519.PublicKey:
		return ed25519.VerifyWithOptions(key, digest, sig, &ed25519.Options{Hash: crypto.SHA512}) == nil
	}
	return false
}
