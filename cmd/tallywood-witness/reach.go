package main

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/httpx"
	"tallywood/internal/keys"
	"tallywood/internal/tlsfile"
	"tallywood/witness"
	"tallywood/witness/bastion"
)

// tlsConfig is the listener's certificate.
type tlsConfig struct {
	Certificate string `yaml:"certificate"` // PEM file with the server's certificate first, like --tls-cert
	Key         string `yaml:"key"`         // PEM file with its private key, like --tls-key
}

// bastionConfig is a bastion (c2sp.org/https-bastion), like --bastion.
type bastionConfig struct {
	Address string `yaml:"address"`       // HOST or HOST:PORT where it takes backends; port 443 by default
	URL     string `yaml:"url,omitempty"` // base URL where it takes clients; default https://ADDRESS
	Key     string `yaml:"key,omitempty"` // PKCS#8 PEM file of our key for it, made at the first start; default bastions/HOST_PORT.pem
	CA      string `yaml:"ca,omitempty"`  // PEM file of the authority of its certificate; default: the system's
}

// An address is one to listen on, or none, with the name under which it was given.
type address struct{ name, text string }

// checkAddresses checks the form of addresses.
func checkAddresses(all ...address) error {
	var errs []error
	for _, a := range all {
		if a.text == "" {
			continue
		}
		_, port, err := net.SplitHostPort(a.text)
		if err == nil {
			_, err = net.LookupPort("tcp", port)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %q is not HOST:PORT, such as 127.0.0.1:7380", a.name, a.text))
		}
	}
	return errors.Join(errs...)
}

// checkReach checks what says how the witness is reached. Without a listener and without a bastion
// there must be flags that give one.
func (c config) checkReach() error {
	errs := []error{checkAddresses(address{"listen", c.Listen}, address{"metrics_address", c.Metrics})}
	if c.TLS != nil && (c.TLS.Certificate == "" || c.TLS.Key == "") {
		errs = append(errs, errors.New("tls: want a certificate and a key"))
	}
	seen := map[string]bool{}
	for _, b := range c.Bastions {
		address, err := bastion.ParseAddress(b.Address)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("bastions: %w", err))
		case seen[address]:
			errs = append(errs, fmt.Errorf("bastions: %s is there twice", address))
		}
		seen[address] = true
	}
	return errors.Join(errs...)
}

// openReach opens what serve is reached by: the listener's certificate and the bastions.
func (s *service) openReach(f *serveFlags) error {
	c := s.config
	if f.listen == "" {
		f.listen = c.Listen
	}
	if f.metrics == "" {
		f.metrics = c.Metrics
	}
	s.dir, s.flags = f.dir, *f
	if f.listen == "" && len(f.bastions)+len(c.Bastions) == 0 {
		return usageError("for example: tallywood-witness serve --dir ./witness --listen 127.0.0.1:7380", "serve needs an address: --listen or --bastion, or listen or bastions in %s", configFile)
	}
	if err := s.openTLS(f); err != nil {
		return err
	}
	all, err := s.openBastions(c, f.bastions)
	if err != nil {
		return err
	}
	s.connected = make(chan string, 1)
	s.bastions, err = bastion.New(bastion.Options{Handler: s.witness.Handler(), Bastions: all, Log: s.log, Connected: func(b bastion.Status) {
		select {
		case s.connected <- b.Prefix:
		default:
		}
	}})
	if err != nil {
		return usageError("", "%w", err)
	}
	return nil
}

func (s *service) openTLS(f *serveFlags) error {
	files := tlsfile.Files{Certificate: f.tlsCert, Key: f.tlsKey}
	if files == (tlsfile.Files{}) && s.config.TLS != nil {
		files = tlsfile.Files{Certificate: within(f.dir, s.config.TLS.Certificate), Key: within(f.dir, s.config.TLS.Key)}
	}
	switch {
	case files == (tlsfile.Files{}):
		return nil
	case files.Certificate == "" || files.Key == "":
		return usageError("", "--tls-cert and --tls-key go together")
	case f.listen == "":
		return usageError("", "there is a certificate for a listener, and no listener; give its address with --listen or listen in %s", configFile)
	}
	var err error
	if s.pair, err = tlsfile.Open(tlsfile.Options{Files: files, Log: s.log}); err != nil {
		return usageError("", "opening the listener's certificate: %w", err)
	}
	return nil
}

