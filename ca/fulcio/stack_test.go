package fulcio_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/ca"
	"tallywood/ca/devoidc"
	"tallywood/ca/fulcio"
	"tallywood/ca/oidc"
	"tallywood/log/ctentry"
)

// certLog is a certificate log of one key that signs real SCTs and keeps nothing.
type certLog struct {
	key *ecdsa.PrivateKey
	err error
}

func (l *certLog) AddPreChain(_ context.Context, chain [][]byte) ([]byte, error) {
	if l.err != nil {
		return nil, l.err
	}
	tbs, err := ctentry.PrecertTBS(chain[0])
	if err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(chain[1])
	if err != nil {
		return nil, err
	}
	e := ctentry.Entry{
		Timestamp: time.Now().UnixMilli(), Precert: true, Certificate: tbs,
		IssuerKeyHash: sha256.Sum256(issuer.RawSubjectPublicKeyInfo),
	}
	if e.Extensions, err = ctentry.MarshalExtensions(7); err != nil {
		return nil, err
	}
	leaf, err := e.MerkleTreeLeaf()
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(leaf)
	signature, err := l.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	id, err := ctentry.LogID(l.key.Public())
	if err != nil {
		return nil, err
	}
	return ctentry.SCT{
		LogID: id, Timestamp: e.Timestamp, Extensions: e.Extensions, Hash: 4, Algorithm: 3, Signature: signature,
	}.Marshal()
}

// stack is a CA behind its API, with an issuer whose tokens it takes.
type stack struct {
	*httptest.Server
	issuer *httptest.Server
	log    *certLog
	chain  []*x509.Certificate
	key    *keyElsewhere // of the authority
}

// keyElsewhere is a key that may be out of reach.
type keyElsewhere struct {
	crypto.Signer
	down atomic.Bool
}

func (k *keyElsewhere) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if k.down.Load() {
		return nil, errors.New("no answer from 10.1.2.3")
	}
	return k.Signer.Sign(r, digest, o)
}

func newStack(t testing.TB, noCT bool) *stack {
	t.Helper()
	s := &stack{log: &certLog{key: ecKey(t, elliptic.P256())}}
	s.issuer = httptest.NewUnstartedServer(nil)
	issuer, err := devoidc.New(devoidc.Options{Issuer: "http://" + s.issuer.Listener.Addr().String(), Key: ecKey(t, elliptic.P256())})
	if err != nil {
		t.Fatal(err)
	}
	s.issuer.Config.Handler = issuer
	s.issuer.Start()
	t.Cleanup(s.issuer.Close)

	config, err := oidc.ParseConfig(fmt.Appendf(nil, `
oidc-issuers:
  %[1]s: {issuer-url: %[1]q, client-id: sigstore, type: email}
  http://127.0.0.1:1: {issuer-url: "http://127.0.0.1:1", client-id: sigstore, type: email}
meta-issuers:
  https://oidc.eks.*.amazonaws.com/id/*: {client-id: sigstore, type: kubernetes}
`, s.issuer.URL))
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := oidc.New(oidc.Options{Config: config, AllowHTTP: true, FetchTimeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	s.chain, s.key = chain, &keyElsewhere{Signer: signer}
	options := ca.Options{Chain: chain, Signer: s.key, NoCT: noCT}
	if !noCT {
		options.CTLog = s.log
	}
	authority, err := ca.New(options)
	if err != nil {
		t.Fatal(err)
	}
	handler, err := fulcio.New(fulcio.Options{CA: authority, Verifier: verifier})
	if err != nil {
		t.Fatal(err)
	}
	s.Server = httptest.NewServer(handler)
	t.Cleanup(s.Close)
	return s
}

func ecKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// token asks the issuer for a token of alice; more is appended to the query.
func (s *stack) token(t testing.TB, more string) string {
	t.Helper()
	resp, err := http.Get(s.issuer.URL + "/token?email=alice@example.com" + more)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 200 {
		t.Fatalf("%d %s %v", resp.StatusCode, body, err)
	}
	return string(body)
}

// reply is a response, read.
type reply struct {
	status  int
	header  http.Header
	body    string
	message string // of an error
	code    int
}

func (s *stack) do(t testing.TB, method, path, body string, header http.Header) reply {
	t.Helper()
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = path
	req := &http.Request{Method: method, URL: u, Header: header, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body))}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	out := reply{status: resp.StatusCode, header: resp.Header, body: string(data)}
	var e struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Details []any  `json:"details"`
	}
	if resp.StatusCode >= 400 {
		if err := json.Unmarshal(data, &e); err != nil || e.Message == "" || e.Details == nil {
			t.Errorf("%s %s: the error body is %q", method, path, data)
		}
		out.message, out.code = e.Message, e.Code
	}
	return out
}

func bearer(token string) http.Header { return http.Header{"Authorization": {"Bearer " + token}} }

func publicPEM(t testing.TB, pub crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

// prove signs a challenge as clients do.
func prove(t testing.TB, key crypto.Signer, hash crypto.Hash, challenge string) []byte {
	t.Helper()
	message := []byte(challenge)
	if hash != 0 {
		h := hash.New()
		h.Write(message)
		message = h.Sum(nil)
	}
	proof, err := key.Sign(rand.Reader, message, hash)
	if err != nil {
		t.Fatal(err)
	}
	return proof
}

// requestV2 is the body of a version 2 request; an empty token is left out.
func requestV2(t testing.TB, token, key string, proof []byte) string {
	t.Helper()
	m := map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]string{"algorithm": "ECDSA", "content": key},
		"proofOfPossession": proof,
	}}
	if token != "" {
		m["credentials"] = map[string]string{"oidcIdentityToken": token}
	}
	return marshal(t, m)
}

func marshal(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// leaf parses the first certificate of a successful version 2 reply.
func (s *stack) leaf(t testing.TB, r reply) *x509.Certificate {
	t.Helper()
	type signed struct {
		Chain struct{ Certificates []string }
	}
	var m struct {
		Embedded *signed `json:"signedCertificateEmbeddedSct"`
		Detached *signed `json:"signedCertificateDetachedSct"`
	}
	if err := json.Unmarshal([]byte(r.body), &m); err != nil || r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	got := m.Embedded
	if got == nil {
		got = m.Detached
	}
	if got == nil || len(got.Chain.Certificates) != 3 {
		t.Fatalf("not a chain of three: %s", r.body)
	}
	return s.verified(t, strings.Join(got.Chain.Certificates, ""))
}

// verified parses leaf, intermediate and root from PEM and verifies the leaf.
func (s *stack) verified(t testing.TB, text string) *x509.Certificate {
	t.Helper()
	var certs []*x509.Certificate
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, c)
	}
	if len(certs) != 3 || !bytes.Equal(certs[1].Raw, s.chain[0].Raw) || !bytes.Equal(certs[2].Raw, s.chain[1].Raw) {
		t.Fatalf("%d certificates, want the leaf and the CA's chain", len(certs))
	}
	s.verify(t, certs[0])
	return certs[0]
}

func (s *stack) verify(t testing.TB, leaf *x509.Certificate) {
	t.Helper()
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	intermediates.AddCert(s.chain[0])
	roots.AddCert(s.chain[1])
	if _, err := leaf.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		t.Error(err)
	}
}

// csrPEM makes a certificate signing request.
func csrPEM(t testing.TB, key crypto.Signer, algorithm x509.SignatureAlgorithm) []byte {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{SignatureAlgorithm: algorithm}, key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
}

func b64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }
