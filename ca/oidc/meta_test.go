package oidc_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tallywood/ca/oidc"
)

// newMetaIssuer serves one issuer below /good; every other path is a stranger's.
func newMetaIssuer(t testing.TB, key jose.JSONWebKey) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(nil)
	url := "http://" + s.Listener.Addr().String() + "/good"
	mux := http.NewServeMux()
	mux.HandleFunc("/good/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(map[string]any{
			"issuer": url, "jwks_uri": url + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"},
		})
	})
	mux.HandleFunc("/good/keys", func(w http.ResponseWriter, _ *http.Request) {
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{key}})
	})
	s.Config.Handler = mux
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// Whoever can write a token can name any issuer that a pattern admits. That must neither fill our
// memory, nor send more than a trickle of requests, nor push out the issuers that are real.
func TestStrangersBelowAPatternAreBounded(t *testing.T) {
	key, c := ecKey(t), newClock()
	s := newMetaIssuer(t, jwk("k", key))
	v := newVerifier(t, fmt.Sprintf("meta-issuers:\n  %s/*: {client-id: sigstore, type: email}\n", s.URL), c)
	token := func(path string) string {
		return sign(t, jose.ES256, "k", key, map[string]any{
			"iss": s.URL + path, "sub": "1", "aud": "sigstore", "exp": c.Now().Add(24 * time.Hour).Unix(),
			"email": "alice@example.com", "email_verified": true,
		})
	}
	good := token("/good")
	id, err := v.Verify(t.Context(), good)
	if err != nil || id.Issuer != s.URL+"/good" {
		t.Fatalf("%+v, %v", id, err)
	}
	limited := false
	for n := range 100 {
		_, err := v.Verify(t.Context(), token(fmt.Sprintf("/s%d", n)))
		wantUnavailable(t, "stranger", err)
		limited = limited || strings.Contains(err.Error(), "too many new issuers")
	}
	if !limited {
		t.Error("a hundred new issuers at once were all asked")
	}
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Errorf("a known issuer, while strangers are limited: %v", err)
	}
	for n := range oidc.MaxMetaSources + 50 {
		c.advance(time.Second / 4)
		_, err := v.Verify(t.Context(), token(fmt.Sprintf("/t%d", n)))
		wantUnavailable(t, "stranger", err)
	}
	if n := v.Sources(); n > oidc.MaxMetaSources {
		t.Errorf("%d issuers remembered", n)
	}
	s.Close() // nobody can be asked any more: keys are remembered or lost
	if _, err := v.Verify(t.Context(), good); err != nil {
		t.Errorf("strangers pushed out an issuer with keys: %v", err)
	}
}
