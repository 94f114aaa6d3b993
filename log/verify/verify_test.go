package verify_test

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"tallywood/log/verify"
)

const artifact = "hello, tallywood\n"

func TestHonestBundleVerifies(t *testing.T) {
	w := newWorld(t)
	data := marshal(t, w.bundle(artifact, leafSpec{}))
	got, err := w.verifier().Bundle(data, strings.NewReader(artifact))
	if err != nil {
		t.Fatal(err)
	}
	want := verify.Result{Identity: alice, Issuer: issuer, Time: w.now, Origin: origin, Index: 5, Size: 11,
		Witnesses: []string{"w1.example.org", "w2.example.org"}}
	if !reflect.DeepEqual(*got, want) {
		t.Errorf("got  %+v\nwant %+v", *got, want)
	}
	if _, err := w.verifier().Digest(data, crypto.SHA256, sum256(artifact)); err != nil {
		t.Errorf("verifying the digest: %v", err)
	}
}

func sum256(s string) []byte {
	sum := sha256.Sum256([]byte(s))
	return sum[:]
}

// An alteration is one thing an adversary changes. The bundle is alice's until then.
type alteration struct {
	name  string
	check verify.Check // what must refuse it
	alter func(w *world, b *protobundle.Bundle) *protobundle.Bundle
}

// inPlace adapts an alteration that needs no new bundle.
func inPlace(f func(w *world, b *protobundle.Bundle)) func(*world, *protobundle.Bundle) *protobundle.Bundle {
	return func(w *world, b *protobundle.Bundle) *protobundle.Bundle { f(w, b); return b }
}

func tle(b *protobundle.Bundle) *rekor.TransparencyLogEntry {
	return b.VerificationMaterial.TlogEntries[0]
}

func certificate(b *protobundle.Bundle) *common.X509Certificate {
	return b.VerificationMaterial.GetCertificate()
}

func token(b *protobundle.Bundle) *common.RFC3161SignedTimestamp {
	return b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0]
}

// flipLast changes the last byte, which in a certificate is one of its signature.
func flipLast(b []byte) { b[len(b)-1] ^= 1 }

// editNote replaces the first old in the checkpoint.
func editNote(b *protobundle.Bundle, old, replacement string) {
	c := tle(b).InclusionProof.Checkpoint
	c.Envelope = strings.Replace(c.Envelope, old, replacement, 1)
}

// flipLine changes a bit of the signature in line n of the checkpoint's signature lines.
func flipLine(b *protobundle.Bundle, n int) {
	c := tle(b).InclusionProof.Checkpoint
	text, lines, _ := strings.Cut(c.Envelope, "\n\n")
	each := strings.SplitAfter(lines, "\n")
	fields := strings.Fields(each[n])
	sig, _ := base64.StdEncoding.DecodeString(fields[2])
	flipLast(sig)
	each[n] = fmt.Sprintf("— %s %s\n", fields[1], base64.StdEncoding.EncodeToString(sig))
	c.Envelope = text + "\n\n" + strings.Join(each, "")
}

