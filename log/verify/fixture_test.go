package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/pkcs7"
	"github.com/digitorus/timestamp"
	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/log/verify"
	"tallywood/witness/policy"
)

const (
	origin = "log.example.com"
	alice  = "alice@example.com"
	issuer = "https://login.example.com"
)

// A world is a Sigstore deployment small enough to misuse: every key is at hand.
type world struct {
	t         *testing.T
	now       time.Time
	ca, tsa   chain
	ct        *ecdsa.PrivateKey
	log       ed25519.PrivateKey
	logV1     *ecdsa.PrivateKey // of a Rekor v1 log
	witnesses []witness
}

// A chain is an authority: issuing or leaf certificate first, root last, and the first one's key.
type chain struct {
	certs []*x509.Certificate
	key   *ecdsa.PrivateKey
}

type witness struct {
	name string
	key  ed25519.PrivateKey
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, now: time.Now().UTC().Truncate(time.Second), ct: newKey(t), logV1: newKey(t)}
	w.ca = w.newCA("ca.example.com")
	w.tsa = w.newTSA("tsa.example.com")
	_, w.log, _ = ed25519.GenerateKey(nil)
	for i := range 3 {
		_, key, _ := ed25519.GenerateKey(nil)
		w.witnesses = append(w.witnesses, witness{fmt.Sprintf("w%d.example.org", i+1), key})
	}
	return w
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// issue signs template for key with parent's key; a nil parent makes a root.
func (w *world) issue(template *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, signer crypto.Signer) *x509.Certificate {
	w.t.Helper()
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		w.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	return cert
}

func (w *world) authority(name string, usage ...x509.ExtKeyUsage) *x509.Certificate {
	return &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name, Organization: []string{"example"}},
		NotBefore: w.now.Add(-time.Hour), NotAfter: w.now.Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, ExtKeyUsage: usage,
	}
}

func (w *world) newCA(name string) chain {
	rootKey, key := newKey(w.t), newKey(w.t)
	root := w.issue(w.authority(name+" root"), rootKey, nil, rootKey)
	return chain{[]*x509.Certificate{w.issue(w.authority(name, x509.ExtKeyUsageCodeSigning), key, root, rootKey), root}, key}
}

func (w *world) newTSA(name string) chain {
	rootKey, key := newKey(w.t), newKey(w.t)
	root := w.issue(w.authority(name+" root"), rootKey, nil, rootKey)
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		w.t.Fatal(err)
	}
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name},
		NotBefore: w.now.Add(-time.Hour), NotAfter: w.now.Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		// RFC 3161 section 2.3 wants it critical, which crypto/x509 does not make it.
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}},
	}
	return chain{[]*x509.Certificate{w.issue(leaf, key, root, rootKey), root}, key}
}

// A leafSpec describes a signing certificate; the zero one is alice's.
type leafSpec struct {
	email, issuer string
	also          string         // a second name
	sct           func(s []byte) // damages the SCT before it is embedded
	ca            *chain
	before        time.Duration // valid that much earlier
	curve         elliptic.Curve
}

// leaf issues a signing certificate with an embedded SCT.
func (w *world) leaf(spec leafSpec) (*x509.Certificate, *ecdsa.PrivateKey) {
	w.t.Helper()
	if spec.ca == nil {
		spec.ca = &w.ca
	}
	issuerValue, err := asn1.MarshalWithParams(or(spec.issuer, issuer), "utf8")
	if err != nil {
		w.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(3), EmailAddresses: []string{or(spec.email, alice)},
		NotBefore: w.now.Add(-time.Minute - spec.before), NotAfter: w.now.Add(9*time.Minute - spec.before),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
		ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, 8}, Value: issuerValue}},
	}
	if spec.also != "" {
		template.URIs = []*url.URL{{Scheme: "https", Host: spec.also}}
	}
	key := newKey(w.t)
	if spec.curve != nil {
		if key, err = ecdsa.GenerateKey(spec.curve, rand.Reader); err != nil {
			w.t.Fatal(err)
		}
	}
	// What the log signs is the certificate without the SCT; the extension is appended afterwards.
	tbs := w.issue(template, key, spec.ca.certs[0], spec.ca.key).RawTBSCertificate
	sct := w.sct(tbs, spec.ca.certs[0])
	if spec.sct != nil {
		spec.sct(sct)
	}
	list, err := ctentry.MarshalSCTExtension([][]byte{sct})
	if err != nil {
		w.t.Fatal(err)
	}
	template.ExtraExtensions = append(template.ExtraExtensions, pkix.Extension{Id: ctentry.OIDSCTList, Value: list})
	return w.issue(template, key, spec.ca.certs[0], spec.ca.key), key
}

func or(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}

