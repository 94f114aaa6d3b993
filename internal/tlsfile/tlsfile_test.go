package tlsfile_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/tlsfile"
)

// serials are those of the certificates that a test has issued.
type serials struct{ last atomic.Int64 }

// issue returns a certificate for localhost and its key, as PEM. The first has the serial number 2.
func (s *serials) issue(t *testing.T) (cert, key string) {
	t.Helper()
	return s.issueFrom(t, time.Now().Add(-time.Hour))
}

// issueFrom returns a certificate that is valid from a time on.
func (s *serials) issueFrom(t *testing.T, from time.Time) (cert, key string) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(s.last.Add(1) + 1), DNSNames: []string{"localhost"},
		NotBefore: from, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
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

// put writes a pair as cert.pem and key.pem, the certificate first as tools do.
func put(t *testing.T, dir, cert, key string) tlsfile.Files {
	t.Helper()
	files := tlsfile.Files{Certificate: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	write(t, files.Certificate, cert)
	write(t, files.Key, key)
	return files
}

// written counts the files that were written.
var written atomic.Int64

// write writes a file at a second of its own: on some systems a file may be written twice at what they take
// for one time, and certificates may be of one length.
func write(t *testing.T, path, text string) {
	t.Helper()
	at := time.Unix(1_800_000_000+written.Add(1), 0)
	if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
		t.Fatal(err)
	}
}

// logText is what was logged.
type logText struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// take returns what was logged since it was called last.
func (l *logText) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

// TestPairFollowsItsFiles replaces the files one after the other, and by some that cannot be used.
func TestPairFollowsItsFiles(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, logged, ca := t.TempDir(), &logText{}, &serials{}
		cert, key := ca.issue(t)
		files := put(t, dir, cert, key)
		p, err := tlsfile.Open(tlsfile.Options{Files: files, Log: slog.New(slog.NewTextHandler(logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		serial := func() int64 {
			time.Sleep(3*tlsfile.Interval + time.Second) // never at the moment of a look
			return p.Certificate().Leaf.SerialNumber.Int64()
		}
		if got := serial(); got != 2 || logged.take() != "" {
			t.Errorf("serves %d", got)
		}

		cert, key = ca.issue(t)
		write(t, files.Certificate, cert)
		time.Sleep(tlsfile.Interval + time.Second) // a look between the two files
		if got := p.Certificate().Leaf.SerialNumber.Int64(); got != 2 {
			t.Errorf("serves %d while one file of two is new", got)
		}
		put(t, dir, cert, key)
		if got := serial(); got != 3 {
			t.Errorf("serves %d after both files are new", got)
		}
		if text := logged.take(); !strings.Contains(text, "reloaded") || strings.Contains(text, "cannot be used") {
			t.Errorf("logged %q", text)
		}

		broken, _ := ca.issue(t)
		write(t, files.Certificate, broken)
		if got := serial(); got != 3 {
			t.Errorf("serves %d though the new one has no key", got)
		}
		if text := logged.take(); strings.Count(text, "the old one stays in force") != 1 {
			t.Errorf("logged %q; want one refusal", text)
		}
		if err := os.Remove(files.Key); err != nil {
			t.Fatal(err)
		}
		if got := serial(); got != 3 {
			t.Errorf("serves %d without a file", got)
		}
		cert, key = ca.issue(t)
		put(t, dir, cert, key)
		if got := serial(); got != 5 {
			t.Errorf("serves %d after the files are there again", got)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// TestPairIsReadUntilItCanBeUsed has a pair refused for what no later change of its files mends: the
// mode of the key, and the time.
func TestPairIsReadUntilItCanBeUsed(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		dir, logged, ca := t.TempDir(), &logText{}, &serials{}
		cert, key := ca.issue(t)
		files := put(t, dir, cert, key)
		p, err := tlsfile.Open(tlsfile.Options{Files: files, Log: slog.New(slog.NewTextHandler(logged, nil))})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- p.Run(ctx) }()
		looks := func(what string, serial int64, said string, refusals int) {
			t.Helper()
			time.Sleep(4*tlsfile.Interval + time.Second)
			if got := p.Certificate().Leaf.SerialNumber.Int64(); got != serial {
				t.Errorf("%s: serves %d, want %d", what, got, serial)
			}
			if text := logged.take(); strings.Count(text, "the old one stays in force") != refusals || !strings.Contains(text, said) {
				t.Errorf("%s: logged %q; want %d refusals and %q", what, text, refusals, said)
			}
		}
		chmod := func(mode os.FileMode) {
			if err := os.Chmod(files.Key, mode); err != nil {
				t.Fatal(err)
			}
		}

		chmod(0o644)
		cert, key = ca.issue(t)
		put(t, dir, cert, key)
		looks("key open to others", 2, "chmod 600", 1)
		chmod(0o600)
		looks("key closed to others", 3, "reloaded", 0)

		cert, key = ca.issueFrom(t, time.Now().Add(time.Minute))
		put(t, dir, cert, key)
		looks("certificate of the future", 3, "is valid from", 1)
		time.Sleep(time.Minute)
		looks("its time has come", 4, "reloaded", 0)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
