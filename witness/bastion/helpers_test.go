package bastion_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	server "filippo.io/torchwood/bastion"

	"tallywood/internal/loopback"
	"tallywood/witness/bastion"
)

// deadline bounds what happens at once on an idle machine.
const deadline = time.Minute

// certificate makes a certificate of this machine, and the pool that trusts it.
func certificate(t testing.TB) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "bastion"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// newKey returns a key that follows from a label.
func newKey(label string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(label))
	return ed25519.NewKeyFromSeed(seed[:])
}

// A host is a bastion of torchwood's on loopback, which may be stopped and started again.
type host struct {
	address string
	cert    tls.Certificate
	pool    *x509.CertPool
	bastion *server.Bastion

	mu      sync.Mutex
	allowed map[string]bool // key hashes
	taken   map[string]bool // likewise, of whom the bastion that runs has a connection
	http    *http.Server
	served  chan struct{}
}

func startHost(t *testing.T, keys ...ed25519.PrivateKey) *host {
	t.Helper()
	h := &host{address: loopback.Address(t), allowed: map[string]bool{}}
	h.cert, h.pool = certificate(t)
	for _, k := range keys {
		h.allow(k, true)
	}
	h.start(t)
	t.Cleanup(h.stop)
	return h
}

func (h *host) allow(key ed25519.PrivateKey, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.allowed[bastion.KeyHash(key.Public().(ed25519.PublicKey))] = ok
}

// start listens, always at the same address.
func (h *host) start(t *testing.T) {
	t.Helper()
	var ln net.Listener
	var err error
	for end := time.Now().Add(deadline); ; time.Sleep(20 * time.Millisecond) {
		if ln, err = net.Listen("tcp", h.address); err == nil {
			break
		}
		if time.Now().After(end) {
			t.Fatal(err)
		}
	}
	h.mu.Lock()
	h.taken = map[string]bool{}
	h.mu.Unlock()
	h.bastion, err = server.New(&server.Config{
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &h.cert, nil },
		AllowedBackend: func(hash [sha256.Size]byte) bool {
			h.mu.Lock()
			defer h.mu.Unlock()
			return h.allowed[hex.EncodeToString(hash[:])]
		},
		Log: slog.New(takings{h: h}),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{
		Handler: h.bastion, TLSConfig: &tls.Config{Certificates: []tls.Certificate{h.cert}},
		ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
	}
	if err := h.bastion.ConfigureServer(srv); err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); _ = srv.ServeTLS(ln, "", "") }()
	h.http, h.served = srv, served
}

// takings is the log of a host, which notes whom it says that it has taken.
type takings struct {
	slog.Handler
	h    *host
	hash string
}

func (l takings) Enabled(context.Context, slog.Level) bool { return true }

func (l takings) WithAttrs(attrs []slog.Attr) slog.Handler {
	for _, a := range attrs {
		if a.Key == "backend" {
			l.hash = a.Value.String()
		}
	}
	return l
}

func (l takings) Handle(_ context.Context, r slog.Record) error {
	if r.Message == "accepted new backend connection" {
		l.h.mu.Lock()
		defer l.h.mu.Unlock()
		l.h.taken[l.hash] = true
	}
	return nil
}

// reached waits until the bastion passes requests on to the backend of key. That is a little after it uses
// the connection: first it sends a ping, and waits for the answer.
func (h *host) reached(t *testing.T, key ed25519.PrivateKey) {
	t.Helper()
	hash := bastion.KeyHash(key.Public().(ed25519.PublicKey))
	for end := time.Now().Add(deadline); ; time.Sleep(5 * time.Millisecond) {
		h.mu.Lock()
		taken := h.taken[hash]
		h.mu.Unlock()
		if taken {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s has not taken %s", h.address, hash)
		}
	}
}

// stop cuts off every connection, as a crash does.
func (h *host) stop() {
	_ = h.http.Close()
	<-h.served
}

func (h *host) entry(key ed25519.PrivateKey) bastion.Bastion {
	return bastion.Bastion{Address: h.address, Key: key, Roots: h.pool}
}

// do sends a request through the bastion, from 127.0.0.1.
func (h *host) do(t *testing.T, method string, key ed25519.PrivateKey, path, body string) (status int, answer string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: h.pool}}, Timeout: deadline}
	defer client.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), method, h.entry(key).Prefix()+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(data)
}

// run runs a client until the test ends or stop is called, which waits for its end.
func run(t *testing.T, h http.Handler, bastions ...bastion.Bastion) (c *bastion.Client, stop func()) {
	t.Helper()
	c, err := bastion.New(bastion.Options{Handler: h, Bastions: bastions, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	t.Cleanup(stop)
	return c, stop
}

// await waits until the bastion of an address is as done wants it.
func await(t *testing.T, c *bastion.Client, address string, done func(bastion.Status) bool) bastion.Status {
	t.Helper()
	for end := time.Now().Add(deadline); ; time.Sleep(10 * time.Millisecond) {
		for _, s := range c.Status() {
			if s.Address == address && done(s) {
				return s
			}
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not as it should be: %+v", address, c.Status())
		}
	}
}

func up(s bastion.Status) bool { return s.Up }
