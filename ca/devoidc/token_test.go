package devoidc_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"tallywood/ca/devoidc"
)

func TestBareTokens(t *testing.T) {
	s := newServer(t, ecKey(t))
	resp, token := s.get(t, "/token?email=alice@example.com")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/plain; charset=utf-8" || strings.Count(token, ".") != 2 || strings.TrimSpace(token) != token {
		t.Fatalf("%d %v %q", resp.StatusCode, resp.Header, token)
	}
	claims := s.verify(t, token, "sigstore")
	if claims["email"] != "alice@example.com" || claims["email_verified"] != true || claims["iss"] != s.issuer {
		t.Errorf("claims %v", claims)
	}
	_, token = s.post(t, "/token", url.Values{
		"email": {"bob@example.com"}, "aud": {"other"}, "claim.sub": {"7"}, "claim.repository": {"octo/app"},
		"claim.email_verified": {"false"}, "claim.kubernetes.io": {`{"namespace":"default"}`},
	})
	claims = s.verify(t, token, "other")
	nested, _ := claims["kubernetes.io"].(map[string]any)
	if claims["sub"] != "7" || claims["repository"] != "octo/app" || claims["email_verified"] != false || nested["namespace"] != "default" {
		t.Errorf("claims %v", claims)
	}
	_, token = s.get(t, "/token?claim.sub=repo:octo/app")
	if claims = s.verify(t, token, "sigstore"); claims["email"] != nil || claims["sub"] != "repo:octo/app" {
		t.Errorf("a machine's claims %v", claims)
	}
	for _, query := range []string{
		"", "email=", "email=alice", "email=a@b.c&claim.iss=https://other", "email=a@b.c&claim.aud=x", "email=a@b.c&claim.=x",
		"email=a@b.c&claim.exp=tomorrow", "email=a@b.c&claim.email_verified=perhaps", "email=a@b.c&claim.x={", "emial=a@b.c",
	} {
		resp, body := s.get(t, "/token?"+query)
		var e struct{ Message string }
		if err := json.Unmarshal([]byte(body), &e); err != nil || resp.StatusCode != 400 || e.Message == "" {
			t.Errorf("%q: %d %s", query, resp.StatusCode, body)
		}
	}
}

// A web page that made its own name resolve to this machine sends its own name.
func TestForeignHostsAreRefused(t *testing.T) {
	s := newServer(t, ecKey(t))
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for host, want := range map[string]int{
		"127.0.0.1" + port: 200, "localhost" + port: 200, "LOCALHOST" + port: 200, "[::1]" + port: 200,
		"evil.example" + port: 403, "evil.example": 403, "localhost.evil.example" + port: 403, "localhost": 403,
		"localhost:1": 403, "127.0.0.1.nip.io" + port: 403, "169.254.169.254": 403, "0.0.0.0" + port: 403, "[::ffff:7f00:1]" + port: 403,
	} {
		for _, path := range []string{"/token?email=alice@example.com", "/.well-known/openid-configuration", "/keys"} {
			req, err := http.NewRequest("GET", s.issuer+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host
			resp, err := client.Do(req)
			resp, body := read(t, resp, err)
			if resp.StatusCode != want {
				t.Errorf("Host %q, %s: %d, want %d", host, path, resp.StatusCode, want)
			}
			if want == 403 && (strings.Count(body, ".") > 1 || !strings.Contains(body, "loopback")) {
				t.Errorf("Host %q, %s: %s", host, path, body)
			}
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("%s: header %s", path, name)
				}
			}
		}
	}
}

