package devoidc_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	goidc "github.com/coreos/go-oidc/v3/oidc"
	"github.com/sigstore/sigstore/pkg/oauthflow"

	"tallywood/ca/devoidc"
)

// server is an issuer below /dev/oidc of a loopback listener, as in production.
type server struct {
	*httptest.Server
	issuer string

	mu  sync.Mutex
	now time.Time
}

func (s *server) Now() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *server) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func newServer(t testing.TB, key crypto.Signer) *server {
	t.Helper()
	s := &server{Server: httptest.NewUnstartedServer(nil), now: time.Now()}
	s.issuer = "http://" + s.Listener.Addr().String() + "/dev/oidc"
	h, err := devoidc.New(devoidc.Options{Issuer: s.issuer, Key: key, Now: s.Now})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/dev/oidc/", http.StripPrefix("/dev/oidc", h))
	s.Config.Handler = mux
	s.Start()
	t.Cleanup(s.Close)
	return s
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// client follows no redirects.
var client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}

func read(t testing.TB, resp *http.Response, err error) (*http.Response, string) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func (s *server) get(t testing.TB, path string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(s.issuer + path)
	return read(t, resp, err)
}

func (s *server) post(t testing.TB, path string, form url.Values) (*http.Response, string) {
	t.Helper()
	resp, err := client.PostForm(s.issuer+path, form)
	return read(t, resp, err)
}

