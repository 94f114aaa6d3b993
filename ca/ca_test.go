package ca_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"

	"tallywood/ca"
	"tallywood/ca/oidc"
	"tallywood/log/ctentry"
)

var testNow = time.Date(2026, 11, 24, 12, 0, 0, 987654321, time.UTC)

func fixedNow() time.Time { return testNow }

// memoryLog is a certificate log that keeps entries in memory and signs real SCTs for them.
type memoryLog struct {
	key *ecdsa.PrivateKey
	err error // what to answer instead

	mu      sync.Mutex
	entries []ctentry.Entry
	chains  [][][]byte
}

func newMemoryLog(t testing.TB) *memoryLog {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &memoryLog{key: key}
}

func (l *memoryLog) AddPreChain(_ context.Context, chain [][]byte) ([]byte, error) {
	if l.err != nil {
		return nil, l.err
	}
	tbs, err := ctentry.TBS(chain[0])
	if err != nil {
		return nil, err
	}
	if tbs, err = ctentry.RemoveExtension(tbs, ctentry.OIDPoison); err != nil {
		return nil, err
	}
	issuer, err := x509.ParseCertificate(chain[1])
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	extensions, err := ctentry.MarshalExtensions(int64(len(l.entries)))
	if err != nil {
		return nil, err
	}
	e := ctentry.Entry{
		Timestamp: testNow.UnixMilli(), Precert: true, Certificate: tbs, UnverifiedPrecertificate: chain[0],
		IssuerKeyHash: sha256.Sum256(issuer.RawSubjectPublicKeyInfo), Extensions: extensions,
	}
	leaf, err := e.MerkleTreeLeaf()
	if err != nil {
		return nil, err
	}
	id, err := ctentry.LogID(l.key.Public())
	if err != nil {
		return nil, err
	}
	digest := sha256.Sum256(leaf) // the SCT's input is byte for byte the leaf
	signature, err := l.key.Sign(rand.Reader, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	l.entries, l.chains = append(l.entries, e), append(l.chains, chain)
	return ctentry.SCT{
		LogID: id, Timestamp: e.Timestamp, Extensions: extensions,
		Hash: 4, Algorithm: 3, Signature: signature,
	}.Marshal()
}

func newCA(t testing.TB, log ca.CTLog) (*ca.CA, []*x509.Certificate) {
	t.Helper()
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example", Now: testNow.Add(-time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.New(ca.Options{Chain: chain, Signer: signer, CTLog: log, NoCT: log == nil, Now: fixedNow})
	if err != nil {
		t.Fatal(err)
	}
	return c, chain
}

var alice = oidc.Identity{
	Issuer: "https://accounts.example.com", Subject: "1234", Type: oidc.TypeEmail,
	SAN: oidc.SAN{Kind: oidc.SANEmail, Value: "alice@example.com"},
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestNoCertificateLeavesWithoutItsLog(t *testing.T) {
	log := newMemoryLog(t)
	c, _ := newCA(t, log)
	log.err = errors.New("disk full")
	_, err := c.Issue(t.Context(), p256(t).Public(), alice)
	if !errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("a log that does not answer: %v, want ErrUnavailable", err)
	}
	log.err = fmt.Errorf("writing entry: %w", &net.OpError{Op: "dial", Err: errors.New("connection refused")})
	if _, err = c.Issue(t.Context(), p256(t).Public(), alice); !errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("a log whose store does not answer: %v, want ErrUnavailable", err)
	}
	log.err = finalError{}
	if _, err = c.Issue(t.Context(), p256(t).Public(), alice); err == nil || errors.Is(err, ca.ErrUnavailable) {
		t.Fatalf("a log that refuses for good: %v, want another error than ErrUnavailable", err)
	}
}

type finalError struct{}

func (finalError) Error() string   { return "root not accepted" }
func (finalError) Temporary() bool { return false }

// garbageLog answers something that is no SCT.
type garbageLog []byte

func (g garbageLog) AddPreChain(context.Context, [][]byte) ([]byte, error) { return g, nil }

func TestGarbageInsteadOfAnSCTIsNotEmbedded(t *testing.T) {
	for _, sct := range [][]byte{nil, {0}, make([]byte, 10), bytes.Repeat([]byte{1}, 60), make([]byte, 1<<16)} {
		c, _ := newCA(t, garbageLog(sct))
		if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err == nil {
			t.Errorf("an SCT of %d bytes was embedded", len(sct))
		}
	}
}

// flippingSigner returns signatures with one bit wrong, as broken hardware might.
type flippingSigner struct{ crypto.Signer }

func (f flippingSigner) Sign(r io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	sig, err := f.Signer.Sign(r, digest, opts)
	if err == nil {
		sig[len(sig)-1] ^= 1
	}
	return sig, err
}