func (w *world) sct(tbs []byte, issuing *x509.Certificate) []byte {
	w.t.Helper()
	extensions, err := ctentry.MarshalExtensions(7)
	if err != nil {
		w.t.Fatal(err)
	}
	e := ctentry.Entry{
		Timestamp: w.now.UnixMilli(), Precert: true, Certificate: tbs, Extensions: extensions,
		IssuerKeyHash: sha256.Sum256(issuing.RawSubjectPublicKeyInfo),
	}
	signed, err := e.MerkleTreeLeaf()
	if err != nil {
		w.t.Fatal(err)
	}
	id, err := ctentry.LogID(w.ct.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	s := ctentry.SCT{
		LogID: id, Timestamp: e.Timestamp, Extensions: extensions,
		Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: w.ecdsa(w.ct, signed),
	}
	encoded, err := s.Marshal()
	if err != nil {
		w.t.Fatal(err)
	}
	return encoded
}

func (w *world) ecdsa(key *ecdsa.PrivateKey, message []byte) []byte {
	w.t.Helper()
	digest := sha256.Sum256(message)
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
	if err != nil {
		w.t.Fatal(err)
	}
	return sig
}

// timestamp is a response of tsa about message.
func (w *world) timestamp(tsa chain, message []byte) []byte {
	w.t.Helper()
	digest := sha256.Sum256(message)
	ts := timestamp.Timestamp{
		HashAlgorithm: crypto.SHA256, HashedMessage: digest[:], Time: w.now, SerialNumber: big.NewInt(4),
		Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}, Accuracy: time.Second,
	}
	response, err := ts.CreateResponseWithOpts(tsa.certs[0], tsa.key, crypto.SHA256)
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

// forgedTimestamp is a response about message that forger signed, with any certificates inside.
func (w *world) forgedTimestamp(forger chain, message []byte, bag ...*x509.Certificate) []byte {
	w.t.Helper()
	honest, err := timestamp.ParseResponse(w.timestamp(w.tsa, message))
	if err != nil {
		w.t.Fatal(err)
	}
	parsed, err := pkcs7.Parse(honest.RawToken)
	if err != nil {
		w.t.Fatal(err)
	}
	signed, err := pkcs7.NewSignedData(parsed.Content)
	if err != nil {
		w.t.Fatal(err)
	}
	signed.SetDigestAlgorithm(pkcs7.OIDDigestAlgorithmSHA256)
	signed.SetContentType(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4})
	if err := signed.SignWithoutAttr(forger.certs[0], forger.key, pkcs7.SignerInfoConfig{SkipCertificates: true}); err != nil {
		w.t.Fatal(err)
	}
	for _, c := range bag {
		signed.AddCertificate(c)
	}
	token, err := signed.Finish()
	if err != nil {
		w.t.Fatal(err)
	}
	response, err := asn1.Marshal(struct {
		Status struct{ Status int }
		Token  asn1.RawValue
	}{Token: asn1.RawValue{FullBytes: token}})
	if err != nil {
		w.t.Fatal(err)
	}
	return response
}

// checkpoint is the note of tree, signed by the log and cosigned by the first n witnesses.
func (w *world) checkpoint(size int64, root tlog.Hash, n int) string {
	text := policy.Tree{Origin: origin, Size: size, Root: root}.Text()
	var b strings.Builder
	b.WriteString(text + "\n")
	public := w.log.Public().(ed25519.PublicKey)
	b.WriteString(policy.FormatSignature(origin, keys.KeyID(origin, keys.AlgEd25519, public), ed25519.Sign(w.log, []byte(text))))
	for _, wit := range w.witnesses[:n] {
		at := w.now.Unix()
		sig := binary.BigEndian.AppendUint64(nil, uint64(at))
		sig = append(sig, ed25519.Sign(wit.key, policy.CosignatureMessage(at, text))...)
		id := keys.KeyID(wit.name, keys.AlgCosignatureV1, wit.key.Public().(ed25519.PublicKey))
		b.WriteString(policy.FormatSignature(wit.name, id, sig))
	}
	return b.String()
}

// proof puts body at index 5 of a log of 11 entries.
func (w *world) proof(body []byte) *rekor.InclusionProof {
	w.t.Helper()
	const index, size = 5, 11
	var stored []tlog.Hash
	reader := tlog.HashReaderFunc(func(at []int64) ([]tlog.Hash, error) {
		out := make([]tlog.Hash, len(at))
		for i, a := range at {
			out[i] = stored[a]
		}
		return out, nil
	})
	for i := range int64(size) {
		data := fmt.Appendf(nil, "entry %d", i)
		if i == index {
			data = body
		}
		hashes, err := tlog.StoredHashes(i, data, reader)
		if err != nil {
			w.t.Fatal(err)
		}
		stored = append(stored, hashes...)
	}
	root, err := tlog.TreeHash(size, reader)
	if err != nil {
		w.t.Fatal(err)
	}
	hashes, err := tlog.ProveRecord(size, index, reader)
	if err != nil {
		w.t.Fatal(err)
	}
	p := &rekor.InclusionProof{LogIndex: index, TreeSize: size, RootHash: root[:]}
	for _, h := range hashes {
		p.Hashes = append(p.Hashes, bytes.Clone(h[:]))
	}
	return p
}