// verify checks a token as any OpenID Connect client does and returns its claims.
func (s *server) verify(t testing.TB, token, audience string) map[string]any {
	t.Helper()
	provider, err := goidc.NewProvider(t.Context(), s.issuer)
	if err != nil {
		t.Fatal(err)
	}
	idToken, err := provider.Verifier(&goidc.Config{ClientID: audience, Now: s.Now}).Verify(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := idToken.Claims(&claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

// inputs finds the form fields of a page.
var inputs = regexp.MustCompile(`<input[^>]*\bname="([^"]*)"[^>]*\bvalue="([^"]*)"`)

// login fills in the login page at authURL as a browser would and returns the answer to it.
func login(t testing.TB, authURL, email string) (*http.Response, string) {
	t.Helper()
	resp, err := client.Get(authURL)
	resp, page := read(t, resp, err)
	if resp.StatusCode != 200 || !strings.Contains(page, "for development only") || strings.Contains(page, "<script") {
		t.Fatalf("login page: %d %s", resp.StatusCode, page)
	}
	form := url.Values{}
	for _, m := range inputs.FindAllStringSubmatch(page, -1) {
		form.Set(m[1], htmlUnescape(m[2]))
	}
	form.Set("email", email)
	action, err := resp.Request.URL.Parse(regexp.MustCompile(`action="([^"]*)"`).FindStringSubmatch(page)[1])
	if err != nil {
		t.Fatal(err)
	}
	resp, err = client.PostForm(action.String(), form)
	return read(t, resp, err)
}

func htmlUnescape(s string) string {
	return strings.NewReplacer("&amp;", "&", "&#34;", `"`, "&#43;", "+", "&lt;", "<", "&gt;", ">", "&#39;", "'").Replace(s)
}

// The browser flow of cosign: a real client, whose browser is a function that fills in the form.
func TestSigstoreClientLogsInThroughTheBrowser(t *testing.T) {
	for _, key := range []crypto.Signer{ecKey(t), mustRSA(t)} {
		s := newServer(t, key)
		getter := &oauthflow.InteractiveIDTokenGetter{
			HTMLPage: "done", Output: io.Discard,
			BrowserOpener: func(authURL string) error {
				go func() {
					resp, body := login(t, authURL, "alice@example.com")
					if resp.StatusCode != http.StatusSeeOther {
						t.Errorf("login: %d %s", resp.StatusCode, body)
						return
					}
					resp, err := client.Get(resp.Header.Get("Location"))
					if err == nil {
						resp.Body.Close()
					}
				}()
				return nil
			},
		}
		token, err := oauthflow.OIDConnect(s.issuer, "sigstore", "", "", getter)
		if err != nil {
			t.Fatal(err)
		}
		claims := s.verify(t, token.RawString, "sigstore")
		if token.Subject != "alice@example.com" || claims["email"] != "alice@example.com" || claims["email_verified"] != true {
			t.Errorf("%T: subject %q, claims %v", key, token.Subject, claims)
		}
	}
}

// Without a browser cosign prints the URL and asks for the code.
func TestSigstoreClientLogsInOutOfBand(t *testing.T) {
	s := newServer(t, ecKey(t))
	codes, codeIn := io.Pipe()
	lines, out := io.Pipe()
	go func() {
		text, buf := "", make([]byte, 1024)
		for !strings.Contains(text, "Enter verification code") {
			n, err := lines.Read(buf)
			if err != nil {
				t.Error(err)
				return
			}
			text += string(buf[:n])
		}
		go io.Copy(io.Discard, lines)
		authURL := regexp.MustCompile(`http://\S+`).FindString(text)
		_, page := login(t, authURL, "alice@example.com")
		fmt.Fprintln(codeIn, regexp.MustCompile(`<code id="code">([^<]+)`).FindStringSubmatch(page)[1])
	}()
	token, err := oauthflow.OIDConnect(s.issuer, "sigstore", "", "", &oauthflow.InteractiveIDTokenGetter{
		Input: codes, Output: out, BrowserOpener: func(string) error { return io.ErrUnexpectedEOF },
	})
	if err != nil {
		t.Fatal(err)
	}
	if token.Subject != "alice@example.com" {
		t.Errorf("subject %q", token.Subject)
	}
}

func TestSigstoreClientLogsInThroughTheDeviceFlow(t *testing.T) {
	s := newServer(t, ecKey(t))
	var messages []string
	getter := oauthflow.NewDeviceFlowTokenGetterForIssuer(s.issuer)
	getter.MessagePrinter = func(m string) { messages = append(messages, m) }
	getter.Sleeper = func(time.Duration) { // the user logs in while the device waits
		page := regexp.MustCompile(`http://\S+`).FindString(messages[0])
		if resp, body := login(t, page, "alice@example.com"); resp.StatusCode != 200 || !strings.Contains(body, "Logged in") {
			t.Errorf("device page: %d %s", resp.StatusCode, body)
		}
	}
	token, err := oauthflow.OIDConnect(s.issuer, "sigstore", "", "", getter)
	if err != nil {
		t.Fatal(err)
	}
	if token.Subject != "alice@example.com" {
		t.Errorf("subject %q", token.Subject)
	}
}

func mustRSA(t testing.TB) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

const verifier = "a-verifier-of-at-least-forty-three-characters-length"

func authQuery() url.Values {
	sum := sha256.Sum256([]byte(verifier))
	return url.Values{
		"client_id": {"sigstore"}, "redirect_uri": {"http://localhost:12345/auth/callback"}, "response_type": {"code"},
		"scope": {"openid email"}, "state": {"s&<\"x"}, "nonce": {"n"},
		"code_challenge": {base64.RawURLEncoding.EncodeToString(sum[:])}, "code_challenge_method": {"S256"},
	}
}

// code logs in and returns the code from the redirect.
func (s *server) code(t testing.TB) string {
	t.Helper()
	resp, body := login(t, s.issuer+"/auth?"+authQuery().Encode(), "alice@example.com")
	if resp.StatusCode != http.StatusSeeOther {
		t.Fatalf("login: %d %s", resp.StatusCode, body)
	}
	target, err := resp.Location()
	if err != nil || target.Host != "localhost:12345" || target.Path != "/auth/callback" || target.Query().Get("state") != "s&<\"x" {
		t.Fatalf("redirect to %v, %v", target, err)
	}
	return target.Query().Get("code")
}

func exchangeForm(code string) url.Values {
	return url.Values{
		"grant_type": {"authorization_code"}, "code": {code}, "client_id": {"sigstore"},
		"redirect_uri": {"http://localhost:12345/auth/callback"}, "code_verifier": {verifier},
	}
}

func TestCodeIsBoundToItsLoginAndWorksOnce(t *testing.T) {
	s := newServer(t, ecKey(t))
	for name, spoil := range map[string]func(url.Values){
		"another verifier":     func(f url.Values) { f.Set("code_verifier", verifier+"x") },
		"no verifier":          func(f url.Values) { f.Del("code_verifier") },
		"challenge as secret":  func(f url.Values) { f.Set("code_verifier", authQuery().Get("code_challenge")) },
		"another client":       func(f url.Values) { f.Set("client_id", "other") },
		"another redirect_uri": func(f url.Values) { f.Set("redirect_uri", "http://localhost:1/") },
		"another code":         func(f url.Values) { f.Set("code", "x") },
		"expired":              func(url.Values) { s.advance(6 * time.Minute) },
	} {
		form := exchangeForm(s.code(t))
		spoil(form)
		resp, body := s.post(t, "/token", form)
		if resp.StatusCode != 400 || !strings.Contains(body, `"invalid_grant"`) {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
		// A code that was tried in vain is lost: whoever tried it may be a thief.
		if name == "another code" {
			continue
		}
		if resp, body := s.post(t, "/token", exchangeForm(form.Get("code"))); resp.StatusCode != 400 {
			t.Errorf("%s, then right: %d %s", name, resp.StatusCode, body)
		}
	}
	form := exchangeForm(s.code(t))
	resp, body := s.post(t, "/token", form)
	var answer struct {
		IDToken     string `json:"id_token"`
		AccessToken string `json:"access_token"`
		TokenType   string `json:"token_type"`
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || resp.StatusCode != 200 || answer.AccessToken == "" || answer.TokenType != "Bearer" {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		t.Error("a token may be cached")
	}
	if claims := s.verify(t, answer.IDToken, "sigstore"); claims["nonce"] != "n" || claims["sub"] != "dev:alice@example.com" {
		t.Errorf("claims %v", claims)
	}
	if resp, body := s.post(t, "/token", form); resp.StatusCode != 400 || !strings.Contains(body, "invalid_grant") {
		t.Errorf("replayed code: %d %s", resp.StatusCode, body)
	}
	if resp, body := s.post(t, "/token", url.Values{"grant_type": {"password"}}); resp.StatusCode != 400 || !strings.Contains(body, "unsupported_grant_type") {
		t.Errorf("grant type password: %d %s", resp.StatusCode, body)
	}
}

func TestBadAuthorizationRequestsAreNotRedirected(t *testing.T) {
	s := newServer(t, ecKey(t))
	for name, spoil := range map[string]func(url.Values){
		"no client":         func(q url.Values) { q.Del("client_id") },
		"implicit flow":     func(q url.Values) { q.Set("response_type", "id_token") },
		"no PKCE":           func(q url.Values) { q.Del("code_challenge"); q.Del("code_challenge_method") },
		"plain PKCE":        func(q url.Values) { q.Set("code_challenge_method", "plain") },
		"no redirect_uri":   func(q url.Values) { q.Del("redirect_uri") },
		"redirect away":     func(q url.Values) { q.Set("redirect_uri", "https://evil.example/") },
		"redirect, prefix":  func(q url.Values) { q.Set("redirect_uri", "http://localhost.evil.example/") },
		"redirect, user":    func(q url.Values) { q.Set("redirect_uri", "http://localhost@evil.example/") },
		"redirect, script":  func(q url.Values) { q.Set("redirect_uri", "javascript:alert(1)") },
		"redirect, no host": func(q url.Values) { q.Set("redirect_uri", "http:///x") },
	} {
		q := authQuery()
		spoil(q)
		for _, method := range []string{"GET", "POST"} {
			q.Set("email", "alice@example.com")
			req, err := http.NewRequest(method, s.issuer+"/auth", nil)
			if err != nil {
				t.Fatal(err)
			}
			if req.URL.RawQuery = q.Encode(); method == "POST" {
				req.URL.RawQuery, req.Body = "", io.NopCloser(strings.NewReader(q.Encode()))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			}
			resp, err := client.Do(req)
			resp, body := read(t, resp, err)
			if resp.StatusCode != 400 || resp.Header.Get("Location") != "" || !strings.Contains(body, `role="alert"`) {
				t.Errorf("%s by %s: %d %s", name, method, resp.StatusCode, body)
			}
		}
	}
	for _, email := range []string{"", "alice", "@example.com", "alice@", "a b@example.com", strings.Repeat("a", 300) + "@example.com"} {
		resp, body := login(t, s.issuer+"/auth?"+authQuery().Encode(), email)
		if resp.StatusCode != 400 || !strings.Contains(body, "an email address such as") {
			t.Errorf("email %q: %d", email, resp.StatusCode)
		}
	}
	// A GET never logs anyone in, so no link or image can.
	q := authQuery()
	q.Set("email", "alice@example.com")
	if resp, _ := s.get(t, "/auth?"+q.Encode()); resp.StatusCode != 200 || resp.Header.Get("Location") != "" {
		t.Errorf("GET with an email: %d", resp.StatusCode)
	}
}