func TestFormsOfOtherSitesAreRefused(t *testing.T) {
	s := newServer(t, ecKey(t))
	form := authQuery()
	form.Set("email", "alice@example.com")
	for name, header := range map[string]http.Header{
		"fetch metadata": {"Sec-Fetch-Site": {"cross-site"}}, "origin": {"Origin": {"https://evil.example"}}, "null origin": {"Origin": {"null"}},
	} {
		for _, path := range []string{"/auth", "/device", "/token"} {
			req, err := http.NewRequest("POST", s.issuer+path, strings.NewReader(form.Encode()))
			if err != nil {
				t.Fatal(err)
			}
			req.Header = header.Clone()
			req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			resp, err := client.Do(req)
			if resp, body := read(t, resp, err); resp.StatusCode != 403 || strings.Count(body, ".") == 2 {
				t.Errorf("%s, %s: %d %s", name, path, resp.StatusCode, body)
			}
		}
	}
}

// Some browsers send no Fetch Metadata: then the Origin header alone tells our form from another
// site's. They send it with our form only if the page's referrer policy lets them.
func TestOwnFormNeedsNoFetchMetadata(t *testing.T) {
	s := newServer(t, ecKey(t))
	resp, _ := s.get(t, "/auth?"+authQuery().Encode())
	if policy := resp.Header.Get("Referrer-Policy"); policy != "same-origin" {
		t.Errorf("referrer policy %q: browsers send the null origin", policy)
	}
	form := authQuery()
	form.Set("email", "alice@example.com")
	for origin, want := range map[string]int{s.URL: 303, "http://localhost:1": 403, "https://evil.example": 403} {
		req, err := http.NewRequest("POST", s.issuer+"/auth", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Origin", origin)
		resp, err := client.Do(req)
		if resp, body := read(t, resp, err); resp.StatusCode != want {
			t.Errorf("form of %s: %d %s, want %d", origin, resp.StatusCode, body, want)
		}
	}
}

func TestPagesEscapeAndCannotBeFramed(t *testing.T) {
	s := newServer(t, ecKey(t))
	q := authQuery()
	q.Set("client_id", `"><script>alert(1)</script>`)
	q.Set("state", `"><img src=x onerror=alert(1)>`)
	resp, page := s.get(t, "/auth?"+q.Encode())
	if strings.Contains(page, "<script") || strings.Contains(page, "<img") {
		t.Error("a parameter became markup")
	}
	if csp := resp.Header.Get("Content-Security-Policy"); !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "frame-ancestors 'none'") {
		t.Errorf("policy %q", csp)
	}
}

func TestWaitingCodesAreBounded(t *testing.T) {
	s := newServer(t, ecKey(t))
	form := url.Values{"client_id": {"sigstore"}}
	for n := range 1024 {
		if resp, body := s.post(t, "/device/code", form); resp.StatusCode != 200 {
			t.Fatalf("flow %d: %d %s", n, resp.StatusCode, body)
		}
	}
	if resp, _ := s.post(t, "/device/code", form); resp.StatusCode != 400 {
		t.Errorf("flow 1025: %d", resp.StatusCode)
	}
	s.advance(11 * time.Minute)
	if resp, _ := s.post(t, "/device/code", form); resp.StatusCode != 200 {
		t.Errorf("after the others expired: %d", resp.StatusCode)
	}
}

