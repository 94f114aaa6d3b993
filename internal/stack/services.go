package stack

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync/atomic"

	"tallywood/ca"
	"tallywood/ca/fulcio"
	"tallywood/ca/oidc"
	"tallywood/ca/tsa"
	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/tlsfile"
)

// A service is what serves the CA, or the TSA, with the files it was made of.
type service struct {
	handler  http.Handler
	verifier *oidc.Verifier // of a CA's users
	chain    []*x509.Certificate
	files    [sha256.Size]byte // tells whether they are the same as before
}

// A slot holds the service in force, which can be replaced while it serves.
type slot struct {
	current  atomic.Pointer[service]
	replaced chan struct{} // of capacity 1
}

func newSlot() *slot { return &slot{replaced: make(chan struct{}, 1)} }

// ServeHTTP implements http.Handler.
func (s *slot) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.current.Load().handler.ServeHTTP(w, r)
}

// put puts another service in force. Requests under way end with the old one.
func (s *slot) put(next *service) {
	s.current.Store(next)
	select {
	case s.replaced <- struct{}{}:
	default:
	}
}

// run runs the verifier of the service in force until ctx ends.
func (s *slot) run(ctx context.Context) error {
	for {
		vctx, stop := context.WithCancel(ctx)
		ended := make(chan error, 1)
		go func() { ended <- s.current.Load().verifier.Run(vctx) }()
		select {
		case <-s.replaced:
			stop()
			<-ended
		case err := <-ended:
			stop()
			return err
		}
	}
}

// A keyOpener opens the key at a location, of an authority with that chain.
type keyOpener func(location string, chain []*x509.Certificate) (crypto.Signer, error)

// reopened is a keyOpener that opens a key again.
func reopened(ctx context.Context) keyOpener {
	return func(location string, _ []*x509.Certificate) (crypto.Signer, error) { return OpenKey(ctx, location) }
}

// readAuthority reads a chain and the key of its first certificate.
func readAuthority(chainFile, key string, open keyOpener) ([]*x509.Certificate, crypto.Signer, error) {
	chain, cerr := keys.ReadChain(chainFile)
	if cerr != nil {
		cerr = fmt.Errorf("reading chain: %w", cerr)
	}
	signer, kerr := open(key, chain)
	if kerr != nil {
		kerr = fmt.Errorf("reading key: %w", kerr)
	}
	return chain, signer, errors.Join(cerr, kerr)
}

// within says of each error that err joins what was done.
func within(what string, err error) error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return fmt.Errorf("%s: %w", what, err)
	}
	var errs []error
	for _, e := range joined.Unwrap() {
		errs = append(errs, fmt.Errorf("%s: %w", what, e))
	}
	return errors.Join(errs...)
}

// fingerprint tells apart services made of other files.
func fingerprint(chain []*x509.Certificate, signer crypto.Signer, more []byte) ([sha256.Size]byte, error) {
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("encoding public key: %w", err)
	}
	h := sha256.New()
	for _, part := range [][]byte{keys.FormatChain(chain), public, more} {
		sum := sha256.Sum256(part)
		h.Write(sum[:])
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

func (s *Stack) openCA(mux *http.ServeMux) error {
	if s.cfg.CA == nil {
		return nil
	}
	c, err := s.newCA(caLog{s}, s.authorityKey)
	if err != nil {
		return within("opening ca", err)
	}
	s.ca = newSlot()
	s.ca.current.Store(c)
	s.metrics.expires("ca", c.chain)
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Certificates are issued where their SCTs come from.
		l := s.current().certificates()
		s.limits.write(s.forward(l, "", s.ca), l.passing.counted).ServeHTTP(w, r)
	})
	for _, path := range []string{"/api/v2/signingCert", "/api/v2/trustBundle", "/api/v2/configuration",
		"/api/v1/signingCert", "/api/v1/rootCert"} {
		mux.Handle(path, h)
	}
	return nil
}

