package stack

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/keys"
)

// pairInterval is how often the files of a certificate are looked at.
const pairInterval = 5 * time.Second

// A keyPair is the certificate of the listener with its key. It can be replaced while it serves.
type keyPair struct {
	log     *slog.Logger
	taken   func(*tls.Certificate) // is told of each one
	current atomic.Pointer[tls.Certificate]

	mu    sync.Mutex // guards what follows
	files config.TLS
	tried [2]fileState // when the pair was last read, whatever came of it
	last  [2]fileState // at the last look
}

// A fileState tells whether a file is the one that was there before. The zero value is none.
type fileState struct {
	info os.FileInfo
}

func stateOf(path string) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{} // reading it says why
	}
	return fileState{info}
}

func (s fileState) equal(o fileState) bool {
	if s.info == nil || o.info == nil {
		return s.info == o.info
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() && s.info.ModTime().Equal(o.info.ModTime())
}

func statesOf(files config.TLS) [2]fileState {
	return [2]fileState{stateOf(files.Certificate), stateOf(files.Key)}
}

func equalStates(a, b [2]fileState) bool { return a[0].equal(b[0]) && a[1].equal(b[1]) }

// newKeyPair reads the pair that a listener begins with. taken is told of it and of each later one.
func newKeyPair(files config.TLS, log *slog.Logger, taken func(*tls.Certificate)) (*keyPair, error) {
	p := &keyPair{log: log, taken: taken, files: files, tried: statesOf(files)}
	p.last = p.tried
	c, err := readPair(files, now())
	if err != nil {
		return nil, err
	}
	p.put(c)
	return p, nil
}

// put puts c in force and returns what was before.
func (p *keyPair) put(c *tls.Certificate) *tls.Certificate {
	p.taken(c)
	return p.current.Swap(c)
}

// readPair reads a certificate and its key, and refuses what no client would accept at the given time.
func readPair(files config.TLS, at time.Time) (*tls.Certificate, error) {
	chain, err := os.ReadFile(files.Certificate)
	if err != nil {
		return nil, fmt.Errorf("reading certificate: %w", err)
	}
	key, err := keys.ReadPrivate(files.Key)
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	c, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("pairing certificate %s with key %s: %w", files.Certificate, files.Key, err)
	}
	const day = "2006-01-02 15:04:05 UTC"
	switch leaf := c.Leaf; {
	case at.After(leaf.NotAfter):
		return nil, fmt.Errorf("certificate %s expired at %s", files.Certificate, leaf.NotAfter.UTC().Format(day))
	case at.Before(leaf.NotBefore):
		return nil, fmt.Errorf("certificate %s is valid from %s on only", files.Certificate, leaf.NotBefore.UTC().Format(day))
	case len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return nil, fmt.Errorf("certificate %s is not one for servers: its extended key usage lacks serverAuth", files.Certificate)
	case len(leaf.DNSNames)+len(leaf.IPAddresses) == 0:
		return nil, fmt.Errorf("certificate %s names no host: clients want a subjectAltName", files.Certificate)
	}
	return &c, nil
}

// config is the listener's. Versions before TLS 1.2 are refused.
func (p *keyPair) config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil },
	}
}

// run replaces the pair when its files change, until ctx ends.
func (p *keyPair) run(ctx context.Context) error {
	tick := time.NewTicker(pairInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			p.look(ctx)
		case <-ctx.Done():
			return nil
		}
	}
}

// look replaces the pair if its files have changed and do not any more: one of the two is written
// first. A new pair that cannot be used is logged, once.
func (p *keyPair) look(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last
	p.last = statesOf(p.files)
	if equalStates(p.last, p.tried) || !equalStates(p.last, last) {
		return
	}
	p.tried = p.last
	c, err := readPair(p.files, now())
	if err != nil {
		p.log.ErrorContext(ctx, "the files of the TLS certificate changed and cannot be used; the old one stays in force", "err", err)
		return
	}
	if old := p.put(c); !sameChain(old, c) {
		p.log.InfoContext(ctx, "reloaded", "part", "tls", "changed", describePair(c))
	}
}

func sameChain(a, b *tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func describePair(c *tls.Certificate) string {
	return "the certificate, now one " + validUntil(c.Leaf)
}

func validUntil(c *x509.Certificate) string {
	return fmt.Sprintf("of serial number %x, valid until %s", c.SerialNumber, c.NotAfter.UTC().Format(time.RFC3339))
}

// openTLS reads the pair of the listener, if it has one.
func (s *Stack) openTLS() error {
	if s.cfg.TLS == nil {
		return nil
	}
	var err error
	if s.pair, err = newKeyPair(*s.cfg.TLS, s.log, s.noteCertificate); err != nil {
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
	files, states := *next.TLS, statesOf(*next.TLS)
	c, err := readPair(files, now())
	if err != nil {
		return change{}, err
	}
	p := s.pair
	p.mu.Lock()
	moved := p.files != files
	p.mu.Unlock()
	if sameChain(c, p.current.Load()) && !moved {
		return change{}, nil
	}
	return change{what: []string{describePair(c)}, apply: func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.files, p.tried, p.last = files, states, states
		p.put(c)
		return nil
	}}, nil
}
