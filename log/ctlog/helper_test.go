package ctlog_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"
	"k8s.io/klog/v2"

	"tallywood/internal/keys"
	"tallywood/log"
	"tallywood/log/ctentry"
	"tallywood/log/ctlog"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

const (
	origin = "ct.example.com"
	name   = "certificates"
)

func TestMain(m *testing.M) {
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // Tessera's
	os.Exit(m.Run())
}

// authority is a CA with an intermediate, as package ca's.
type authority struct {
	chain []*x509.Certificate // intermediate, root
	key   *ecdsa.PrivateKey   // of the intermediate
}

func newAuthority(t testing.TB) authority {
	t.Helper()
	rootKey, key := p256(t), p256(t)
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(10, 0, 0),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		}
	}
	root := sign(t, template("root"), nil, rootKey, rootKey)
	middle := template("intermediate")
	middle.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}
	return authority{chain: []*x509.Certificate{sign(t, middle, root, key, rootKey), root}, key: key}
}

// leaf returns a certificate, with the poison if precert, after edit.
func (a authority) leaf(t testing.TB, precert bool, edit func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial := make([]byte, 8)
	rand.Read(serial)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(serial), EmailAddresses: []string{"alice@example.com"},
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(9 * time.Minute),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	if precert {
		template.ExtraExtensions = []pkix.Extension{{Id: ctentry.OIDPoison, Critical: true, Value: asn1.NullBytes}}
	}
	if edit != nil {
		edit(template)
	}
	return sign(t, template, a.chain[0], p256(t), a.key)
}

// submission is a new precertificate and its issuers, root included.
func (a authority) submission(t testing.TB) [][]byte {
	t.Helper()
	return raw(append([]*x509.Certificate{a.leaf(t, true, nil)}, a.chain...)...)
}

func raw(certs ...*x509.Certificate) [][]byte {
	out := make([][]byte, len(certs))
	for i, cert := range certs {
		out[i] = cert.Raw
	}
	return out
}

func sign(t testing.TB, template, parent *x509.Certificate, key, parentKey crypto.Signer) *x509.Certificate {
	t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func p256(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// fixture is the identity of a certificate log, which a test opens as often as it likes.
type fixture struct {
	t       testing.TB
	bucket  storage.Bucket
	note    ed25519.PrivateKey
	key     *ecdsa.PrivateKey
	ca      authority
	signer  crypto.Signer // signs in place of key, if there is one
	now     func() time.Time
	options ctlog.Options // what is set in it goes to New

	witness *witness // nil: quorum none
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	_, noteKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &fixture{t: t, bucket: mem.New(), note: noteKey, key: p256(t), ca: newAuthority(t), now: time.Now,
		options: ctlog.Options{SubmissionRate: -1}}
}

func (f *fixture) vkey() string {
	return keys.VKey(origin, keys.AlgEd25519, f.note.Public().(ed25519.PublicKey))
}

func (f *fixture) treeHead() *ctlog.TreeHead {
	f.t.Helper()
	var key crypto.Signer = f.key
	if f.signer != nil {
		key = f.signer
	}
	th, err := ctlog.NewTreeHead(ctlog.TreeHeadOptions{Origin: origin, Key: key, Bucket: f.bucket, Name: name, Now: f.now})
	if err != nil {
		f.t.Fatal(err)
	}
	return th
}

// open opens the log without running it.
func (f *fixture) open() (*ctlog.Log, *log.Log) {
	f.t.Helper()
	signer, err := keys.NoteSigner(origin, f.note)
	if err != nil {
		f.t.Fatal(err)
	}
	th := f.treeHead()
	o := log.Options{
		Name: name, Origin: origin, Kind: log.KindCT, Bucket: f.bucket,
		Signers: []note.Signer{signer, th}, VKeys: []string{f.vkey(), th.VKey()},
	}
	text := "log " + f.vkey() + "\nquorum none\n"
	if f.witness == nil { // and perhaps no bubble: what many add at a time may take its time
		o.QuorumTimeout, o.MaxQueueAge = time.Minute, time.Minute
	} else {
		text = "log " + f.vkey() + "\nwitness w " + f.witness.vkey + "\nquorum w\n"
		o.Cosigner = f.witness
	}
	if o.Policy, err = policy.Parse([]byte(text)); err != nil {
		f.t.Fatal(err)
	}
	l, err := log.Open(f.t.Context(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	options := f.options
	options.Log, options.TreeHead, options.Roots = l, th, f.ca.chain[1:]
	ct, err := ctlog.New(options)
	if err != nil {
		f.t.Fatal(err)
	}
	return ct, l
}

// run opens and runs the log. stop ends it as SIGTERM would.
func (f *fixture) run() (ct *ctlog.Log, l *log.Log, stop func()) {
	f.t.Helper()
	ct, l = f.open()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			cancel()
			<-done // a log that another process took over ends with an error, as it must
			_ = l.Close()
		}
	}
	f.t.Cleanup(stop)
	return ct, l, stop
}

// mustAdd submits until the log, which may be starting, answers.
func mustAdd(t testing.TB, ct *ctlog.Log, chain [][]byte) ctentry.SCT {
	t.Helper()
	var encoded []byte
	eventually(t, "an SCT", func() bool {
		var err error
		encoded, err = ct.AddPreChain(t.Context(), chain)
		if err != nil && !errors.Is(err, log.ErrUnavailable) {
			t.Fatal(err)
		}
		return err == nil
	})
	sct, err := ctentry.ParseSCT(encoded)
	if err != nil {
		t.Fatal(err)
	}
	return sct
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited too long for %s", what)
		}
	}
}

