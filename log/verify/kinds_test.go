package verify_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	"github.com/sigstore/protobuf-specs/gen/pb-go/dsse"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

const intoto = "application/vnd.in-toto+json"

// statement is an attestation about artifact, whose digest it writes under the given algorithm.
func statement(artifact, algorithm string) []byte {
	sum256, sum512 := sha256.Sum256([]byte(artifact)), sha512.Sum512([]byte(artifact))
	digest := hex.EncodeToString(sum256[:])
	if algorithm == "sha512" {
		digest = hex.EncodeToString(sum512[:])
	}
	return fmt.Appendf(nil, `{"_type":"https://in-toto.io/Statement/v1","predicateType":"https://example.com/p","predicate":{},`+
		`"subject":[{"name":"other","digest":{"sha256":"%064x"}},{"name":"a","digest":{%q:%q}}]}`, 1, algorithm, digest)
}

// attestation is alice's DSSE bundle over payload.
func (w *world) attestation(payloadType string, payload []byte) *protobundle.Bundle {
	w.t.Helper()
	cert, key := w.leaf(leafSpec{})
	pae := fmt.Appendf(nil, "DSSEv1 %d %s %d %s", len(payloadType), payloadType, len(payload), payload)
	sig, digest := w.ecdsa(key, pae), sha256.Sum256(pae)
	b := w.assemble(cert, sig, digest[:])
	b.Content = &protobundle.Bundle_DsseEnvelope{DsseEnvelope: &dsse.Envelope{
		Payload: payload, PayloadType: payloadType, Signatures: []*dsse.Signature{{Sig: sig}},
	}}
	return b
}

func TestHonestAttestationVerifies(t *testing.T) {
	for _, algorithm := range []string{"sha256", "sha512"} {
		w := newWorld(t)
		data := marshal(t, w.attestation(intoto, statement(artifact, algorithm)))
		got, err := w.verifier().Bundle(data, strings.NewReader(artifact))
		if err != nil || got.Predicate != "https://example.com/p" {
			t.Errorf("%s: got %+v, %v", algorithm, got, err)
		}
	}
}

func TestPredicateTypeMustBeTheExpected(t *testing.T) {
	w := newWorld(t)
	attestation := marshal(t, w.attestation(intoto, statement(artifact, "sha256")))
	o := w.options()
	o.PredicateType = "https://example.com/p"
	if got, err := w.newVerifier(o).Bundle(attestation, strings.NewReader(artifact)); err != nil || got.Predicate != o.PredicateType {
		t.Errorf("got %+v, %v", got, err)
	}
	signature := marshal(t, w.bundle(artifact, leafSpec{}))
	got, err := w.newVerifier(o).Bundle(signature, strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckPredicate)
	for _, other := range []string{"https://example.com/", "https://example.com/p/v2"} {
		o.PredicateType = other
		got, err := w.newVerifier(o).Bundle(attestation, strings.NewReader(artifact))
		wantRefusal(t, got, err, verify.CheckPredicate)
	}
}

