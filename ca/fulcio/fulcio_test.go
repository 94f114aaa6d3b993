package fulcio_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/sigstore/sigstore-go/pkg/sign"

	"tallywood/ca/fulcio"
	"tallywood/log/ctentry"
)

func TestSigstoreGoGetsACertificate(t *testing.T) {
	s := newStack(t, false)
	client := sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.URL})
	pair, err := sign.NewEphemeralKeypair(nil)
	if err != nil {
		t.Fatal(err)
	}
	der, err := client.GetCertificate(t.Context(), pair, &sign.CertificateProviderOptions{IDToken: s.token(t, "")})
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s.verify(t, leaf)
	if len(leaf.EmailAddresses) != 1 || leaf.EmailAddresses[0] != "alice@example.com" {
		t.Errorf("certificate for %v", leaf.EmailAddresses)
	}
	if scts, err := ctentry.SCTs(der); err != nil || len(scts) != 1 {
		t.Errorf("%d SCTs, %v", len(scts), err)
	}
	// Fulcio clients append the path to whatever base URL they have.
	client = sign.NewFulcio(&sign.FulcioOptions{BaseURL: s.URL + "/"})
	if _, err := client.GetCertificate(t.Context(), pair, &sign.CertificateProviderOptions{IDToken: s.token(t, "")}); err != nil {
		t.Errorf("base URL with a final slash: %v", err)
	}
}

func TestEveryKeyAndProofThatClientsUse(t *testing.T) {
	s := newStack(t, false)
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pkcs1 := string(pem.EncodeToMemory(&pem.Block{Type: "RSA PUBLIC KEY", Bytes: x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)}))
	for name, tc := range map[string]struct {
		key       crypto.Signer
		hash      crypto.Hash
		pem       string // empty: PKIX
		challenge string
		csr       x509.SignatureAlgorithm
	}{
		"P-256":                  {key: ecKey(t, elliptic.P256()), hash: crypto.SHA256, challenge: "alice@example.com", csr: x509.ECDSAWithSHA256},
		"P-384":                  {key: ecKey(t, elliptic.P384()), hash: crypto.SHA384, challenge: "alice@example.com", csr: x509.ECDSAWithSHA384},
		"P-521":                  {key: ecKey(t, elliptic.P521()), hash: crypto.SHA512, challenge: "alice@example.com", csr: x509.ECDSAWithSHA512},
		"RSA":                    {key: rsaKey, hash: crypto.SHA256, challenge: "alice@example.com", csr: x509.SHA256WithRSA},
		"RSA in PKCS#1":          {key: rsaKey, hash: crypto.SHA256, pem: pkcs1, challenge: "alice@example.com", csr: x509.SHA256WithRSA},
		"Ed25519":                {key: ed, challenge: "alice@example.com", csr: x509.PureEd25519},
		"proof over the subject": {key: ed, challenge: "dev:alice@example.com", csr: x509.PureEd25519},
	} {
		if tc.pem == "" {
			tc.pem = publicPEM(t, tc.key.Public())
		}
		token := s.token(t, "")
		r := s.do(t, "POST", "/api/v2/signingCert", requestV2(t, "", tc.pem, prove(t, tc.key, tc.hash, tc.challenge)), bearer(token))
		leaf := s.leaf(t, r)
		pub, ok := tc.key.Public().(interface{ Equal(crypto.PublicKey) bool })
		if !ok || !pub.Equal(leaf.PublicKey) {
			t.Errorf("%s: another key was certified", name)
		}
		if !strings.Contains(r.body, `"signedCertificateEmbeddedSct"`) {
			t.Errorf("%s: %s", name, r.body)
		}
		body := marshal(t, map[string]any{
			"credentials": map[string]string{"oidcIdentityToken": token}, "certificateSigningRequest": csrPEM(t, tc.key, tc.csr),
		})
		if leaf := s.leaf(t, s.do(t, "POST", "/api/v2/signingCert", body, nil)); !pub.Equal(leaf.PublicKey) {
			t.Errorf("%s by CSR: another key was certified", name)
		}
	}
}