// witness is one in the process that can be silenced.
type witness struct {
	signer *fnote.Signer
	vkey   string
	silent atomic.Bool
}

func newWitness(t testing.TB) *witness {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, "witness.example.com")
	if err != nil {
		t.Fatal(err)
	}
	signer, err := fnote.NewSignerForCosignatureV1(skey)
	if err != nil {
		t.Fatal(err)
	}
	if vkey, err = fnote.VKeyToCosignatureV1(vkey); err != nil {
		t.Fatal(err)
	}
	return &witness{signer: signer, vkey: vkey}
}

func (w *witness) Cosign(ctx context.Context, checkpoint []byte, _ log.ProofFunc) ([]byte, error) {
	if w.silent.Load() {
		<-ctx.Done()
		return nil, fmt.Errorf("asking witness: %w", ctx.Err())
	}
	text, _, _ := strings.Cut(string(checkpoint), "\n\n")
	cosigned, err := note.Sign(&note.Note{Text: text + "\n"}, w.signer)
	if err != nil {
		return nil, err
	}
	_, line, _ := strings.Cut(string(cosigned), "\n\n")
	return append(bytes.Clone(checkpoint), line...), nil
}

func (w *witness) Sizes(context.Context, []byte) ([]policy.WitnessSize, error) {
	return []policy.WitnessSize{{Name: "w"}}, nil
}

// gate is a bucket whose Gets and Puts below a prefix wait until it is opened, or their context ends.
type gate struct {
	storage.Bucket
	prefix  string
	entered chan struct{} // of capacity 1: one waits
	open    chan struct{} // closed: none waits any more
}

func newGate(b storage.Bucket, prefix string) *gate {
	return &gate{b, prefix, make(chan struct{}, 1), make(chan struct{})}
}

func (g *gate) pass(ctx context.Context, key string) error {
	if !strings.HasPrefix(key, g.prefix) {
		return nil
	}
	select {
	case g.entered <- struct{}{}:
	default:
	}
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g *gate) Get(ctx context.Context, key string, r storage.Range) (data []byte, v storage.Version, err error) {
	if err := g.pass(ctx, key); err != nil {
		return nil, v, err
	}
	return g.Bucket.Get(ctx, key, r)
}

func (g *gate) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (v storage.Version, err error) {
	if err := g.pass(ctx, key); err != nil {
		return v, err
	}
	return g.Bucket.Put(ctx, key, data, o)
}

// inTime returns the error of call, which must not wait for what never comes.
func inTime(t testing.TB, call func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- call() }()
	select {
	case err := <-done:
		return err
	case <-time.After(time.Minute):
		t.Fatal("there is no answer")
		return nil
	}
}

// precertSigner is a submission whose precertificate a precertificate signing certificate signed.
func (a authority) precertSigner(t testing.TB) [][]byte {
	t.Helper()
	key := p256(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "precert signer"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		ExtKeyUsage:        []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		UnknownExtKeyUsage: []asn1.ObjectIdentifier{ctentry.OIDPrecertSigner},
	}
	signer := sign(t, template, a.chain[0], key, a.key)
	leaf := authority{chain: []*x509.Certificate{signer}, key: key}.leaf(t, true, nil)
	return raw(leaf, signer, a.chain[0], a.chain[1])
}

func fingerprint(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.Raw)
	return hex.EncodeToString(sum[:])
}