// logged puts body into the log, whose checkpoint n witnesses cosign.
func (w *world) logged(body []byte, n int) *rekor.TransparencyLogEntry {
	w.t.Helper()
	id, err := keys.LogID(origin, w.log.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.proof(body)
	p.Checkpoint = &rekor.Checkpoint{Envelope: w.checkpoint(p.TreeSize, tlog.Hash(p.RootHash), n)}
	return &rekor.TransparencyLogEntry{
		LogIndex: p.LogIndex, LogId: &common.LogId{KeyId: id[:]},
		KindVersion: &rekor.KindVersion{Kind: entry.Kind, Version: entry.Version}, CanonicalizedBody: body,
		InclusionProof: p,
	}
}

// assemble is the bundle of a signature over digest that is logged under two cosignatures.
func (w *world) assemble(cert *x509.Certificate, sig, digest []byte) *protobundle.Bundle {
	w.t.Helper()
	details, err := entry.KeyDetailsFor(cert.PublicKey)
	if err != nil {
		w.t.Fatal(err)
	}
	body, err := entry.Canonical(digest, entry.Signature{Content: sig, Certificate: cert.Raw, KeyDetails: details})
	if err != nil {
		w.t.Fatal(err)
	}
	return &protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_Certificate{Certificate: &common.X509Certificate{RawBytes: cert.Raw}},
			TlogEntries: []*rekor.TransparencyLogEntry{w.logged(body, 2)},
			TimestampVerificationData: &protobundle.TimestampVerificationData{
				Rfc3161Timestamps: []*common.RFC3161SignedTimestamp{{SignedTimestamp: w.timestamp(w.tsa, sig)}}},
		},
	}
}

// bundle signs artifact with a certificate as spec describes.
func (w *world) bundle(artifact string, spec leafSpec) *protobundle.Bundle {
	w.t.Helper()
	cert, key := w.leaf(spec)
	sig := w.ecdsa(key, []byte(artifact))
	digest := sha256.Sum256([]byte(artifact))
	b := w.assemble(cert, sig, digest[:])
	b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{
		MessageDigest: &common.HashOutput{Algorithm: common.HashAlgorithm_SHA2_256, Digest: digest[:]}, Signature: sig,
	}}
	return b
}

// relog logs the bundle's entry anew, as an attacker could who altered what it is about.
func (w *world) relog(b *protobundle.Bundle, cosigners int) {
	w.t.Helper()
	msg := b.GetMessageSignature()
	body, err := entry.Canonical(msg.MessageDigest.Digest, entry.Signature{
		Content: msg.Signature, Certificate: b.VerificationMaterial.GetCertificate().RawBytes, KeyDetails: entry.ECDSAP256})
	if err != nil {
		w.t.Fatal(err)
	}
	b.VerificationMaterial.TlogEntries = []*rekor.TransparencyLogEntry{w.logged(body, cosigners)}
}

func marshal(t *testing.T, b *protobundle.Bundle) []byte {
	t.Helper()
	data, err := protojson.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// policyText trusts the log and two of three witnesses.
func (w *world) policyText() string {
	var b strings.Builder
	fmt.Fprintf(&b, "log %s\n", keys.VKey(origin, keys.AlgEd25519, w.log.Public().(ed25519.PublicKey)))
	var names []string
	for _, wit := range w.witnesses {
		fmt.Fprintf(&b, "witness %s %s\n", wit.name, keys.VKey(wit.name, keys.AlgCosignatureV1, wit.key.Public().(ed25519.PublicKey)))
		names = append(names, wit.name)
	}
	fmt.Fprintf(&b, "group two-of-three 2 %s\nquorum two-of-three\n", strings.Join(names, " "))
	return b.String()
}

// options expect alice.
func (w *world) options() verify.Options {
	w.t.Helper()
	p, err := policy.Parse([]byte(w.policyText()))
	if err != nil {
		w.t.Fatal(err)
	}
	return verify.Options{TrustedRoot: w.trustedRoot(), Policy: p, Identity: alice, Issuer: issuer}
}

func (w *world) verifier() *verify.Verifier {
	w.t.Helper()
	return w.newVerifier(w.options())
}

func (w *world) newVerifier(o verify.Options) *verify.Verifier {
	w.t.Helper()
	v, err := verify.New(o)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}
