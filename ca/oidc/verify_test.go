package oidc_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tallywood/ca/oidc"
)

// wantReason checks that err is a TokenError with that reason.
func wantReason(t *testing.T, what string, err error, want oidc.Reason) {
	t.Helper()
	var e *oidc.TokenError
	if !errors.As(err, &e) || e.Reason != want {
		t.Errorf("%s: %v, want reason %q", what, err, want)
	}
}

func wantUnavailable(t *testing.T, what string, err error) {
	t.Helper()
	var e *oidc.UnavailableError
	if !errors.As(err, &e) {
		t.Errorf("%s: %v, want UnavailableError", what, err)
	}
}

func TestGoodTokensProveTheirIdentity(t *testing.T) {
	ec, rs := ecKey(t), mustRSA(t)
	i, c := newIssuer(t, jwk("e", ec), jwk("r", rs)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	for name, token := range map[string]string{
		"ES256": sign(t, jose.ES256, "e", ec, i.claims(c)),
		"RS256": sign(t, jose.RS256, "r", rs, i.claims(c)),
	} {
		id, err := v.Verify(t.Context(), token)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if id.Issuer != i.URL || id.Subject != "1234" || id.SAN != (oidc.SAN{Kind: oidc.SANEmail, Value: "alice@example.com"}) ||
			len(id.Extensions) != 0 || strings.Join(id.Challenges, " ") != "1234 alice@example.com" || id.Type != "email" {
			t.Errorf("%s: %+v", name, id)
		}
	}
	if n := i.fetched(); n != 1 {
		t.Errorf("%d fetches of the keys for two tokens", n)
	}
	claims := i.claims(c)
	claims["aud"] = []string{"other", "sigstore"}
	claims["nbf"] = c.Now().Add(4 * time.Minute).Unix()
	claims["email_verified"] = "True"
	if _, err := v.Verify(t.Context(), sign(t, jose.ES256, "e", ec, claims)); err != nil {
		t.Errorf("audience list, nbf within leeway, email_verified as text: %v", err)
	}
}

func TestBadClaimsAreRefused(t *testing.T) {
	key := ecKey(t)
	i, c := newIssuer(t, jwk("k", key)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	for name, tc := range map[string]struct {
		claim string
		value any // nil: left out
		want  oidc.Reason
	}{
		"expired a minute ago":      {"exp", c.Now().Add(-time.Minute).Unix(), oidc.ReasonExpired},
		"expires now":               {"exp", c.Now().Unix(), oidc.ReasonExpired},
		"never expires":             {"exp", nil, oidc.ReasonExpired},
		"exp is text":               {"exp", "9999999999", oidc.ReasonExpired},
		"exp is infinite":           {"exp", json.Number("1e999"), oidc.ReasonExpired},
		"not yet valid":             {"nbf", c.Now().Add(6 * time.Minute).Unix(), oidc.ReasonNotYet},
		"nbf is text":               {"nbf", "soon", oidc.ReasonMalformed},
		"wrong audience":            {"aud", "another", oidc.ReasonAudience},
		"no audience":               {"aud", nil, oidc.ReasonAudience},
		"empty audience list":       {"aud", []string{}, oidc.ReasonAudience},
		"audience list of others":   {"aud", []string{"sigstore2", "sig"}, oidc.ReasonAudience},
		"audience in an object":     {"aud", map[string]string{"sigstore": "sigstore"}, oidc.ReasonAudience},
		"audience of the azp kind":  {"aud", "client", oidc.ReasonAudience},
		"no subject":                {"sub", nil, oidc.ReasonSubject},
		"empty subject":             {"sub", "", oidc.ReasonSubject},
		"subject is a number":       {"sub", 7, oidc.ReasonSubject},
		"subject with line feed":    {"sub", "a\nb", oidc.ReasonClaim},
		"subject too long":          {"sub", strings.Repeat("x", 3000), oidc.ReasonClaim},
		"no email":                  {"email", nil, oidc.ReasonEmail},
		"email not verified":        {"email_verified", false, oidc.ReasonEmailNotVerified},
		"email_verified missing":    {"email_verified", nil, oidc.ReasonEmailNotVerified},
		"email_verified is 1":       {"email_verified", 1, oidc.ReasonEmailNotVerified},
		"email without domain":      {"email", "alice", oidc.ReasonEmail},
		"email at one label":        {"email", "alice@localhost", oidc.ReasonEmail},
		"two addresses":             {"email", "alice@example.com,bob@example.com", oidc.ReasonEmail},
		"address with display name": {"email", "Alice <alice@example.com>", oidc.ReasonEmail},
		"quoted local part":         {"email", `"a b"@example.com`, oidc.ReasonEmail},
		"address literal":           {"email", "alice@[127.0.0.1]", oidc.ReasonEmail},
		"homograph":                 {"email", "аlice@example.com", oidc.ReasonEmail},
		"email with NUL":            {"email", "alice@example.com\x00.evil.com", oidc.ReasonEmail},
		"email with trailing LF":    {"email", "alice@example.com\n", oidc.ReasonEmail},
		"email list":                {"email", []string{"alice@example.com"}, oidc.ReasonEmail},
	} {
		claims := i.claims(c)
		claims[tc.claim] = tc.value
		if tc.value == nil {
			delete(claims, tc.claim)
		}
		if tc.claim == "aud" {
			claims["azp"] = "sigstore"
		}
		_, err := v.Verify(t.Context(), sign(t, jose.ES256, "k", key, claims))
		wantReason(t, name, err, tc.want)
	}
	// Claims match by their exact name.
	claims := i.claims(c)
	delete(claims, "email_verified")
	claims["Email_Verified"], claims["EMAIL_VERIFIED"] = true, true
	_, err := v.Verify(t.Context(), sign(t, jose.ES256, "k", key, claims))
	wantReason(t, "claim names of another case", err, oidc.ReasonEmailNotVerified)
}

// unsigned puts a token together by hand.
func unsigned(header string, claims map[string]any, signature string) string {
	payload, _ := json.Marshal(claims)
	enc := base64.RawURLEncoding.EncodeToString
	return enc([]byte(header)) + "." + enc(payload) + "." + signature
}

func TestForgedSignaturesAreRefused(t *testing.T) {
	ec, rs, other := ecKey(t), mustRSA(t), ecKey(t)
	i, c := newIssuer(t, jwk("e", ec), jwk("r", rs)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	claims := i.claims(c)
	good := sign(t, jose.ES256, "e", ec, claims)
	spki, err := x509.MarshalPKIXPublicKey(rs.Public())
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	embedded, err := json.Marshal(jwk("e", other))
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		token string
		want  oidc.Reason
	}{
		"no token":                      {"", oidc.ReasonMissing},
		"not a token":                   {"alice", oidc.ReasonMalformed},
		"signature cut off":             {good[:strings.LastIndex(good, ".")+1], oidc.ReasonSignature},
		"one part missing":              {good[:strings.LastIndex(good, ".")], oidc.ReasonMalformed},
		"a part too many":               {good + ".x", oidc.ReasonMalformed},
		"alg none":                      {unsigned(`{"alg":"none","kid":"e"}`, claims, ""), oidc.ReasonAlgorithm},
		"alg NoNe":                      {unsigned(`{"alg":"NoNe","kid":"e"}`, claims, ""), oidc.ReasonAlgorithm},
		"no alg":                        {unsigned(`{"kid":"e"}`, claims, ""), oidc.ReasonAlgorithm},
		"HS256 with the RSA key":        {sign(t, jose.HS256, "r", public, claims), oidc.ReasonAlgorithm},
		"HS256 with the RSA key's DER":  {sign(t, jose.HS256, "r", spki, claims), oidc.ReasonAlgorithm},
		"algorithm not in discovery":    {sign(t, jose.PS256, "r", rs, claims), oidc.ReasonAlgorithm},
		"algorithm of another key type": {sign(t, jose.ES256, "r", other, claims), oidc.ReasonKey},
		"another curve":                 {sign(t, jose.ES384, "e", p384, claims), oidc.ReasonAlgorithm},
		"another's key":                 {sign(t, jose.ES256, "e", other, claims), oidc.ReasonSignature},
		"unknown kid":                   {sign(t, jose.ES256, "nobody", other, claims), oidc.ReasonKey},
		"no kid, another's key":         {sign(t, jose.ES256, "", other, claims), oidc.ReasonKey},
		"key in the token":              {unsigned(fmt.Sprintf(`{"alg":"ES256","jwk":%s}`, embedded), claims, "AAAA"), oidc.ReasonKey},
		"critical extension":            {unsigned(`{"alg":"ES256","kid":"e","crit":["b64"],"b64":false}`, claims, "AAAA"), oidc.ReasonMalformed},
		"JSON serialization":            {`{"payload":"e30","signatures":[{},{}]}`, oidc.ReasonMalformed},
		"encrypted":                     {"e30.e30.e30.e30.e30", oidc.ReasonMalformed},
		"payload is a list":             {"eyJhbGciOiJFUzI1NiJ9.W10.AAAA", oidc.ReasonMalformed},
		"padded base64":                 {"eyJhbGciOiJFUzI1NiJ9.e30=.AAAA", oidc.ReasonMalformed},
	} {
		_, err := v.Verify(t.Context(), tc.token)
		wantReason(t, name, err, tc.want)
	}
	// The payload of one token under the signature of another.
	parts := strings.Split(good, ".")
	swapped := i.claims(c)
	swapped["email"] = "mallory@example.com"
	_, err = v.Verify(t.Context(), parts[0]+strings.TrimSuffix(unsigned("", swapped, ""), ".")+"."+parts[2])
	wantReason(t, "payload swapped", err, oidc.ReasonSignature)
}

func TestTokenWithoutKeyIDNeedsAnIssuerWithOneKey(t *testing.T) {
	one, two := ecKey(t), ecKey(t)
	i, c := newIssuer(t, jwk("1", one)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	token := sign(t, jose.ES256, "", one, i.claims(c))
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("one key: %v", err)
	}
	i.set(func() { i.keys = append(i.keys, jwk("2", two)) })
	v = newVerifier(t, emailConfig(i.URL), c)
	_, err := v.Verify(t.Context(), token)
	wantReason(t, "two keys", err, oidc.ReasonSignature)

	i.set(func() { i.keys = []jose.JSONWebKey{jwk("1", one), jwk("1", two)} })
	v = newVerifier(t, emailConfig(i.URL), c)
	_, err = v.Verify(t.Context(), sign(t, jose.ES256, "1", one, i.claims(c)))
	wantReason(t, "two keys of one kid", err, oidc.ReasonSignature)
}

func TestStrangersIssuersCauseNoConnection(t *testing.T) {
	key := ecKey(t)
	known, stranger, c := newIssuer(t, jwk("k", key)), newIssuer(t, jwk("k", key)), newClock()
	v := newVerifier(t, emailConfig(known.URL), c)
	for _, iss := range []string{stranger.URL, known.URL + "/", strings.ToUpper(known.URL), known.URL + "/.", ""} {
		claims := known.claims(c)
		claims["iss"] = iss
		_, err := v.Verify(t.Context(), sign(t, jose.ES256, "k", key, claims))
		wantReason(t, fmt.Sprintf("issuer %q", iss), err, oidc.ReasonIssuer)
	}
	if known.fetched()+stranger.fetched() != 0 {
		t.Error("keys were fetched for an issuer that is not configured")
	}
}

func TestKeysNeverCrossIssuers(t *testing.T) {
	keyA, keyB, c := ecKey(t), ecKey(t), newClock()
	a, b := newIssuer(t, jwk("k", keyA)), newIssuer(t, jwk("k", keyB))
	v := newVerifier(t, emailConfig(a.URL)+strings.TrimPrefix(emailConfig(b.URL), "oidc-issuers:\n"), c)
	if _, err := v.Verify(t.Context(), sign(t, jose.ES256, "k", keyB, b.claims(c))); err != nil {
		t.Fatal(err)
	}
	_, err := v.Verify(t.Context(), sign(t, jose.ES256, "k", keyB, a.claims(c)))
	wantReason(t, "b's key for a's token", err, oidc.ReasonSignature)
}

func TestRotatedKeysAreFetchedOnceAndWithdrawnOnesForgotten(t *testing.T) {
	first, second := ecKey(t), ecKey(t)
	i, c := newIssuer(t, jwk("1", first)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	token := func(kid string, key *ecdsa.PrivateKey) string {
		claims := i.claims(c)
		claims["exp"] = c.Now().Add(24 * time.Hour).Unix()
		return sign(t, jose.ES256, kid, key, claims)
	}
	old := token("1", first)
	if _, err := v.Verify(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	i.set(func() { i.keys = []jose.JSONWebKey{jwk("2", second)} })

	// Right after a fetch, unknown keys fetch nothing.
	for range 100 {
		_, err := v.Verify(t.Context(), token("2", second))
		wantReason(t, "new key at once", err, oidc.ReasonKey)
	}
	if n := i.fetched(); n != 1 {
		t.Fatalf("%d fetches within the interval", n)
	}
	c.advance(oidc.RefetchInterval)
	var wg sync.WaitGroup
	fresh := token("2", second)
	for range 50 {
		wg.Go(func() {
			if _, err := v.Verify(t.Context(), fresh); err != nil {
				t.Errorf("new key after the interval: %v", err)
			}
		})
	}
	wg.Wait()
	if n := i.fetched(); n != 2 {
		t.Errorf("%d fetches, want the first and one for fifty tokens at once", n)
	}
	_, err := v.Verify(t.Context(), old)
	wantReason(t, "withdrawn key", err, oidc.ReasonKey)
}

func TestWithdrawnKeyDiesWithoutANewOneBeingSeen(t *testing.T) {
	one, two := ecKey(t), ecKey(t)
	i, c := newIssuer(t, jwk("1", one), jwk("2", two)), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	claims := i.claims(c)
	claims["exp"] = c.Now().Add(24 * time.Hour).Unix()
	token := sign(t, jose.ES256, "1", one, claims)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	i.set(func() { i.keys = i.keys[1:] })
	c.advance(oidc.KeysMaxAge)
	_, err := v.Verify(t.Context(), token)
	wantReason(t, "withdrawn key after the keys' age", err, oidc.ReasonKey)
}

func TestDeadIssuerIsUnavailableAndOldKeysServe(t *testing.T) {
	key := ecKey(t)
	i, c := newIssuer(t, jwk("k", key)), newClock()
	i.set(func() { i.discovery = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) } })
	v := newVerifier(t, emailConfig(i.URL), c) // does not mind
	claims := i.claims(c)
	claims["exp"] = c.Now().Add(24 * time.Hour).Unix()
	token := sign(t, jose.ES256, "k", key, claims)
	_, err := v.Verify(t.Context(), token)
	wantUnavailable(t, "dead issuer", err)

	i.set(func() { i.discovery = nil })
	_, err = v.Verify(t.Context(), token)
	wantUnavailable(t, "risen, but asked a moment ago", err)
	c.advance(time.Minute)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Fatalf("risen: %v", err)
	}
	i.Close()
	c.advance(oidc.KeysMaxAge)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Errorf("dead again, keys known: %v", err)
	}
	_, err = v.Verify(t.Context(), sign(t, jose.ES256, "new", ecKey(t), claims))
	wantUnavailable(t, "dead again, new key", err)
}

