package ctentry_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"testing"
	"time"

	"tallywood/log/ctentry"
)

// authority is a CA that signs pairs of precertificate and final certificate.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
}

func newAuthority(t testing.TB, key crypto.Signer) authority {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "issuer"},
		NotBefore: time.Unix(1.7e9, 0), NotAfter: time.Unix(2.1e9, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	return authority{cert: sign(t, template, template, key.Public(), key), key: key}
}

// pair returns a precertificate and the final certificate with scts, equal in all else.
func (a authority) pair(t testing.TB, public crypto.PublicKey, scts ...[]byte) (pre, final *x509.Certificate) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(7), EmailAddresses: []string{"alice@example.com"},
		NotBefore: time.Unix(1.8e9, 0), NotAfter: time.Unix(1.8e9+600, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}
	template.ExtraExtensions = []pkix.Extension{poison()}
	pre = sign(t, template, a.cert, public, a.key)
	if len(scts) > 0 {
		value, err := ctentry.MarshalSCTExtension(scts)
		if err != nil {
			t.Fatal(err)
		}
		template.ExtraExtensions = []pkix.Extension{{Id: ctentry.OIDSCTList, Value: value}}
		final = sign(t, template, a.cert, public, a.key)
	}
	return pre, final
}

func poison() pkix.Extension {
	return pkix.Extension{Id: ctentry.OIDPoison, Critical: true, Value: asn1.NullBytes}
}

func sign(t testing.TB, template, parent *x509.Certificate, public crypto.PublicKey, key crypto.Signer) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func p256(t testing.TB) *ecdsa.PrivateKey { return ecdsaKey(t, elliptic.P256()) }

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// precertEntry is the entry a log makes of a precertificate at index.
func precertEntry(t testing.TB, a authority, pre *x509.Certificate, index int64) ctentry.Entry {
	t.Helper()
	tbs, err := ctentry.PrecertTBS(pre.Raw)
	if err != nil {
		t.Fatal(err)
	}
	return ctentry.Entry{
		Timestamp: 1_790_000_000_123, Precert: true,
		IssuerKeyHash: sha256.Sum256(a.cert.RawSubjectPublicKeyInfo), Certificate: tbs,
		Extensions: extensions(t, index), UnverifiedPrecertificate: pre.Raw,
		UnverifiedFingerprints: [][32]byte{sha256.Sum256(a.cert.Raw)},
	}
}

func extensions(t testing.TB, index int64) []byte {
	t.Helper()
	ext, err := ctentry.MarshalExtensions(index)
	if err != nil {
		t.Fatal(err)
	}
	return ext
}

