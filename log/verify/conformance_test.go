package verify_test

import (
	"bytes"
	"encoding/base64"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"

	"tallywood/log/verify"
)

// What the vectors of github.com/sigstore/sigstore-conformance try that no other test here does,
// with bundles of our own.

// editLines takes the checkpoint of b apart and puts it together again.
func editLines(b *protobundle.Bundle, change func(text, signatures []string) ([]string, []string)) {
	c := tle(b).InclusionProof.Checkpoint
	text, signatures, _ := strings.Cut(c.Envelope, "\n\n")
	lines, after := change(strings.Split(text, "\n"), strings.Split(strings.TrimSuffix(signatures, "\n"), "\n"))
	c.Envelope = strings.Join(lines, "\n") + "\n\n" + strings.Join(after, "\n") + "\n"
}

// without is lines but the one at i.
func without(lines []string, i int) []string {
	return append(append([]string{}, lines[:i]...), lines[i+1:]...)
}

func TestRefusesIncompleteCheckpoint(t *testing.T) {
	for name, change := range map[string]func(text, signatures []string) ([]string, []string){
		"origin missing":    func(x, s []string) ([]string, []string) { return without(x, 0), s },
		"size missing":      func(x, s []string) ([]string, []string) { return without(x, 1), s },
		"root hash missing": func(x, s []string) ([]string, []string) { return without(x, 2), s },
		"signature of the log under another name": func(x, s []string) ([]string, []string) {
			s[0] = strings.Replace(s[0], origin, "log.example.net", 1)
			return x, s
		},
		"origin and signature under another name": func(x, s []string) ([]string, []string) {
			x[0], s[0] = "log.example.net", strings.Replace(s[0], origin, "log.example.net", 1)
			return x, s
		},
		"key ID of the log's line changed": func(x, s []string) ([]string, []string) {
			fields := strings.Fields(s[0])
			blob, err := base64.StdEncoding.DecodeString(fields[2])
			if err != nil {
				t.Fatal(err)
			}
			blob[0] ^= 1
			s[0] = "— " + fields[1] + " " + base64.StdEncoding.EncodeToString(blob)
			return x, s
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := w.bundle(artifact, leafSpec{})
			editLines(b, change)
			for _, v := range []*verify.Verifier{w.verifier(), w.withoutWitnesses()} {
				got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
				wantRefusal(t, got, err, verify.CheckCheckpoint)
			}
		})
	}
}

