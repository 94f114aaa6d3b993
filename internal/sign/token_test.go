package sign_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/internal/sign"
)

// unsigned is a token with the given claims that nobody has signed: good enough for all that this
// package does with one itself.
func unsigned(t *testing.T, claims map[string]any) string {
	t.Helper()
	payload, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	enc := base64.RawURLEncoding
	return enc.EncodeToString([]byte(`{"alg":"none"}`)) + "." + enc.EncodeToString(payload) + "."
}

func aliceToken(t *testing.T) string {
	return unsigned(t, map[string]any{"iss": "https://login.example.com", "sub": "1", "aud": "sigstore", "email": "alice@example.com", "email_verified": true})
}

// env is an environment of the given variables alone.
func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

func TestIdentityIsWhatBecomesPublic(t *testing.T) {
	for _, c := range []struct {
		claims map[string]any
		want   string
	}{
		{map[string]any{"sub": "1", "email": "alice@example.com", "email_verified": true}, "alice@example.com"},
		{map[string]any{"sub": "1", "email": "alice@example.com", "email_verified": "true"}, "alice@example.com"},
		{map[string]any{"sub": "1", "email": "mallory@example.com", "email_verified": false}, "1"},
		{map[string]any{"sub": "1", "email": "mallory@example.com"}, "1"},
		{map[string]any{"sub": "1", "email": "mallory@example.com", "email_verified": 1}, "1"},
		{map[string]any{"email": "alice@example.com", "email_verified": true, "aud": []string{"a", "sigstore"}}, "alice@example.com"},
		{map[string]any{"sub": "repo:o/r:ref:refs/heads/main", "job_workflow_ref": "o/r/.github/workflows/release.yml@refs/heads/main"},
			"https://github.com/o/r/.github/workflows/release.yml@refs/heads/main"},
		{map[string]any{"sub": "project_path:g/p", "ci_config_ref_uri": "gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main"},
			"https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main"},
	} {
		if got, err := sign.Identity(unsigned(t, c.claims)); got != c.want || err != nil {
			t.Errorf("%v: got %q, %v, want %q", c.claims, got, err, c.want)
		}
	}
}

func TestIdentityRefusesWhatIsNoToken(t *testing.T) {
	for name, token := range map[string]string{
		"empty":        "",
		"one part":     "abc",
		"four parts":   aliceToken(t) + ".x",
		"not base64":   "a.!.c",
		"not JSON":     "a." + base64.RawURLEncoding.EncodeToString([]byte("x")) + ".c",
		"about nobody": unsigned(t, map[string]any{"iss": "https://login.example.com"}),
		"wrong types":  unsigned(t, map[string]any{"sub": 1}),
		"too long":     strings.Repeat("a", 1<<20),
	} {
		if got, err := sign.Identity(token); err == nil {
			t.Errorf("%s: took it for %q", name, got)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	f.Add("eyJhbGciOiJub25lIn0.eyJzdWIiOiIxIiwiYXVkIjpbInNpZ3N0b3JlIl0sImV4cCI6MWU5OX0.")
	f.Add("..")
	f.Fuzz(func(t *testing.T, token string) {
		if got, err := sign.Identity(token); err == nil && got == "" {
			t.Error("an identity without name")
		}
	})
}

func TestExplicitTokenWins(t *testing.T) {
	token := aliceToken(t)
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte(token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, value := range []string{token, token + "\r\n", file} {
		got, err := sign.Token(t.Context(), sign.TokenOptions{Token: value, Env: env("SIGSTORE_ID_TOKEN", "x.y.z")})
		if got != token || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
}

func TestDamagedTokenIsNotReadAsPath(t *testing.T) {
	_, err := sign.Token(t.Context(), sign.TokenOptions{Token: strings.Replace(aliceToken(t), ".", ".!", 1), Env: env()})
	if err == nil || errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want an error about the token", err)
	}
	_, err = sign.Token(t.Context(), sign.TokenOptions{Token: "no-such-file", Env: env()})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v, want an error about the file", err)
	}
}

func TestCITokenFromVariable(t *testing.T) {
	token := aliceToken(t)
	for _, value := range []string{token, token + "\n"} { // as it is, and as a file's
		got, err := sign.Token(t.Context(), sign.TokenOptions{Env: env("SIGSTORE_ID_TOKEN", value)})
		if got != token || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	}
	_, err := sign.Token(t.Context(), sign.TokenOptions{Env: env("SIGSTORE_ID_TOKEN", "damaged")})
	if err == nil || !strings.Contains(err.Error(), "SIGSTORE_ID_TOKEN") {
		t.Errorf("got %v, want an error that names the variable", err)
	}
}

// github answers as the token endpoint of GitHub Actions does.
func github(t *testing.T, token string) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.Header.Get("Authorization") != "bearer secret" ||
			r.URL.Query().Get("audience") != "sigstore" || r.URL.Query().Get("api-version") != "2.0" {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		json.NewEncoder(w).Encode(map[string]string{"value": token})
	}))
	t.Cleanup(server.Close)
	return server
}

func TestCITokenOfGitHub(t *testing.T) {
	token := aliceToken(t)
	address := github(t, token).URL + "/token?api-version=2.0"
	got, err := sign.Token(t.Context(), sign.TokenOptions{
		Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret")})
	if got != token || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	_, err = sign.Token(t.Context(), sign.TokenOptions{
		Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", address, "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "wrong")})
	if refusal := new(sign.ServiceError); !errors.As(err, &refusal) || refusal.Status != http.StatusForbidden || refusal.Message != "no" {
		t.Errorf("got %v, want GitHub's refusal", err)
	}
	// A job without permission to ask is no CI job in our sense, and nobody is there to log in.
	if got, err := sign.Token(t.Context(), sign.TokenOptions{Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", address)}); err == nil {
		t.Errorf("got %q", got)
	}
}

func TestTokenStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := sign.Token(ctx, sign.TokenOptions{
		Env: env("ACTIONS_ID_TOKEN_REQUEST_URL", "http://127.0.0.1:1/", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "x")})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
