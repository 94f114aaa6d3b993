package fulcio

import (
	"cmp"
	"encoding/base64"
	"encoding/json"
	"strings"
)

// request is what either version asks for.
type request struct {
	token string // version 2 only; may be empty
	key   []byte // PEM, or DER
	proof []byte
	csr   []byte // PEM; nil without one
}

// bytesField is a protobuf JSON bytes field: standard or URL-safe base64, padded or not.
type bytesField []byte

func (b *bytesField) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return err
	}
	text = strings.TrimRight(strings.NewReplacer("-", "+", "_", "/").Replace(text), "=")
	decoded, err := base64.RawStdEncoding.DecodeString(text)
	*b = decoded
	return err
}

// parseV2 reads a CreateSigningCertificateRequest, in camelCase or snake_case. Unknown fields,
// and the key's algorithm, are ignored.
func parseV2(body []byte) (request, error) {
	type publicKey struct {
		Content string `json:"content"`
	}
	type publicKeyRequest struct {
		PublicKey      publicKey  `json:"publicKey"`
		PublicKeySnake publicKey  `json:"public_key"`
		Proof          bytesField `json:"proofOfPossession"`
		ProofSnake     bytesField `json:"proof_of_possession"`
	}
	type credentials struct {
		Token      string `json:"oidcIdentityToken"`
		TokenSnake string `json:"oidc_identity_token"`
	}
	var m struct {
		Credentials credentials      `json:"credentials"`
		Key         publicKeyRequest `json:"publicKeyRequest"`
		KeySnake    publicKeyRequest `json:"public_key_request"`
		CSR         bytesField       `json:"certificateSigningRequest"`
		CSRSnake    bytesField       `json:"certificate_signing_request"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return request{}, badRequest
	}
	req := request{token: cmp.Or(m.Credentials.Token, m.Credentials.TokenSnake)}
	for _, k := range []publicKeyRequest{m.Key, m.KeySnake} {
		req.key = firstOf(req.key, []byte(k.PublicKey.Content), []byte(k.PublicKeySnake.Content))
		req.proof = firstOf(req.proof, k.Proof, k.ProofSnake)
	}
	req.csr = firstOf(m.CSR, m.CSRSnake)
	return req, nil
}

// parseV1 reads the deprecated request, whose token is in the header.
func parseV1(body []byte) (request, error) {
	var m struct {
		PublicKey struct {
			Content bytesField `json:"content"`
		} `json:"publicKey"`
		Proof bytesField `json:"signedEmailAddress"`
		CSR   bytesField `json:"certificateSigningRequest"`
	}
	if err := json.Unmarshal(body, &m); err != nil {
		return request{}, badRequest
	}
	return request{key: m.PublicKey.Content, proof: m.Proof, csr: firstOf(m.CSR)}, nil
}

// firstOf returns the first value that is not empty, or nil.
func firstOf(values ...[]byte) []byte {
	for _, v := range values {
		if len(v) > 0 {
			return v
		}
	}
	return nil
}
