package stack_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/ca/tsa"
	"tallywood/internal/keys"
	"tallywood/internal/stack"
)

// A rootCA issues intermediate certificates for the CA under test.
type rootCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func caTemplate(t *testing.T, name string, pub crypto.PublicKey) *x509.Certificate {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	id := sha1.Sum(spki)
	serial := new(big.Int).SetBytes(id[:16])
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name}, SubjectKeyId: id[:],
		NotBefore: time.Now().Add(-time.Hour).Truncate(time.Second), NotAfter: time.Now().Add(24 * time.Hour).Truncate(time.Second),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true,
	}
}

func newP256(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newRootCA(t *testing.T) *rootCA {
	t.Helper()
	key := newP256(t)
	template := caTemplate(t, "root", key.Public())
	template.NotBefore, template.NotAfter = template.NotBefore.Add(-time.Hour), template.NotAfter.Add(time.Hour)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &rootCA{cert, key}
}

// issue writes a new intermediate certificate with its chain and key to dir.
func (r *rootCA) issue(t *testing.T, dir, name string) {
	t.Helper()
	key := newP256(t)
	template := caTemplate(t, name, key.Public())
	template.ExtKeyUsage, template.MaxPathLenZero = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}, true
	der, err := x509.CreateCertificate(rand.Reader, template, r.cert, key.Public(), r.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	putAuthority(t, dir, "ca", []*x509.Certificate{cert, r.cert}, key)
}

// putAuthority replaces a chain and its key below dir.
func putAuthority(t *testing.T, dir, name string, chain []*x509.Certificate, key crypto.Signer) {
	t.Helper()
	chainFile, keyFile := filepath.Join(dir, "keys", name+"-chain.pem"), filepath.Join(dir, "keys", name+".pem")
	for _, path := range []string{chainFile, keyFile} {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if err := keys.WriteChain(chainFile, chain); err != nil {
		t.Fatal(err)
	}
	if err := keys.WriteSigner(keyFile, key); err != nil {
		t.Fatal(err)
	}
}

// certificate asks the CA of l for a certificate of a person, and returns the CA's answer.
func (l *live) certificate(t *testing.T) (int, string) {
	t.Helper()
	key := newP256(t)
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	status, token := l.get(t, "/dev/oidc/token?email=alice@example.com")
	if status != 200 {
		t.Fatalf("%d %s", status, token)
	}
	challenge := sha256.Sum256([]byte("alice@example.com"))
	proof, err := ecdsa.SignASN1(rand.Reader, key, challenge[:])
	if err != nil {
		t.Fatal(err)
	}
	body, err := json.Marshal(map[string]any{"publicKeyRequest": map[string]any{
		"publicKey":         map[string]string{"algorithm": "ECDSA", "content": string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki}))},
		"proofOfPossession": proof,
	}})
	if err != nil {
		t.Fatal(err)
	}
	return send(t, l.url+"/api/v2/signingCert", string(body), "Content-Type", "application/json", "Authorization", "Bearer "+token)
}

func TestReloadOfTheCA(t *testing.T) {
	r := newRootCA(t)
	l := serve(t, stack.Options{}, func(dir string) { r.issue(t, dir, "first") })
	l.ready(t)
	chain := func() string {
		status, body := l.get(t, "/api/v1/rootCert")
		if status != 200 {
			t.Fatalf("%d %s", status, body)
		}
		return body
	}
	first := chain()
	if status, body := l.certificate(t); status != 200 {
		t.Fatalf("%d %s", status, body)
	}

	// Another certificate under the same root.
	r.issue(t, l.dir, "second")
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := chain()
	if second == first {
		t.Error("the CA has the certificate of before")
	}
	if status, body := l.certificate(t); status != 200 {
		t.Errorf("%d %s", status, body)
	}

	// One under another root, and a key that does not fit.
	for what, c := range map[string]struct {
		put  func()
		want string
	}{
		"another root": {func() { newRootCA(t).issue(t, l.dir, "third") }, "another root: a restart is needed"},
		"another key": {func() {
			r.issue(t, l.dir, "fourth")
			path := filepath.Join(l.dir, "keys", "ca.pem")
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			if err := keys.WriteSigner(path, newP256(t)); err != nil {
				t.Fatal(err)
			}
		}, "reloading ca: "},
		"no issuers": {func() {
			r.issue(t, l.dir, "fifth")
			write(t, filepath.Join(l.dir, "issuers.yaml"), "oidc-issuers: 1\n")
		}, "reading issuers"},
	} {
		issuers := read(t, filepath.Join(l.dir, "issuers.yaml"))
		c.put()
		if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", what, err, c.want)
		}
		if chain() != second {
			t.Errorf("%s is in force", what)
		}
		write(t, filepath.Join(l.dir, "issuers.yaml"), issuers)
	}

	// Another issuer: the one of before is believed no more.
	r.issue(t, l.dir, "sixth")
	edit(t, filepath.Join(l.dir, "issuers.yaml"), "/dev/oidc", "/dev/other")
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := l.certificate(t); status/100 != 4 {
		t.Errorf("a token of an issuer that was taken away: %d %s", status, body)
	}
	edit(t, filepath.Join(l.dir, "issuers.yaml"), "/dev/other", "/dev/oidc")
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, body := l.certificate(t); status != 200 {
		t.Errorf("after it is there again: %d %s", status, body)
	}
}

func TestReloadOfTheTSA(t *testing.T) {
	l := serve(t, stack.Options{}, nil)
	l.ready(t)
	_, before := l.get(t, "/api/v1/timestamp/certchain")
	chain, key, err := tsa.CreateChain("another", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	putAuthority(t, l.dir, "tsa", chain, newP256(t))
	if err := l.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reloading tsa: ") {
		t.Errorf("a key of another certificate: %v", err)
	}
	if _, now := l.get(t, "/api/v1/timestamp/certchain"); now != before {
		t.Error("it is in force")
	}
	putAuthority(t, l.dir, "tsa", chain, key)
	if err := l.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if status, now := l.get(t, "/api/v1/timestamp/certchain"); status != http.StatusOK || now == before {
		t.Errorf("after a reload: %d, the same %v", status, now == before)
	}
}

// An authority that is refused at a reload is not in force, so that clients must not be told to believe
// it, and it alone.
func TestClientFilesHaveTheChainsInForce(t *testing.T) {
	t.Parallel()
	dir, _ := create(t)
	s, _ := reloadable(t, dir)
	file := filepath.Join(dir, "client", "trusted_root.json")
	before := read(t, file)
	newRootCA(t).issue(t, dir, "of another root")
	chain, key, err := tsa.CreateChain("another", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	putAuthority(t, dir, "tsa", chain, newP256(t))
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reloading ca: ") || !strings.Contains(err.Error(), "reloading tsa: ") {
		t.Errorf("both are refused: %v", err)
	}
	if read(t, file) != before {
		t.Error("trusted_root.json has chains that were refused")
	}
	putAuthority(t, dir, "tsa", chain, key)
	if err := s.Reload(t.Context()); err == nil || strings.Contains(err.Error(), "reloading tsa: ") {
		t.Errorf("the CA alone is refused: %v", err)
	}
	if read(t, file) == before {
		t.Error("trusted_root.json has not the timestamp authority that was taken on")
	}
}
