package devoidc

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// tokenLifetime is long enough to paste a token into a shell and use it for a while.
const tokenLifetime = time.Hour

// setKey prepares signing and the published key set. The key ID is the key's thumbprint
// (RFC 7638), so that it changes with the key.
func (s *issuer) setKey(key crypto.Signer) error {
	switch k := key.(type) {
	case *ecdsa.PrivateKey:
		if k.Curve == elliptic.P256() {
			s.alg = jose.ES256
		}
	case *rsa.PrivateKey:
		if k.N.BitLen() >= 2048 {
			s.alg = jose.RS256
		}
	}
	if s.alg == "" {
		return errors.New("devoidc: a Key is required, ECDSA P-256 or RSA of at least 2048 bits")
	}
	public := jose.JSONWebKey{Key: key.Public(), Algorithm: string(s.alg), Use: "sig"}
	thumbprint, err := public.Thumbprint(crypto.SHA256)
	if err != nil {
		return fmt.Errorf("devoidc: hashing key: %w", err)
	}
	public.KeyID = base64.RawURLEncoding.EncodeToString(thumbprint)
	if s.keys, err = json.Marshal(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{public}}); err != nil {
		return fmt.Errorf("devoidc: encoding key set: %w", err)
	}
	s.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: s.alg, Key: jose.JSONWebKey{Key: key, KeyID: public.KeyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return fmt.Errorf("devoidc: preparing signer: %w", err)
	}
	return nil
}

// idToken signs a token for email (which may be empty) and audience, with more claims on top.
func (s *issuer) idToken(email, audience string, more map[string]any) (string, error) {
	now := s.now()
	claims := map[string]any{
		"iss": s.url, "aud": audience,
		"iat": now.Unix(), "nbf": now.Unix(), "exp": now.Add(tokenLifetime).Unix(),
	}
	if email != "" {
		claims["sub"], claims["email"], claims["email_verified"] = "dev:"+email, email, true
	}
	maps.Copy(claims, more)
	payload, err := json.Marshal(claims)
	if err != nil {
		return "", fmt.Errorf("encoding claims: %w", err)
	}
	jws, err := s.signer.Sign(payload)
	if err != nil {
		return "", fmt.Errorf("signing token: %w", err)
	}
	s.log.Info("development token issued")
	return jws.CompactSerialize()
}

// checkEmail admits what may plausibly be an address. The CA judges it properly.
func checkEmail(email string) error {
	local, domain, ok := strings.Cut(email, "@")
	if !ok || local == "" || domain == "" || len(email) > 254 || strings.ContainsFunc(email, func(r rune) bool { return r <= ' ' || r == 0x7f }) {
		return errors.New("an email address such as alice@example.com is needed")
	}
	return nil
}

// parseClaim reads the value of claim.NAME=VALUE. Times are numbers and email_verified is a
// boolean, so that odd tokens can be made for tests; a value that starts with a bracket is JSON;
// everything else is a string. Issuer and audience cannot be set this way.
func parseClaim(name, value string) (any, error) {
	switch name {
	case "":
		return nil, errors.New("claim. needs a name")
	case "iss", "aud":
		return nil, fmt.Errorf("claim.%s cannot be set", name)
	case "exp", "nbf", "iat":
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("claim.%s: want seconds since 1970", name)
		}
		return n, nil
	case "email_verified":
		b, err := strconv.ParseBool(value)
		if err != nil {
			return nil, errors.New("claim.email_verified: want true or false")
		}
		return b, nil
	}
	if strings.HasPrefix(value, "{") || strings.HasPrefix(value, "[") {
		var v any
		if err := json.Unmarshal([]byte(value), &v); err != nil {
			return nil, fmt.Errorf("claim.%s starts like JSON but is none", name)
		}
		return v, nil
	}
	return value, nil
}