// Lines of keys nobody knows say nothing, wherever they stand and whatever their name.
func TestUnknownSignatureLinesArePassedOver(t *testing.T) {
	for name, change := range map[string]func(text, signatures []string) ([]string, []string){
		"log's line last": func(x, s []string) ([]string, []string) { return x, append(without(s, 0), s[0]) },
		"witness nobody knows": func(x, s []string) ([]string, []string) {
			return x, append([]string{"— unknown.example.org " + base64.StdEncoding.EncodeToString(make([]byte, 76))}, s...)
		},
		"another key of the log": func(x, s []string) ([]string, []string) {
			return x, append(s, "— "+origin+" "+base64.StdEncoding.EncodeToString(make([]byte, 75)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := w.bundle(artifact, leafSpec{})
			editLines(b, change)
			for _, v := range []*verify.Verifier{w.verifier(), w.withoutWitnesses()} {
				if _, err := v.Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

func TestRefusesMalformedJSON(t *testing.T) {
	w := newWorld(t)
	good := string(marshal(t, w.bundle(artifact, leafSpec{})))
	signature := base64.StdEncoding.EncodeToString(w.bundle(artifact, leafSpec{}).GetMessageSignature().Signature)
	for name, data := range map[string]string{
		"cut in the middle of a string": good[:len(good)/2],
		"signature that is no base64":   strings.Replace(good, `"signature":"`, `"signature":"INVALID!!!`, 1),
		"second signature":              strings.Replace(good, `"signature":"`, `"signature":"`+signature+`","signature":"`, 1),
		"version that is to come":       strings.Replace(good, "v0.3+json", "v0.4+json", 1),
		"version nobody knows":          strings.Replace(good, "bundle.v0.3+json", "bundle+json;version=99.9", 1),
		"number out of range":           strings.Replace(good, `"logIndex":"5"`, `"logIndex":"9223372036854775808"`, 1),
	} {
		if data == good {
			t.Fatalf("%s: nothing was changed", name)
		}
		t.Run(name, func(t *testing.T) {
			got, err := w.verifier().Bundle([]byte(data), strings.NewReader(artifact))
			if name == "version that is to come" { // JSON and all its parts are as ever
				wantRefusal(t, got, err, verify.CheckClients)
				return
			}
			wantRefusal(t, got, err, verify.CheckBundle)
		})
	}
}

// Two signatures of one key over one statement are both good; logged is one of them.
func TestRefusesAttestationLoggedWithItsOtherSignature(t *testing.T) {
	w := newWorld(t)
	key := newKey(t)
	payload := statement(artifact, "sha256")
	b, spki := w.managedAttestation(key, payload)
	other, _ := w.managedAttestation(key, payload)
	if bytes.Equal(b.GetDsseEnvelope().Signatures[0].Sig, other.GetDsseEnvelope().Signatures[0].Sig) {
		t.Fatal("both signatures are the same")
	}
	b.VerificationMaterial.TlogEntries = other.VerificationMaterial.TlogEntries
	got, err := w.newVerifier(w.keyOptions(spki)).Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckBody)
}

func TestRefusesAttestationSignedByAnotherKey(t *testing.T) {
	for name, honest := range map[string]func(w *world) *protobundle.Bundle{
		"Rekor v2":           func(w *world) *protobundle.Bundle { return w.attestation(intoto, statement(artifact, "sha256")) },
		"Rekor v1":           func(w *world) *protobundle.Bundle { return w.bundleV1(shape{"0.3", "dsse"}) },
		"Rekor v1 of intoto": func(w *world) *protobundle.Bundle { return w.bundleV1(shape{"0.2", "intoto"}) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b, other := honest(w), honest(w)
			b.GetDsseEnvelope().Signatures = other.GetDsseEnvelope().Signatures
			got, err := w.withoutWitnesses().Bundle(marshal(t, b), strings.NewReader(artifact))
			wantRefusal(t, got, err, verify.CheckSignature)
		})
	}
}

// Certificates live for ten minutes, authorities for years, bundles for ever.
func TestBundleOutlivesEveryCertificate(t *testing.T) {
	w := newWorld(t)
	w.now = w.now.Add(-48 * time.Hour)
	w.ca, w.tsa = w.newCA("ca.example.com"), w.newTSA("tsa.example.com")
	v2 := w.bundle(artifact, leafSpec{})
	// Without attributes, of which one would say that it was signed today.
	token(v2).SignedTimestamp = w.forgedTimestamp(w.tsa, v2.GetMessageSignature().Signature, w.tsa.certs[0])
	for name, b := range map[string]*protobundle.Bundle{"Rekor v2": v2, "Rekor v1": w.bundleV1(shapes[0])} {
		if _, err := w.withoutWitnesses().Bundle(marshal(t, b), strings.NewReader(artifact)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRefusesTimestampOutsideItsCertificatesValidity(t *testing.T) {
	w := newWorld(t)
	b := w.bundle(artifact, leafSpec{before: 3 * time.Hour})
	earlier := *w
	earlier.now = w.now.Add(-3 * time.Hour) // the authority's certificate begins an hour ago
	token(b).SignedTimestamp = earlier.forgedTimestamp(w.tsa, b.GetMessageSignature().Signature, w.tsa.certs[0])
	v := w.verifierOf(func(r *trustroot.TrustedRoot) {
		for _, a := range append(r.TimestampAuthorities, r.CertificateAuthorities...) {
			a.ValidFor = w.span(-24*time.Hour, time.Hour)
		}
		for _, l := range append(r.Tlogs, r.Ctlogs...) {
			l.PublicKey.ValidFor = w.span(-24*time.Hour, time.Hour)
		}
	})
	got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckTimestamp)
}

func TestNewWantsValidityOfLogs(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(r *trustroot.TrustedRoot){
		"no start":    func(r *trustroot.TrustedRoot) { r.Tlogs[0].PublicKey.ValidFor.Start = nil },
		"no validity": func(r *trustroot.TrustedRoot) { r.Tlogs[0].PublicKey.ValidFor = nil },
	} {
		o := w.options()
		o.TrustedRoot = w.changedRoot(change)
		if _, err := verify.New(o); err == nil || !strings.Contains(err.Error(), "validity period") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
