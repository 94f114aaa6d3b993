package stack_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

// A webCA issues certificates for listeners.
type webCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	next int64
}

func newWebCA(t *testing.T) *webCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &webCA{cert: cert, key: key, next: 2}
}

// pool holds the CA alone.
func (ca *webCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// issue returns a certificate for this machine, changed by change, and its key, as PEM. The key is of
// the older form that some tools write.
func (ca *webCA) issue(t *testing.T, change func(*x509.Certificate)) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(ca.next), Subject: pkix.Name{CommonName: "here"},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	ca.next++
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, k.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: sec1}))
}

// putPair writes a pair as cert.pem and key.pem, the certificate first as tools do.
func putPair(t *testing.T, dir, cert, key string) config.TLS {
	t.Helper()
	files := config.TLS{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for path, text := range map[string]string{files.Certificate: cert, files.Key: key} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return files
}

// useTLS makes the stack of dir speak TLS with cert.pem and key.pem there.
func useTLS(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, "config.yaml")
	edit(t, path, "\nurl: http://", "\nurl: https://")
	write(t, path, read(t, path)+"tls: {certificate: cert.pem, key: file:key.pem}\n")
}

func TestTLSRefusesAPairThatNoClientTakes(t *testing.T) {
	t.Parallel()
	ca := newWebCA(t)
	good, key := ca.issue(t, nil)
	_, other := ca.issue(t, nil)
	changed := func(change func(*x509.Certificate)) [2]string {
		cert, key := ca.issue(t, change)
		return [2]string{cert, key}
	}
	for name, c := range map[string]struct {
		pair [2]string
		want string
	}{
		"another's key":  {[2]string{good, other}, "does not match"},
		"no certificate": {[2]string{"none", key}, "cert.pem"},
		"no key":         {[2]string{good, "none"}, "key.pem"},
		"expired":        {changed(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), "expired at"},
		"not valid yet":  {changed(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), "is valid from"},
		"not a server's": {changed(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), "serverAuth"},
		"without a name": {changed(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, nil }), "subjectAltName"},
	} {
		dir, _ := create(t)
		putPair(t, dir, c.pair[0], c.pair[1])
		useTLS(t, dir)
		cfg := load(t, dir)
		if err := stack.Check(cfg); err == nil || !strings.Contains(err.Error(), "opening tls: ") || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v; want %q in it", name, err, c.want)
		}
		if s, err := stack.Open(t.Context(), stack.Options{Config: cfg}); err == nil {
			t.Errorf("%s: it was opened", name)
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	dir, _ := create(t)
	files := putPair(t, dir, good, key)
	if err := os.Chmod(files.Key, 0o644); err != nil {
		t.Fatal(err)
	}
	useTLS(t, dir)
	if err := stack.Check(load(t, dir)); err == nil || !strings.Contains(err.Error(), "0600") {
		t.Errorf("a key that all can read: %v", err)
	}
}

// serveTLS runs the stack of a new directory with TLS and returns both, and its address.
func serveTLS(t *testing.T, ca *webCA) (dir, address string, s *stack.Stack) {
	t.Helper()
	dir, _ = create(t)
	cert, key := ca.issue(t, nil)
	putPair(t, dir, cert, key)
	useTLS(t, dir)
	path := filepath.Join(dir, "client", "policy.txt")
	var lines []string // its witnesses are not those of this test
	for line := range strings.Lines(read(t, path)) {
		if strings.HasPrefix(line, "log ") {
			lines = append(lines, line)
		}
	}
	write(t, path, strings.Join(lines, "")+"quorum none\n")
	s, _ = reloadable(t, dir)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, ln, nil, func() {}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("running: %v", err)
		}
	})
	return dir, ln.Addr().String(), s
}

func TestTLSListener(t *testing.T) {
	ca := newWebCA(t)
	dir, address, s := serveTLS(t, ca)
	serial := func(versions ...uint16) (int64, string, error) {
		c := &tls.Config{RootCAs: ca.pool(), NextProtos: []string{"h2", "http/1.1"}}
		if len(versions) > 0 {
			c.MinVersion, c.MaxVersion = tls.VersionTLS10, versions[0]
		}
		conn, err := tls.Dial("tcp", address, c)
		if err != nil {
			return 0, "", err
		}
		defer conn.Close()
		state := conn.ConnectionState()
		return state.PeerCertificates[0].SerialNumber.Int64(), state.NegotiatedProtocol, nil
	}
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		if got, proto, err := serial(version); err != nil || got != 2 || proto != "h2" {
			t.Errorf("%s: certificate %d, %q, %v", tls.VersionName(version), got, proto, err)
		}
	}
	for _, version := range []uint16{tls.VersionTLS10, tls.VersionTLS11} {
		if _, _, err := serial(version); err == nil {
			t.Errorf("%s was taken", tls.VersionName(version))
		}
	}
	for _, h2 := range []bool{true, false} {
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool()}, ForceAttemptHTTP2: h2}}
		resp, err := client.Get("https://" + address + "/healthz")
		if err != nil {
			t.Fatal(err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		client.CloseIdleConnections()
		if err != nil || resp.StatusCode != 200 || (resp.ProtoMajor == 2) != h2 {
			t.Errorf("HTTP/2 %v: %s %s %v", h2, resp.Proto, resp.Status, err)
		}
	}

	// What is on disk is in force after a reload, unless it cannot be used.
	cert, key := ca.issue(t, nil)
	putPair(t, dir, cert, key)
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if got, _, err := serial(); err != nil || got != 3 {
		t.Errorf("after a reload: certificate %d, %v", got, err)
	}
	_, other := ca.issue(t, nil)
	putPair(t, dir, cert, other)
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "reloading tls: ") {
		t.Errorf("a key of another certificate: %v", err)
	}
	if got, _, err := serial(); err != nil || got != 3 {
		t.Errorf("after a refused reload: certificate %d, %v", got, err)
	}

	// Other names for the files are one, too; no TLS any more is not.
	cert, key = ca.issue(t, nil)
	write(t, filepath.Join(dir, "new-cert.pem"), cert)
	if err := os.WriteFile(filepath.Join(dir, "new-key.pem"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, filepath.Join(dir, "config.yaml"), "certificate: cert.pem, key: file:key.pem", "certificate: new-cert.pem, key: new-key.pem")
	if err := s.Reload(t.Context()); err != nil {
		t.Error(err)
	}
	if got, _, err := serial(); err != nil || got != 5 {
		t.Errorf("after a reload with other files: certificate %d, %v", got, err)
	}
	path := filepath.Join(dir, "config.yaml")
	edit(t, path, "tls: {certificate: new-cert.pem, key: new-key.pem}\n", "")
	if err := s.Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "a restart is needed to begin with TLS, or to end it") {
		t.Errorf("TLS taken away: %v", err)
	}
}
