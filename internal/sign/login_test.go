package sign_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"tallywood/ca/devoidc"
	"tallywood/internal/sign"
)

// devIssuer runs the development issuer and returns its URL.
func devIssuer(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var h http.Handler
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	if h, err = devoidc.New(devoidc.Options{Issuer: server.URL + "/dev/oidc", Key: key}); err != nil {
		t.Fatal(err)
	}
	h = http.StripPrefix("/dev/oidc", h)
	return server.URL + "/dev/oidc"
}

// browse logs in as email the way a browser does: it reads the page, sends its form, and follows
// the redirect.
func browse(t *testing.T, page, email string) {
	t.Helper()
	u, err := url.Parse(page)
	if err != nil {
		t.Fatal(err)
	}
	get(t, page, http.StatusOK, "Email address")
	form := u.Query()
	form.Set("email", email)
	u.RawQuery = ""
	res, err := http.PostForm(u.String(), form)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK || !strings.Contains(string(body), "You are logged in") {
		t.Errorf("the browser ends at %s with %d %q, %v", res.Request.URL, res.StatusCode, body, err)
	}
}

func get(t *testing.T, address string, status int, content string) {
	t.Helper()
	res, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != status || !strings.Contains(string(body), content) {
		t.Errorf("GET %s: got %d %q, %v, want %d with %q", address, res.StatusCode, body, err, status, content)
	}
}

