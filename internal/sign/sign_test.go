package sign_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"k8s.io/klog/v2"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/sign"
	"tallywood/internal/stack"
	"tallywood/log/verify"
	"tallywood/witness/policy"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // Tessera's
	os.Exit(m.Run())
}

// A deployment is a whole stack that runs, as its clients know it.
type deployment struct {
	t             *testing.T
	url           string
	config, trust []byte
	policy        *policy.Policy
}

// deploy runs what `tallywood up` runs.
func deploy(t *testing.T) *deployment {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := stack.CreateDev(dir, ln.Addr().String(), nil); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(filepath.Join(dir, "config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := stack.Open(t.Context(), stack.Options{Config: c, Dev: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.WriteClientFiles(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- s.Run(ctx, ln, nil, func() { close(ready) }) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Error(err)
		}
	})
	select {
	case <-ready:
	case err := <-done:
		done <- err
		t.Fatalf("the stack stopped: %v", err)
	}
	read := func(name string) []byte {
		data, err := os.ReadFile(filepath.Join(dir, "client", name))
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	p, err := policy.Parse(read("policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	return &deployment{t, "http://" + ln.Addr().String(), read("signing_config.v0.2.json"), read("trusted_root.json"), p}
}

// token is one of the development issuer's.
func (d *deployment) token(email string) string {
	d.t.Helper()
	res, err := http.Get(d.url + "/dev/oidc/token?email=" + email)
	if err != nil {
		d.t.Fatal(err)
	}
	defer res.Body.Close()
	token, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		d.t.Fatalf("no token: %s %s %v", res.Status, token, err)
	}
	return strings.TrimSpace(string(token))
}

const text = "hello, tallywood\n"

func (d *deployment) options() sign.Options {
	return sign.Options{
		Artifact: strings.NewReader(text), Token: d.token("alice@example.com"),
		SigningConfig: d.config, TrustedRoot: d.trust, Policy: d.policy,
	}
}

func TestSignWithAWholeStack(t *testing.T) {
	d := deploy(t)
	data, result, err := sign.Sign(t.Context(), d.options())
	if err != nil {
		t.Fatal(err)
	}
	if result.Identity != "alice@example.com" || result.Issuer != d.url+"/dev/oidc" || len(result.Witnesses) < 2 || result.Index < 0 {
		t.Errorf("got %+v", result)
	}
	// The other half of the world must agree.
	b := new(bundle.Bundle)
	if err := b.UnmarshalJSON(data); err != nil {
		t.Fatal(err)
	}
	trusted, err := root.NewTrustedRootFromJSON(d.trust)
	if err != nil {
		t.Fatal(err)
	}
	v, err := sigstore.NewVerifier(trusted, sigstore.WithSignedCertificateTimestamps(1), sigstore.WithObserverTimestamps(1), sigstore.WithTransparencyLog(1))
	if err != nil {
		t.Fatal(err)
	}
	who, err := sigstore.NewShortCertificateIdentity(d.url+"/dev/oidc", "", "alice@example.com", "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := v.Verify(b, sigstore.NewPolicy(sigstore.WithArtifact(strings.NewReader(text)), sigstore.WithCertificateIdentity(who))); err != nil {
		t.Errorf("sigstore-go: %v", err)
	}

	t.Run("reply lost", func(t *testing.T) { lostReply(t, d) })
	t.Run("other witnesses", func(t *testing.T) { otherWitnesses(t, d) })
	t.Run("certificate of another key", func(t *testing.T) { otherKey(t, d) })
	t.Run("certificate of another person", func(t *testing.T) { otherPerson(t, d) })
	t.Run("forged token", func(t *testing.T) { forgedToken(t, d) })
	t.Run("signature that was not logged", func(t *testing.T) { otherEntry(t, d) })
}

// lostReply: the log has the entry, and its answer got lost. Asking again must give it.
func lostReply(t *testing.T, d *deployment) {
	posts := 0
	o := d.options()
	o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := http.DefaultTransport.RoundTrip(r)
		if err == nil && strings.HasSuffix(r.URL.Path, "/entries") {
			if posts++; posts == 1 {
				res.Body.Close()
				return nil, io.ErrUnexpectedEOF
			}
		}
		return res, err
	})}
	if _, _, err := sign.Sign(t.Context(), o); err != nil || posts != 2 {
		t.Errorf("%d posts, %v", posts, err)
	}
}

// otherWitnesses: what does not verify is not handed out.
func otherWitnesses(t *testing.T, d *deployment) {
	var lines []string
	for _, l := range d.policy.Logs() {
		lines = append(lines, "log "+l.Key.String())
	}
	seed := [32]byte{1}
	stranger, err := keys.WitnessFromSeed("stranger.example.org", seed)
	if err != nil {
		t.Fatal(err)
	}
	p, err := policy.Parse([]byte(strings.Join(append(lines, "witness w "+stranger.VKeys()[0], "quorum w"), "\n") + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	o := d.options()
	o.Policy = p
	data, result, err := sign.Sign(t.Context(), o)
	var refusal *verify.Error
	if !errors.As(err, &refusal) || refusal.Check != verify.CheckQuorum || data != nil || result != nil {
		t.Errorf("got %s, %+v, %v", data, result, err)
	}
}

// otherKey: a CA's answer to somebody else is of no use.
func otherKey(t *testing.T, d *deployment) {
	var kept []byte
	o := d.options()
	o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || !strings.HasSuffix(r.URL.Path, "/signingCert") {
			return res, err
		}
		if kept == nil {
			kept, err = io.ReadAll(res.Body)
		}
		res.Body = io.NopCloser(bytes.NewReader(kept))
		return res, err
	})}
	if _, _, err := sign.Sign(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Artifact = strings.NewReader(text)
	if _, _, err := sign.Sign(t.Context(), o); err == nil || !strings.Contains(err.Error(), "of another key") {
		t.Errorf("got %v", err)
	}
}