func TestWrongSignatureNeverLeaves(t *testing.T) {
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := ca.New(ca.Options{Chain: chain, Signer: flippingSigner{signer}, NoCT: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err == nil {
		t.Error("a certificate with a wrong signature was issued")
	}
}

// failingSigner is a key elsewhere that cannot be reached.
type failingSigner struct{ crypto.Signer }

func (failingSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no answer in time")
}

func TestAKeyOutOfReachIsNamed(t *testing.T) {
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	for _, log := range []ca.CTLog{nil, newMemoryLog(t)} {
		c, err := ca.New(ca.Options{Chain: chain, Signer: failingSigner{signer}, CTLog: log, NoCT: log == nil})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Issue(t.Context(), p256(t).Public(), alice); !errors.Is(err, ca.ErrKey) || errors.Is(err, ca.ErrUnavailable) {
			t.Errorf("got %v; want ErrKey", err)
		}
	}
}

func TestCTIsNeverSwitchedOffSilently(t *testing.T) {
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ca.New(ca.Options{Chain: chain, Signer: signer}); err == nil {
		t.Error("neither log nor NoCT: accepted")
	}
	if _, err := ca.New(ca.Options{Chain: chain, Signer: signer, NoCT: true, CTLog: newMemoryLog(t)}); err == nil {
		t.Error("both log and NoCT: accepted")
	}
}

func TestCertificateEndsWithItsIssuer(t *testing.T) {
	chain, signer, err := ca.CreateChain(ca.ChainOptions{Organization: "Example", Now: testNow, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	now := testNow
	c, err := ca.New(ca.Options{Chain: chain, Signer: signer, NoCT: true, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	now = testNow.Add(55 * time.Minute)
	issued, err := c.Issue(t.Context(), p256(t).Public(), alice)
	if err != nil {
		t.Fatal(err)
	}
	if !issued.NotAfter.Equal(chain[0].NotAfter) {
		t.Errorf("NotAfter %s, the issuer's is %s", issued.NotAfter, chain[0].NotAfter)
	}
	for _, at := range []time.Duration{time.Hour, -time.Minute} {
		now = testNow.Add(at)
		if _, err := c.Issue(t.Context(), p256(t).Public(), alice); err == nil {
			t.Errorf("issued %s after the chain's start", at)
		}
	}
}

func TestIdentityWithoutWhatItMustHaveIsRefused(t *testing.T) {
	c, _ := newCA(t, newMemoryLog(t))
	for name, spoil := range map[string]func(*oidc.Identity){
		"no issuer":           func(id *oidc.Identity) { id.Issuer = "" },
		"no subject":          func(id *oidc.Identity) { id.Subject = "" },
		"no SAN":              func(id *oidc.Identity) { id.SAN.Value = "" },
		"unknown SAN":         func(id *oidc.Identity) { id.SAN.Kind = 99 },
		"SAN not ASCII":       func(id *oidc.Identity) { id.SAN.Value = "alicé@example.com" },
		"extension of issuer": func(id *oidc.Identity) { id.Extensions = map[int]string{8: "https://evil.example"} },
		"extension 7":         func(id *oidc.Identity) { id.Extensions = map[int]string{7: "x"} },
		"extension 25":        func(id *oidc.Identity) { id.Extensions = map[int]string{25: "x"} },
	} {
		id := alice
		spoil(&id)
		if _, err := c.Issue(t.Context(), p256(t).Public(), id); err == nil {
			t.Errorf("%s: issued", name)
		}
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	rsaKey := func(n *big.Int, e int) *rsa.PublicKey { return &rsa.PublicKey{N: n, E: e} }
	bits := func(n uint) *big.Int { // an odd number of n bits without meaning
		return new(big.Int).SetBit(new(big.Int).Lsh(big.NewInt(3), n-2), 0, 1)
	}
	good, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	p := good.Primes[0]
	next := new(big.Int).Add(p, big.NewInt(2))
	for !next.ProbablyPrime(10) {
		next.Add(next, big.NewInt(2))
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, pub := range map[string]crypto.PublicKey{
		"RSA 1024":      rsaKey(bits(1024), 65537),
		"RSA 8192":      rsaKey(bits(8192), 65537),
		"RSA 2049":      rsaKey(bits(2049), 65537),
		"exponent 3":    rsaKey(good.N, 3),
		"small factor":  rsaKey(new(big.Int).Mul(big.NewInt(751), bits(2038)), 65537),
		"close factors": rsaKey(new(big.Int).Mul(p, next), 65537),
		"equal factors": rsaKey(new(big.Int).Mul(p, p), 65537),
		"ROCA":          rsaKey(rocaModulus(t), 65537),
		"P-224":         p224.Public(),
		"not a key":     "key",
	} {
		var k *ca.KeyError
		if err := ca.CheckKey(pub); !errors.As(err, &k) {
			t.Errorf("%s: %v, want a KeyError", name, err)
		}
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []crypto.PublicKey{good.Public(), p256(t).Public(), ed} {
		if err := ca.CheckKey(pub); err != nil {
			t.Errorf("%T: %v", pub, err)
		}
	}
}

// rocaModulus makes a modulus as the defective chips did: both primes are a power of 65537 modulo
// the product of the first 39 primes.
func rocaModulus(t *testing.T) *big.Int {
	t.Helper()
	m := big.NewInt(1)
	for i := int64(2); i <= 167; i++ {
		if big.NewInt(i).ProbablyPrime(0) {
			m.Mul(m, big.NewInt(i))
		}
	}
	prime := func(power int64) *big.Int {
		rest := new(big.Int).Exp(big.NewInt(65537), big.NewInt(power), m)
		top := new(big.Int).Div(new(big.Int).Lsh(big.NewInt(3), 1022), m)
		for p := new(big.Int); ; top.Add(top, big.NewInt(1)) {
			if p.Mul(top, m).Add(p, rest); p.ProbablyPrime(10) {
				return p
			}
		}
	}
	n := new(big.Int).Mul(prime(123), prime(98765))
	if n.BitLen() != 2048 {
		t.Fatalf("made a modulus of %d bits", n.BitLen())
	}
	return n
}

func BenchmarkIssue(b *testing.B) {
	pub := p256(b).Public()
	for name, log := range map[string]ca.CTLog{"without CT": nil, "with CT": newMemoryLog(b)} {
		b.Run(name, func(b *testing.B) {
			c, _ := newCA(b, log)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Issue(b.Context(), pub, alice); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// oidOf is an extension OID below 1.3.6.1.4.1.57264.1.
func oidOf(arc int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, arc}
}
