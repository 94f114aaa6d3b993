package stack

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"net/http"

	"tallywood/ca"
	"tallywood/ca/devoidc"
	"tallywood/ca/fulcio"
	"tallywood/ca/oidc"
	"tallywood/ca/tsa"
	"tallywood/internal/config"
	"tallywood/internal/keys"
)

// acceptedRoots are the roots a certificate log of c takes submissions under: our own CA's. A frozen
// one says those it would take, were it not.
func acceptedRoots(c *config.Config, l config.Log) ([]*x509.Certificate, error) {
	if c.CA == nil || c.CA.CTLog != l.Name && l.State != config.StateFrozen {
		return nil, fmt.Errorf("no ca section names it as ct_log, so that it would accept no certificate")
	}
	chain, err := keys.ReadChain(c.CA.Chain)
	if err != nil {
		return nil, fmt.Errorf("reading the CA's chain: %w", err)
	}
	return chain[len(chain)-1:], nil
}

func (s *Stack) openCA(mux *http.ServeMux) error {
	if s.cfg.CA == nil {
		return nil
	}
	issue, err := s.newCA(caLog{s})
	if err != nil {
		return fmt.Errorf("opening ca: %w", err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// Certificates are issued where their SCTs come from.
		l := s.current().certificates()
		s.limits.write(s.forward(l, "", issue), l.passing.counted).ServeHTTP(w, r)
	})
	for _, path := range []string{"/api/v2/signingCert", "/api/v2/trustBundle", "/api/v2/configuration",
		"/api/v1/signingCert", "/api/v1/rootCert"} {
		mux.Handle(path, h)
	}
	return nil
}

// newCA makes the CA, whose certificates go to ctLog, and its handler.
func (s *Stack) newCA(ctLog ca.CTLog) (http.Handler, error) {
	chain, err := keys.ReadChain(s.cfg.CA.Chain)
	if err != nil {
		return nil, fmt.Errorf("reading chain: %w", err)
	}
	signer, err := s.authorityKey(s.cfg.CA.Key, chain)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	if s.authority, err = ca.New(ca.Options{Chain: chain, Signer: signer, CTLog: ctLog, Log: s.log}); err != nil {
		return nil, err
	}
	issuers, err := oidc.LoadConfig(s.cfg.CA.Issuers)
	if err != nil {
		return nil, fmt.Errorf("reading issuers: %w", err)
	}
	s.verifier, err = oidc.New(oidc.Options{Config: issuers, AllowHTTP: s.cfg.DevOIDC != nil, Log: s.log})
	if err != nil {
		return nil, err
	}
	return fulcio.New(fulcio.Options{CA: s.authority, Verifier: s.verifier, Log: s.log})
}

func (s *Stack) openTSA(mux *http.ServeMux) error {
	if s.cfg.TSA == nil {
		return nil
	}
	chain, cerr := keys.ReadChain(s.cfg.TSA.Chain)
	signer, kerr := s.authorityKey(s.cfg.TSA.Key, chain)
	if cerr != nil {
		cerr = fmt.Errorf("opening tsa: reading chain: %w", cerr)
	}
	if kerr != nil {
		kerr = fmt.Errorf("opening tsa: reading key: %w", kerr)
	}
	if err := errors.Join(cerr, kerr); err != nil {
		return err
	}
	h, err := tsa.New(tsa.Options{Chain: chain, Signer: signer, Log: s.log})
	if err != nil {
		return fmt.Errorf("opening tsa: %w", err)
	}
	h = s.limits.write(h, uncounted)
	mux.Handle("/api/v1/timestamp", h)
	mux.Handle("/api/v1/timestamp/", h)
	mux.Handle("/ping", h)
	return nil
}

// newTokenKey returns a key for tokens. It is RSA because cosign takes a token given on its command
// line for the path of a file unless it is signed with RS256 (cosign v3.1.3).
func newTokenKey() (crypto.Signer, error) { return rsa.GenerateKey(rand.Reader, 2048) }

// devIssuer is the URL of the development issuer.
func (s *Stack) devIssuer() string { return s.cfg.URL + s.cfg.DevOIDC.Path }

func (s *Stack) openDevOIDC(mux *http.ServeMux) error {
	dev := s.cfg.DevOIDC
	if dev == nil {
		return nil
	}
	o := devoidc.Options{Issuer: s.devIssuer(), Log: s.log}
	var err error
	if dev.Key != "" {
		o.Key, err = keys.ReadSigner(dev.Key)
	} else {
		o.Key, err = newTokenKey()
	}
	if err != nil {
		return fmt.Errorf("opening dev_oidc: %w", err)
	}
	h, err := devoidc.New(o)
	if err != nil {
		return fmt.Errorf("opening dev_oidc: %w", err)
	}
	mux.Handle(dev.Path+"/", http.StripPrefix(dev.Path, h))
	return nil
}
