package oidc_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"

	"tallywood/ca/oidc"
)

// FuzzPreparse looks for tokens that crash what runs before any signature is checked.
func FuzzPreparse(f *testing.F) {
	key := ecKey(f)
	good := sign(f, jose.ES256, "k", key, map[string]any{"iss": "https://i.example", "sub": "x"})
	for _, seed := range []string{
		"", ".", "..", "...", good, good + ".", strings.Repeat(".", 100), "e30.e30.", "eyJhbGciOiJub25lIn0.e30.",
		"eyJhbGciOiJFUzI1NiIsImNyaXQiOlsiYjY0Il19.e30.AAAA", `{"payload":"e30"}`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, token string) {
		iss, err := oidc.Preparse(token)
		if err == nil && (iss == "" || len(token) > oidc.MaxToken || strings.Count(token, ".") != 2) {
			t.Errorf("accepted with issuer %q", iss)
		}
	})
}

// FuzzParseConfig looks for files that crash the parser, or load into something unsafe.
func FuzzParseConfig(f *testing.F) {
	shipped, err := os.ReadFile(filepath.Join("testdata", "fulcio-config.yaml"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(shipped)
	f.Add([]byte(`{"OIDCIssuers":{"https://i.example.com":{"IssuerURL":"https://i.example.com","ClientID":"s","Type":"email"}}}`))
	f.Add([]byte("meta-issuers:\n  https://*.example.com/*: {client-id: s, type: kubernetes}\n"))
	f.Add([]byte("oidc-issuers: &a\n  x: *a\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := oidc.ParseConfig(data)
		if err != nil {
			return
		}
		if len(c.Issuers()) == 0 {
			t.Error("loaded a configuration that trusts nobody")
		}
		for _, i := range c.Issuers() {
			if i.Audience == "" || i.Type == "" || !strings.HasPrefix(i.URL, "http") {
				t.Errorf("loaded %+v", i)
			}
		}
	})
}

// FuzzIdentify looks for claims that crash the templates or put into an identity what no
// certificate may hold.
func FuzzIdentify(f *testing.F) {
	c := fulcioConfig(f)
	github, err := json.Marshal(githubClaims(f))
	if err != nil {
		f.Fatal(err)
	}
	for _, i := range c.Issuers() {
		f.Add(strings.ReplaceAll(i.URL, "*", "x"), github)
		f.Add(strings.ReplaceAll(i.URL, "*", "x"), []byte(`{"sub":"x","email":"a@example.com","email_verified":true,"kubernetes.io":{"namespace":"a","serviceaccount":{"name":"b"}}}`))
	}
	f.Fuzz(func(t *testing.T, iss string, claims []byte) {
		id, err := oidc.Identify(c, iss, claims)
		if err != nil {
			return
		}
		values := []string{id.Issuer, id.Subject, id.SAN.Value}
		for arc, v := range id.Extensions {
			if arc < 2 || arc > 23 || arc == 7 || arc == 8 {
				t.Errorf("extension %d", arc)
			}
			values = append(values, v)
		}
		for _, v := range values {
			if v == "" || len(v) > 2048 || !utf8.ValidString(v) || strings.ContainsAny(v, "\x00\r\n") {
				t.Errorf("value %q", v)
			}
		}
	})
}