// openBastions opens the bastions of the configuration and those of flags.
func (s *service) openBastions(c config, flags []string) ([]bastion.Bastion, error) {
	configured := c.Bastions
	for _, address := range flags {
		configured = append(configured, bastionConfig{Address: address})
	}
	var all []bastion.Bastion
	var errs []error
	for _, b := range configured {
		opened, err := openBastion(s.dir, b, s.log)
		if err == nil && s.keys.Ed25519 != nil && opened.Key.Public().(ed25519.PublicKey).Equal(s.keys.Ed25519.Public()) {
			err = errors.New("its key is the witness's own; want another one")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("opening bastion %q: %w", b.Address, err))
			continue
		}
		all = append(all, opened)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, usageError("", "%w", err)
	}
	return all, nil
}

// openBastion reads our key for a bastion, which it makes if there is none yet.
func openBastion(dir string, c bastionConfig, log *slog.Logger) (b bastion.Bastion, err error) {
	if b.Address, err = bastion.ParseAddress(c.Address); err != nil {
		return b, err
	}
	b.URL = c.URL
	path := within(dir, c.Key)
	if c.Key == "" {
		path = bastionKeyPath(dir, b.Address)
	}
	if b.Key, err = readBastionKey(path, log); err != nil {
		return b, err
	}
	if c.CA != "" {
		chain, err := keys.ReadChain(within(dir, c.CA))
		if err != nil {
			return b, fmt.Errorf("reading ca: %w", err)
		}
		b.Roots = x509.NewCertPool()
		for _, cert := range chain {
			b.Roots.AddCert(cert)
		}
	}
	return b, nil
}

// bastionKeyPath is where the key for a bastion is if the configuration does not say it.
func bastionKeyPath(dir, address string) string {
	host, port, _ := net.SplitHostPort(address) // ParseAddress made it
	return filepath.Join(dir, "bastions", strings.ReplaceAll(host, ":", "_")+"_"+port+".pem")
}

// readBastionKey reads the key at path, or makes one there.
func readBastionKey(path string, log *slog.Logger) (ed25519.PrivateKey, error) {
	signer, err := keys.ReadSigner(path)
	if errors.Is(err, fs.ErrNotExist) {
		if signer, err = makeBastionKey(path); err == nil {
			log.Info("key for a bastion made; the bastion's operator must allow its hash", "key", path)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("reading key: %w", err)
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("key %s is a %T; a bastion wants Ed25519", path, signer)
	}
	return key, nil
}

func makeBastionKey(path string) (crypto.Signer, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	return key, keys.WriteSigner(path, key)
}

// serveReach has g serve on listener, if it is not nil, and through the bastions, and prints once where
// clients may begin.
func (s *service) serveReach(ctx context.Context, g *errgroup.Group, listener net.Listener, stdout io.Writer) {
	if s.bastions != nil {
		g.Go(func() error { return s.bastions.Run(ctx) })
	}
	if listener == nil {
		g.Go(func() error {
			select {
			case url := <-s.connected:
				fmt.Fprintf(stdout, "ready %s\n", url)
			case <-ctx.Done():
			}
			return nil
		})
		return
	}
	scheme, o := "http", httpx.ServeOptions{Log: s.log, Conns: httpx.ConnLimits{Exempt: localNetworks()}}
	if s.pair != nil {
		scheme, o.TLS = "https", s.pair.Config()
		g.Go(func() error { return s.pair.Run(ctx) })
	}
	g.Go(func() error { return httpx.Serve(ctx, listener, s.withHealth(s.witness.Handler()), o) })
	fmt.Fprintf(stdout, "ready %s://%s\n", scheme, listener.Addr())
}

// localNetworks are where a proxy before the witness is, which has the connections of all its clients.
func localNetworks() httpx.Networks {
	var all httpx.Networks
	for _, s := range []string{"127.0.0.0/8", "::1/128", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "fc00::/7", "fe80::/10"} {
		all = append(all, netip.MustParsePrefix(s))
	}
	return all
}

// rereadBastions takes on the bastions that the configuration has now. What is wrong with it is logged,
// and changes nothing.
func (s *service) rereadBastions() {
	if s.bastions == nil {
		return
	}
	c, err := readConfig(s.dir)
	var all []bastion.Bastion
	if err == nil {
		all, err = s.openBastions(c, s.flags.bastions)
	}
	if err == nil && len(all) == 0 && s.flags.listen == "" {
		err = errors.New("without a bastion and without a listener the witness could not be reached")
	}
	if err == nil {
		err = s.bastions.Set(all)
	}
	if err != nil {
		s.log.Error("reading the bastions again", "err", err)
		return
	}
	s.log.Info("bastions read again", "size", len(all))
}

// reaches are the bastions, for the status page.
func (s *service) reaches() []witness.Reach {
	if s.bastions == nil {
		return nil
	}
	var out []witness.Reach
	for _, b := range s.bastions.Status() {
		out = append(out, witness.Reach{Bastion: b.Address, URL: b.Prefix, Up: b.Up, Since: b.Since})
	}
	return out
}
