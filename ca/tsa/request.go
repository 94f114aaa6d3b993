package tsa

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"mime"
	"net/http"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/internal/httpx"
)

const (
	queryType = "application/timestamp-query"
	replyType = "application/timestamp-reply"
	jsonType  = "application/json"

	maxArcs  = 128 // of an object identifier
	maxNonce = 160 // bits
)

// request is what a client may ask for, in either form.
type request struct {
	hash         crypto.Hash
	digest       []byte
	policy       []byte // DER OBJECT IDENTIFIER, an accepted one
	nonce        []byte // DER INTEGER; nil without
	certificates bool
}

// policies are the accepted policies.
type policies struct {
	fallback []byte            // DER
	dotted   map[string][]byte // to DER
	der      map[string]bool
}

// sigstorePolicy is the policy of Sigstore's timestamp authority.
var sigstorePolicy = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}

func newPolicies(oids []asn1.ObjectIdentifier) (policies, error) {
	if len(oids) == 0 {
		oids = []asn1.ObjectIdentifier{sigstorePolicy}
	}
	p := policies{dotted: map[string][]byte{}, der: map[string]bool{}}
	for _, oid := range oids {
		der, err := asn1.Marshal(oid)
		if err != nil {
			return p, fmt.Errorf("policy %v: %w", oid, err)
		}
		if p.fallback == nil {
			p.fallback = der
		}
		p.dotted[oid.String()] = der
		p.der[string(der)] = true
	}
	return p, nil
}

// hashes are the digests that may be stamped, by JSON name and DER OBJECT IDENTIFIER content.
var hashes = []struct {
	hash crypto.Hash
	name string
	oid  string
}{
	{crypto.SHA256, "sha256", "\x60\x86\x48\x01\x65\x03\x04\x02\x01"},
	{crypto.SHA384, "sha384", "\x60\x86\x48\x01\x65\x03\x04\x02\x02"},
	{crypto.SHA512, "sha512", "\x60\x86\x48\x01\x65\x03\x04\x02\x03"},
	{crypto.SHA1, "sha1", "\x2b\x0e\x03\x02\x1a"},
}

var (
	errWeakHash   = bad(failAlgorithm, "Weak hash algorithm in timestamp request: SHA-1; use SHA-256, SHA-384 or SHA-512")
	errHash       = bad(failAlgorithm, "Unknown hash algorithm in timestamp request; use SHA-256, SHA-384 or SHA-512")
	errDigest     = bad(failFormat, "Message digest has incorrect length for specified algorithm")
	errPolicy     = bad(failPolicy, "unaccepted policy: requested TSA policy is not supported by the TSA")
	errArcs       = bad(failPolicy, "OID should be comprised of at most 128 components")
	errExtension  = bad(failExtension, "unaccepted extension: the request has extensions, and none is supported")
	errNonce      = bad(failRequest, "the nonce has more than 160 bits")
	errLargeJSON  = bad(failRequest, "timestamp request is too large: a JSON request has at most 1024 bytes")
	errMediaType  = &refusal{status: http.StatusUnsupportedMediaType, failure: failRequest, message: "Error generating timestamp response: Content-Type is neither " + queryType + " nor " + jsonType}
	errDER        = bad(failFormat, "Error generating timestamp response: the request is not one DER TimeStampReq of version 1")
	errNotInteger = bad(failFormat, "the nonce is not an integer")
)

// decode reads the request in the form its media type names. Sizes are bounded before anything
// is parsed: decoding a long number takes time quadratic in its length.
func (a *authority) decode(w http.ResponseWriter, r *http.Request) (request, error) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return request{}, errMediaType
	}
	switch kind {
	case jsonType:
		body, err := httpx.ReadBody(w, r, maxJSON)
		var large *httpx.TooLargeError
		if errors.As(err, &large) {
			return request{}, errLargeJSON
		}
		if err != nil {
			return request{}, err
		}
		return parseJSON(body, a.policies)
	case queryType:
		body, err := httpx.ReadBody(w, r, maxDER)
		if err != nil {
			return request{}, err
		}
		return parseDER(body, a.policies)
	default:
		return request{}, errMediaType
	}
}