// newCA makes the CA, whose certificates go to ctLog.
func (s *Stack) newCA(ctLog ca.CTLog, open keyOpener) (*service, error) {
	chain, signer, err := readAuthority(s.cfg.CA.Chain, s.cfg.CA.Key, open)
	if err != nil {
		return nil, err
	}
	o := ca.Options{Chain: chain, Signer: signer, CTLog: ctLog, Log: s.log}
	if s.cfg.CA.AuditFile != "" {
		if o.Recorder, err = ca.NewAuditFile(s.cfg.CA.AuditFile); err != nil {
			return nil, err
		}
	}
	authority, err := ca.New(o)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(s.cfg.CA.Issuers)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", err)
	}
	issuers, err := oidc.LoadConfig(s.cfg.CA.Issuers)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", err)
	}
	out := &service{chain: chain}
	out.verifier, err = oidc.New(oidc.Options{Config: issuers, AllowHTTP: s.cfg.DevOIDC != nil, Log: s.log})
	if err != nil {
		return nil, err
	}
	if out.files, err = fingerprint(chain, signer, text); err != nil {
		return nil, err
	}
	out.handler, err = fulcio.New(fulcio.Options{CA: authority, Verifier: out.verifier, Log: s.log})
	return out, err
}

// rereadCA reads the CA's files again.
func (s *Stack) rereadCA(ctx context.Context, _ *config.Config) (change, error) {
	if s.ca == nil {
		return change{}, nil
	}
	old := s.ca.current.Load()
	next, err := s.newCA(caLog{s}, reopened(ctx))
	if err != nil || next.files == old.files {
		return change{}, err
	}
	if !bytes.Equal(rootOf(next.chain).Raw, rootOf(old.chain).Raw) {
		return change{}, fmt.Errorf("chain %s has another root: a restart is needed, for the certificate log accepts the old one's certificates", s.cfg.CA.Chain)
	}
	return change{what: describeService(old, next), apply: func() error {
		s.ca.put(next)
		s.metrics.expires("ca", next.chain)
		return nil
	}}, nil
}

func rootOf(chain []*x509.Certificate) *x509.Certificate { return chain[len(chain)-1] }

// describeService says in what next is another service than old.
func describeService(old, next *service) []string {
	if bytes.Equal(old.chain[0].Raw, next.chain[0].Raw) {
		return []string{"issuers, or the chain above its first certificate"}
	}
	return []string{"the certificate, now one " + tlsfile.ValidUntil(next.chain[0])}
}

func (s *Stack) openTSA(mux *http.ServeMux) error {
	if s.cfg.TSA == nil {
		return nil
	}
	t, err := s.newTSA(s.authorityKey)
	if err != nil {
		return within("opening tsa", err)
	}
	s.tsa = newSlot()
	s.tsa.current.Store(t)
	s.metrics.expires("tsa", t.chain)
	h := s.limits.write(s.tsa, uncounted)
	for _, path := range []string{"/api/v1/timestamp", "/api/v1/timestamp/", "/ping"} {
		mux.Handle(path, h)
	}
	return nil
}

func (s *Stack) newTSA(open keyOpener) (*service, error) {
	chain, signer, err := readAuthority(s.cfg.TSA.Chain, s.cfg.TSA.Key, open)
	if err != nil {
		return nil, err
	}
	out := &service{chain: chain}
	if out.files, err = fingerprint(chain, signer, nil); err != nil {
		return nil, err
	}
	out.handler, err = tsa.New(tsa.Options{Chain: chain, Signer: signer, Log: s.log})
	return out, err
}

// rereadTSA reads the TSA's files again.
func (s *Stack) rereadTSA(ctx context.Context, _ *config.Config) (change, error) {
	if s.tsa == nil {
		return change{}, nil
	}
	old := s.tsa.current.Load()
	next, err := s.newTSA(reopened(ctx))
	if err != nil || next.files == old.files {
		return change{}, err
	}
	return change{what: describeService(old, next), apply: func() error {
		s.tsa.put(next)
		s.metrics.expires("tsa", next.chain)
		return nil
	}}, nil
}