// A digest says nothing about a bundle that names its artifact by another algorithm.
func TestDigestOfAnotherAlgorithm(t *testing.T) {
	w := newWorld(t)
	long := sha512.Sum512([]byte(artifact))
	for name, x := range map[string]struct {
		bundle    *protobundle.Bundle
		algorithm crypto.Hash
		digest    []byte
		passes    bool
	}{
		"statement by its algorithm":                     {w.attestation(intoto, statement(artifact, "sha512")), crypto.SHA512, long[:], true},
		"statement by another":                           {w.attestation(intoto, statement(artifact, "sha256")), crypto.SHA512, long[:], false},
		"signature by another":                           {w.bundle(artifact, leafSpec{}), crypto.SHA512, long[:], false},
		"signature by a cut digest":                      {w.bundle(artifact, leafSpec{}), crypto.SHA256, sum256(artifact)[:31], false},
		"signature by nothing":                           {w.bundle(artifact, leafSpec{}), crypto.SHA256, nil, false},
		"statement, which has SHA-256 of something else": {w.attestation(intoto, statement(artifact, "sha512")), crypto.SHA256, sum256(artifact), false},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := w.verifier().Digest(marshal(t, x.bundle), x.algorithm, x.digest)
			if !x.passes {
				wantRefusal(t, got, err, verify.CheckArtifact)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

// Readers differ in which of two members they take, and in whether case matters.
func TestStatementWithMembersTwice(t *testing.T) {
	other := sum256("another artifact")
	whole := string(statement(artifact, "sha256"))
	for name, payload := range map[string]string{
		"predicate type":                strings.Replace(whole, "{", `{"predicateType":"https://example.com/other",`, 1),
		"predicate type, in other case": strings.Replace(whole, "{", `{"PREDICATETYPE":"https://example.com/other",`, 1),
		"subject":                       strings.Replace(whole, "{", fmt.Sprintf(`{"subject":[{"name":"a","digest":{"sha256":"%x"}}],`, other), 1),
		"subject, in other case":        strings.Replace(whole, "{", fmt.Sprintf(`{"Subject":[{"name":"a","digest":{"sha256":"%x"}}],`, other), 1),
		"digest":                        strings.Replace(whole, `"name":"a",`, fmt.Sprintf(`"name":"a","digest":{"sha256":"%x"},`, other), 1),
		"algorithm":                     strings.Replace(whole, `"name":"a","digest":{`, fmt.Sprintf(`"name":"a","digest":{"sha256":"%x",`, other), 1),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			got, err := w.verifier().Bundle(marshal(t, w.attestation(intoto, []byte(payload))), strings.NewReader(artifact))
			wantRefusal(t, got, err, verify.CheckArtifact)
		})
	}
}

func TestRefusesAttestation(t *testing.T) {
	for _, a := range []alteration{
		{"about another artifact", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			return w.attestation(intoto, statement("another artifact", "sha256"))
		}},
		{"about nothing", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			return w.attestation(intoto, []byte(`{"subject":[]}`))
		}},
		{"that is no JSON", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			return w.attestation(intoto, []byte(`x`))
		}},
		{"of a payload type that names no artifact", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			return w.attestation("text/plain", statement(artifact, "sha256"))
		}},
		{"with 1,025 subjects", verify.CheckArtifact, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			return w.attestation(intoto, []byte(`{"subject":[{}`+strings.Repeat(",{}", 1024)+`]}`))
		}},
		{"with its subject replaced", verify.CheckSignature, func(w *world, _ *protobundle.Bundle) *protobundle.Bundle {
			b := w.attestation(intoto, statement("another artifact", "sha256"))
			b.GetDsseEnvelope().Payload = statement(artifact, "sha256")
			return b
		}},
		{"with its predicate changed", verify.CheckSignature, inPlace(func(w *world, b *protobundle.Bundle) {
			b.GetDsseEnvelope().Payload = bytes.Replace(b.GetDsseEnvelope().Payload, []byte(`{}`), []byte(`{"ok":true}`), 1)
		})},
		{"with two signatures", verify.CheckBundle, inPlace(func(w *world, b *protobundle.Bundle) {
			e := b.GetDsseEnvelope()
			e.Signatures = append(e.Signatures, e.Signatures[0])
		})},
		{"logged as something else", verify.CheckBody, inPlace(func(w *world, b *protobundle.Bundle) {
			b.VerificationMaterial.TlogEntries = w.attestation(intoto, statement(artifact, "sha512")).VerificationMaterial.TlogEntries
		})},
	} {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			data := marshal(t, a.alter(w, w.attestation(intoto, statement(artifact, "sha256"))))
			got, err := w.verifier().Bundle(data, strings.NewReader(artifact))
			wantRefusal(t, got, err, a.check)
		})
	}
}

// p384 is a bundle of a P-384 key, whose digest is of the given algorithm.
func (w *world) p384(algorithm common.HashAlgorithm, digest []byte) *protobundle.Bundle {
	w.t.Helper()
	cert, key := w.leaf(leafSpec{curve: elliptic.P384()})
	sig, err := ecdsa.SignASN1(rand.Reader, key, digest)
	if err != nil {
		w.t.Fatal(err)
	}
	logged := sha512.Sum384([]byte(artifact))
	b := w.assemble(cert, sig, logged[:])
	b.Content = &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{
		MessageDigest: &common.HashOutput{Algorithm: algorithm, Digest: digest}, Signature: sig,
	}}
	return b
}

func TestOtherCurveVerifies(t *testing.T) {
	w := newWorld(t)
	digest := sha512.Sum384([]byte(artifact))
	data := marshal(t, w.p384(common.HashAlgorithm_SHA2_384, digest[:]))
	if _, err := w.verifier().Bundle(data, strings.NewReader(artifact)); err != nil {
		t.Error(err)
	}
	// Of such a bundle, a SHA-256 digest says nothing.
	got, err := w.verifier().Digest(data, crypto.SHA256, sum256(artifact))
	wantRefusal(t, got, err, verify.CheckArtifact)
}

// Old clients hashed with SHA-256 for every curve; the log takes no such entry.
func TestRefusesShortDigestForCurve(t *testing.T) {
	w := newWorld(t)
	digest := sha256.Sum256([]byte(artifact))
	got, err := w.verifier().Bundle(marshal(t, w.p384(common.HashAlgorithm_SHA2_256, digest[:])), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckSignature)
}

// TestCheckpointOfManyWitnesses has as many signature lines as a note may have, of ML-DSA-44.
func TestCheckpointOfManyWitnesses(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{})
	checkpoint := b.GetVerificationMaterial().GetTlogEntries()[0].GetInclusionProof().GetCheckpoint()
	for lines := strings.Count(checkpoint.Envelope, "\n\u2014 "); lines < 100; lines++ {
		checkpoint.Envelope += policy.FormatSignature(fmt.Sprintf("w%d.example.net", lines), uint32(lines), make([]byte, 8+2420))
	}
	if _, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil {
		t.Errorf("a checkpoint of %d bytes: %v", len(checkpoint.Envelope), err)
	}
}