// parseJSON decodes Sigstore's form. Fields it does not know are ignored.
func parseJSON(body []byte, accepted policies) (request, error) {
	var in struct {
		ArtifactHash  *string         `json:"artifactHash"`
		HashAlgorithm string          `json:"hashAlgorithm"`
		Certificates  bool            `json:"certificates"`
		Nonce         json.RawMessage `json:"nonce"`
		TSAPolicyOID  string          `json:"tsaPolicyOID"`
	}
	req := request{policy: accepted.fallback}
	if err := json.Unmarshal(body, &in); err != nil {
		return req, bad(failFormat, "Error generating timestamp response: parsing JSON: "+jsonProblem(err))
	}
	for _, h := range hashes {
		if strings.EqualFold(h.name, in.HashAlgorithm) {
			req.hash = h.hash
		}
	}
	if in.ArtifactHash == nil {
		return req, bad(failFormat, "Error generating timestamp response: artifactHash is missing")
	}
	var err error
	if req.digest, err = base64.StdEncoding.Strict().DecodeString(*in.ArtifactHash); err != nil {
		return req, bad(failFormat, "Error generating timestamp response: artifactHash is not padded standard base64")
	}
	if err := req.checkDigest(); err != nil {
		return req, err
	}
	req.certificates = in.Certificates
	if in.TSAPolicyOID != "" {
		if strings.Count(in.TSAPolicyOID, ".") >= maxArcs {
			return req, errArcs
		}
		der, ok := accepted.dotted[in.TSAPolicyOID]
		if !ok {
			return req, errPolicy
		}
		req.policy = der
	}
	if in.Nonce != nil && !bytes.Equal(in.Nonce, []byte("null")) {
		n, ok := new(big.Int).SetString(string(in.Nonce), 10)
		if !ok || in.Nonce[0] == '+' {
			return req, errNotInteger
		}
		if n.BitLen() > maxNonce {
			return req, errNonce
		}
		if req.nonce, err = asn1.Marshal(n); err != nil {
			return req, errNotInteger
		}
	}
	return req, nil
}

// jsonProblem says what is wrong with JSON in the words of the request.
func jsonProblem(err error) string {
	wrong, ok := errors.AsType[*json.UnmarshalTypeError](err)
	switch {
	case !ok:
		return err.Error()
	case wrong.Field == "":
		return "want an object, not " + wrong.Value
	}
	return "the value of " + wrong.Field + " is of the wrong type: " + wrong.Value
}

// parseDER decodes a TimeStampReq (RFC 3161 section 2.4.1).
func parseDER(body []byte, accepted policies) (request, error) {
	req := request{policy: accepted.fallback}
	var s, imprint, algorithm, hash, digest cryptobyte.String
	var version int
	outer := cryptobyte.String(body)
	if !outer.ReadASN1(&s, cbasn1.SEQUENCE) || !outer.Empty() ||
		!s.ReadASN1Integer(&version) || version != 1 ||
		!s.ReadASN1(&imprint, cbasn1.SEQUENCE) ||
		!imprint.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!algorithm.ReadASN1(&hash, cbasn1.OBJECT_IDENTIFIER) ||
		!imprint.ReadASN1(&digest, cbasn1.OCTET_STRING) || !imprint.Empty() {
		return req, errDER
	}
	if len(algorithm) > 0 && !bytes.Equal(algorithm, asn1.NullBytes) {
		return req, errDER
	}
	req.digest = digest
	for _, h := range hashes {
		if string(hash) == h.oid {
			req.hash = h.hash
		}
	}
	if err := req.checkDigest(); err != nil {
		return req, err
	}
	return req, req.parseOptional(s, accepted)
}

// parseOptional decodes what may follow the message imprint.
func (req *request) parseOptional(s cryptobyte.String, accepted policies) error {
	if s.PeekASN1Tag(cbasn1.OBJECT_IDENTIFIER) {
		var policy cryptobyte.String
		if !s.ReadASN1Element(&policy, cbasn1.OBJECT_IDENTIFIER) {
			return errDER
		}
		if arcs(policy) > maxArcs {
			return errArcs
		}
		if !accepted.der[string(policy)] {
			return errPolicy
		}
		req.policy = policy
	}
	if s.PeekASN1Tag(cbasn1.INTEGER) {
		var nonce cryptobyte.String
		if !s.ReadASN1Element(&nonce, cbasn1.INTEGER) {
			return errDER
		}
		if len(nonce) > 2+maxNonce/8+1 {
			return errNonce
		}
		req.nonce = nonce
		n := new(big.Int)
		if !nonce.ReadASN1Integer(n) { // also when it is longer than it must be
			return errDER
		}
		if n.BitLen() > maxNonce {
			return errNonce
		}
	}
	if s.PeekASN1Tag(cbasn1.BOOLEAN) && !s.ReadASN1Boolean(&req.certificates) {
		return errDER
	}
	if s.PeekASN1Tag(cbasn1.Tag(0).ContextSpecific().Constructed()) {
		return errExtension
	}
	if !s.Empty() {
		return errDER
	}
	return nil
}

func (req *request) checkDigest() error {
	switch {
	case req.hash == 0:
		return errHash
	case req.hash == crypto.SHA1:
		return errWeakHash
	case len(req.digest) != req.hash.Size():
		return errDigest
	}
	return nil
}

// arcs counts the components of a DER OBJECT IDENTIFIER without decoding them: the first byte
// group holds two, every other one.
func arcs(oid []byte) int {
	n := 1
	for _, b := range oid[2:] {
		if b < 0x80 {
			n++
		}
	}
	return n
}
