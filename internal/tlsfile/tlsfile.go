// Package tlsfile holds the certificate of a listener: read from two files, and again when they change,
// as certificate clients write them anew every few weeks.
//
// A pair that no client would accept is refused: at the start with an error, later by leaving the old
// one in force.
package tlsfile

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/internal/keys"
)

// Interval is how often Run looks at the files.
const Interval = 5 * time.Second

// Files are those of a certificate.
type Files struct {
	Certificate string // PEM, the server's certificate first and the intermediate ones after it
	Key         string // PEM, its private key
}

// Options configure a Pair.
type Options struct {
	Files Files
	Taken func(*tls.Certificate) // is told of each pair that is put in force, the first included; optional
	Log   *slog.Logger           // nil: discard
}

// A Pair is a certificate with its key. It can be replaced while it serves.
type Pair struct {
	log     *slog.Logger
	taken   func(*tls.Certificate)
	current atomic.Pointer[tls.Certificate]

	mu    sync.Mutex // guards what follows
	files Files
	tried [2]fileState // when the pair was last read, whatever came of it
	last  [2]fileState // at the last look

	refused string // why what is in the files is not in force; empty if it is
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

func statesOf(files Files) [2]fileState {
	return [2]fileState{stateOf(files.Certificate), stateOf(files.Key)}
}

func equalStates(a, b [2]fileState) bool { return a[0].equal(b[0]) && a[1].equal(b[1]) }

// Open reads the pair that a listener begins with.
func Open(o Options) (*Pair, error) {
	p := &Pair{log: o.Log, taken: o.Taken, files: o.Files, tried: statesOf(o.Files)}
	if p.log == nil {
		p.log = slog.New(slog.DiscardHandler)
	}
	if p.taken == nil {
		p.taken = func(*tls.Certificate) {}
	}
	p.last = p.tried
	c, err := read(o.Files, time.Now())
	if err != nil {
		return nil, err
	}
	p.put(c)
	return p, nil
}

// put puts c in force and returns what was before.
func (p *Pair) put(c *tls.Certificate) *tls.Certificate {
	p.taken(c)
	return p.current.Swap(c)
}

// read reads a certificate and its key, and refuses what no client would accept at the given time.
func read(files Files, at time.Time) (*tls.Certificate, error) {
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

// Config is that of a listener. Versions before TLS 1.2 are refused.
func (p *Pair) Config() *tls.Config {
	return &tls.Config{
		MinVersion:     tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return p.current.Load(), nil },
	}
}

// Certificate returns what is in force. Its Leaf is set.
func (p *Pair) Certificate() *tls.Certificate { return p.current.Load() }

// Run replaces the pair when its files change, until ctx ends.
func (p *Pair) Run(ctx context.Context) error {
	tick := time.NewTicker(Interval)
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
// first. A new pair that cannot be used is logged, once, and read again at each look: whoever closes
// the key to others, or waits for the certificate to become valid, changes nothing in the files.
func (p *Pair) look(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.last
	p.last = statesOf(p.files)
	if !equalStates(p.last, last) || p.refused == "" && equalStates(p.last, p.tried) {
		return
	}
	p.tried = p.last
	c, err := read(p.files, time.Now())
	if err != nil {
		if err.Error() != p.refused {
			p.log.ErrorContext(ctx, "the files of the TLS certificate changed and cannot be used; the old one stays in force", "err", err)
		}
		p.refused = err.Error()
		return
	}
	p.refused = ""
	if old := p.put(c); !sameChain(old, c) {
		p.log.InfoContext(ctx, "reloaded", "part", "tls", "changed", describe(c))
	}
}

// Reread reads the pair at once, perhaps from other files. Where that makes a difference it returns
// what for people, and what puts it in force.
func (p *Pair) Reread(files Files) (change string, apply func(), err error) {
	states := statesOf(files)
	c, err := read(files, time.Now())
	if err != nil {
		return "", nil, err
	}
	p.mu.Lock()
	moved := p.files != files
	p.mu.Unlock()
	if sameChain(c, p.current.Load()) && !moved {
		return "", nil, nil
	}
	return describe(c), func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.files, p.tried, p.last, p.refused = files, states, states, ""
		p.put(c)
	}, nil
}

func sameChain(a, b *tls.Certificate) bool {
	return slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func describe(c *tls.Certificate) string {
	return "the certificate, now one " + ValidUntil(c.Leaf)
}

// ValidUntil tells people which certificate c is.
func ValidUntil(c *x509.Certificate) string {
	return fmt.Sprintf("of serial number %x, valid until %s", c.SerialNumber, c.NotAfter.UTC().Format(time.RFC3339))
}
