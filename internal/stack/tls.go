package stack

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"

	"tallywood/internal/config"
	"tallywood/internal/tlsfile"
)

// tlsFiles are the files of a listener's certificate.
func tlsFiles(c config.TLS) tlsfile.Files {
	return tlsfile.Files{Certificate: c.Certificate, Key: c.Key}
}

// openTLS reads the pair of the listener, if it has one.
func (s *Stack) openTLS() error {
	if s.cfg.TLS == nil {
		return nil
	}
	var err error
	if s.pair, err = tlsfile.Open(tlsfile.Options{Files: tlsFiles(*s.cfg.TLS), Taken: s.noteCertificate, Log: s.log}); err != nil {
		return fmt.Errorf("opening tls: %w", err)
	}
	return nil
}

// noteCertificate notes when the listener's certificate expires, and warns of one that is not for the
// host that clients are told.
func (s *Stack) noteCertificate(c *tls.Certificate) {
	s.metrics.expires("tls", []*x509.Certificate{c.Leaf})
	u, err := url.Parse(s.cfg.URL)
	if err != nil {
		return // the configuration was checked
	}
	if err := c.Leaf.VerifyHostname(u.Hostname()); err != nil {
		s.log.Warn("the TLS certificate is not for the host of url, as is right only if a proxy before this listener has that name", "err", err)
	}
}

// rereadTLS reads the pair again, perhaps from other files.
func (s *Stack) rereadTLS(_ context.Context, next *config.Config) (change, error) {
	switch {
	case s.pair == nil && next.TLS == nil:
		return change{}, nil
	case s.pair == nil || next.TLS == nil:
		return change{}, fmt.Errorf("a restart is needed to begin with TLS, or to end it")
	}
	what, apply, err := s.pair.Reread(tlsFiles(*next.TLS))
	if err != nil || apply == nil {
		return change{}, err
	}
	return change{what: []string{what}, apply: func() error { apply(); return nil }}, nil
}
