package driver_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
	"golang.org/x/mod/sumdb/note"

	"tallywood/log/ctentry"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// treeHead is a note.Signer of type 0x05, c2sp.org/static-ct-api.
type treeHead struct {
	key  *ecdsa.PrivateKey
	name string
}

func (s treeHead) spki() []byte {
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		panic(err)
	}
	return der
}

func (s treeHead) Name() string { return s.name }

func (s treeHead) KeyHash() uint32 {
	id := sha256.Sum256(s.spki())
	h := sha256.Sum256(append([]byte(s.name+"\n\x05"), id[:]...))
	return binary.BigEndian.Uint32(h[:])
}

func (s treeHead) vkey() string {
	return fmt.Sprintf("%s+%08x+%s", s.name, s.KeyHash(), base64.StdEncoding.EncodeToString(append([]byte{5}, s.spki()...)))
}

// Sign signs the TreeHeadSignature of RFC 6962 section 3.5.
func (s treeHead) Sign(msg []byte) ([]byte, error) {
	var size uint64
	var root string
	if _, err := fmt.Sscanf(string(msg), s.name+"\n%d\n%s\n", &size, &root); err != nil {
		return nil, err
	}
	hash, err := base64.StdEncoding.DecodeString(root)
	if err != nil {
		return nil, err
	}
	stamp := binary.BigEndian.AppendUint64(nil, 1_700_000_000_000)
	signed := append(binary.BigEndian.AppendUint64(append([]byte{0, 1}, stamp...), size), hash...)
	digest := sha256.Sum256(signed)
	sig, err := s.key.Sign(rand.Reader, digest[:], nil)
	return append(binary.BigEndian.AppendUint16(append(stamp, 4, 3), uint16(len(sig))), sig...), err
}

// An authority issues precertificates.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{key, cert}
}

// precertificate returns the entry of a precertificate.
func (a authority) precertificate(t *testing.T, serial int64) *ctonly.Entry {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotBefore: time.Unix(0, 0), NotAfter: time.Unix(4e9, 0),
		ExtraExtensions: []pkix.Extension{{Id: ctentry.OIDPoison, Critical: true, Value: []byte{5, 0}}},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	tbs, err := ctentry.PrecertTBS(der)
	if err != nil {
		t.Fatal(err)
	}
	return &ctonly.Entry{
		Timestamp: uint64(serial), IsPrecert: true, Certificate: tbs, Precertificate: der,
		IssuerKeyHash:     func() []byte { h := sha256.Sum256(a.cert.RawSubjectPublicKeyInfo); return h[:] }(),
		FingerprintsChain: [][32]byte{sha256.Sum256(a.cert.Raw)},
	}
}

// TestVerifyCertificateLog damages what the tree of a static-ct log covers and what it does not.
func TestVerifyCertificateLog(t *testing.T) {
	b, a := mem.New(), newAuthority(t)
	head := treeHead{a.key, origin}
	o := options(t, b)
	o.Layout = driver.StaticCT()
	o.Signers, o.VKeys = append(o.Signers, note.Signer(head)), append(o.VKeys, head.vkey())
	issuer := fmt.Sprintf("logs/test/issuer/%x", sha256.Sum256(a.cert.Raw))
	put(t, b, issuer, a.cert.Raw)
	l := open(t, o)
	stop := lead(t, l)
	const size = 260
	var futures []tessera.IndexFuture
	for i := range int64(size) {
		futures = append(futures, l.AddCT(t.Context(), a.precertificate(t, i+1)))
	}
	for _, f := range futures {
		if _, err := f(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := l.Await(t.Context(), size); err != nil {
		t.Fatal(err)
	}
	quit(t, l, stop)
	if r := verified(t, b); r.Size != size {
		t.Errorf("got %+v", r)
	}
	checkLog(t, o, size)
	for _, key := range []string{issuer, "logs/test/tile/data/000", "logs/test/tile/data/001.p/4", "logs/test/tile/0/000",
		"logs/test/tile/0/001.p/4", "logs/test/tile/1/000.p/1", "logs/test/checkpoint"} {
		data := get(t, b, key)
		for i := 0; i < len(data); i += max(1, len(data)/20) {
			flip(t, b, key, i)
			_, err := driver.Verify(t.Context(), b, "test", nil)
			bad, ok := errors.AsType[*driver.ObjectError](err)
			// A fingerprint with a wrong bit looks like an issuer that is missing.
			if !ok || bad.Key != key && !strings.Contains(err.Error(), "in "+key+" names it") {
				t.Errorf("byte %d of %s: %v", i, key, err)
			}
			put(t, b, key, data)
		}
		wantMissing(t, b, key)
	}
}