func TestSpellingsOfOneRequest(t *testing.T) {
	s := newStack(t, true)
	key := ecKey(t, elliptic.P256())
	token, proof := s.token(t, ""), prove(t, key, crypto.SHA256, "alice@example.com")
	content := publicPEM(t, key.Public())
	plain := requestV2(t, "", content, proof)
	snake := marshal(t, map[string]any{
		"credentials": map[string]string{"oidc_identity_token": token}, "unknown": []int{1},
		"public_key_request": map[string]any{"public_key": map[string]any{"algorithm": 2, "content": content}, "proof_of_possession": proof},
	})
	for name, tc := range map[string]struct {
		body   string
		header http.Header
	}{
		"token in the body":          {requestV2(t, token, content, proof), nil},
		"token in the header":        {plain, bearer(token)},
		"same token in both":         {requestV2(t, token, content, proof), bearer(token)},
		"lower-case scheme":          {plain, http.Header{"Authorization": {"bearer " + token}}},
		"snake case, unknown fields": {snake, nil},
		"unpadded URL-safe base64":   {strings.Replace(plain, b64(proof), base64.RawURLEncoding.EncodeToString(proof), 1), bearer(token)},
		"another content type":       {plain, http.Header{"Authorization": {"Bearer " + token}, "Content-Type": {"text/html"}}},
		"null CSR":                   {strings.Replace(plain, "{", `{"certificateSigningRequest":null,`, 1), bearer(token)},
	} {
		r := s.do(t, "POST", "/api/v2/signingCert", tc.body, tc.header)
		if r.status != 200 {
			t.Errorf("%s: %d %s", name, r.status, r.body)
			continue
		}
		s.leaf(t, r)
		if !strings.Contains(r.body, `"signedCertificateDetachedSct"`) {
			t.Errorf("%s: without CT the reply is %s", name, r.body)
		}
	}
}

// response is what a refusal must look like; message is the beginning of its text.
type response struct {
	status, code int
	message      string
}

// The messages that Fulcio's users know.
const (
	badToken   = "There was an error processing the identity token: "
	unparsable = "The public key supplied in the request could not be parsed"
	insecure   = "The public key supplied in the request is insecure"
	badProof   = "The signature supplied in the request could not be verified"
	badCSR     = "The certificate signing request could not be parsed"
	badBody    = "the request body is not a JSON object"
)

// refused posts a request and checks its refusal against the table of reference fulcio.md,
// section 2.
func (s *stack) refused(t *testing.T, name, body string, header http.Header, want response) {
	t.Helper()
	r := s.do(t, "POST", "/api/v2/signingCert", body, header)
	if r.status != want.status || r.code != want.code || !strings.HasPrefix(r.message, want.message) {
		t.Errorf("%s: %d %s, want %+v", name, r.status, r.body, want)
	}
	if (r.status == 503) != (r.header.Get("Retry-After") != "") {
		t.Errorf("%s: Retry-After %q with status %d", name, r.header.Get("Retry-After"), r.status)
	}
}

// goodRequest returns a key in PEM and a proof for a token of alice.
func goodRequest(t *testing.T) (content string, proof []byte) {
	key := ecKey(t, elliptic.P256())
	return publicPEM(t, key.Public()), prove(t, key, crypto.SHA256, "alice@example.com")
}