var alterations = []alteration{
	// The certificate.
	{"certificate signature changed", verify.CheckCertificate, inPlace(func(w *world, b *protobundle.Bundle) {
		flipLast(certificate(b).RawBytes)
	})},
	{"identity in the certificate replaced", verify.CheckCertificate, inPlace(func(w *world, b *protobundle.Bundle) {
		certificate(b).RawBytes = bytes.Replace(certificate(b).RawBytes, []byte(alice), []byte("malce@example.com"), 1)
	})},
	{"certificate is no certificate", verify.CheckCertificate, inPlace(func(w *world, b *protobundle.Bundle) {
		certificate(b).RawBytes = []byte{0x30, 0}
	})},
	{"certificate of a stranger's authority", verify.CheckCertificate, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		other := w.newCA("other.example.com")
		return w.bundle(artifact, leafSpec{ca: &other})
	}},
	{"certificate of a stranger's authority of the same name", verify.CheckCertificate, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		other := w.newCA("ca.example.com")
		return w.bundle(artifact, leafSpec{ca: &other})
	}},
	{"certificate expired before it signed", verify.CheckCertificate, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{before: 30 * time.Minute})
	}},
	{"certificate with a second name", verify.CheckCertificate, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{also: "mallory.example.com"})
	}},
	{"another identity's bundle", verify.CheckIdentity, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{email: "mallory@example.com"})
	}},
	{"identity that only begins like the expected one", verify.CheckIdentity, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{email: alice + ".evil.example"})
	}},
	{"another issuer's bundle", verify.CheckIssuer, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{issuer: "https://evil.example.com"})
	}},

	// The SCT. Changing it inside a certificate breaks the certificate's signature first...
	{"SCT changed", verify.CheckCertificate, inPlace(func(w *world, b *protobundle.Bundle) {
		sct := w.embeddedSCT(certificate(b).RawBytes)
		at := bytes.Index(certificate(b).RawBytes, sct)
		certificate(b).RawBytes[at+len(sct)-1] ^= 1
	})},
	// ... so an authority must have been in on it.
	{"SCT forged, certificate signed over it", verify.CheckSCT, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{sct: flipLast})
	}},
	{"SCT of an unknown log", verify.CheckSCT, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{sct: func(s []byte) { s[1] ^= 1 }})
	}},
	{"SCT of another time", verify.CheckSCT, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle(artifact, leafSpec{sct: func(s []byte) { s[1+32+7] ^= 1 }})
	}},

	// The artifact and its signature.
	{"digest in the bundle changed", verify.CheckArtifact, inPlace(func(w *world, b *protobundle.Bundle) {
		flipLast(b.GetMessageSignature().MessageDigest.Digest)
	})},
	{"bundle of another artifact", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
		return w.bundle("another artifact", leafSpec{})
	}},
	{"digest algorithm unknown", verify.CheckArtifact, inPlace(func(w *world, b *protobundle.Bundle) {
		b.GetMessageSignature().MessageDigest.Algorithm = common.HashAlgorithm_HASH_ALGORITHM_UNSPECIFIED
	})},
	{"signature changed", verify.CheckSignature, inPlace(func(w *world, b *protobundle.Bundle) {
		flipLast(b.GetMessageSignature().Signature)
	})},
	{"signature by another key", verify.CheckSignature, inPlace(func(w *world, b *protobundle.Bundle) {
		b.GetMessageSignature().Signature = w.ecdsa(newKey(w.t), []byte(artifact))
	})},

	// The timestamp.
	{"timestamp changed", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(token(b).SignedTimestamp) })},
	{"timestamp of another signature", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
		token(b).SignedTimestamp = w.timestamp(w.tsa, []byte("another signature"))
	})},
	{"timestamp by a stranger", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
		token(b).SignedTimestamp = w.timestamp(w.newTSA("tsa.example.com"), b.GetMessageSignature().Signature)
	})},
	// The signer's issuer and serial number are the real ones' (CVE-2026-39984).
	{"timestamp by a stranger whose certificate comes first", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
		stranger := w.newTSA("tsa.example.com")
		token(b).SignedTimestamp = w.forgedTimestamp(stranger, b.GetMessageSignature().Signature, stranger.certs[0], w.tsa.certs[0])
	})},
	{"timestamp by a stranger whose certificate comes last", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
		stranger := w.newTSA("tsa.example.com")
		token(b).SignedTimestamp = w.forgedTimestamp(stranger, b.GetMessageSignature().Signature, w.tsa.certs[0], stranger.certs[0])
	})},
	{"timestamp by a stranger with the real certificate alone", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
		token(b).SignedTimestamp = w.forgedTimestamp(w.newTSA("tsa.example.com"), b.GetMessageSignature().Signature, w.tsa.certs[0])
	})},

	// The log entry.
	{"canonicalizedBody missing", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).CanonicalizedBody = nil })},
	{"canonicalizedBody changed", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).CanonicalizedBody = bytes.Replace(tle(b).CanonicalizedBody, []byte(`"digest":"`), []byte(`"digest":"A`), 1)
	})},
	{"canonicalizedBody with a space", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).CanonicalizedBody = append(tle(b).CanonicalizedBody, ' ')
	})},
	{"canonicalizedBody that is not JSON", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).CanonicalizedBody = []byte("x") })},
	{"entry of another signature, truly logged", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
		b.VerificationMaterial.TlogEntries = w.bundle("another artifact", leafSpec{}).VerificationMaterial.TlogEntries
	})},
	{"entry of another kind", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).KindVersion.Version = "0.0.1" })},
	{"entry of an unknown log", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).LogId.KeyId[31] ^= 1 })},

	// The inclusion proof.
	{"proof hash changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(tle(b).InclusionProof.Hashes[1]) })},
	{"proof hash cut", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).InclusionProof.Hashes[1] = tle(b).InclusionProof.Hashes[1][:31]
	})},
	{"proof hash added", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).InclusionProof.Hashes = append(tle(b).InclusionProof.Hashes, make([]byte, 32))
	})},
	{"proof hash removed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).InclusionProof.Hashes = tle(b).InclusionProof.Hashes[1:]
	})},
	{"proof tree size changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof.TreeSize++ })},
	{"proof root hash changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(tle(b).InclusionProof.RootHash) })},
	{"proof index changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof.LogIndex-- })},
	{"index changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).LogIndex, tle(b).InclusionProof.LogIndex = 4, 4
	})},
	{"index beyond the tree", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).LogIndex, tle(b).InclusionProof.LogIndex = 11, 11
	})},
	{"index negative", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) {
		tle(b).LogIndex, tle(b).InclusionProof.LogIndex = -1, -1
	})},

	// The checkpoint.
	{"tree head size changed", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) { editNote(b, "\n11\n", "\n12\n") })},
	{"tree head origin changed", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) { editNote(b, origin, "log.example.net") })},
	{"tree head root hash changed", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) {
		root := base64.StdEncoding.EncodeToString(tle(b).InclusionProof.RootHash)
		editNote(b, root, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	})},
	{"log signature line changed", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) { flipLine(b, 0) })},
	{"log signature line missing", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) {
		text, lines, _ := strings.Cut(tle(b).InclusionProof.Checkpoint.Envelope, "\n\n")
		_, rest, _ := strings.Cut(lines, "\n")
		tle(b).InclusionProof.Checkpoint.Envelope = text + "\n\n" + rest
	})},
	{"checkpoint unsigned", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) {
		text, _, _ := strings.Cut(tle(b).InclusionProof.Checkpoint.Envelope, "\n\n")
		tle(b).InclusionProof.Checkpoint.Envelope = text + "\n"
	})},

	// The witnesses.
	{"one cosignature of two", verify.CheckQuorum, inPlace(func(w *world, b *protobundle.Bundle) { w.relog(b, 1) })},
	{"no cosignature", verify.CheckQuorum, inPlace(func(w *world, b *protobundle.Bundle) { w.relog(b, 0) })},
	{"cosignature changed", verify.CheckQuorum, inPlace(func(w *world, b *protobundle.Bundle) { flipLine(b, 2) })},
	{"one witness twice", verify.CheckQuorum, inPlace(func(w *world, b *protobundle.Bundle) {
		w.relog(b, 1)
		c := tle(b).InclusionProof.Checkpoint
		lines := strings.SplitAfter(strings.TrimSpace(c.Envelope), "\n")
		c.Envelope += lines[len(lines)-1] + "\n"
	})},
}

