// Package entry turns requests of the Rekor v2 write API into log entries, and log entries back
// into their parts (github.com/sigstore/rekor-tiles, docs of its v2 API).
//
// In goes the JSON of a create-entry request, hostile until proven otherwise: [ParseRequest]
// decodes it strictly, verifies the signature in it and answers the entry's canonical bytes, an
// RFC 8785 JSON object of kind hashedrekord 0.0.2. A DSSE request becomes the hashedrekord of its
// pre-authentication encoding. [Parse] reads canonical bytes of any log that writes hashedrekord
// or dsse 0.0.2, and [Canonical] renders them, byte for byte as every verifier rebuilds them.
//
// The package keeps no state and does no I/O; what a signer's certificate says is not judged here.
package entry

import (
	"crypto"
	"crypto/sha256"
	"fmt"
)

// The one kind this package renders, and the most bytes its rendering may have: an entry bundle
// holds the length of an entry in 16 bits (c2sp.org/tlog-tiles).
const (
	Kind    = "hashedrekord"
	Version = "0.0.2"
	MaxSize = 65535
)

// An Entry is a request that passed every check.
type Entry struct {
	Canonical []byte   // the entry's bytes in the log, at most MaxSize
	Key       [32]byte // equal for two entries iff they are duplicates, see DuplicateKey
	Body      Body     // the parts of Canonical
}

// A Body holds the parts of an entry's canonical bytes.
type Body struct {
	Kind    string // "hashedrekord" or "dsse"
	Version string // "0.0.2"

	// HashAlg made Digest; 0 if its name is none of SHA2_256, SHA2_384, SHA2_512, SHA3_256, SHA3_384.
	HashAlg crypto.Hash
	// Digest is what was signed (hashedrekord), or the hash of a DSSE payload (dsse, where the
	// signature is over the pre-authentication encoding instead).
	Digest []byte

	Signatures []Signature // exactly one (hashedrekord), 1 to 10 (dsse)
}

// A Signature is signature bytes and who made them: exactly one of Certificate and PublicKey is set.
type Signature struct {
	Content     []byte // ASN.1 DER (ECDSA), PKCS #1 v1.5 (RSA) or 64 bytes (Ed25519ph)
	Certificate []byte // DER
	PublicKey   []byte // SubjectPublicKeyInfo, DER
	KeyDetails  KeyDetails
}

// InvalidError reports a request that is not acceptable as it is. Its text is safe to send back:
// it is short and holds no key, signature or payload bytes.
type InvalidError struct {
	Field string // path in the request, "request" for all of it
	Rule  string // what it breaks
}

func (e *InvalidError) Error() string { return e.Field + " " + e.Rule }

func invalid(field, rule string, args ...any) error {
	if len(args) > 0 {
		rule = fmt.Sprintf(rule, args...)
	}
	return &InvalidError{Field: field, Rule: rule}
}

// TooLargeError reports a valid request whose canonical bytes do not fit an entry bundle.
type TooLargeError struct{ Size, Limit int }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("entry of %d bytes is over the limit of %d", e.Size, e.Limit)
}

// UnsupportedError reports canonical bytes of a kind or version that Parse does not know.
type UnsupportedError struct{ Kind, Version string }

func (e *UnsupportedError) Error() string {
	return fmt.Sprintf("unsupported entry kind %.40q version %.40q", e.Kind, e.Version)
}

// ParseRequest decodes, checks and renders the body of a create-entry request. Errors are an
// *[InvalidError] or a *[TooLargeError].
//
// JSON is read as protojson does, only stricter: names in camelCase or snake_case, bytes in
// standard or URL-safe base64 with or without padding, enums by name or number; unknown and
// repeated names, two arms of a choice and anything after the object are errors.
func ParseRequest(body []byte) (Entry, error) {
	return ParseRequestInTurn(body, func() (func(), error) { return func() {}, nil })
}

// ParseRequestInTurn is ParseRequest that calls turn before it verifies what takes long to verify, and
// what that returns afterwards. An error of turn is returned as it is.
func ParseRequestInTurn(body []byte, turn func() (end func(), err error)) (Entry, error) {
	r, err := decodeRequest(body)
	if err != nil {
		return Entry{}, err
	}
	if err := r.check(turn); err != nil {
		return Entry{}, err
	}
	s := r.signature()
	canonical, err := Canonical(r.digest, s)
	if err != nil {
		return Entry{}, fmt.Errorf("rendering entry: %w", err)
	}
	if len(canonical) > MaxSize {
		return Entry{}, &TooLargeError{Size: len(canonical), Limit: MaxSize}
	}
	return Entry{
		Canonical: canonical,
		Key:       duplicateKey(canonical, r.digest, s),
		Body: Body{
			Kind: Kind, Version: Version, HashAlg: s.KeyDetails.Hash(), Digest: r.digest,
			Signatures: []Signature{s},
		},
	}, nil
}

// duplicateKey is DuplicateKey for canonical bytes whose parts are at hand.
func duplicateKey(canonical, digest []byte, s Signature) [32]byte {
	if low := lowS(s.KeyDetails, s.Content); low != nil {
		s.Content = low
		if twin, err := Canonical(digest, s); err == nil {
			return sha256.Sum256(twin)
		}
	}
	return sha256.Sum256(canonical)
}

// DuplicateKey returns the SHA-256 of canonical, with an ECDSA signature's s replaced by the
// smaller of s and n-s: anyone can turn a signature (r, s) into the equally valid (r, n-s), and
// must not get a second entry for it. Bytes that are no hashedrekord 0.0.2 are hashed as they are.
func DuplicateKey(canonical []byte) [32]byte {
	b, err := Parse(canonical)
	if err != nil || b.Kind != Kind {
		return sha256.Sum256(canonical)
	}
	return duplicateKey(canonical, b.Digest, b.Signatures[0])
}
