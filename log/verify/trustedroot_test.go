package verify_test

import (
	"crypto"
	"crypto/x509"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/log/verify"
)

// trustedRoot is the world as clients are told about it.
func (w *world) trustedRoot() []byte {
	w.t.Helper()
	logID, err := keys.LogID(origin, w.log.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	logIDV1, err := keys.LogID("rekor.example.com", w.logV1.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	ctID, err := ctentry.LogID(w.ct.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := protojson.Marshal(&trustroot.TrustedRoot{
		MediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		Tlogs: []*trustroot.TransparencyLogInstance{
			w.logInstance("https://"+origin, w.log.Public(), common.PublicKeyDetails_PKIX_ED25519, logID),
			w.logInstance("https://rekor.example.com", w.logV1.Public(), common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, logIDV1)},
		Ctlogs: []*trustroot.TransparencyLogInstance{
			w.logInstance("https://ct.example.com", w.ct.Public(), common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, ctID)},
		CertificateAuthorities: []*trustroot.CertificateAuthority{w.instance("https://ca.example.com", w.ca)},
		TimestampAuthorities:   []*trustroot.CertificateAuthority{w.instance("https://tsa.example.com", w.tsa)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) since() *common.TimeRange {
	return &common.TimeRange{Start: timestamppb.New(w.now.Add(-time.Hour))}
}

func (w *world) logInstance(url string, key crypto.PublicKey, details common.PublicKeyDetails, id [32]byte) *trustroot.TransparencyLogInstance {
	w.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	return &trustroot.TransparencyLogInstance{
		BaseUrl: url, HashAlgorithm: common.HashAlgorithm_SHA2_256, LogId: &common.LogId{KeyId: id[:]},
		PublicKey: &common.PublicKey{RawBytes: spki, KeyDetails: details, ValidFor: w.since()},
	}
}

func (w *world) instance(uri string, c chain) *trustroot.CertificateAuthority {
	a := &trustroot.CertificateAuthority{
		Uri: uri, Subject: &common.DistinguishedName{Organization: "example", CommonName: uri},
		CertChain: &common.X509CertificateChain{}, ValidFor: w.since(),
	}
	for _, cert := range c.certs {
		a.CertChain.Certificates = append(a.CertChain.Certificates, &common.X509Certificate{RawBytes: cert.Raw})
	}
	return a
}

// changedRoot is the trusted root after change.
func (w *world) changedRoot(change func(*trustroot.TrustedRoot)) []byte {
	w.t.Helper()
	var tr trustroot.TrustedRoot
	if err := protojson.Unmarshal(w.trustedRoot(), &tr); err != nil {
		w.t.Fatal(err)
	}
	change(&tr)
	data, err := protojson.Marshal(&tr)
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

// verifierOf is the verifier whose trusted root was changed.
func (w *world) verifierOf(change func(*trustroot.TrustedRoot)) *verify.Verifier {
	w.t.Helper()
	o := w.options()
	o.TrustedRoot = w.changedRoot(change)
	return w.newVerifier(o)
}

// span is the time from start to end, both relative to the world's now.
func (w *world) span(start, end time.Duration) *common.TimeRange {
	return &common.TimeRange{Start: timestamppb.New(w.now.Add(start)), End: timestamppb.New(w.now.Add(end))}
}

func TestRefusesSignaturesOutsideValidity(t *testing.T) {
	w := newWorld(t)
	data := marshal(t, w.bundle(artifact, leafSpec{})) // every time in it is w.now
	for _, part := range []struct {
		name  string
		check verify.Check
		set   func(*trustroot.TrustedRoot, *common.TimeRange)
	}{
		{"log", verify.CheckCheckpoint, func(r *trustroot.TrustedRoot, v *common.TimeRange) { r.Tlogs[0].PublicKey.ValidFor = v }},
		{"certificate log", verify.CheckSCT, func(r *trustroot.TrustedRoot, v *common.TimeRange) { r.Ctlogs[0].PublicKey.ValidFor = v }},
		{"certificate authority", verify.CheckCertificate, func(r *trustroot.TrustedRoot, v *common.TimeRange) { r.CertificateAuthorities[0].ValidFor = v }},
		{"timestamp authority", verify.CheckTimestamp, func(r *trustroot.TrustedRoot, v *common.TimeRange) { r.TimestampAuthorities[0].ValidFor = v }},
	} {
		for when, period := range map[string]*common.TimeRange{
			"retired":      w.span(-time.Hour, -30*time.Minute),
			"just retired": w.span(-time.Hour, -time.Second),
			"not yet used": w.span(time.Second, time.Hour),
		} {
			t.Run(part.name+" "+when, func(t *testing.T) {
				v := w.verifierOf(func(r *trustroot.TrustedRoot) { part.set(r, period) })
				got, err := v.Bundle(data, strings.NewReader(artifact))
				wantRefusal(t, got, err, part.check)
			})
		}
		t.Run(part.name+" at the very end", func(t *testing.T) {
			v := w.verifierOf(func(r *trustroot.TrustedRoot) { part.set(r, w.span(0, 0)) })
			if _, err := v.Bundle(data, strings.NewReader(artifact)); err != nil {
				t.Error(err)
			}
		})
	}
}

// A log whose key was retired must not pass because one of two authorities sets its clock back.
func TestEveryTimestampMustLieInTheLogsValidity(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	second := w.newTSA("tsa2.example.com")
	later := *w
	later.now = w.now.Add(5 * time.Minute)
	d := b.VerificationMaterial.TimestampVerificationData
	d.Rfc3161Timestamps = append(d.Rfc3161Timestamps, &common.RFC3161SignedTimestamp{
		SignedTimestamp: later.timestamp(second, b.GetMessageSignature().Signature)})
	data := marshal(t, b)
	for _, x := range []struct {
		name   string
		ends   time.Duration
		passes bool
	}{{"both inside", 5 * time.Minute, true}, {"one outside", 4 * time.Minute, false}} {
		t.Run(x.name, func(t *testing.T) {
			v := w.verifierOf(func(r *trustroot.TrustedRoot) {
				r.TimestampAuthorities = append(r.TimestampAuthorities, w.instance("https://tsa2.example.com", second))
				r.Tlogs[0].PublicKey.ValidFor.End = timestamppb.New(w.now.Add(x.ends))
			})
			got, err := v.Bundle(data, strings.NewReader(artifact))
			if !x.passes {
				wantRefusal(t, got, err, verify.CheckCheckpoint)
			} else if err != nil || !got.Time.Equal(w.now) {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

// TestRefusesSizeNoLogHas gives x/mod's tlog a size for which it does not return.
func TestRefusesSizeNoLogHas(t *testing.T) {
	const size = 1<<62 + 1
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	p := tle(b).InclusionProof
	p.TreeSize = size
	p.Checkpoint.Envelope = w.checkpoint(size, [32]byte(p.RootHash), 2)
	data, v := marshal(t, b), w.verifier()
	type answer struct {
		got *verify.Result
		err error
	}
	done := make(chan answer, 1)
	go func() {
		got, err := v.Bundle(data, strings.NewReader(artifact))
		done <- answer{got, err}
	}()
	select {
	case a := <-done:
		wantRefusal(t, a.got, a.err, verify.CheckInclusion)
	case <-time.After(30 * time.Second):
		t.Fatal("the verifier does not return")
	}
}

// An empty digest of an algorithm that nobody computed equals what was not computed.
func TestEmptyDigestIsNoArtifacts(t *testing.T) {
	w := newWorld(t)
	for name, b := range map[string]*protobundle.Bundle{
		"sha256 statement": w.attestation(intoto, []byte(`{"subject":[{"digest":{"sha256":""}}]}`)),
		"sha384 statement": w.attestation(intoto, []byte(`{"subject":[{"digest":{"sha384":""}}]}`)),
		"sha512 statement": w.attestation(intoto, []byte(`{"subject":[{"digest":{"sha512":""}},{"digest":{"sha512":"00"}}]}`)),
		"sha512 signature": w.p384(common.HashAlgorithm_SHA2_512, nil),
	} {
		t.Run(name, func(t *testing.T) {
			data := marshal(t, b)
			got, err := w.verifier().Digest(data, crypto.SHA256, sum256("nothing of the kind"))
			wantRefusal(t, got, err, verify.CheckArtifact)
			got, err = w.verifier().Bundle(data, strings.NewReader(artifact))
			wantRefusal(t, got, err, verify.CheckArtifact)
		})
	}
}
