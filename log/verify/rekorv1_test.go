package verify_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"

	"tallywood/internal/keys"
	"tallywood/log/verify"
)

const originV1 = "rekor.example.com - 1193050959916656506"

// A shape is one of the forms that bundles of Rekor v1 had over the years.
type shape struct {
	version string // of the bundle
	kind    string // of the log entry
}

var shapes = []shape{{"0.1", "hashedrekord"}, {"0.2", "hashedrekord"}, {"0.2", "intoto"}, {"0.3", "hashedrekord"}, {"0.3", "dsse"}}

// bundleV1 is alice's, logged in the Rekor v1 log of the world. It has no timestamp but the log's.
func (w *world) bundleV1(s shape) *protobundle.Bundle {
	w.t.Helper()
	b := w.bundle(artifact, leafSpec{})
	if s.kind != "hashedrekord" {
		b = w.attestation(intoto, statement(artifact, "sha256"))
	}
	cert := certificate(b)
	b.MediaType = "application/vnd.dev.sigstore.bundle+json;version=" + s.version
	if s.version < "0.3" {
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{
			X509CertificateChain: &common.X509CertificateChain{Certificates: []*common.X509Certificate{cert}}}
	}
	b.VerificationMaterial.TimestampVerificationData = nil
	w.relogV1(b, s.kind, pemText("CERTIFICATE", cert.RawBytes), nil)
	return b
}

type object = map[string]any

// relogV1 logs what b holds anew. change is what an attacker with a word in the log's wording does.
func (w *world) relogV1(b *protobundle.Bundle, kind string, verifier []byte, change func(spec object)) {
	w.t.Helper()
	var spec object
	version := "0.0.1"
	hash := func(data []byte) object {
		sum := sha256.Sum256(data)
		return object{"algorithm": "sha256", "value": hex.EncodeToString(sum[:])}
	}
	switch e := b.GetDsseEnvelope(); kind {
	case "hashedrekord":
		msg := b.GetMessageSignature()
		spec = object{
			"data":      object{"hash": object{"algorithm": "sha256", "value": hex.EncodeToString(msg.MessageDigest.Digest)}},
			"signature": object{"content": msg.Signature, "publicKey": object{"content": verifier}},
		}
	case "dsse":
		spec = object{
			"envelopeHash": hash(nil), "payloadHash": hash(e.Payload),
			"signatures": []any{object{"signature": e.Signatures[0].Sig, "verifier": verifier}},
		}
	case "intoto":
		version = "0.0.2"
		sig := base64.StdEncoding.EncodeToString(e.Signatures[0].Sig)
		spec = object{"content": object{
			"envelope": object{"payloadType": e.PayloadType, "signatures": []any{object{"publicKey": verifier, "sig": []byte(sig)}}},
			"hash":     hash(nil), "payloadHash": hash(e.Payload),
		}}
	}
	if change != nil {
		change(spec)
	}
	body, err := json.Marshal(object{"apiVersion": version, "kind": kind, "spec": spec})
	if err != nil {
		w.t.Fatal(err)
	}
	b.VerificationMaterial.TlogEntries = []*rekor.TransparencyLogEntry{w.loggedV1(body, kind, version)}
}