// T1: whoever answers for an issuer must not be able to send us elsewhere.
func TestRedirectsAreNotFollowed(t *testing.T) {
	key, c := ecKey(t), newClock()
	target := newIssuer(t, jwk("k", key))
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, to := range []string{
			target.URL + "/.well-known/openid-configuration", "http://169.254.169.254/latest/meta-data",
			"http://[::1]:1/", "https://example.com/", "file:///etc/passwd", "/elsewhere", "//localhost/",
		} {
			i := newIssuer(t, jwk("k", key))
			redirect := func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", to)
				w.WriteHeader(status)
			}
			token := sign(t, jose.ES256, "k", key, i.claims(c))
			i.set(func() { i.discovery = redirect })
			_, err := newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
			wantUnavailable(t, fmt.Sprintf("discovery: %d to %s", status, to), err)
			i.set(func() { i.discovery, i.jwks = nil, redirect })
			_, err = newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
			wantUnavailable(t, fmt.Sprintf("keys: %d to %s", status, to), err)
		}
	}
	if target.fetched() != 0 {
		t.Error("a redirect was followed")
	}
}

func TestForeignKeySetIsRefused(t *testing.T) {
	key, c := ecKey(t), newClock()
	i, foreign := newIssuer(t, jwk("k", key)), newIssuer(t, jwk("k", key))
	token := sign(t, jose.ES256, "k", key, i.claims(c))
	for _, uri := range []string{
		foreign.URL + "/keys", "", "file:///etc/passwd", "https" + strings.TrimPrefix(i.URL, "http") + "/keys",
		strings.Replace(i.URL, "http://", "http://user@", 1) + "/keys", "http://169.254.169.254/keys", "/keys",
	} {
		i.set(func() { i.jwksURI = uri })
		if uri == "" {
			i.set(func() { i.jwksURI = " " })
		}
		_, err := newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
		wantUnavailable(t, "jwks_uri "+uri, err)
	}
	if foreign.fetched() != 0 {
		t.Error("keys were fetched from a foreign host")
	}
	i.set(func() { i.jwksURI = foreign.URL + "/keys" })
	host := strings.TrimPrefix(foreign.URL, "http://")
	config := strings.Replace(emailConfig(i.URL), "type: email", fmt.Sprintf("type: email, jwks-hosts: [%q]", host), 1)
	if _, err := newVerifier(t, config, c).Verify(t.Context(), token); err != nil {
		t.Errorf("host listed in jwks-hosts: %v", err)
	}
}