func TestBadTokensAreRefusedWithTheirReason(t *testing.T) {
	s := newStack(t, false)
	content, proof := goodRequest(t)
	body, token := requestV2(t, "", content, proof), s.token(t, "")
	refused := func(name string, header http.Header, reason string) {
		t.Helper()
		s.refused(t, name, body, header, response{400, 3, badToken + reason})
	}
	refused("no token", nil, "missing")
	refused("another scheme", http.Header{"Authorization": {"Basic " + token}}, "missing")
	for reason, token := range map[string]string{
		"malformed":             "x",
		"too long":              strings.Repeat("x", 20000),
		"expired":               s.token(t, "&claim.exp=1000000000"),
		"not yet valid":         s.token(t, "&claim.nbf=9999999999"),
		"audience":              s.token(t, "&aud=other"),
		"email not verified":    s.token(t, "&claim.email_verified=false"),
		"signature invalid":     token[:len(token)-6] + "AAAAAA",
		"algorithm not allowed": "eyJhbGciOiJub25lIn0.e30.",
		"issuer not configured": "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL290aGVyIn0.AAAA",
		"email":                 s.token(t, "&claim.email=root"),
	} {
		refused(reason, bearer(token), reason)
	}
	body = requestV2(t, token, content, proof)
	refused("two tokens", bearer(s.token(t, "&claim.x=y")), "the body and the Authorization header carry different tokens")
}