// loggedV1 puts body into the Rekor v1 log: at an index in one of its trees, and another one overall.
func (w *world) loggedV1(body []byte, kind, version string) *rekor.TransparencyLogEntry {
	w.t.Helper()
	id, err := keys.LogID("", w.logV1.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	p := w.proof(body)
	p.Checkpoint = &rekor.Checkpoint{Envelope: w.checkpointV1(originV1, p)}
	e := &rekor.TransparencyLogEntry{
		LogIndex: p.LogIndex + 1000, LogId: &common.LogId{KeyId: id[:]}, IntegratedTime: w.now.Unix(),
		KindVersion: &rekor.KindVersion{Kind: kind, Version: version}, CanonicalizedBody: body, InclusionProof: p,
	}
	w.promise(e)
	return e
}

// checkpointV1 is a Rekor v1 log's statement of the tree that p leads to.
func (w *world) checkpointV1(origin string, p *rekor.InclusionProof) string {
	text := fmt.Sprintf("%s\n%d\n%s\nTimestamp: 1689177396617352539\n", origin, p.TreeSize, base64.StdEncoding.EncodeToString(p.RootHash))
	id, err := keys.LogID("", w.logV1.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	sig := append(bytes.Clone(id[:4]), w.ecdsa(w.logV1, []byte(text))...)
	return fmt.Sprintf("%s\n— rekor.example.com %s\n", text, base64.StdEncoding.EncodeToString(sig))
}

// promise signs for the time of e.
func (w *world) promise(e *rekor.TransparencyLogEntry) {
	w.t.Helper()
	signed, err := json.Marshal(object{"body": e.CanonicalizedBody, "integratedTime": e.IntegratedTime,
		"logID": hex.EncodeToString(e.LogId.KeyId), "logIndex": e.LogIndex})
	if err != nil {
		w.t.Fatal(err)
	}
	e.InclusionPromise = &rekor.InclusionPromise{SignedEntryTimestamp: w.ecdsa(w.logV1, signed)}
}

// withoutWitnesses is how bundles of Rekor v1 are verified.
func (w *world) withoutWitnesses() *verify.Verifier {
	w.t.Helper()
	o := w.options()
	o.Policy, o.NoPolicy = nil, true
	return w.newVerifier(o)
}

func TestHonestBundlesOfRekorV1Verify(t *testing.T) {
	w := newWorld(t)
	for _, s := range shapes {
		t.Run(s.kind+" in bundle "+s.version, func(t *testing.T) {
			data := marshal(t, w.bundleV1(s))
			got, err := w.withoutWitnesses().Bundle(data, strings.NewReader(artifact))
			if err != nil {
				t.Fatal(err)
			}
			if got.Origin != originV1 || got.Index != 1005 || got.Size != 11 || !got.Time.Equal(w.now) || got.Identity != alice || len(got.Witnesses) > 0 {
				t.Errorf("got %+v", got)
			}
			// There is no such thing as a witnessed Rekor v1 log, whatever a policy says.
			got, err = w.verifier().Bundle(data, strings.NewReader(artifact))
			wantRefusal(t, got, err, verify.CheckQuorum)
			if !errors.Is(err, verify.ErrUnwitnessed) {
				t.Errorf("nobody can tell from %v what would help", err)
			}
		})
	}
}

func chained(b *protobundle.Bundle, certs ...*x509.Certificate) {
	chain := b.VerificationMaterial.GetX509CertificateChain()
	for _, c := range certs {
		chain.Certificates = append(chain.Certificates, &common.X509Certificate{RawBytes: c.Raw})
	}
}

// An alterationV1 is an alteration of a bundle of that shape.
type alterationV1 struct {
	name  string
	shape shape
	check verify.Check
	alter func(w *world, b *protobundle.Bundle)
}

var alterationsV1 = []alterationV1{
	// The chain of old bundles.
	{"empty certificate chain", shapes[0], verify.CheckBundle, func(w *world, b *protobundle.Bundle) {
		b.VerificationMaterial.GetX509CertificateChain().Certificates = nil
	}},
	{"root certificate in the chain", shapes[0], verify.CheckBundle, func(w *world, b *protobundle.Bundle) { chained(b, w.ca.certs...) }},
	{"chain of eleven", shapes[1], verify.CheckBundle, func(w *world, b *protobundle.Bundle) {
		for range 10 {
			chained(b, w.ca.certs[0])
		}
	}},
	{"chain that begins with the authority", shapes[1], verify.CheckCertificate, func(w *world, b *protobundle.Bundle) {
		b.VerificationMaterial.GetX509CertificateChain().Certificates[0].RawBytes = w.ca.certs[0].Raw
	}},
	{"chain in a bundle of today", shapes[3], verify.CheckBundle, func(w *world, b *protobundle.Bundle) {
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &common.X509CertificateChain{
			Certificates: []*common.X509Certificate{certificate(b)}}}
	}},

	// The log's word for the time.
	{"signed entry time forged", shapes[0], verify.CheckPromise, func(w *world, b *protobundle.Bundle) {
		flipLast(tle(b).InclusionPromise.SignedEntryTimestamp)
	}},
	{"integrated time changed", shapes[3], verify.CheckPromise, func(w *world, b *protobundle.Bundle) { tle(b).IntegratedTime++ }},
	{"index changed", shapes[3], verify.CheckPromise, func(w *world, b *protobundle.Bundle) { tle(b).LogIndex++ }},
	{"index negative", shapes[0], verify.CheckPromise, func(w *world, b *protobundle.Bundle) { tle(b).LogIndex = -1 }},
	{"nobody's word for the time", shapes[3], verify.CheckBundle, func(w *world, b *protobundle.Bundle) { tle(b).InclusionPromise = nil }},
	{"signed by an unknown log", shapes[3], verify.CheckTimestamp, func(w *world, b *protobundle.Bundle) { flipLast(tle(b).LogId.KeyId) }},
	{"logged after the certificate expired", shapes[3], verify.CheckCertificate, func(w *world, b *protobundle.Bundle) {
		tle(b).IntegratedTime = w.now.Add(10 * time.Minute).Unix()
		w.promise(tle(b))
	}},
	{"logged before the certificate was valid", shapes[4], verify.CheckCertificate, func(w *world, b *protobundle.Bundle) {
		tle(b).IntegratedTime = w.now.Add(-2 * time.Minute).Unix()
		w.promise(tle(b))
	}},
	{"timestamp after the certificate expired", shapes[2], verify.CheckCertificate, func(w *world, b *protobundle.Bundle) {
		later := *w
		later.now = w.now.Add(10 * time.Minute)
		stamp(&later, b)
	}},
	{"timestamp by a stranger", shapes[2], verify.CheckTimestamp, func(w *world, b *protobundle.Bundle) {
		stranger := *w
		stranger.tsa = w.newTSA("tsa.example.com")
		stamp(&stranger, b)
	}},
	{"signed entry time of an entry of Rekor v2", shapes[3], verify.CheckPromise, func(w *world, b *protobundle.Bundle) {
		w.relog(b, 2)
		tle(b).InclusionPromise = &rekor.InclusionPromise{SignedEntryTimestamp: []byte{1}}
	}},

	// The log entry, as a log would write it that is in on it.
	{"entry of another signature", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "hashedrekord", certPEM(b), func(spec object) { spec["signature"].(object)["content"] = []byte("another signature") })
	}},
	{"entry of another digest", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "hashedrekord", certPEM(b), func(spec object) {
			spec["data"].(object)["hash"].(object)["value"] = hex.EncodeToString(sum256("another artifact"))
		})
	}},
	{"entry of a digest by another algorithm", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "hashedrekord", certPEM(b), func(spec object) { spec["data"].(object)["hash"].(object)["algorithm"] = "sha512" })
	}},
	{"entry of another certificate", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		other, _ := w.leaf(leafSpec{})
		w.relogV1(b, "hashedrekord", pemText("CERTIFICATE", other.Raw), nil)
	}},
	{"entry of the certificate's key", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		cert, err := x509.ParseCertificate(certificate(b).RawBytes)
		if err != nil {
			w.t.Fatal(err)
		}
		w.relogV1(b, "hashedrekord", pemText("PUBLIC KEY", cert.RawSubjectPublicKeyInfo), nil)
	}},
	{"envelope of another payload", shapes[4], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "dsse", certPEM(b), func(spec object) {
			spec["payloadHash"].(object)["value"] = hex.EncodeToString(sum256("another payload"))
		})
	}},
	{"envelope of another signature", shapes[4], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		other := w.attestation(intoto, b.GetDsseEnvelope().Payload)
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_Certificate{Certificate: certificate(other)}
		w.relogV1(other, "dsse", certPEM(other), func(spec object) {
			spec["signatures"].([]any)[0].(object)["signature"] = b.GetDsseEnvelope().Signatures[0].Sig
		})
		b.GetDsseEnvelope().Signatures = other.GetDsseEnvelope().Signatures
		b.VerificationMaterial.TlogEntries = other.VerificationMaterial.TlogEntries
	}},
	{"envelope of two signatures", shapes[4], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "dsse", certPEM(b), func(spec object) {
			signatures := spec["signatures"].([]any)
			spec["signatures"] = append(signatures, signatures[0])
		})
	}},
	{"statement of another payload", shapes[2], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		w.relogV1(b, "intoto", certPEM(b), func(spec object) {
			spec["content"].(object)["payloadHash"].(object)["value"] = hex.EncodeToString(sum256("another payload"))
		})
	}},
	{"signature logged as an envelope", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		b.VerificationMaterial.TlogEntries = w.bundleV1(shapes[4]).VerificationMaterial.TlogEntries
	}},
	{"entry of another kind than it says", shapes[3], verify.CheckBody, func(w *world, b *protobundle.Bundle) {
		tle(b).KindVersion = &rekor.KindVersion{Kind: "dsse", Version: "0.0.1"}
	}},
	{"entry of a kind nobody knows", shapes[3], verify.CheckPromise, func(w *world, b *protobundle.Bundle) {
		tle(b).KindVersion = &rekor.KindVersion{Kind: "rfc3161", Version: "0.0.1"}
	}},

	// Its place in the log.
	{"inclusion proof missing", shapes[0], verify.CheckBundle, func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof = nil }},
	{"proof hash changed", shapes[3], verify.CheckInclusion, func(w *world, b *protobundle.Bundle) { flipLast(tle(b).InclusionProof.Hashes[0]) }},
	{"proof index changed", shapes[3], verify.CheckInclusion, func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof.LogIndex-- }},
	{"proof index negative", shapes[3], verify.CheckInclusion, func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof.LogIndex = -1 }},
	{"proof of an older tree", shapes[3], verify.CheckInclusion, func(w *world, b *protobundle.Bundle) { tle(b).InclusionProof.TreeSize-- }},
	{"checkpoint of another tree", shapes[3], verify.CheckInclusion, func(w *world, b *protobundle.Bundle) {
		other := w.proof([]byte("another entry"))
		tle(b).InclusionProof.Checkpoint.Envelope = w.checkpointV1(originV1, other)
	}},
	{"checkpoint forged", shapes[3], verify.CheckCheckpoint, func(w *world, b *protobundle.Bundle) { flipLine(b, 0) }},
	{"checkpoint with another root hash", shapes[3], verify.CheckCheckpoint, func(w *world, b *protobundle.Bundle) {
		root := base64.StdEncoding.EncodeToString(tle(b).InclusionProof.RootHash)
		editNote(b, root, base64.StdEncoding.EncodeToString(make([]byte, 32)))
	}},
	{"checkpoint by another key", shapes[3], verify.CheckCheckpoint, func(w *world, b *protobundle.Bundle) {
		stranger := *w
		stranger.logV1 = newKey(w.t)
		tle(b).InclusionProof.Checkpoint.Envelope = stranger.checkpointV1(originV1, tle(b).InclusionProof)
	}},
	{"checkpoint of a log without tree ID", shapes[3], verify.CheckCheckpoint, func(w *world, b *protobundle.Bundle) {
		tle(b).InclusionProof.Checkpoint.Envelope = w.checkpointV1("rekor.example.com", tle(b).InclusionProof)
	}},
	{"checkpoint with a line by another key", shapes[3], verify.CheckClients, func(w *world, b *protobundle.Bundle) {
		line := "— rekor.example.com " + base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(make([]byte, 8), 7)) + "\n"
		tle(b).InclusionProof.Checkpoint.Envelope += line
	}},
}

