package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A privateCA issues certificates that only those trust who are told its file.
type privateCA struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
	next int64
}

func newPrivateCA(t *testing.T, dir string) *privateCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "private authority"}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &privateCA{cert: cert, key: key, next: 2,
		file: writeFile(t, dir, "ca.pem", string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))}
}

// pool holds the CA alone.
func (ca *privateCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.cert)
	return pool
}

// renew writes a new certificate for this machine and its key to dir, as certificate clients do.
func (ca *privateCA) renew(t *testing.T, dir string) (serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial = ca.next
	ca.next++
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{"tls.pem": {Type: "CERTIFICATE", Bytes: der}, "tls-key.pem": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path+".new", pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	return serial
}

// TestTLS moves a whole stack to https with a certificate of an authority that nobody knows but
// through SSL_CERT_FILE: its own parts, which ask each other at its public URL, and clients.
func TestTLS(t *testing.T) {
	work := t.TempDir()
	data := filepath.Join(work, "data")
	ca := newPrivateCA(t, work)
	plain := up(t, data)
	plain.stop(t)
	for _, name := range []string{"config.yaml", "issuers.yaml", "monitor.yaml", "client/policy.txt"} {
		text := readFile(t, data, name)
		writeFile(t, data, name, strings.ReplaceAll(text, "http://", "https://"))
	}
	writeFile(t, data, "config.yaml", readFile(t, data, "config.yaml")+"tls: {certificate: tls.pem, key: tls-key.pem}\n")

	// Without its files it says what is missing, before anything is served.
	if out, code := command(t, work, "tallywood", "config", "check", filepath.Join(data, "config.yaml")); code != 2 || !strings.Contains(out, "opening tls: reading certificate: ") {
		t.Errorf("without a certificate: %d %s", code, out)
	}
	ca.renew(t, data)
	must(t, work, "tallywood", "config", "check", filepath.Join(data, "config.yaml"))

	t.Setenv("SSL_CERT_FILE", ca.file)
	s := readStack(t, start(t, 2, "tallywood", "up", "--data", data), data)
	if want := strings.Replace(plain.url, "http://", "https://", 1); s.url != want {
		t.Fatalf("it is at %s; want %s", s.url, want)
	}
	trusting := fmt.Sprintf("SSL_CERT_FILE=%s; export SSL_CERT_FILE; ", ca.file)
	out := shell(t, work, trusting+s.sign) + shell(t, work, s.verify)
	if !strings.Contains(out, "verified: signed by you@example.com") {
		t.Errorf("the pasted commands printed:\n%s", out)
	}
	if out := shell(t, work, s.sign+" && exit 1 || true"); !strings.Contains(out, "certificate") {
		t.Errorf("a client that does not know the authority printed:\n%s", out)
	}
	renewUnderLoad(t, ca, s, data)
}

// renewUnderLoad replaces the certificate again and again, while clients connect all the time.
func renewUnderLoad(t *testing.T, ca *privateCA, s *stack, data string) {
	t.Helper()
	var clients sync.WaitGroup
	var mu sync.Mutex
	seen := map[int64]int{}
	end := make(chan struct{})
	for i := range 4 {
		clients.Go(func() {
			// Some have a new connection for each request, others keep theirs.
			client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool()}, DisableKeepAlives: i%2 == 0, ForceAttemptHTTP2: true}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-end:
					return
				default:
				}
				resp, err := client.Get(s.url + "/checkpoint")
				if err != nil {
					t.Errorf("a request failed: %v", err)
					return
				}
				resp.Body.Close()
				mu.Lock()
				seen[resp.TLS.PeerCertificates[0].SerialNumber.Int64()]++
				mu.Unlock()
				if resp.StatusCode != http.StatusOK || resp.TLS.Version < tls.VersionTLS12 {
					t.Errorf("%s, TLS version %x", resp.Status, resp.TLS.Version)
				}
			}
		})
	}
	for range 5 {
		serial := ca.renew(t, data)
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the new certificate", func() bool {
			mu.Lock()
			defer mu.Unlock()
			return seen[serial] > 0
		})
	}
	// Without a signal the files are looked at, too.
	serial := ca.renew(t, data)
	patiently(t, "the certificate to be taken without a signal", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return seen[serial] > 0
	})
	close(end)
	clients.Wait()
}
