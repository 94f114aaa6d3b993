package demo

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tallywood/ca/devoidc"
	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/sign"
	"tallywood/internal/stack"
	"tallywood/log/verify"
	"tallywood/monitor"
	"tallywood/witness/policy"
)

// The people of the play, and the log's name.
const (
	alice  = "alice@example.com"
	origin = "log.localhost"
)

// A stage has all parts of a demo, and what its steps leave for the later ones.
type stage struct {
	dir      string
	patience time.Duration
	url      string // of the stack
	listener net.Listener
	stack    *stack.Stack
	logKey   crypto.Signer

	outside   net.Listener // of everything that is not the stack's
	elsewhere string       // its URL
	handler   http.Handler
	operator  *operator
	monitor   *monitor.Monitor

	// What a client knows, once the stack is ready.
	client      string // directory
	trustedRoot []byte
	signing     []byte
	policy      *policy.Policy

	program, bundle string // Alice's
	entries         [][]byte
	secret          []byte        // the entry of Mallory's secret signature
	old             []byte        // a checkpoint from before the last entries
	told            int           // alerts that are known
	last            monitor.Event // that was shown
}

// prepare makes all parts below dir. It starts nothing but the listeners.
func prepare(ctx context.Context, dir string) (*stage, error) {
	s := &stage{dir: dir, patience: patience}
	var err error
	if s.listener, err = listen(); err != nil {
		return nil, err
	}
	if s.outside, err = listen(); err != nil {
		return nil, err
	}
	s.url, s.elsewhere = "http://"+s.listener.Addr().String(), "http://"+s.outside.Addr().String()
	data := filepath.Join(dir, "data")
	if err := stack.CreateDev(data, s.listener.Addr().String(), nil); err != nil {
		return nil, err
	}
	if err := s.admit(filepath.Join(data, "issuers.yaml")); err != nil {
		return nil, err
	}
	cfg, err := config.Load(filepath.Join(data, "config.yaml"))
	if err != nil {
		return nil, err
	}
	cfg.Monitor = nil // the monitor is Alice's, not the log operator's
	s.client = cfg.ClientDir
	if s.logKey, err = keys.ReadSigner(filepath.Join(data, "keys", "signatures.pem")); err != nil {
		return nil, err
	}
	if s.operator, err = newOperator(s.url+"/logs/signatures", s.logKey); err != nil {
		return nil, err
	}
	login, err := s.otherLogin()
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/log/", http.StripPrefix("/log", s.operator))
	mux.Handle("/secret/", http.StripPrefix("/secret", http.HandlerFunc(s.operator.promise)))
	mux.Handle("/login/", http.StripPrefix("/login", login))
	s.handler = mux
	if s.stack, err = stack.Open(ctx, stack.Options{Config: cfg, Dev: true}); err != nil {
		return nil, err
	}
	return s, nil
}

// aliceLogin and otherLogin are the two login services.
func (s *stage) aliceLogin() string   { return s.url + "/dev/oidc" }
func (s *stage) malloryLogin() string { return s.elsewhere + "/login" }

// admit has the certificate authority believe the other login service too.
func (s *stage) admit(path string) error {
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	issuer := s.malloryLogin()
	_, err = fmt.Fprintf(f, "  %s:\n    issuer-url: %s\n    client-id: sigstore\n    type: email\n", issuer, issuer)
	return errors.Join(err, f.Close())
}

// otherLogin returns a login service that is not Alice's: one more development issuer.
func (s *stage) otherLogin() (http.Handler, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	return devoidc.New(devoidc.Options{Issuer: s.malloryLogin(), Key: key})
}

// learn reads what clients are told, and opens Alice's monitor.
func (s *stage) learn(ctx context.Context) error {
	_, err := s.stack.WriteClientFiles(ctx)
	if err != nil {
		return err
	}
	if s.trustedRoot, err = os.ReadFile(filepath.Join(s.client, "trusted_root.json")); err != nil {
		return err
	}
	if s.signing, err = os.ReadFile(filepath.Join(s.client, "signing_config.v0.2.json")); err != nil {
		return err
	}
	text, err := os.ReadFile(filepath.Join(s.client, "policy.txt"))
	if err != nil {
		return err
	}
	if s.policy, err = policy.Parse(text); err != nil {
		return err
	}
	path := filepath.Join(s.dir, "monitor.yaml")
	if err := os.WriteFile(path, []byte(s.monitorConfig()), 0o644); err != nil {
		return err
	}
	cfg, err := config.LoadMonitor(path)
	if err != nil {
		return err
	}
	s.monitor, err = stack.OpenMonitor(cfg, nil)
	return err
}

// monitorConfig is the configuration of Alice's monitor, as she would write it. The signature log it
// reads through its operator.
func (s *stage) monitorConfig() string {
	vkeys := map[string]string{}
	for _, l := range s.policy.Logs() {
		vkeys[l.Key.Name()] = keys.VKey(l.Key.Name(), l.Key.Alg(), l.Key.Public())
	}
	return fmt.Sprintf(`state: ./monitor-state
evidence: ./evidence
pages: {dir: ./pages}
logs:
  - {origin: %s, url: "%s/log", vkey: %s, policy: data/client/policy.txt}
  - {origin: ct.localhost, kind: ct, url: "%s/logs/certificates", vkey: %s, policy: data/client/policy.txt}
identities:
  - {name: Alice, email: %s, expect: {issuers: ["%s"]}}
notify:
  alice: {jsonl: alerts.jsonl}
`, origin, s.elsewhere, vkeys[origin], s.url, vkeys["ct.localhost"], alice, s.aliceLogin())
}

// token logs in: at a login service, as whoever one says one is.
func (s *stage) token(ctx context.Context, login, email string) (string, error) {
	body, err := fetch(ctx, login+"/token?email="+url.QueryEscape(email))
	return strings.TrimSpace(string(body)), err
}

// signFile signs what is in the file at path and writes the bundle beside it.
func (s *stage) signFile(ctx context.Context, path, login, email string, signing []byte, noPolicy bool) (string, *verify.Result, error) {
	token, err := s.token(ctx, login, email)
	if err != nil {
		return "", nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return "", nil, err
	}
	defer f.Close()
	o := sign.Options{Artifact: f, Token: token, SigningConfig: signing, TrustedRoot: s.trustedRoot, Policy: s.policy}
	if noPolicy {
		o.Policy, o.NoPolicy = nil, true
	}
	bundle, result, err := sign.Sign(ctx, o)
	if err != nil {
		return "", nil, err
	}
	out := path + ".sigstore.json"
	return out, result, os.WriteFile(out, bundle, 0o644)
}

// verifyFile verifies a file and its bundle, as signed by Alice with her login, and witnessed.
func (s *stage) verifyFile(path, bundle string) (*verify.Result, error) {
	v, err := verify.New(verify.Options{TrustedRoot: s.trustedRoot, Policy: s.policy, Identity: alice, Issuer: s.aliceLogin()})
	if err != nil {
		return nil, err
	}
	data, err := os.ReadFile(bundle)
	if err != nil {
		return nil, err
	}
	artifact, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return v.Bundle(data, bytes.NewReader(artifact))
}

// fetch returns what is at a URL.
func fetch(ctx context.Context, at string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1<<20))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("get %s: %s", at, res.Status)
	}
	return body, err
}
