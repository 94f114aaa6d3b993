package stack

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"net/http"

	"tallywood/ca/devoidc"
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