// sct signs e as the log with key does.
func sct(t testing.TB, key *ecdsa.PrivateKey, e ctentry.Entry) ctentry.SCT {
	t.Helper()
	leaf, err := e.MerkleTreeLeaf()
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(leaf)
	sig, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	id, err := ctentry.LogID(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return ctentry.SCT{
		LogID: id, Timestamp: e.Timestamp, Extensions: e.Extensions,
		Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: sig,
	}
}

func marshal(t testing.TB, s ctentry.SCT) []byte {
	t.Helper()
	b, err := s.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func tileLeaf(t testing.TB, e ctentry.Entry) []byte {
	t.Helper()
	b, err := e.TileLeaf()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestExtensionsHoldFortyBitIndex(t *testing.T) {
	for index, want := range map[int64]string{
		0: "\x00\x00\x05\x00\x00\x00\x00\x00", 7: "\x00\x00\x05\x00\x00\x00\x00\x07",
		255: "\x00\x00\x05\x00\x00\x00\x00\xff", 256: "\x00\x00\x05\x00\x00\x00\x01\x00",
		ctentry.MaxIndex: "\x00\x00\x05\xff\xff\xff\xff\xff",
	} {
		ext := extensions(t, index)
		if string(ext) != want {
			t.Errorf("extensions of %d = %x, want %x", index, ext, want)
		}
		if got, err := ctentry.ParseExtensions(ext); err != nil || got != index {
			t.Errorf("parsed %d, %v, want %d", got, err, index)
		}
	}
	for _, index := range []int64{-1, ctentry.MaxIndex + 1} {
		if _, err := ctentry.MarshalExtensions(index); err == nil {
			t.Errorf("index %d was encoded", index)
		}
	}
}

func TestExtensionsRefuseAmbiguousIndex(t *testing.T) {
	good := "\x00\x00\x05\x00\x00\x00\x00\x07"
	for name, tc := range map[string]struct {
		in string
		ok bool
	}{
		"unknown type before": {"\x09\x00\x01x" + good, true},
		"unknown type after":  {good + "\x09\x00\x00", true},
		"empty":               {"", false},
		"only unknown":        {"\x09\x00\x00", false},
		"repeated index":      {good + good, false},
		"repeated unknown":    {good + "\x09\x00\x00\x09\x00\x00", false},
		"four byte index":     {"\x00\x00\x04\x00\x00\x00\x07", false},
		"six byte index":      {"\x00\x00\x06\x00\x00\x00\x00\x00\x07", false},
		"truncated":           {good[:7], false},
		"truncated header":    {good + "\x09\x00", false},
	} {
		index, err := ctentry.ParseExtensions([]byte(tc.in))
		if (err == nil) != tc.ok || tc.ok && index != 7 {
			t.Errorf("%s: index %d, error %v", name, index, err)
		}
	}
}

func TestTileLeafKeepsEveryByte(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, final := a.pair(t, p256(t).Public(), []byte("an SCT"))
	entry := precertEntry(t, a, pre, 256)
	entry.Extensions = append(entry.Extensions, "\x09\x00\x01x"...) // a later version's extension
	x509Entry := ctentry.Entry{Timestamp: 1, Certificate: final.Raw, Extensions: extensions(t, 0)}
	for _, e := range []ctentry.Entry{entry, x509Entry} {
		encoded := tileLeaf(t, e)
		if want := map[bool]int{false: 25 + len(e.Certificate), true: 60 + len(e.Certificate) +
			len(e.UnverifiedPrecertificate) + 32 + 4}[e.Precert]; len(encoded) != want {
			t.Errorf("tile leaf of %d bytes, want %d", len(encoded), want)
		}
		decoded, err := ctentry.Parse(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if again := tileLeaf(t, decoded); !bytes.Equal(again, encoded) {
			t.Errorf("encoding again differs:\n%x\n%x", again, encoded)
		}
		leaf, err := e.MerkleTreeLeaf()
		if err != nil {
			t.Fatal(err)
		}
		decoded, err = ctentry.ParseMerkleTreeLeaf(leaf)
		if err != nil {
			t.Fatal(err)
		}
		again, err := decoded.MerkleTreeLeaf()
		if err != nil || !bytes.Equal(again, leaf) {
			t.Errorf("Merkle tree leaf encoded again differs (%v)", err)
		}
		hash, err := ctentry.LeafHash(encoded)
		want := sha256.Sum256(append([]byte{0}, leaf...))
		if err != nil || !bytes.Equal(hash, want[:]) {
			t.Errorf("leaf hash %x, %v, want %x", hash, err, want)
		}
	}
}

func TestSplitRefusesDamagedBundle(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	var bundle []byte
	var want [][]byte
	for i := range int64(256) {
		leaf := tileLeaf(t, precertEntry(t, a, pre, i))
		want = append(want, leaf)
		bundle = append(bundle, leaf...)
	}
	got, err := ctentry.Split(bundle)
	if err != nil || len(got) != 256 {
		t.Fatalf("%d entries, %v", len(got), err)
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("entry %d differs", i)
		}
	}
	if got, err := ctentry.Split(nil); err != nil || len(got) != 0 {
		t.Errorf("empty bundle: %d entries, %v", len(got), err)
	}
	for name, damaged := range map[string][]byte{
		"one entry too many": append(bytes.Clone(bundle), want[0]...),
		"last byte missing":  bundle[:len(bundle)-1],
		"one byte more":      append(bytes.Clone(want[0]), 0),
	} {
		if _, err := ctentry.Split(damaged); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestParseRefusesMalformedLeaf(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	good := tileLeaf(t, precertEntry(t, a, pre, 1))
	for i := range good {
		if _, err := ctentry.Parse(good[:i]); err == nil {
			t.Fatalf("accepted %d of %d bytes", i, len(good))
		}
	}
	edit := func(at int, b byte) []byte {
		out := bytes.Clone(good)
		out[at] = b
		return out
	}
	for name, leaf := range map[string][]byte{
		"trailing byte":       append(bytes.Clone(good), 0),
		"timestamp over 2^63": edit(0, 0x80),
		"entry type 2":        edit(9, 2),
		"ragged fingerprints": append(edit(len(good)-33, 33), 0),
	} {
		if _, err := ctentry.Parse(leaf); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	leaf, err := precertEntry(t, a, pre, 1).MerkleTreeLeaf()
	if err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		bad := bytes.Clone(leaf)
		bad[i] = 1
		if _, err := ctentry.ParseMerkleTreeLeaf(bad); err == nil {
			t.Errorf("header byte %d changed: accepted", i)
		}
	}
	if _, err := (ctentry.Entry{Timestamp: -1, Extensions: extensions(t, 0)}).TileLeaf(); err == nil {
		t.Error("a negative timestamp was encoded")
	}
}

func TestCheckRefusesForeignPrecertificate(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	other, _ := a.pair(t, p256(t).Public())
	stranger := newAuthority(t, p256(t))
	forged, _ := stranger.pair(t, pre.PublicKey)
	good := precertEntry(t, a, pre, 3)
	if err := good.Check(a.cert); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*ctentry.Entry){
		"another precertificate":       func(e *ctentry.Entry) { e.UnverifiedPrecertificate = other.Raw },
		"signed by another key":        func(e *ctentry.Entry) { e.UnverifiedPrecertificate = forged.Raw },
		"no precertificate":            func(e *ctentry.Entry) { e.UnverifiedPrecertificate = nil },
		"precertificate not poisoned":  func(e *ctentry.Entry) { e.UnverifiedPrecertificate = a.cert.Raw },
		"another fingerprint":          func(e *ctentry.Entry) { e.UnverifiedFingerprints[0][0] ^= 1 },
		"another issuer key hash":      func(e *ctentry.Entry) { e.IssuerKeyHash[0] ^= 1 },
		"another logged certificate":   func(e *ctentry.Entry) { e.Certificate, _ = ctentry.PrecertTBS(other.Raw) },
		"one byte of the precert flip": func(e *ctentry.Entry) { e.UnverifiedPrecertificate[len(pre.Raw)-1] ^= 1 },
	} {
		e, err := ctentry.Parse(bytes.Clone(tileLeaf(t, good)))
		if err != nil {
			t.Fatal(err)
		}
		change(&e)
		if err := e.Check(a.cert); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := good.Check(stranger.cert); err == nil {
		t.Error("accepted with another issuer")
	}
}

func TestSCTRefusesAnyChange(t *testing.T) {
	key := p256(t)
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	entry := precertEntry(t, a, pre, 255)
	good := marshal(t, sct(t, key, entry))
	parsed, err := ctentry.ParseSCT(good)
	if err != nil {
		t.Fatal(err)
	}
	if err := parsed.Verify(key.Public(), entry); err != nil {
		t.Fatal(err)
	}
	if index, err := parsed.Index(); err != nil || index != 255 {
		t.Errorf("index %d, %v", index, err)
	}
	for i := range good {
		bad := bytes.Clone(good)
		bad[i] ^= 1
		if s, err := ctentry.ParseSCT(bad); err == nil && s.Verify(key.Public(), entry) == nil {
			t.Errorf("byte %d changed: accepted", i)
		}
		if _, err := ctentry.ParseSCT(good[:i]); err == nil {
			t.Errorf("accepted %d of %d bytes", i, len(good))
		}
	}
	for i := range entry.Certificate {
		bad := entry
		bad.Certificate = bytes.Clone(entry.Certificate)
		bad.Certificate[i] ^= 1
		if parsed.Verify(key.Public(), bad) == nil {
			t.Fatalf("byte %d of the certificate changed: accepted", i)
		}
	}
	if parsed.Verify(p256(t).Public(), entry) == nil {
		t.Error("accepted with another log's key")
	}
	if _, ed, _ := ed25519.GenerateKey(nil); parsed.Verify(ed.Public(), entry) == nil {
		t.Error("accepted with an Ed25519 key")
	}
}

func TestEmbeddedSCTsVerifyOverFinalCertificate(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	keys := []crypto.Signer{
		p256(t), ecdsaKey(t, elliptic.P384()), ecdsaKey(t, elliptic.P521()), rsaKey, edKey,
	}
	logKey := p256(t)
	for _, issuerKey := range keys {
		a := newAuthority(t, issuerKey)
		for _, leafKey := range keys {
			pre, _ := a.pair(t, leafKey.Public())
			entry := precertEntry(t, a, pre, 42)
			_, final := a.pair(t, leafKey.Public(), marshal(t, sct(t, logKey, entry)))
			tbs, err := ctentry.PrecertTBS(final.Raw)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(tbs, entry.Certificate) {
				t.Errorf("%T signed by %T: final minus SCT list is not precertificate minus poison", leafKey, issuerKey)
			}
			scts, err := ctentry.SCTs(final.Raw)
			if err != nil || len(scts) != 1 {
				t.Fatalf("%d SCTs, %v", len(scts), err)
			}
			if err := scts[0].Verify(logKey.Public(), entry); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSCTListRefusesRaggedLengths(t *testing.T) {
	list, err := ctentry.MarshalSCTList([][]byte{[]byte("one"), []byte("two2")})
	if err != nil {
		t.Fatal(err)
	}
	got, err := ctentry.ParseSCTList(list)
	if err != nil || len(got) != 2 || string(got[1]) != "two2" {
		t.Fatalf("%q, %v", got, err)
	}
	for _, bad := range []string{"", "\x00", "\x00\x00", "\x00\x02\x00\x00", "\x00\x03\x00\x01", "\x00\x01\x00\x01x", string(list) + "x"} {
		if _, err := ctentry.ParseSCTList([]byte(bad)); err == nil {
			t.Errorf("%x: accepted", bad)
		}
	}
	for _, scts := range [][][]byte{nil, {{}}, {make([]byte, 1<<16)}} {
		if _, err := ctentry.MarshalSCTList(scts); err == nil {
			t.Errorf("encoded a list of %d", len(scts))
		}
	}
}