func TestDiscoveryOfAnotherIssuerIsRefused(t *testing.T) {
	key, c := ecKey(t), newClock()
	i := newIssuer(t, jwk("k", key))
	token := sign(t, jose.ES256, "k", key, i.claims(c))
	for _, iss := range []string{"https://other.example", i.URL + "/", strings.Replace(i.URL, "127.0.0.1", "localhost", 1)} {
		i.set(func() { i.issuer = iss })
		_, err := newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
		wantUnavailable(t, "discovery names "+iss, err)
	}
}

func TestHostileDocumentsAreBounded(t *testing.T) {
	key, c := ecKey(t), newClock()
	i := newIssuer(t, jwk("k", key))
	token := sign(t, jose.ES256, "k", key, i.claims(c))
	huge := func(w http.ResponseWriter, _ *http.Request) {
		w.Write([]byte(`{"keys":[`))
		for range 1 << 16 {
			if _, err := w.Write([]byte(`{"kty":"oct","k":"AAAA"},`)); err != nil {
				return
			}
		}
	}
	symmetric := jose.JSONWebKey{Key: []byte("0123456789abcdef0123456789abcdef"), KeyID: "k"}
	private := jose.JSONWebKey{Key: key, KeyID: "k"}
	encryption := jwk("k", key)
	encryption.Use = "enc"
	for name, change := range map[string]func(){
		"endless discovery":   func() { i.discovery = huge },
		"endless keys":        func() { i.jwks = huge },
		"discovery no JSON":   func() { i.discovery = func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("<html>")) } },
		"no keys":             func() { i.keys = nil },
		"symmetric key":       func() { i.keys = []jose.JSONWebKey{symmetric} },
		"private key":         func() { i.keys = []jose.JSONWebKey{private} },
		"encryption key":      func() { i.keys = []jose.JSONWebKey{encryption} },
		"101 keys":            func() { i.keys = make([]jose.JSONWebKey, 101); fill(i.keys, jwk("k", key)) },
		"only bad algorithms": func() { i.algorithms = []string{"none", "HS256"} },
	} {
		i.set(func() {
			i.discovery, i.jwks, i.keys, i.algorithms = nil, nil, []jose.JSONWebKey{jwk("k", key)}, []string{"ES256"}
			change()
		})
		_, err := newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
		wantUnavailable(t, name, err)
	}
	// An issuer that lists no algorithms means RS256, not whatever the token says.
	i.set(func() { i.jwks, i.discovery, i.algorithms, i.keys = nil, nil, nil, []jose.JSONWebKey{jwk("k", key)} })
	_, err := newVerifier(t, emailConfig(i.URL), c).Verify(t.Context(), token)
	wantReason(t, "no algorithms listed", err, oidc.ReasonAlgorithm)
}