func TestRefuses(t *testing.T) {
	for _, a := range alterations {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			data := marshal(t, a.alter(w, w.bundle(artifact, leafSpec{})))
			got, err := w.verifier().Bundle(data, strings.NewReader(artifact))
			wantRefusal(t, got, err, a.check)
		})
	}
}

func wantRefusal(t *testing.T, got *verify.Result, err error, check verify.Check) {
	t.Helper()
	var refusal *verify.Error
	if !errors.As(err, &refusal) {
		t.Fatalf("got %+v, %v, want a refusal", got, err)
	}
	if refusal.Check != check || got != nil {
		t.Errorf("refused by %q, want %q: %v", refusal.Check, check, err)
	}
	if !strings.HasPrefix(err.Error(), string(check)+": ") {
		t.Errorf("error %q does not begin with its check", err)
	}
}

// embeddedSCT returns the bytes of the SCT in a certificate.
func (w *world) embeddedSCT(der []byte) []byte {
	w.t.Helper()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		w.t.Fatal(err)
	}
	i := slices.IndexFunc(cert.Extensions, func(e pkixExtension) bool { return e.Id.Equal(oidSCTList) })
	return cert.Extensions[i].Value[6:] // OCTET STRING, list length, SCT length
}

func TestRefusesChangedArtifact(t *testing.T) {
	w := newWorld(t)
	data := marshal(t, w.bundle(artifact, leafSpec{}))
	got, err := w.verifier().Bundle(data, strings.NewReader(artifact+"x"))
	wantRefusal(t, got, err, verify.CheckArtifact)
	got, err = w.verifier().Digest(data, crypto.SHA256, sum256(artifact+"x"))
	wantRefusal(t, got, err, verify.CheckArtifact)
}

