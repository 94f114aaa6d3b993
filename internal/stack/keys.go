package stack

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/internal/kms"
)

// OpenKey opens the private key at location: the path of a PKCS#8 PEM file, or the URI of a key in a
// KMS, which has then signed once.
func OpenKey(ctx context.Context, location string) (crypto.Signer, error) {
	if config.InKMS(location) {
		k, err := kms.Open(ctx, location)
		if err != nil {
			return nil, err
		}
		return k, nil
	}
	return keys.ReadSigner(location)
}

// PublicKey returns the public key of the private key at location, which a KMS tells also those who
// may not sign with it.
func PublicKey(ctx context.Context, location string) (crypto.PublicKey, error) {
	if config.InKMS(location) {
		return kms.Public(ctx, location)
	}
	signer, err := keys.ReadSigner(location)
	if err != nil {
		return nil, err
	}
	return signer.Public(), nil
}

// A keyring has every key of a configuration by its location: a signer, or why there is none.
type keyring map[string]func() (crypto.Signer, error)

// open opens the keys of c, all at the same time, each once. Without ask a key in a KMS is an
// unasked one: its service is on the network.
func (r keyring) open(ctx context.Context, c *config.Config, ask bool) {
	var wait sync.WaitGroup
	for _, k := range c.Keys() {
		switch _, ok := r[k.Location]; {
		case ok:
			continue
		case config.InKMS(k.Location) && !ask:
			r[k.Location] = func() (crypto.Signer, error) { return unasked{k.Location}, kms.Check(k.Location) }
			continue
		}
		open := sync.OnceValues(func() (crypto.Signer, error) { return OpenKey(ctx, k.Location) })
		r[k.Location] = open
		wait.Go(func() { _, _ = open() })
	}
	wait.Wait()
}

// key returns the key at location, which the configuration names.
func (s *Stack) key(location string) (crypto.Signer, error) { return s.keys[location]() }

// authorityKey returns the key at location, of an authority with that chain.
func (s *Stack) authorityKey(location string, chain []*x509.Certificate) (crypto.Signer, error) {
	signer, err := s.key(location)
	if u, ok := signer.(unasked); ok && err == nil && len(chain) > 0 {
		return certified{u, chain[0].PublicKey}, nil
	}
	return signer, err
}

// openKeys opens the keys of the configuration, or takes the place of those in a KMS.
func (s *Stack) openKeys(ctx context.Context, ask bool) {
	began := time.Now()
	s.keys = keyring{}
	s.keys.open(ctx, s.cfg, ask)
	for _, k := range s.cfg.Keys() {
		if signer, err := s.key(k.Location); err == nil && ask && config.InKMS(k.Location) {
			s.log.Info("key opened", "key", fmt.Sprint(k.Field, " ", signer), "dur", time.Since(began))
		}
	}
}

var errUnasked = errors.New("a key in a KMS was not asked for")

// unasked stands in for a key in a KMS while a configuration is checked. Nothing is known of it.
type unasked struct{ uri string }

// Public returns nil.
func (unasked) Public() crypto.PublicKey { return nil }

// Sign fails.
func (unasked) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) { return nil, errUnasked }

// certified is an unasked key that is taken to be the one in a certificate.
type certified struct {
	unasked
	public crypto.PublicKey
}

// Public returns the key in the certificate.
func (c certified) Public() crypto.PublicKey { return c.public }