func fill(keys []jose.JSONWebKey, k jose.JSONWebKey) {
	for n := range keys {
		keys[n] = k
	}
}

// T3: dots are counted on a bounded string before anything is split.
func TestMegabytesOfDotsCostNothing(t *testing.T) {
	i, c := newIssuer(t, jwk("k", ecKey(t))), newClock()
	v := newVerifier(t, emailConfig(i.URL), c)
	token := strings.Repeat(".", 4<<20)
	used := uint64(math.MaxUint64)
	for range 5 { // the least counts: what else runs here allocates too
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := v.Verify(t.Context(), token)
		runtime.ReadMemStats(&after)
		wantReason(t, "4 MiB of dots", err, oidc.ReasonTooLong)
		used = min(used, after.TotalAlloc-before.TotalAlloc)
	}
	if used > 64<<10 {
		t.Errorf("%d bytes allocated for 4 MiB of dots", used)
	}
	_, err := v.Verify(t.Context(), strings.Repeat(".", oidc.MaxToken))
	wantReason(t, "dots of the allowed length", err, oidc.ReasonMalformed)
}

func TestAddressesAreCheckedAfterResolution(t *testing.T) {
	for _, address := range []string{
		"127.0.0.1:443", "[::1]:443", "169.254.169.254:80", "[fe80::1%25eth0]:443", "0.0.0.0:443",
		"[::ffff:127.0.0.1]:443", "[::ffff:169.254.169.254]:80", "224.0.0.1:443", "nonsense",
	} {
		if oidc.Guard(false, address) == nil {
			t.Errorf("%s may be dialled for an issuer on the network", address)
		}
	}
	for _, address := range []string{"192.0.2.1:443", "10.0.0.1:443", "[2001:db8::1]:443"} {
		if err := oidc.Guard(false, address); err != nil {
			t.Errorf("%s: %v", address, err)
		}
		if oidc.Guard(true, address) == nil {
			t.Errorf("%s may be dialled for a loopback issuer", address)
		}
	}
}

func TestAbandonedRequestDoesNotFailTheOthers(t *testing.T) {
	key, c := ecKey(t), newClock()
	i := newIssuer(t, jwk("k", key))
	v := newVerifier(t, emailConfig(i.URL), c)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	token := sign(t, jose.ES256, "k", key, i.claims(c))
	// Whatever happens to the impatient one, the next finds an issuer that works.
	_, _ = v.Verify(ctx, token)
	if _, err := v.Verify(t.Context(), token); err != nil {
		t.Error(err)
	}
}
