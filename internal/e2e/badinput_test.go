package e2e_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// A request that must be refused, and how.
type refusal struct {
	name, method, path string
	contentType, body  string
	host, bearer       string
	status             int
	says               string // part of the message
}

// send makes the request and checks the answer's status, and that it says what was wrong.
func (r refusal) send(t *testing.T, base string) {
	t.Helper()
	req, err := http.NewRequest(r.method, base+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	req.Host = r.host
	if r.contentType != "" {
		req.Header.Set("Content-Type", r.contentType)
	}
	if r.bearer != "" {
		req.Header.Set("Authorization", "Bearer "+r.bearer)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Errorf("%s: %v", r.name, err)
		return
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Errorf("%s: %v", r.name, err)
		return
	}
	var message struct{ Message string }
	if err := json.Unmarshal(body, &message); err != nil {
		message.Message = string(body)
	}
	if resp.StatusCode != r.status || !strings.Contains(message.Message, r.says) || len(strings.TrimSpace(message.Message)) < 8 {
		t.Errorf("%s: %d %q; want %d and a message with %q", r.name, resp.StatusCode, message.Message, r.status, r.says)
	}
}

func TestBadInputIsRefusedAndHarmsNothing(t *testing.T) {
	work := t.TempDir()
	s := up(t, filepath.Join(work, "data"))
	shell(t, work, s.sign)
	for _, r := range append(append(rekorRefusals(t), tokenRefusals(t, s)...), otherRefusals()...) {
		r.send(t, s.url)
	}
	// Process and logs are unharmed: the same commands still work, and nothing was logged besides.
	shell(t, work, s.sign)
	shell(t, work, s.verify)
	eventually(t, "checkpoint of two", func() bool {
		return strings.HasPrefix(get(t, s.url+"/checkpoint", 200), "log.localhost\n2\n") &&
			strings.HasPrefix(get(t, s.url+"/ct/checkpoint", 200), "ct.localhost\n2\n")
	})
	must(t, work, "tallywood", "monitor", "check", "--config", filepath.Join(s.dir, "monitor.yaml"))
}

const entriesPath = "/api/v2/log/entries"

func rekorRefusals(t *testing.T) []refusal {
	t.Helper()
	signer, err := newSigner(1)
	if err != nil {
		t.Fatal(err)
	}
	e, err := signer.entry(1)
	if err != nil {
		t.Fatal(err)
	}
	other, err := signer.entry(2)
	if err != nil {
		t.Fatal(err)
	}
	change := func(old, new string) string {
		if !strings.Contains(e.request, old) {
			t.Fatalf("%q is not in %s", old, e.request)
		}
		return strings.Replace(e.request, old, new, 1)
	}
	post := func(name, body string, status int, says string) refusal {
		return refusal{name: name, method: "POST", path: entriesPath, body: body, status: status, says: says}
	}
	return []refusal{
		post("wrong JSON", "{", 400, "JSON"),
		post("empty body", "", 400, ""),
		post("empty object", "{}", 400, ""),
		post("unknown field", change(`"digest"`, `"digets"`), 400, "digets"),
		post("trailing data", e.request+"{}", 400, ""),
		post("unknown key type", change("PKIX_ECDSA_P256_SHA_256", "PKIX_ROT13"), 400, "keyDetails"),
		post("mismatched keyDetails", change("PKIX_ECDSA_P256_SHA_256", "PKIX_RSA_PKCS1V15_2048_SHA256"), 400, "keyDetails"),
		post("pure Ed25519", change("PKIX_ECDSA_P256_SHA_256", "PKIX_ED25519"), 400, "keyDetails"),
		post("bad key", change(field(e.request, "rawBytes"), "AAAA"), 400, "publicKey"),
		post("short digest", change(field(e.request, "digest"), "AAAA"), 400, "digest"),
		post("signature of another entry", change(field(e.request, "content"), field(other.request, "content")), 400, "signature"),
		post("body over the limit", `{"x":"`+strings.Repeat("a", 5<<20)+`"}`, 413, "4194304"),
		{name: "wrong method", method: "GET", path: entriesPath, status: 405, says: "POST"},
		{name: "unknown path", method: "GET", path: "/api/v9/nothing", status: 404},
		{name: "missing tile", method: "GET", path: "/tile/0/999", status: 404},
		{name: "path that climbs", method: "GET", path: "/logs/signatures/tile/..%2f..%2f..%2fstate/signatures/identity", status: 404},
	}
}

// jwt makes a token of header and claims, signed by sign.
func jwt(t *testing.T, header, claims map[string]any, sign func(input []byte) []byte) string {
	t.Helper()
	b64 := base64.RawURLEncoding.EncodeToString
	h, err := json.Marshal(header)
	if err != nil {
		t.Fatal(err)
	}
	c, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	input := b64(h) + "." + b64(c)
	return input + "." + b64(sign([]byte(input)))
}

func tokenRefusals(t *testing.T, s *stack) []refusal {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	claims := map[string]any{"iss": s.issuer(), "aud": "sigstore", "sub": "x", "email": "alice@example.com", "email_verified": true, "exp": 4102444800}
	foreign := map[string]any{"iss": "https://accounts.example.com", "aud": "sigstore", "sub": "x", "email": "alice@example.com", "email_verified": true, "exp": 4102444800}
	own := func(input []byte) []byte {
		sum := sha256.Sum256(input)
		sig, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	jwks := get(t, s.issuer()+"/keys", 200)
	mac := func(input []byte) []byte { // the classic: the public key as HMAC secret
		h := hmac.New(sha256.New, []byte(jwks))
		h.Write(input)
		return h.Sum(nil)
	}
	none := func([]byte) []byte { return nil }
	ask := func(query string) string { return strings.TrimSpace(get(t, s.issuer()+"/token?"+query, 200)) }
	var out []refusal
	for _, c := range []struct{ name, token, says string }{
		{"expired", ask("email=alice@example.com&claim.exp=1000000000"), "expired"},
		{"wrong audience", ask("email=alice@example.com&aud=other"), "audience"},
		{"unverified email", ask("email=alice@example.com&claim.email_verified=false"), "verified"},
		{"unsigned", strings.TrimRight(jwt(t, map[string]any{"alg": "RS256"}, claims, none), "."), ""},
		{"alg none", jwt(t, map[string]any{"alg": "none"}, claims, none), ""},
		{"HS256", jwt(t, map[string]any{"alg": "HS256"}, claims, mac), ""},
		{"signed by a stranger", jwt(t, map[string]any{"alg": "ES256"}, claims, own), ""},
		{"foreign issuer", jwt(t, map[string]any{"alg": "ES256"}, foreign, own), "issuer"},
		{"not a token", "hello", ""},
		{"dots", strings.Repeat(".", 10_000), ""},
	} {
		out = append(out, refusal{name: c.name + " token", method: "POST", path: "/api/v2/signingCert", bearer: c.token,
			body: certRequest(t, key), status: 400, says: c.says})
	}
	good := ask("email=alice@example.com")
	request := certRequest(t, key)
	stranger, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return append(out,
		refusal{name: "no token", method: "POST", path: "/api/v2/signingCert", body: certRequest(t, key), status: 400, says: "token"},
		refusal{name: "proof by another key", method: "POST", path: "/api/v2/signingCert", bearer: good,
			body: strings.Replace(request, field(request, "proofOfPossession"), field(certRequest(t, stranger), "proofOfPossession"), 1), status: 400, says: "could not be verified"},
		refusal{name: "no key", method: "POST", path: "/api/v2/signingCert", bearer: good, body: `{}`, status: 400},
		refusal{name: "CA: wrong JSON", method: "POST", path: "/api/v2/signingCert", bearer: good, body: `{`, status: 400},
		refusal{name: "CA: body over the limit", method: "POST", path: "/api/v2/signingCert", bearer: good, body: strings.Repeat(" ", 200<<10), status: 413},
		refusal{name: "CA: wrong method", method: "GET", path: "/api/v2/signingCert", status: 405, says: "POST"},
	)
}

// field is the value of a string in a JSON text.
func field(text, name string) string {
	_, rest, _ := strings.Cut(text, `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// certRequest asks for a certificate for alice and key.
func certRequest(t *testing.T, key *ecdsa.PrivateKey) string {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("alice@example.com"))
	proof, err := ecdsa.SignASN1(rand.Reader, key, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey": map[string]string{"algorithm": "ECDSA", "content": string(public)}, "proofOfPossession": base64.StdEncoding.EncodeToString(proof)}})
	if err != nil {
		t.Fatal(err)
	}
	return string(bytes.TrimSpace(body))
}

func otherRefusals() []refusal {
	sha1 := `{"artifactHash":"` + base64.StdEncoding.EncodeToString(make([]byte, 20)) + `","hashAlgorithm":"sha1"}`
	short := `{"artifactHash":"AAAA","hashAlgorithm":"sha256"}`
	tsa := func(name, kind, body string, status int, says string) refusal {
		return refusal{name: "TSA: " + name, method: "POST", path: "/api/v1/timestamp", contentType: kind, body: body, status: status, says: says}
	}
	return []refusal{
		{name: "foreign Host at the development issuer", method: "GET", path: "/dev/oidc/token?email=a@example.com", host: "evil.example.com", status: 403, says: "loopback"},
		{name: "issuer without an email", method: "GET", path: "/dev/oidc/token", status: 400, says: "email"},
		tsa("wrong media type", "text/plain", "x", 415, ""),
		tsa("a media type that only looks right", "multipart/form-data; boundary=application/json", short, 415, ""),
		tsa("SHA-1", "application/json", sha1, 400, "Weak hash algorithm"),
		tsa("short digest", "application/json", short, 400, "incorrect length"),
		tsa("no DER", "application/timestamp-query", "nonsense", 400, ""),
		tsa("oversize", "application/timestamp-query", strings.Repeat("x", 5<<10), 413, "4096"),
		{name: "TSA: wrong method", method: "GET", path: "/api/v1/timestamp", status: 405},
		{name: "CT: wrong JSON", method: "POST", path: "/ct/ct/v1/add-pre-chain", body: "{", status: 400},
		{name: "CT: empty chain", method: "POST", path: "/ct/ct/v1/add-pre-chain", body: `{"chain":[]}`, status: 400},
		{name: "CT: bad DER", method: "POST", path: "/ct/ct/v1/add-chain", body: `{"chain":["AAAA"]}`, status: 400},
		{name: "CT: oversize", method: "POST", path: "/ct/ct/v1/add-chain", body: fmt.Sprintf(`{"chain":[%q]}`, strings.Repeat("A", 200<<10)), status: 413},
		{name: "CT: wrong method", method: "GET", path: "/ct/ct/v1/add-chain", status: 405},
		{name: "witness: nonsense", method: "POST", path: "/witness/1/add-checkpoint", body: "old x\n", status: 400},
		{name: "witness: unknown log", method: "POST", path: "/witness/1/add-checkpoint",
			body: "old 0\n\nlog.example.com\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n— log.example.com AAAAAAAAAAA=\n", status: 404},
		{name: "private state", method: "GET", path: "/state/signatures/identity", status: 404},
	}
}