func rsaOf(t testing.TB, bits int) *rsa.PrivateKey {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestBadKeysAndProofsAreRefused(t *testing.T) {
	s := newStack(t, false)
	token := s.token(t, "")
	content, proof := goodRequest(t)
	key, odd, sound := ecKey(t, elliptic.P256()), rsaOf(t, 2056), rsaOf(t, 2048)
	short := rsa.PublicKey{N: new(big.Int).Rsh(sound.N, 1024), E: 65537}
	short.N.SetBit(short.N, 0, 1)
	for name, tc := range map[string]struct {
		content string
		proof   []byte
		message string
	}{
		"no key":               {"", proof, unparsable},
		"key no PEM":           {"key", proof, unparsable},
		"certificate as key":   {strings.ReplaceAll(content, "PUBLIC KEY", "CERTIFICATE"), proof, unparsable},
		"two keys":             {content + content, proof, unparsable},
		"secp256k1":            {secp256k1, proof, unparsable},
		"P-224":                {publicPEM(t, ecKey(t, elliptic.P224()).Public()), proof, insecure},
		"RSA-1024":             {publicPEM(t, &short), proof, insecure},
		"exponent 3":           {publicPEM(t, &rsa.PublicKey{N: sound.N, E: 3}), proof, insecure},
		"no proof":             {content, nil, badProof},
		"proof by another key": {content, prove(t, key, crypto.SHA256, "alice@example.com"), badProof},
		"proof over another":   {publicPEM(t, key.Public()), prove(t, key, crypto.SHA256, "bob@example.com"), badProof},
		"proof of other hash":  {publicPEM(t, key.Public()), prove(t, key, crypto.SHA512, "alice@example.com"), badProof},
		"RSA 2056":             {publicPEM(t, odd.Public()), prove(t, odd, crypto.SHA256, "alice@example.com"), "signing algorithm not permitted: RSA 2056, SHA-256"},
	} {
		s.refused(t, name, requestV2(t, "", tc.content, tc.proof), bearer(token), response{400, 3, tc.message})
	}
}

func TestBadCSRsAreRefused(t *testing.T) {
	s := newStack(t, false)
	key, token := ecKey(t, elliptic.P256()), s.token(t, "")
	good := csrPEM(t, key, x509.ECDSAWithSHA256)
	flipped, _ := pem.Decode(good)
	flipped.Bytes[len(flipped.Bytes)-1] ^= 1
	for name, tc := range map[string]struct {
		csr     []byte
		message string
	}{
		"no PEM":           {[]byte("csr"), badCSR},
		"DER":              {flipped.Bytes, badCSR},
		"twice":            {append(append([]byte{}, good...), good...), badCSR},
		"a weak key":       {csrPEM(t, ecKey(t, elliptic.P224()), x509.ECDSAWithSHA256), insecure},
		"a flipped bit":    {pem.EncodeToMemory(flipped), badProof},
		"another hash":     {csrPEM(t, key, x509.ECDSAWithSHA512), "signing algorithm not permitted: ECDSA P-256, SHA-512"},
		"RSA-PSS":          {csrPEM(t, rsaOf(t, 2048), x509.SHA256WithRSAPSS), badCSR},
		"SHA-512 over RSA": {csrPEM(t, rsaOf(t, 2048), x509.SHA512WithRSA), "signing algorithm not permitted: RSA 2048, SHA-512"},
	} {
		body := marshal(t, map[string]any{"certificateSigningRequest": tc.csr})
		s.refused(t, name, body, bearer(token), response{400, 3, tc.message})
	}
}

func TestBadBodiesAreRefused(t *testing.T) {
	s := newStack(t, false)
	token := s.token(t, "")
	for name, body := range map[string]string{
		"no JSON": "<html>", "empty": "", "proof no base64": `{"publicKeyRequest":{"proofOfPossession":"!"}}`, "list": "[]", "two": "{}{}",
	} {
		s.refused(t, name, body, bearer(token), response{400, 3, badBody})
	}
	s.refused(t, "4 MiB of dots", strings.Repeat(".", 4<<20), bearer(token), response{413, 3, "request body is larger than"})
}

// Only what a later attempt may not meet is answered with 503, and nothing tells how we work.
func TestOutagesInviteARetry(t *testing.T) {
	s := newStack(t, false)
	content, proof := goodRequest(t)
	body, token := requestV2(t, "", content, proof), s.token(t, "")
	down := "eyJhbGciOiJFUzI1NiJ9." + base64.RawURLEncoding.EncodeToString([]byte(`{"iss":"http://127.0.0.1:1"}`)) + ".AAAA"
	s.refused(t, "issuer down", body, bearer(down), response{503, 14, "the identity token's issuer is not reachable at the moment"})
	s.log.err = errors.New("no leader at 10.1.2.3")
	s.refused(t, "log down", body, bearer(token), response{503, 14, "the certificate log does not answer at the moment"})
	s.log.err = permanent{}
	s.refused(t, "log refuses", body, bearer(token), response{500, 13, "error communicating with CA backend"})
	s.log.err = nil
	s.key.down.Store(true)
	s.refused(t, "key down", body, bearer(token), response{503, 14, "the CA's key does not sign at the moment"})
}

type permanent struct{}

func (permanent) Error() string   { return "root of 10.1.2.3 not accepted" }
func (permanent) Temporary() bool { return false }

// secp256k1 is a public key on a curve that no client here may use.
const secp256k1 = `-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEeb5mfvncu6xVoGKVzocLBwKb/NstzijZ
WfKBWxb4F5hIOtp3JqPEZV2k+/wOEQio/Re0SKaFVBmcR9CP+xDUuA==
-----END PUBLIC KEY-----
`

func TestMethodsAndPaths(t *testing.T) {
	s := newStack(t, false)
	for _, tc := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/api/v2/signingCert", 405, "POST"},
		{"DELETE", "/api/v2/signingCert", 405, "POST"},
		{"POST", "/api/v2/trustBundle", 405, "GET, HEAD"},
		{"POST", "/api/v2/configuration", 405, "GET, HEAD"},
		{"PUT", "/api/v1/signingCert", 405, "POST"},
		{"POST", "/api/v1/rootCert", 405, "GET, HEAD"},
		{"GET", "/api/v2/other", 404, ""},
		{"GET", "/", 404, ""},
		{"GET", "//api///v2/trustBundle", 200, ""},
		{"HEAD", "/api/v1/rootCert", 200, ""},
	} {
		req, err := http.NewRequest(tc.method, s.URL+tc.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != tc.status || resp.Header.Get("Allow") != tc.allow {
			t.Errorf("%s %s: %d, Allow %q", tc.method, tc.path, resp.StatusCode, resp.Header.Get("Allow"))
		}
	}
}

func TestVersionOne(t *testing.T) {
	s := newStack(t, false)
	key := ecKey(t, elliptic.P256())
	token := s.token(t, "")
	for name, body := range map[string]string{
		"proof": marshal(t, map[string]any{
			"publicKey":          map[string]any{"algorithm": "ecdsa", "content": []byte(publicPEM(t, key.Public()))},
			"signedEmailAddress": prove(t, key, crypto.SHA256, "alice@example.com"),
		}),
		"CSR": marshal(t, map[string]any{"certificateSigningRequest": csrPEM(t, key, x509.ECDSAWithSHA256)}),
	} {
		r := s.do(t, "POST", "/api/v1/signingCert", body, bearer(token))
		if r.status != 201 || r.header.Get("Content-Type") != "application/pem-certificate-chain" || r.header.Get("SCT") != "" {
			t.Fatalf("%s: %d %v %s", name, r.status, r.header, r.body)
		}
		leaf := s.verified(t, r.body)
		if pub, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !pub.Equal(key.Public()) {
			t.Errorf("%s: another key was certified", name)
		}
	}
	r := s.do(t, "POST", "/api/v1/signingCert", "{}", bearer(token))
	if r.status != 400 || r.message != "The public key supplied in the request could not be parsed" {
		t.Errorf("empty request: %d %s", r.status, r.body)
	}
	r = s.do(t, "GET", "/api/v1/rootCert", "", nil)
	want := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.chain[0].Raw})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.chain[1].Raw}))
	if r.status != 200 || r.body != want {
		t.Errorf("rootCert: %d %s", r.status, r.body)
	}
}