func TestDeviceFlowAnswers(t *testing.T) {
	s := newServer(t, ecKey(t))
	start := func(form url.Values) map[string]any {
		t.Helper()
		resp, body := s.post(t, "/device/code", form)
		var d map[string]any
		if err := json.Unmarshal([]byte(body), &d); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
		return d
	}
	poll := func(d map[string]any, more url.Values, want string) {
		t.Helper()
		form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:device_code"}, "client_id": {"sigstore"}, "device_code": {d["device_code"].(string)}}
		for k, v := range more {
			form[k] = v
		}
		if _, body := s.post(t, "/token", form); !strings.Contains(body, `"`+want+`"`) {
			t.Errorf("%s, want %s", body, want)
		}
	}
	answer := func(d map[string]any, email, answer string, want int) {
		t.Helper()
		form := url.Values{"user_code": {" " + strings.ToLower(d["user_code"].(string))}, "email": {email}, "answer": {answer}}
		if resp, body := s.post(t, "/device", form); resp.StatusCode != want {
			t.Errorf("device page: %d %s", resp.StatusCode, body)
		}
	}
	plain := url.Values{"client_id": {"sigstore"}}

	d := start(plain)
	poll(d, nil, "authorization_pending")
	poll(d, url.Values{"client_id": {"other"}}, "invalid_grant")
	answer(d, "nobody", "", 400)
	answer(d, "alice@example.com", "", 200)
	answer(d, "mallory@example.com", "", 400) // too late
	poll(d, nil, "id_token")
	poll(d, nil, "expired_token")

	d = start(plain)
	answer(d, "", "deny", 200)
	poll(d, nil, "access_denied")

	d = start(plain)
	s.advance(11 * time.Minute)
	answer(d, "alice@example.com", "", 400)
	poll(d, nil, "expired_token")

	q := authQuery()
	d = start(url.Values{"client_id": {"sigstore"}, "code_challenge": q["code_challenge"], "code_challenge_method": {"S256"}})
	answer(d, "alice@example.com", "", 200)
	poll(d, url.Values{"code_verifier": {"wrong"}}, "invalid_grant")
	poll(d, url.Values{"code_verifier": {verifier}}, "expired_token")
}

func TestBadDeviceRequestsAreRefused(t *testing.T) {
	s := newServer(t, ecKey(t))
	if resp, _ := s.post(t, "/device/code", nil); resp.StatusCode != 400 {
		t.Errorf("no client: %d", resp.StatusCode)
	}
	if resp, _ := s.post(t, "/device/code", url.Values{"client_id": {"x"}, "code_challenge": {"x"}, "code_challenge_method": {"plain"}}); resp.StatusCode != 400 {
		t.Errorf("plain PKCE: %d", resp.StatusCode)
	}
}

func TestMethodsAndPaths(t *testing.T) {
	s := newServer(t, ecKey(t))
	for _, tc := range []struct {
		method, path string
		status       int
	}{
		{"POST", "/keys", 405}, {"DELETE", "/token", 405}, {"PUT", "/auth", 405}, {"GET", "/device/code", 405},
		{"POST", "/.well-known/openid-configuration", 405}, {"GET", "/other", 404}, {"GET", "/", 404}, {"GET", "/device", 200},
	} {
		req, err := http.NewRequest(tc.method, s.issuer+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if resp, _ := read(t, resp, err); resp.StatusCode != tc.status || (tc.status == 405) != (resp.Header.Get("Allow") != "") {
			t.Errorf("%s %s: %d", tc.method, tc.path, resp.StatusCode)
		}
	}
}

func TestOnlyLoopbackIssuersWithSoundKeys(t *testing.T) {
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	good := devoidc.Options{Issuer: "http://127.0.0.1:8080/dev/oidc", Key: ecKey(t)}
	for name, change := range map[string]func(*devoidc.Options){
		"no issuer":     func(o *devoidc.Options) { o.Issuer = "" },
		"public name":   func(o *devoidc.Options) { o.Issuer = "https://login.example.com" },
		"all addresses": func(o *devoidc.Options) { o.Issuer = "http://0.0.0.0:8080" },
		"final slash":   func(o *devoidc.Options) { o.Issuer += "/" },
		"query":         func(o *devoidc.Options) { o.Issuer += "?x" },
		"other scheme":  func(o *devoidc.Options) { o.Issuer = "file:///x" },
		"public host":   func(o *devoidc.Options) { o.Hosts = []string{"login.example.com:8080"} },
		"no key":        func(o *devoidc.Options) { o.Key = nil },
		"P-384":         func(o *devoidc.Options) { o.Key = p384 },
		"Ed25519":       func(o *devoidc.Options) { o.Key = ed },
	} {
		o := good
		change(&o)
		if _, err := devoidc.New(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := devoidc.New(good); err != nil {
		t.Error(err)
	}
}
