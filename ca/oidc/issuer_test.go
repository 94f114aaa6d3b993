package oidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tallywood/ca/oidc"
)

// testIssuer is a real issuer on a loopback port whose answers a test can bend.
type testIssuer struct {
	*httptest.Server

	mu         sync.Mutex
	keys       []jose.JSONWebKey
	algorithms []string
	jwksURI    string // empty: its own
	issuer     string // empty: its own
	discovery  http.HandlerFunc
	jwks       http.HandlerFunc
	fetches    int // of the key set
}

func newIssuer(t testing.TB, keys ...jose.JSONWebKey) *testIssuer {
	t.Helper()
	i := &testIssuer{keys: keys, algorithms: []string{"RS256", "ES256"}}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		if i.discovery != nil {
			i.discovery(w, r)
			return
		}
		document := map[string]any{"issuer": i.URL, "jwks_uri": i.URL + "/keys"}
		if i.algorithms != nil {
			document["id_token_signing_alg_values_supported"] = i.algorithms
		}
		if i.jwksURI != "" {
			document["jwks_uri"] = i.jwksURI
		}
		if i.issuer != "" {
			document["issuer"] = i.issuer
		}
		json.NewEncoder(w).Encode(document)
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, r *http.Request) {
		i.mu.Lock()
		defer i.mu.Unlock()
		i.fetches++
		if i.jwks != nil {
			i.jwks(w, r)
			return
		}
		json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: i.keys})
	})
	i.set(func() { i.Server = httptest.NewServer(mux) })
	t.Cleanup(i.Close)
	return i
}

func (i *testIssuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

func (i *testIssuer) fetched() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.fetches
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

var rsaKey = sync.OnceValues(func() (*rsa.PrivateKey, error) { return rsa.GenerateKey(rand.Reader, 2048) })

func mustRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsaKey()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func jwk(kid string, key crypto.Signer) jose.JSONWebKey {
	return jose.JSONWebKey{Key: key.Public(), KeyID: kid, Use: "sig"}
}

// sign makes a compact JWS; kid may be empty.
func sign(t testing.TB, alg jose.SignatureAlgorithm, kid string, key any, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	if kid != "" {
		key = jose.JSONWebKey{Key: key, KeyID: kid}
	}
	s, err := jose.NewSigner(jose.SigningKey{Algorithm: alg, Key: key}, nil)
	if err != nil {
		t.Fatal(err)
	}
	jws, err := s.Sign(payload)
	if err != nil {
		t.Fatal(err)
	}
	token, err := jws.CompactSerialize()
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// claims of a good token of alice.
func (i *testIssuer) claims(c *clock) map[string]any {
	return map[string]any{
		"iss": i.URL, "sub": "1234", "aud": "sigstore", "exp": c.Now().Add(time.Minute).Unix(),
		"email": "alice@example.com", "email_verified": true,
	}
}

func emailConfig(url string) string {
	return fmt.Sprintf("oidc-issuers:\n  %[1]s: {issuer-url: %[1]q, client-id: sigstore, type: email}\n", url)
}

func newVerifier(t testing.TB, config string, c *clock) *oidc.Verifier {
	t.Helper()
	parsed, err := oidc.ParseConfig([]byte(config))
	if err != nil {
		t.Fatalf("%v in\n%s", err, config)
	}
	v, err := oidc.New(oidc.Options{Config: parsed, AllowHTTP: true, FetchTimeout: time.Minute, Now: c.Now})
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// parse is ParseConfig of indented text, for tables.
func parse(text string) (*oidc.Config, error) {
	return oidc.ParseConfig([]byte(strings.ReplaceAll(text, "\t", "  ")))
}
