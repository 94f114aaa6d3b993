package oidc

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// maxToken bounds a token, in bytes.
const maxToken = 16 << 10

// algorithms are the signatures a token may carry if its issuer's discovery lists them.
// Neither "none" nor any HMAC is among them.
var algorithms = []jose.SignatureAlgorithm{
	jose.RS256, jose.RS384, jose.RS512, jose.PS256, jose.PS384, jose.PS512,
	jose.ES256, jose.ES384, jose.ES512, jose.EdDSA,
}

// unverified is what a token says about itself before anything is checked. It selects the
// configuration and refuses hopeless tokens without a network call; no more.
type unverified struct {
	issuer string
}

// preparse looks at a compact JWS (RFC 7515 section 7.1) without splitting it first: the dots are
// counted on the bounded string (CVE-2025-66506 split an unbounded one).
func preparse(token string) (unverified, error) {
	switch {
	case token == "":
		return unverified{}, refuse(ReasonMissing, "")
	case len(token) > maxToken:
		return unverified{}, refuse(ReasonTooLong, "at most %d bytes", maxToken)
	case strings.Count(token, ".") != 2:
		return unverified{}, refuse(ReasonMalformed, "not a compact JWS")
	}
	head, rest, _ := strings.Cut(token, ".")
	body, _, _ := strings.Cut(rest, ".")
	header, err := decodeObject(head)
	if err != nil {
		return unverified{}, refuse(ReasonMalformed, "its header is not base64url of a JSON object")
	}
	if _, ok := header["crit"]; ok {
		return unverified{}, refuse(ReasonMalformed, "critical header parameters are not understood")
	}
	alg, _ := header["alg"].(string)
	if !slices.Contains(algorithms, jose.SignatureAlgorithm(alg)) {
		return unverified{}, refuse(ReasonAlgorithm, "")
	}
	claims, err := decodeObject(body)
	if err != nil {
		return unverified{}, refuse(ReasonMalformed, "its payload is not base64url of a JSON object")
	}
	iss, _ := claims["iss"].(string)
	if iss == "" {
		return unverified{}, refuse(ReasonIssuer, "the iss claim is missing")
	}
	return unverified{issuer: iss}, nil
}

func decodeObject(segment string) (map[string]any, error) {
	data, err := base64.RawURLEncoding.Strict().DecodeString(segment)
	if err != nil {
		return nil, err
	}
	return parseClaims(data)
}

// parseClaims decodes one JSON object. It goes through a map because struct fields would also
// match claims of another case ("ISS"); numbers keep their digits.
func parseClaims(data []byte) (map[string]any, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	var claims map[string]any
	if err := d.Decode(&claims); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) || claims == nil {
		return nil, errors.New("not one JSON object")
	}
	return claims, nil
}
