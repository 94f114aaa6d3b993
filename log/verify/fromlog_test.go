package verify_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/sign"
	"tallywood/log/verify"
	"tallywood/witness/policy"
)

// fromLog puts together the bundle of b's signature from what the log has of it.
func (w *world) fromLog(b *protobundle.Bundle) ([]byte, error) {
	w.t.Helper()
	e := b.GetVerificationMaterial().GetTlogEntries()[0]
	p, err := policy.Parse([]byte(w.policyText()))
	if err != nil {
		w.t.Fatal(err)
	}
	proof := policy.Proof{Index: e.GetLogIndex(), Checkpoint: []byte(e.GetInclusionProof().GetCheckpoint().GetEnvelope())}
	for _, h := range e.GetInclusionProof().GetHashes() {
		proof.Hashes = append(proof.Hashes, [32]byte(h))
	}
	cp, err := p.Open(proof.Checkpoint)
	if err != nil {
		w.t.Fatal(err)
	}
	return sign.FromLog(e.GetCanonicalizedBody(), proof, cp.Tree(), p.Logs()[0].Key)
}

func TestBundlesPutTogetherFromTheLogVerify(t *testing.T) {
	w := newWorld(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := w.managed(key)
	bundle, err := w.fromLog(b)
	if err != nil {
		t.Fatal(err)
	}
	o := w.options()
	o.Identity, o.Issuer, o.Key = "", "", key.Public()
	if _, err := w.newVerifier(o).Bundle(bundle, strings.NewReader(artifact)); err != nil {
		t.Error(err)
	}
	// Of a certificate the timestamp is missing, and nothing else.
	signed := w.bundle(artifact, leafSpec{})
	bundle, err = w.fromLog(signed)
	if !errors.Is(err, sign.ErrNoTimestamp) {
		t.Fatalf("got %v", err)
	}
	_, err = w.verifier().Bundle(bundle, strings.NewReader(artifact))
	if failed, ok := errors.AsType[*verify.Error](err); !ok || !strings.Contains(failed.Err.Error(), "no timestamp") {
		t.Errorf("without a timestamp: %v", err)
	}
	whole := new(protobundle.Bundle)
	if err := protojson.Unmarshal(bundle, whole); err != nil {
		t.Fatal(err)
	}
	whole.VerificationMaterial.TimestampVerificationData = signed.GetVerificationMaterial().GetTimestampVerificationData()
	if _, err := w.verifier().Bundle(marshal(t, whole), strings.NewReader(artifact)); err != nil {
		t.Errorf("with the timestamp: %v", err)
	}
	if _, err := sign.FromLog([]byte("hello"), policy.Proof{}, policy.Tree{}, policy.Key{}); err == nil {
		t.Error("a bundle was made of anything")
	}
}