func TestLoginWithBrowser(t *testing.T) {
	issuer := devIssuer(t)
	var out bytes.Buffer
	token, err := sign.Token(t.Context(), sign.TokenOptions{
		Env: env(), Issuer: issuer, Out: &out,
		Open: func(page string) error {
			if !strings.Contains(out.String(), page) {
				t.Errorf("the address %s is not shown in %q", page, &out)
			}
			browse(t, page, "alice@example.com")
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := sign.Identity(token); got != "alice@example.com" || err != nil {
		t.Errorf("got a token of %q, %v", got, err)
	}
}

// Pages in the same browser can send it to our listener, but do not know the state.
func TestForgedRedirectNeitherEndsNorFoolsTheLogin(t *testing.T) {
	issuer := devIssuer(t)
	token, err := sign.Token(t.Context(), sign.TokenOptions{
		Env: env(), Issuer: issuer,
		Open: func(page string) error {
			u, _ := url.Parse(page)
			redirect := u.Query().Get("redirect_uri")
			for _, query := range []string{"?code=evil", "?code=evil&state=guess", "?error=access_denied&state="} {
				get(t, redirect+query, http.StatusBadRequest, "not started here")
			}
			get(t, strings.TrimSuffix(redirect, "/auth/callback")+"/", http.StatusNotFound, "")
			browse(t, page, "alice@example.com")
			return nil
		},
	})
	if got, _ := sign.Identity(token); err != nil || got != "alice@example.com" {
		t.Errorf("got a token of %q, %v", got, err)
	}
}

func TestLoginThatIssuerRefuses(t *testing.T) {
	for query, want := range map[string]string{
		"&error=access_denied&error_description=not+you%1b[2J": "access_denied not you [2J",
		"&code=x&iss=https://evil.example.com":                 "another issuer",
		"":                                                     "no code",
	} {
		_, err := sign.Token(t.Context(), sign.TokenOptions{
			Env: env(), Issuer: devIssuer(t),
			Open: func(page string) error {
				u, _ := url.Parse(page)
				get(t, u.Query().Get("redirect_uri")+"?state="+u.Query().Get("state")+query, http.StatusBadRequest, "login failed")
				return nil
			},
		})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", query, err, want)
		}
	}
}

func TestLoginThatNobodyFinishes(t *testing.T) {
	_, err := sign.Token(t.Context(), sign.TokenOptions{
		Env: env(), Issuer: devIssuer(t), Patience: 20 * time.Millisecond,
		Open: func(string) error { return nil },
	})
	if err == nil || !strings.Contains(err.Error(), "nobody logged in") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = sign.Token(ctx, sign.TokenOptions{
		Env: env(), Issuer: devIssuer(t), Open: func(string) error { cancel(); return nil },
	})
	if err == nil || !strings.Contains(err.Error(), context.Canceled.Error()) {
		t.Errorf("got %v", err)
	}
}

// An evil issuer is one whose answers can be bent; our own cannot.
type evilIssuer struct {
	url       string
	discovery map[string]any
	token     func(nonce string) map[string]any // claims
}

func newEvilIssuer(t *testing.T) *evilIssuer {
	t.Helper()
	e := new(evilIssuer)
	var nonce string
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) { json.NewEncoder(w).Encode(e.discovery) })
	mux.HandleFunc("/auth", func(w http.ResponseWriter, r *http.Request) {
		nonce = r.FormValue("nonce")
		http.Redirect(w, r, fmt.Sprintf("%s?code=c&state=%s", r.FormValue("redirect_uri"), r.FormValue("state")), http.StatusSeeOther)
	})
	mux.HandleFunc("/token", func(w http.ResponseWriter, r *http.Request) {
		json.NewEncoder(w).Encode(map[string]string{"id_token": unsigned(t, e.token(nonce))})
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	e.url = server.URL
	e.discovery = map[string]any{"issuer": e.url, "authorization_endpoint": e.url + "/auth", "token_endpoint": e.url + "/token"}
	e.token = func(nonce string) map[string]any {
		return map[string]any{"iss": e.url, "aud": []string{"sigstore"}, "sub": "1", "nonce": nonce}
	}
	return e
}

func (e *evilIssuer) login(t *testing.T) (string, error) {
	return sign.Token(t.Context(), sign.TokenOptions{Env: env(), Issuer: e.url, Open: func(page string) error {
		res, err := http.Get(page)
		if err != nil {
			return err
		}
		return res.Body.Close()
	}})
}

func TestLoginChecksTheToken(t *testing.T) {
	if _, err := newEvilIssuer(t).login(t); err != nil {
		t.Fatalf("before it turns evil: %v", err)
	}
	for name, c := range map[string]struct {
		bend func(claims map[string]any)
		want string
	}{
		"replayed nonce": {func(c map[string]any) { c["nonce"] = "old" }, "another login"},
		"no nonce":       {func(c map[string]any) { delete(c, "nonce") }, "another login"},
		"other audience": {func(c map[string]any) { c["aud"] = "other" }, "is for"},
		"other issuer":   {func(c map[string]any) { c["iss"] = "https://evil.example.com" }, "another issuer"},
		"nobody":         {func(c map[string]any) { delete(c, "sub") }, "about nobody"},
	} {
		e := newEvilIssuer(t)
		honest := e.token
		e.token = func(nonce string) map[string]any { claims := honest(nonce); c.bend(claims); return claims }
		if _, err := e.login(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}

// TestLoginAsksNoIssuerInClearText: what comes from there could be anyone's.
func TestLoginAsksNoIssuerInClearText(t *testing.T) {
	asked := false
	client := &http.Client{Transport: roundTrip(func(*http.Request) (*http.Response, error) {
		asked = true
		return nil, errors.New("asked")
	})}
	_, err := sign.Token(t.Context(), sign.TokenOptions{Env: env(), Issuer: "http://login.example.com", HTTP: client})
	input, ok := errors.AsType[*sign.InputError](err)
	if !ok || !strings.Contains(input.Error(), "not an https address") || asked {
		t.Errorf("got %v, asked: %v", err, asked)
	}
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestLoginChecksTheDiscoveryDocument(t *testing.T) {
	for name, c := range map[string]struct {
		key   string
		value any
		want  string
	}{
		"other issuer":        {"issuer", "https://evil.example.com", "discovery document is of"},
		"no login page":       {"authorization_endpoint", "", "not an https address"},
		"program to start":    {"authorization_endpoint", "file:///bin/sh", "not an https address"},
		"login in clear text": {"authorization_endpoint", "http://login.example.com/auth", "not an https address"},
		"token in clear text": {"token_endpoint", "http://login.example.com/token", "not an https address"},
		"no PKCE":             {"code_challenge_methods_supported", []string{"plain"}, "PKCE"},
	} {
		e := newEvilIssuer(t)
		e.discovery[c.key] = c.value
		if _, err := e.login(t); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
}
