package oidc

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

const (
	maxDocument = 512 << 10 // of a discovery document or key set, in bytes
	maxKeys     = 100
)

// keySet is what one fetch brought. It is never changed.
type keySet struct {
	algorithms []jose.SignatureAlgorithm
	keys       []jose.JSONWebKey
	fetched    time.Time
}

// discover reads the discovery document and the key set it names.
func (s *source) discover(ctx context.Context) (*keySet, error) {
	var document struct {
		Issuer     string   `json:"issuer"`
		JWKSURI    string   `json:"jwks_uri"`
		Algorithms []string `json:"id_token_signing_alg_values_supported"`
	}
	if err := s.get(ctx, strings.TrimSuffix(s.issuer, "/")+"/.well-known/openid-configuration", &document); err != nil {
		return nil, fmt.Errorf("reading discovery document: %w", err)
	}
	// > The issuer value returned MUST be identical to the Issuer URL that was used as the prefix
	// > (OpenID Connect Discovery, section 4.3)
	if document.Issuer != s.issuer {
		return nil, errors.New("the discovery document names another issuer")
	}
	if err := s.checkKeysURI(document.JWKSURI); err != nil {
		return nil, err
	}
	var raw struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := s.get(ctx, document.JWKSURI, &raw); err != nil {
		return nil, fmt.Errorf("reading keys: %w", err)
	}
	if len(raw.Keys) > maxKeys {
		return nil, fmt.Errorf("%d keys, more than %d", len(raw.Keys), maxKeys)
	}
	set := &keySet{algorithms: allowed(document.Algorithms)}
	for _, r := range raw.Keys {
		var k jose.JSONWebKey
		// > Implementations SHOULD ignore JWKs within a JWK Set that use "kty" values that are
		// > not understood by them (RFC 7517 section 5)
		if err := json.Unmarshal(r, &k); err == nil && usable(k) {
			set.keys = append(set.keys, k)
		}
	}
	if len(set.keys) == 0 || len(set.algorithms) == 0 {
		return nil, errors.New("the issuer has no usable key or algorithm")
	}
	return set, nil
}

// checkKeysURI keeps the keys where the operator expects them: on the issuer's host, or one that
// the configuration lists.
func (s *source) checkKeysURI(uri string) error {
	iss, err := url.Parse(s.issuer)
	if err != nil {
		return fmt.Errorf("parsing issuer URL: %w", err)
	}
	u, err := url.Parse(uri)
	if err != nil || u.User != nil || u.Scheme != iss.Scheme {
		return errors.New("jwks_uri is not a URL of the issuer's scheme")
	}
	if u.Host != iss.Host && !slices.Contains(s.hosts, u.Host) {
		return fmt.Errorf("jwks_uri is on host %s: add it to jwks-hosts if that is right", quoteName(u.Host))
	}
	return nil
}

// get reads one bounded JSON document.
func (s *source) get(ctx context.Context, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return fmt.Errorf("building request: %w", err)
	}
	req.Header.Set("Accept", "application/json")
	resp, err := s.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err != nil {
		return fmt.Errorf("reading body: %w", err)
	}
	if len(body) > maxDocument {
		return fmt.Errorf("body over %d bytes", maxDocument)
	}
	return json.Unmarshal(body, into)
}

// usable reports whether k is a public signature key of sound size.
func usable(k jose.JSONWebKey) bool {
	if !k.Valid() || !k.IsPublic() || k.Use != "" && k.Use != "sig" {
		return false
	}
	pub, isRSA := k.Key.(*rsa.PublicKey)
	return !isRSA || pub.N.BitLen() >= 2048
}

// verify checks the signature of a compact JWS with the one key it names.
func (k *keySet) verify(token string) ([]byte, error) {
	jws, err := jose.ParseSignedCompact(token, k.algorithms)
	if err != nil {
		if _, ok := errors.AsType[*jose.ErrUnexpectedSignatureAlgorithm](err); ok {
			return nil, refuse(ReasonAlgorithm, "")
		}
		return nil, refuse(ReasonMalformed, "not a compact JWS")
	}
	header := jws.Signatures[0].Header
	var candidates []jose.JSONWebKey
	for _, key := range k.keys {
		named := header.KeyID == "" || key.KeyID == header.KeyID
		if named && (key.Algorithm == "" || key.Algorithm == header.Algorithm) && fits(header.Algorithm, key.Key) {
			candidates = append(candidates, key)
		}
	}
	// > If there are multiple keys in the referenced JWK Set document, a kid value MUST be
	// > provided in the JOSE Header (OpenID Connect Core, section 10.1)
	switch {
	case len(candidates) == 0:
		return nil, refuse(ReasonKey, "")
	case len(candidates) > 1:
		return nil, refuse(ReasonSignature, "more than one key could have made it")
	}
	payload, err := jws.Verify(candidates[0].Key)
	switch {
	case err == nil:
		return payload, nil
	case header.KeyID == "": // the issuer may have replaced its only key
		return nil, refuse(ReasonKey, "it names none, and the issuer's key did not make it")
	}
	return nil, refuse(ReasonSignature, "")
}

// fits reports whether an algorithm goes with a key's type and curve.
func fits(alg string, key any) bool {
	switch k := key.(type) {
	case *rsa.PublicKey:
		return strings.HasPrefix(alg, "RS") || strings.HasPrefix(alg, "PS")
	case *ecdsa.PublicKey:
		return alg == "ES256" && k.Curve == elliptic.P256() ||
			alg == "ES384" && k.Curve == elliptic.P384() || alg == "ES512" && k.Curve == elliptic.P521()
	case ed25519.PublicKey:
		return alg == "EdDSA"
	}
	return false
}