func TestUnreadableArtifactIsNoVerdict(t *testing.T) {
	w := newWorld(t)
	broken := io.MultiReader(strings.NewReader(artifact), iotest.ErrReader(io.ErrUnexpectedEOF))
	_, err := w.verifier().Bundle(marshal(t, w.bundle(artifact, leafSpec{})), broken)
	if refusal := new(verify.Error); errors.As(err, &refusal) || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the reader's error and no refusal", err)
	}
}

func TestUnknownLogBesideIsPassedOver(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	foreign := w.bundle(artifact, leafSpec{}).VerificationMaterial.TlogEntries[0]
	foreign.LogId.KeyId[0] ^= 1
	b.VerificationMaterial.TlogEntries = append([]*rekor.TransparencyLogEntry{foreign}, tle(b))
	if _, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil {
		t.Error(err)
	}
}

func TestEveryKnownEntryMustPass(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	second := w.bundle("another artifact", leafSpec{}).VerificationMaterial.TlogEntries[0]
	b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, second)
	got, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckBody)
}

func TestWithoutPolicyWitnessesDoNotCount(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Policy, o.NoPolicy = nil, true
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	b := w.bundle(artifact, leafSpec{})
	w.relog(b, 0)
	got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
	if err != nil || got.Witnesses == nil || len(got.Witnesses) > 0 { // a list in JSON, too
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestRefusesLogThePolicyDoesNotList(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	o := w.options()
	o.Policy = newWorld(t).options().Policy // the same names, other keys
	v, err := verify.New(o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckCheckpoint)
}

// The tool that forges timestamps makes good ones in the right hands: it is the forger that is refused.
func TestTimestampWithItsCertificateInside(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	token(b).SignedTimestamp = w.forgedTimestamp(w.tsa, b.GetMessageSignature().Signature, w.tsa.certs[0])
	if _, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil {
		t.Error(err)
	}
}

func BenchmarkBundle(b *testing.B) {
	t := new(testing.T)
	w := newWorld(t)
	data, v := marshal(t, w.bundle(artifact, leafSpec{})), w.verifier()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := v.Bundle(data, strings.NewReader(artifact)); err != nil {
			b.Fatal(err)
		}
	}
}
