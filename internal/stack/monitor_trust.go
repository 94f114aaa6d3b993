package stack

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"

	"github.com/sigstore/sigstore-go/pkg/root"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/monitor/rule"
)

// readTrust reads the certificate authorities and the keys of certificate logs that m names into o.
func readTrust(m *config.Monitor, o *rule.Options) error {
	if m.CAs != "" {
		data, err := os.ReadFile(m.CAs)
		if err != nil {
			return fmt.Errorf("reading cas: %w", err)
		}
		if o.CAs, err = parseCAs(data); err != nil {
			return fmt.Errorf("reading cas %s: %w", m.CAs, err)
		}
	}
	for _, file := range m.CTKeys {
		data, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading ct_keys: %w", err)
		}
		if err := addCTKeys(&o.Promises, data); err != nil {
			return fmt.Errorf("reading ct_keys %s: %w", file, err)
		}
	}
	return nil
}

// isTrustedRoot reports whether a file is JSON, and so a trusted root, and not PEM.
func isTrustedRoot(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) }

func parseCAs(data []byte) ([]*x509.Certificate, error) {
	if !isTrustedRoot(data) {
		return keys.ParseChain(data)
	}
	trusted, err := root.NewTrustedRootFromJSON(data)
	if err != nil {
		return nil, fmt.Errorf("parsing trusted root: %w", err)
	}
	var all []*x509.Certificate
	for _, ca := range trusted.FulcioCertificateAuthorities() {
		if f, ok := ca.(*root.FulcioCertificateAuthority); ok {
			all = append(append(all, f.Root), f.Intermediates...)
		}
	}
	if len(all) == 0 {
		return nil, errors.New("the trusted root has no certificate authority")
	}
	return all, nil
}

// addCTKeys adds the keys of certificate logs in a file to p, and those of the authorities that their
// timestamps are about, if the file has them.
func addCTKeys(p *rule.Promises, data []byte) error {
	if isTrustedRoot(data) {
		trusted, err := root.NewTrustedRootFromJSON(data)
		if err != nil {
			return fmt.Errorf("parsing trusted root: %w", err)
		}
		if len(trusted.CTLogs()) == 0 {
			return errors.New("the trusted root has no certificate log")
		}
		for _, l := range trusted.CTLogs() {
			p.Logs = append(p.Logs, l.PublicKey)
		}
		issuers, err := parseCAs(data)
		p.Issuers = append(p.Issuers, issuers...)
		return err
	}
	found, err := parsePublicKeys(data)
	p.Logs = append(p.Logs, found...)
	return err
}

// parsePublicKeys returns the keys of a PEM text, at least one. Anything but PUBLIC KEY blocks is an
// error.
func parsePublicKeys(data []byte) ([]crypto.PublicKey, error) {
	var found []crypto.PublicKey
	for len(bytes.TrimSpace(data)) > 0 {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return nil, errors.New("neither PEM nor a trusted root")
		}
		if block.Type != "PUBLIC KEY" {
			return nil, fmt.Errorf("PEM block of type %q; want PUBLIC KEY", block.Type)
		}
		key, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing public key %d: %w", len(found)+1, err)
		}
		found = append(found, key)
	}
	if len(found) == 0 {
		return nil, errors.New("no key in it")
	}
	return found, nil
}
