package ctentry_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"testing"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/ctutil"
	"github.com/google/certificate-transparency-go/tls"
	ctx509 "github.com/google/certificate-transparency-go/x509"
	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/log/ctentry"
)

// The packages below are other people's readings of the same documents.

func TestTileLeafIsTesseras(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, final := a.pair(t, p256(t).Public(), []byte("an SCT"))
	for _, index := range []int64{0, 255, 256, ctentry.MaxIndex} {
		ours := precertEntry(t, a, pre, index)
		theirs := ctonly.Entry{
			Timestamp: uint64(ours.Timestamp), IsPrecert: true, Certificate: ours.Certificate,
			Precertificate: pre.Raw, IssuerKeyHash: ours.IssuerKeyHash[:],
			FingerprintsChain: ours.UnverifiedFingerprints,
		}
		compareWithTessera(t, ours, theirs, index)
		ours = ctentry.Entry{
			Timestamp: ours.Timestamp, Certificate: final.Raw, Extensions: ours.Extensions,
			UnverifiedFingerprints: ours.UnverifiedFingerprints,
		}
		theirs = ctonly.Entry{
			Timestamp: uint64(ours.Timestamp), Certificate: final.Raw,
			FingerprintsChain: ours.UnverifiedFingerprints,
		}
		compareWithTessera(t, ours, theirs, index)
	}
}

func compareWithTessera(t *testing.T, ours ctentry.Entry, theirs ctonly.Entry, index int64) {
	t.Helper()
	encoded := tileLeaf(t, ours)
	if !bytes.Equal(encoded, theirs.LeafData(uint64(index))) {
		t.Errorf("index %d: tile leaves differ", index)
	}
	leaf, err := ours.MerkleTreeLeaf()
	if err != nil || !bytes.Equal(leaf, theirs.MerkleTreeLeaf(uint64(index))) {
		t.Errorf("index %d: Merkle tree leaves differ (%v)", index, err)
	}
	hash, err := ctentry.LeafHash(encoded)
	if err != nil || !bytes.Equal(hash, theirs.MerkleLeafHash(uint64(index))) {
		t.Errorf("index %d: leaf hashes differ (%v)", index, err)
	}
}

func TestRemoveExtensionIsGooglesOnDER(t *testing.T) {
	a := newAuthority(t, p256(t))
	pre, final := a.pair(t, p256(t).Public(), []byte("an SCT"))
	for _, tc := range []struct {
		raw    []byte
		theirs func([]byte) ([]byte, error)
	}{
		{pre.Raw, ctx509.RemoveCTPoison},
		{final.Raw, ctx509.RemoveSCTList},
	} {
		tbs, err := ctentry.TBS(tc.raw)
		if err != nil {
			t.Fatal(err)
		}
		want, err := tc.theirs(tbs)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ctentry.PrecertTBS(tc.raw); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%v\n got %x\nwant %x", err, got, want)
		}
	}
}

func TestGoogleVerifiesOurSCTAndLeafHash(t *testing.T) {
	key := p256(t)
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	entry := precertEntry(t, a, pre, 256)
	encoded := marshal(t, sct(t, key, entry))
	_, final := a.pair(t, pre.PublicKey, encoded)
	var theirs ct.SignedCertificateTimestamp
	if rest, err := tls.Unmarshal(encoded, &theirs); err != nil || len(rest) > 0 {
		t.Fatalf("%v, %d bytes left", err, len(rest))
	}
	for raw, embedded := range map[string]bool{string(pre.Raw): false, string(final.Raw): true} {
		chain := []*ctx509.Certificate{googleCert(t, []byte(raw)), googleCert(t, a.cert.Raw)}
		if err := ctutil.VerifySCT(key.Public(), chain, &theirs, embedded); err != nil {
			t.Error(err)
		}
		var leaf *ct.MerkleTreeLeaf
		var err error
		if embedded {
			leaf, err = ct.MerkleTreeLeafForEmbeddedSCT(chain, theirs.Timestamp)
		} else {
			leaf, err = ct.MerkleTreeLeafFromChain(chain, ct.PrecertLogEntryType, theirs.Timestamp)
		}
		if err != nil {
			t.Fatal(err)
		}
		leaf.TimestampedEntry.Extensions = theirs.Extensions // which it leaves out
		want, err := ct.LeafHashForLeaf(leaf)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := ctentry.LeafHash(tileLeaf(t, entry)); err != nil || !bytes.Equal(got, want[:]) {
			t.Errorf("leaf hash %x, %v, want %x", got, err, want)
		}
	}
}

func TestSCTOfArchivedLogVerifies(t *testing.T) {
	// An RFC 6962 log signs empty extensions: its SCTs verify, though they promise no index.
	key := p256(t)
	a := newAuthority(t, p256(t))
	pre, _ := a.pair(t, p256(t).Public())
	entry := precertEntry(t, a, pre, 0)
	signed, err := ct.SerializeSCTSignatureInput(ct.SignedCertificateTimestamp{
		SCTVersion: ct.V1, Timestamp: uint64(entry.Timestamp),
	}, ct.LogEntry{Leaf: *ct.CreateX509MerkleTreeLeaf(ct.ASN1Cert{Data: pre.Raw}, uint64(entry.Timestamp))})
	if err != nil {
		t.Fatal(err)
	}
	digest := sha256.Sum256(signed)
	sig, err := key.Sign(nil, digest[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	s := sct(t, key, entry)
	s.Extensions, s.Signature = nil, sig
	if err := s.Verify(key.Public(), ctentry.Entry{Certificate: pre.Raw}); err != nil {
		t.Error(err)
	}
	if _, err := s.Index(); err == nil {
		t.Error("it has an index")
	}
}

func googleCert(t *testing.T, der []byte) *ctx509.Certificate {
	t.Helper()
	cert, err := ctx509.ParseCertificate(der)
	if cert == nil || ctx509.IsFatal(err) {
		t.Fatal(err)
	}
	return cert
}