// otherPerson: a CA that puts another name on the certificate is found out before anything is logged.
func otherPerson(t *testing.T, d *deployment) {
	o := d.options()
	o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		if !strings.HasSuffix(r.URL.Path, "/signingCert") {
			t.Errorf("%s was asked", r.URL)
		}
		return answer(200, misissue(t, r.Body, "mallory@example.com"))
	})}
	if _, _, err := sign.Sign(t.Context(), o); err == nil || !strings.Contains(err.Error(), `for "mallory@example.com"`) {
		t.Errorf("got %v", err)
	}
}

// misissue answers a certificate request with a certificate for email.
func misissue(t *testing.T, request io.Reader, email string) string {
	t.Helper()
	var body struct {
		PublicKeyRequest struct {
			PublicKey struct {
				Content string `json:"content"`
			} `json:"publicKey"`
		} `json:"publicKeyRequest"`
	}
	if err := json.NewDecoder(request).Decode(&body); err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode([]byte(body.PublicKeyRequest.PublicKey.Content))
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), EmailAddresses: []string{email}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		t.Fatal(err)
	}
	type chain struct {
		Chain map[string][]string `json:"chain"`
	}
	reply, err := json.Marshal(map[string]chain{"signedCertificateEmbeddedSct": {map[string][]string{
		"certificates": {string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}}}})
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

func forgedToken(t *testing.T, d *deployment) {
	o := d.options()
	o.Token = aliceToken(t)
	_, _, err := sign.Sign(t.Context(), o)
	var refusal *sign.ServiceError
	if !errors.As(err, &refusal) || refusal.Status != http.StatusBadRequest || !strings.Contains(refusal.Message, "identity token") {
		t.Errorf("got %v, want the CA's refusal", err)
	}
}

// otherEntry: the log answers with a good entry, of another signature.
func otherEntry(t *testing.T, d *deployment) {
	var kept []byte
	o := d.options()
	o.HTTP = &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil || !strings.HasSuffix(r.URL.Path, "/entries") {
			return res, err
		}
		if kept == nil {
			kept, err = io.ReadAll(res.Body)
		}
		res.Body = io.NopCloser(bytes.NewReader(kept))
		return res, err
	})}
	if _, _, err := sign.Sign(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	o.Artifact = strings.NewReader(text)
	_, _, err := sign.Sign(t.Context(), o)
	if refusal := new(verify.Error); !errors.As(err, &refusal) || refusal.Check != verify.CheckBody {
		t.Errorf("got %v", err)
	}
}

func TestSignNamesEverythingWrong(t *testing.T) {
	_, _, err := sign.Sign(t.Context(), sign.Options{Patience: -1})
	for _, want := range []string{"Artifact", "Policy and NoPolicy", "Patience"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

// Nothing is asked of any service for these.
func TestSignRefusesBeforeItAsks(t *testing.T) {
	good := string(signingConfig(t, "https://stack.example.com"))
	for name, c := range map[string]struct {
		change func(o *sign.Options)
		want   string
	}{
		"no token": {func(o *sign.Options) { o.Token = "" }, "identity token: it is empty"},
		"expired token": {func(o *sign.Options) {
			o.Token = unsigned(t, map[string]any{"sub": "1", "exp": time.Now().Add(-time.Minute).Unix()})
		}, "it expired at"},
		"no signing config": {func(o *sign.Options) { o.SigningConfig = nil }, "signing config"},
		"other media type":  {func(o *sign.Options) { o.SigningConfig = []byte(strings.Replace(good, "v0.2", "v0.9", 1)) }, "media type"},
		"no selector": {func(o *sign.Options) {
			o.SigningConfig = []byte(strings.Replace(good, `"tsaConfig":{"selector":"ANY"},`, "", 1))
		}, "tsaConfig is missing"},
		"Rekor v1 only": {func(o *sign.Options) {
			o.SigningConfig = []byte(strings.Replace(good, `"majorApiVersion":2`, `"majorApiVersion":1`, 1))
		}, "Rekor v2 log"},
		"not valid yet": {func(o *sign.Options) { o.Now = func() time.Time { return time.Unix(0, 0) } }, "certificate authority"},
		"token in clear text": {func(o *sign.Options) { o.SigningConfig = signingConfig(t, "http://ca.example.com") },
			`"http://ca.example.com" is not an https address`},
		"token to another name": {func(o *sign.Options) { o.SigningConfig = signingConfig(t, "http://localhost.example.com") },
			"is not an https address"},
		"no trusted root":     {func(o *sign.Options) { o.TrustedRoot = []byte("{}") }, "parsing trusted root"},
		"unreadable artifact": {func(o *sign.Options) { o.Artifact = iotest.ErrReader(io.ErrNoProgress) }, "reading artifact"},
	} {
		t.Run(name, func(t *testing.T) {
			o := sign.Options{
				Artifact: strings.NewReader(text), Token: aliceToken(t), NoPolicy: true, SigningConfig: []byte(good), TrustedRoot: []byte(trustsNobody),
				HTTP: &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
					t.Errorf("%s was asked", r.URL)
					return nil, io.EOF
				})},
			}
			c.change(&o)
			if _, _, err := sign.Sign(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestLoginIssuerIsTheSigningConfigs(t *testing.T) {
	got, err := sign.LoginIssuer(signingConfig(t, "https://stack.example.com"), time.Now())
	if got != "https://stack.example.com/dev/oidc" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := sign.LoginIssuer(signingConfig(t, "https://stack.example.com"), time.Unix(0, 0)); err == nil {
		t.Errorf("before it is valid: got %q", got)
	}
}
