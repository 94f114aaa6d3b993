package verify_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/protobuf-specs/gen/pb-go/dsse"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"

	"tallywood/log/entry"
	"tallywood/log/verify"
)

// signDigest makes the signature of key over message that logs take, and the digest that is logged.
func (w *world) signDigest(key crypto.Signer, message []byte) (sig, digest []byte, details entry.KeyDetails) {
	w.t.Helper()
	details, err := entry.KeyDetailsFor(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	h := details.Hash().New()
	h.Write(message)
	digest = h.Sum(nil)
	if sig, err = key.Sign(rand.Reader, digest, details.Hash()); err != nil {
		w.t.Fatal(err)
	}
	return sig, digest, details
}

// managed is a bundle over artifact of a managed key, as cosign writes them without a timestamp, and
// the key in DER.
func (w *world) managed(key crypto.Signer) (*protobundle.Bundle, []byte) {
	w.t.Helper()
	b, spki, digest := w.managedOver(key, []byte(artifact))
	algorithms := map[int]common.HashAlgorithm{32: common.HashAlgorithm_SHA2_256, 48: common.HashAlgorithm_SHA2_384, 64: common.HashAlgorithm_SHA2_512}
	b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{
		MessageDigest: &common.HashOutput{Algorithm: algorithms[len(digest)], Digest: digest}, Signature: b.GetMessageSignature().Signature,
	}}
	return b, spki
}

// managedAttestation is the same for an attestation.
func (w *world) managedAttestation(key crypto.Signer, payload []byte) (*protobundle.Bundle, []byte) {
	w.t.Helper()
	b, spki, _ := w.managedOver(key, fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(intoto), intoto, len(payload), payload))
	b.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &dsse.Envelope{
		Payload: payload, PayloadType: intoto, Signatures: []*dsse.Signature{{Sig: b.GetMessageSignature().Signature}}}}
	return b, spki
}

// managedOver is a logged signature of key over message, whose digest it returns, too; the content
// is the caller's to complete.
func (w *world) managedOver(key crypto.Signer, message []byte) (b *protobundle.Bundle, spki, digest []byte) {
	w.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	sig, digest, details := w.signDigest(key, message)
	body, err := entry.Canonical(digest, entry.Signature{Content: sig, PublicKey: spki, KeyDetails: details})
	if err != nil {
		w.t.Fatal(err)
	}
	return &protobundle.Bundle{
		MediaType: "application/vnd.dev.sigstore.bundle.v0.3+json",
		VerificationMaterial: &protobundle.VerificationMaterial{
			Content:     &protobundle.VerificationMaterial_PublicKey{PublicKey: &common.PublicKeyIdentifier{Hint: "release key"}},
			TlogEntries: []*rekor.TransparencyLogEntry{w.logged(body, 2)},
		},
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{Signature: sig}},
	}, spki, digest
}

// keyOptions expect the key.
func (w *world) keyOptions(spki []byte) verify.Options {
	w.t.Helper()
	key, err := x509.ParsePKIXPublicKey(spki)
	if err != nil {
		w.t.Fatal(err)
	}
	o := w.options()
	o.Identity, o.Issuer, o.Key = "", "", key
	return o
}

// keyKinds makes a key of every kind that logs take.
func keyKinds(t *testing.T) map[string]crypto.Signer {
	t.Helper()
	kinds := map[string]crypto.Signer{}
	keep := func(name string, key crypto.Signer, err error) {
		if err != nil {
			t.Fatal(err)
		}
		kinds[name] = key
	}
	for name, curve := range map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384(), "P-521": elliptic.P521()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		keep(name, key, err)
	}
	for _, bits := range []int{2048, 3072, 4096} {
		key, err := rsa.GenerateKey(rand.Reader, bits)
		keep(fmt.Sprintf("RSA %d", bits), key, err)
	}
	_, key, err := ed25519.GenerateKey(nil)
	keep("Ed25519", key, err)
	return kinds
}

func TestManagedKeysVerify(t *testing.T) {
	w := newWorld(t)
	for name, key := range keyKinds(t) {
		t.Run(name, func(t *testing.T) {
			b, spki := w.managed(key)
			v := w.newVerifier(w.keyOptions(spki))
			got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
			if err != nil {
				t.Fatal(err)
			}
			if got.Key != fmt.Sprintf("sha256:%x", sha256.Sum256(spki)) || got.Identity != "" || !got.Time.IsZero() || len(got.Witnesses) != 2 {
				t.Errorf("got %+v", got)
			}
			digest := b.GetMessageSignature().MessageDigest.Digest
			algorithm := map[int]crypto.Hash{32: crypto.SHA256, 48: crypto.SHA384, 64: crypto.SHA512}[len(digest)]
			if _, err := v.Digest(marshal(t, b), algorithm, digest); err != nil {
				t.Errorf("by its digest: %v", err)
			}
			b, _ = w.managedAttestation(key, statement(artifact, "sha512"))
			if got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil || got.Predicate != "https://example.com/p" {
				t.Errorf("attestation: got %+v, %v", got, err)
			}
		})
	}
}