// certPEM is the signing certificate of b.
func certPEM(b *protobundle.Bundle) []byte {
	if chain := b.VerificationMaterial.GetX509CertificateChain(); chain != nil {
		return pemText("CERTIFICATE", chain.Certificates[0].RawBytes)
	}
	return pemText("CERTIFICATE", certificate(b).RawBytes)
}

// stamp adds a timestamp of w to the envelope of b.
func stamp(w *world, b *protobundle.Bundle) {
	b.VerificationMaterial.TimestampVerificationData = &protobundle.TimestampVerificationData{
		Rfc3161Timestamps: []*common.RFC3161SignedTimestamp{{SignedTimestamp: w.timestamp(w.tsa, b.GetDsseEnvelope().Signatures[0].Sig)}}}
}

func TestRefusesOfRekorV1(t *testing.T) {
	for _, a := range alterationsV1 {
		t.Run(a.name, func(t *testing.T) {
			w := newWorld(t)
			b := w.bundleV1(a.shape)
			a.alter(w, b)
			got, err := w.withoutWitnesses().Bundle(marshal(t, b), strings.NewReader(artifact))
			wantRefusal(t, got, err, a.check)
		})
	}
}

// With both a timestamp and the log's word, the earlier of the two is the one that is told.
func TestTimestampBesideTheLogsWord(t *testing.T) {
	w := newWorld(t)
	b := w.bundleV1(shapes[2])
	earlier := *w
	earlier.now = w.now.Add(-30 * time.Second)
	stamp(&earlier, b)
	got, err := w.withoutWitnesses().Bundle(marshal(t, b), strings.NewReader(artifact))
	if err != nil || !got.Time.Equal(earlier.now) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestKeyOfRekorV1MustHaveBeenInUse(t *testing.T) {
	w := newWorld(t)
	data := marshal(t, w.bundleV1(shapes[3]))
	for name, x := range map[string]struct {
		start, end time.Duration
		check      verify.Check // empty: passes
	}{
		"at the very end": {0, 0, ""},
		"retired":         {-time.Hour, -time.Second, verify.CheckPromise},
		"not yet in use":  {time.Second, time.Hour, verify.CheckPromise},
	} {
		t.Run(name, func(t *testing.T) {
			o := w.options()
			o.Policy, o.NoPolicy = nil, true
			o.TrustedRoot = w.changedRoot(func(r *trustroot.TrustedRoot) { r.Tlogs[1].PublicKey.ValidFor = w.span(x.start, x.end) })
			got, err := w.newVerifier(o).Bundle(data, strings.NewReader(artifact))
			if x.check != "" {
				wantRefusal(t, got, err, x.check)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestManagedKeyInRekorV1(t *testing.T) {
	w := newWorld(t)
	b, key := w.managed(newKey(t))
	w.relogV1(b, "hashedrekord", pemText("PUBLIC KEY", key), nil)
	o := w.keyOptions(key)
	o.Policy, o.NoPolicy = nil, true
	v := w.newVerifier(o)
	got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact))
	if err != nil || !got.Time.Equal(w.now) || got.Key == "" {
		t.Errorf("got %+v, %v", got, err)
	}
	w.relogV1(b, "hashedrekord", pemText("PUBLIC KEY", w.ca.certs[0].RawSubjectPublicKeyInfo), nil)
	got, err = v.Bundle(marshal(t, b), strings.NewReader(artifact))
	wantRefusal(t, got, err, verify.CheckBody)
}
