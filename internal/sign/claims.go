package sign

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// maxToken is more than any issuer's tokens have, in bytes.
const maxToken = 16 << 10

// claims are those of an identity token that decide whose name a signature carries. Nothing here
// is verified; that is the CA's work.
type claims struct {
	Issuer         string   `json:"iss"`
	Subject        string   `json:"sub"`
	Audience       audience `json:"aud"`
	Email          string   `json:"email"`
	EmailVerified  any      `json:"email_verified"` // a boolean, or with some issuers a string
	Expires        float64  `json:"exp"`            // Unix seconds
	Nonce          string   `json:"nonce"`
	JobWorkflowRef string   `json:"job_workflow_ref"`  // GitHub Actions
	CIConfigRefURI string   `json:"ci_config_ref_uri"` // GitLab CI
}

// An audience is one string or a list of them (RFC 7519 section 4.1.3).
type audience []string

// UnmarshalJSON accepts both forms.
func (a *audience) UnmarshalJSON(data []byte) error {
	var one string
	if json.Unmarshal(data, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(data, (*[]string)(a))
}

// parseToken reads the claims of a compact JWS without verifying it.
func parseToken(token string) (claims, error) {
	if token == "" {
		return claims{}, errors.New("parsing identity token: it is empty")
	}
	if len(token) > maxToken {
		return claims{}, fmt.Errorf("parsing identity token: %d bytes, and at most %d are read", len(token), maxToken)
	}
	if strings.Count(token, ".") != 2 {
		return claims{}, errors.New("parsing identity token: it is not a JSON Web Token of three parts")
	}
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	if err != nil {
		return claims{}, fmt.Errorf("parsing identity token: decoding payload: %w", err)
	}
	var c claims
	if err := json.Unmarshal(payload, &c); err != nil {
		return claims{}, fmt.Errorf("parsing identity token: decoding claims: %w", err)
	}
	if c.Subject == "" && c.verifiedEmail() == "" {
		return claims{}, errors.New("parsing identity token: it is about nobody: neither a subject nor a verified email address")
	}
	return c, nil
}

// verifiedEmail returns the email address that the issuer says it has verified, or nothing.
func (c claims) verifiedEmail() string {
	switch c.EmailVerified {
	case true, "true", "True":
		return c.Email
	}
	return ""
}

// challenge is what a Sigstore CA wants signed as proof of possession.
func (c claims) challenge() string {
	if email := c.verifiedEmail(); email != "" {
		return email
	}
	return c.Subject
}

// expires returns the zero time for a token that does not say.
func (c claims) expires() time.Time {
	if c.Expires <= 0 || c.Expires >= 1<<52 {
		return time.Time{}
	}
	return time.Unix(int64(c.Expires), 0)
}

// Identity returns the name that a signature made with token carries, as far as the token tells,
// and which becomes public for ever with it: the workflow of a CI job, a person's email address,
// else the token's subject. The token is not verified.
func Identity(token string) (string, error) {
	c, err := parseToken(token)
	if err != nil {
		return "", err
	}
	switch {
	case c.JobWorkflowRef != "":
		return "https://github.com/" + c.JobWorkflowRef, nil
	case c.CIConfigRefURI != "":
		return "https://" + c.CIConfigRefURI, nil
	}
	return c.challenge(), nil
}
