// Package bastion makes an HTTP handler reachable through bastions, as a backend of them
// (c2sp.org/https-bastion): without a listener, an address or an open port of its own.
//
// In go a handler and a list of bastions, each with a key of its own. Out go TLS connections, on which
// the handler serves HTTP/2 to the bastion, and so to everyone who asks it for that key's hash. A
// connection that fails is made again; how each does is in Status and WriteMetrics.
//
// A bastion is no more trusted than any proxy: it can hold back, read and change what passes through
// it, so the handler must authenticate what it is sent by itself. It is believed in one thing: the
// address of the client that it names, which becomes the RemoteAddr of the request.
package bastion

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// protocol is what ALPN has to settle on.
const protocol = "bastion/0"

// A Bastion is one bastion, and our key for it.
type Bastion struct {
	Address string             // host:port at which it takes backends; ParseAddress makes it
	URL     string             // base URL at which it takes clients; empty: https://Address
	Key     ed25519.PrivateKey // ours; not the witness's own
	Roots   *x509.CertPool     // of its certificate; nil: the system's
}

// ParseAddress returns the host:port of a bastion that is written as HOST or HOST:PORT. The port is 443
// unless it is given.
func ParseAddress(s string) (string, error) {
	if strings.Contains(s, "/") {
		return "", fmt.Errorf("bastion %q is not HOST or HOST:PORT; want no scheme and no path", s)
	}
	host, port := s, "443"
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else if strings.Contains(strings.Trim(s, "[]"), ":") != strings.HasPrefix(s, "[") {
		return "", fmt.Errorf("bastion %q is not HOST or HOST:PORT: %w", s, err)
	} else {
		host = strings.Trim(s, "[]")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("bastion %q: port %q is not a number from 1 to 65535", s, port)
	}
	if host == "" || strings.ContainsFunc(host, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune(`[]@%"\`, r) }) {
		return "", fmt.Errorf("bastion %q names no host; want ASCII such as bastion.example.org", s)
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(n, 10)), nil
}

// KeyHash returns what names a backend in URLs: the SHA-256 of its public key in lower-case hex.
func KeyHash(key ed25519.PublicKey) string {
	sum := sha256.Sum256(key)
	return hex.EncodeToString(sum[:])
}

// KeyHash returns the hash of our key, which the operator of the bastion has to allow.
func (b Bastion) KeyHash() string { return KeyHash(b.Key.Public().(ed25519.PublicKey)) }

// Prefix returns the URL at which clients reach the handler through the bastion, without a slash at
// the end.
func (b Bastion) Prefix() string {
	base := b.URL
	if base == "" {
		base = "https://" + strings.TrimSuffix(b.Address, ":443")
	}
	return strings.TrimSuffix(base, "/") + "/" + b.KeyHash()
}

func (b Bastion) check() error {
	address, err := ParseAddress(b.Address)
	switch {
	case err != nil:
		return err
	case address != b.Address:
		return fmt.Errorf("bastion %q: want its address as %q", b.Address, address)
	case len(b.Key) != ed25519.PrivateKeySize:
		return fmt.Errorf("bastion %q: no Ed25519 key", b.Address)
	case b.URL == "":
		return nil
	}
	u, err := url.Parse(b.URL)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("bastion %q: its URL %q is not that of a host, such as https://bastion.example.org", b.Address, b.URL)
	}
	return nil
}

// equal reports whether a connection to b is one to o as well.
func (b Bastion) equal(o Bastion) bool {
	roots := b.Roots == nil && o.Roots == nil || b.Roots != nil && o.Roots != nil && b.Roots.Equal(o.Roots)
	return b.Address == o.Address && b.URL == o.URL && b.Key.Equal(o.Key) && roots
}

// Options configure a Client.
type Options struct {
	Handler  http.Handler // what is served; required
	Bastions []Bastion    // Set replaces them
	Log      *slog.Logger // nil: discard
	// Connected is told of each connection that a bastion has begun to use; it must not wait. Optional.
	Connected func(Status)
	// Dial makes the connection below TLS; nil: that of a net.Dialer.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// A Client keeps a connection to each of its bastions. Its methods may be called concurrently.
type Client struct {
	options Options
	changed chan struct{} // of capacity 1: Set was called

	mu    sync.Mutex // guards the field below, not what its elements point to
	links []*link    // in the order of the configuration
}

// New returns a Client, which connects when it is Run.
func New(o Options) (*Client, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Connected == nil {
		o.Connected = func(Status) {}
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	c := &Client{options: o, changed: make(chan struct{}, 1)}
	var errs []error
	if o.Handler == nil {
		errs = append(errs, errors.New("no handler"))
	}
	if err := errors.Join(append(errs, c.Set(o.Bastions))...); err != nil {
		return nil, fmt.Errorf("configuring bastions: %w", err)
	}
	return c, nil
}

// Set replaces the bastions, all or, with an error, none. Connections to those that stay as they were
// go on; those to others end once their requests are answered.
func (c *Client) Set(bastions []Bastion) error {
	var errs []error
	seen := map[string]bool{}
	for _, b := range bastions {
		if err := b.check(); err != nil {
			errs = append(errs, err)
		}
		if seen[b.Address] {
			errs = append(errs, fmt.Errorf("bastion %q is there twice", b.Address))
		}
		seen[b.Address] = true
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var links []*link
	for _, b := range bastions {
		i := slices.IndexFunc(c.links, func(l *link) bool { return l.bastion.equal(b) })
		if i >= 0 {
			links = append(links, c.links[i])
			continue
		}
		links = append(links, newLink(b, c.options))
	}
	c.links = links
	select {
	case c.changed <- struct{}{}:
	default:
	}
	return nil
}

// Run keeps the connections until ctx ends. Then it lets the requests under way finish.
func (c *Client) Run(ctx context.Context) error {
	var wait sync.WaitGroup
	defer wait.Wait()
	running := map[*link]context.CancelFunc{}
	for {
		wanted := c.current()
		for l, stop := range running {
			if !slices.Contains(wanted, l) {
				stop()
				delete(running, l)
			}
		}
		for _, l := range wanted {
			if running[l] == nil {
				lctx, stop := context.WithCancel(ctx)
				running[l] = stop
				wait.Go(func() { defer stop(); l.run(lctx) })
			}
		}
		select {
		case <-c.changed:
		case <-ctx.Done():
			return nil
		}
	}
}

func (c *Client) current() []*link {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.links)
}