func (w *world) stamped(tsa chain, b *protobundle.Bundle) {
	b.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
		Rfc3161Timestamps: []*common.RFC3161SignedTimestamp{{SignedTimestamp: w.timestamp(tsa, b.GetMessageSignature().Signature)}}}
}

func TestRefusesOfManagedKey(t *testing.T) {
	for _, a := range []alteration{
		{"another key's signature", verify.CheckSignature, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			b, _ := w.managed(newKey(w.t))
			return b
		}},
		{"another artifact", verify.CheckArtifact, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(b.GetMessageSignature().MessageDigest.Digest) })},
		{"signature changed", verify.CheckSignature, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(b.GetMessageSignature().Signature) })},
		{"a certificate's bundle", verify.CheckBundle, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle { return w.bundle(artifact, leafSpec{}) }},
		{"no key and no certificate", verify.CheckBundle, inPlace(func(w *world, b *protobundle.Bundle) { b.VerificationMaterial.Content = nil })},
		{"no log entry", verify.CheckBundle, inPlace(func(w *world, b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil })},
		{"logged with another key", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
			other, _ := w.managed(newKey(w.t))
			b.VerificationMaterial.TlogEntries = other.VerificationMaterial.TlogEntries
		})},
		{"logged with a certificate of the key", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = w.bundle(artifact, leafSpec{}).VerificationMaterial.TlogEntries
		})},
		{"proof hash changed", verify.CheckInclusion, inPlace(func(w *world, b *protobundle.Bundle) { flipLast(tle(b).InclusionProof.Hashes[0]) })},
		{"checkpoint forged", verify.CheckCheckpoint, inPlace(func(w *world, b *protobundle.Bundle) { flipLine(b, 0) })},
		{"one cosignature of two", verify.CheckQuorum, inPlace(func(w *world, b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries[0] = w.logged(tle(b).CanonicalizedBody, 1)
		})},
		{"timestamp by a stranger", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) { w.stamped(w.newTSA("tsa.example.com"), b) })},
		{"timestamp of another signature", verify.CheckTimestamp, inPlace(func(w *world, b *protobundle.Bundle) {
			w.stamped(w.tsa, b)
			token(b).SignedTimestamp = w.timestamp(w.tsa, []byte("another signature"))
		})},
	} {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			b, spki := w.managed(newKey(t))
			data := marshal(t, a.alter(w, b))
			got, err := w.newVerifier(w.keyOptions(spki)).Bundle(data, strings.NewReader(artifact))
			wantRefusal(t, got, err, a.check)
		})
	}
}

// A managed key's bundle need not have a timestamp. What its log's key is worth is then a question
// of when witnesses cosigned, or else of today.
func TestRetiredLogAndManagedKey(t *testing.T) {
	w := newWorld(t)
	b, spki := w.managed(newKey(t)) // cosigned at w.now
	plain := marshal(t, b)
	w.stamped(w.tsa, b)
	stamped := marshal(t, b)
	for _, x := range []struct {
		name       string
		start, end time.Duration
		bundle     []byte
		witnesses  bool
		passes     bool
	}{
		{"in use, no timestamp, no witnesses", -time.Hour, time.Hour, plain, false, true},
		{"retired, no timestamp, no witnesses", -time.Hour, -time.Minute, plain, false, false},
		{"retired after the cosignatures", -time.Hour, 0, plain, true, true},
		{"retired before the cosignatures", -time.Hour, -time.Second, plain, true, false},
		{"retired after the timestamp", -time.Hour, 0, stamped, false, true},
		{"retired before the timestamp", -time.Hour, -time.Second, stamped, false, false},
		{"not yet in use", time.Hour, 2 * time.Hour, plain, false, false},
	} {
		t.Run(x.name, func(t *testing.T) {
			o := w.keyOptions(spki)
			o.TrustedRoot = w.changedRoot(func(r *trustroot.TrustedRoot) { r.Tlogs[0].PublicKey.ValidFor = w.span(x.start, x.end) })
			if !x.witnesses {
				o.Policy, o.NoPolicy = nil, true
			}
			got, err := w.newVerifier(o).Bundle(x.bundle, strings.NewReader(artifact))
			if !x.passes {
				wantRefusal(t, got, err, verify.CheckCheckpoint)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTimestampOfManagedKeyIsTold(t *testing.T) {
	w := newWorld(t)
	b, spki := w.managed(newKey(t))
	w.stamped(w.tsa, b)
	got, err := w.newVerifier(w.keyOptions(spki)).Bundle(marshal(t, b), strings.NewReader(artifact))
	if err != nil || !got.Time.Equal(w.now) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestManagedKeyIsNoIdentity(t *testing.T) {
	w := newWorld(t)
	b, _ := w.managed(newKey(t))
	got, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckBundle)
	if !errors.Is(err, verify.ErrManagedKey) {
		t.Errorf("nobody can tell from %v what would help", err)
	}
}

func pemText(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