func TestTrustBundleAndConfiguration(t *testing.T) {
	s := newStack(t, false)
	var bundle struct {
		Chains []struct{ Certificates []string }
	}
	if r := s.do(t, "GET", "/api/v2/trustBundle", "", nil); json.Unmarshal([]byte(r.body), &bundle) != nil ||
		len(bundle.Chains) != 1 || len(bundle.Chains[0].Certificates) != 2 {
		t.Errorf("trustBundle: %s", r.body)
	}
	r := s.do(t, "GET", "/api/v2/configuration", "", nil)
	want := `{"issuers":[` +
		`{"issuerUrl":"http://127.0.0.1:1","audience":"sigstore","challengeClaim":"email","spiffeTrustDomain":"","issuerType":"email","subjectDomain":"","skipEmailVerification":false},` +
		`{"issuerUrl":"` + s.issuer.URL + `","audience":"sigstore","challengeClaim":"email","spiffeTrustDomain":"","issuerType":"email","subjectDomain":"","skipEmailVerification":false},` +
		`{"wildcardIssuerUrl":"https://oidc.eks.*.amazonaws.com/id/*","audience":"sigstore","challengeClaim":"sub","spiffeTrustDomain":"","issuerType":"kubernetes","subjectDomain":"","skipEmailVerification":false}]}` + "\n"
	if r.body != want {
		t.Errorf("configuration: %s\nwant %s", r.body, want)
	}
}

func TestNewNeedsItsParts(t *testing.T) {
	if _, err := fulcio.New(fulcio.Options{}); err == nil {
		t.Error("neither CA nor verifier: accepted")
	}
}

// BenchmarkSigningCert is a whole request but for the network: token, proof, precertificate, SCT
// and certificate.
func BenchmarkSigningCert(b *testing.B) {
	for name, noCT := range map[string]bool{"without CT": true, "with CT": false} {
		b.Run(name, func(b *testing.B) {
			s := newStack(b, noCT)
			key := ecKey(b, elliptic.P256())
			body := requestV2(b, "", publicPEM(b, key.Public()), prove(b, key, crypto.SHA256, "alice@example.com"))
			header := bearer(s.token(b, ""))
			b.ReportAllocs()
			for b.Loop() {
				r := httptest.NewRequest("POST", "/api/v2/signingCert", strings.NewReader(body))
				r.Header = header
				w := httptest.NewRecorder()
				s.Config.Handler.ServeHTTP(w, r)
				if w.Code != 200 {
					b.Fatalf("%d %s", w.Code, w.Body)
				}
			}
		})
	}
}
