package sign

import (
	"crypto"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/internal/keys"
	"tallywood/log/entry"
	"tallywood/witness/policy"
)

// ErrNoTimestamp reports, beside a bundle that is whole otherwise, that it has no timestamp, which
// verifiers want of a certificate's signature: it is with whoever signed, and not in the log.
var ErrNoTimestamp = errors.New("the log has no timestamp of the signature, and without one verifiers cannot tell whether its certificate was valid")

// FromLog returns the bundle of a signature that is in a log, put together from the entry and its
// tlog-proof, which the caller has verified; key is the log's, from its policy.
func FromLog(body []byte, proof policy.Proof, tree policy.Tree, key policy.Key) ([]byte, error) {
	e, err := entry.Parse(body)
	if err != nil {
		return nil, fmt.Errorf("reading entry: %w", err)
	}
	algorithm, ok := map[crypto.Hash]common.HashAlgorithm{crypto.SHA256: common.HashAlgorithm_SHA2_256,
		crypto.SHA384: common.HashAlgorithm_SHA2_384, crypto.SHA512: common.HashAlgorithm_SHA2_512}[e.HashAlg]
	if e.Kind != entry.Kind || !ok {
		return nil, fmt.Errorf("an entry of kind %q does not hold what a bundle needs", e.Kind)
	}
	if key.Alg() != policy.AlgEd25519 {
		return nil, errors.New("bundles are of logs with Ed25519 keys alone")
	}
	s, id := e.Signatures[0], keys.KeyHash(key.Name(), key.Alg(), key.Public())
	inclusion := &rekor.InclusionProof{LogIndex: proof.Index, RootHash: tree.Root[:], TreeSize: tree.Size,
		Checkpoint: &rekor.Checkpoint{Envelope: string(proof.Checkpoint)}}
	for _, h := range proof.Hashes {
		inclusion.Hashes = append(inclusion.Hashes, h[:])
	}
	material := &protobundle.VerificationMaterial{
		Content: &protobundle.VerificationMaterial_PublicKey{PublicKey: &common.PublicKeyIdentifier{}},
		TlogEntries: []*rekor.TransparencyLogEntry{{LogIndex: proof.Index, LogId: &common.LogId{KeyId: id[:]},
			KindVersion:    &rekor.KindVersion{Kind: e.Kind, Version: e.Version},
			InclusionProof: inclusion, CanonicalizedBody: body}}}
	if s.Certificate != nil {
		material.Content = &protobundle.VerificationMaterial_Certificate{Certificate: &common.X509Certificate{RawBytes: s.Certificate}}
	}
	bundle, err := protojson.Marshal(&protobundle.Bundle{MediaType: mediaType, VerificationMaterial: material,
		Content: &protobundle.Bundle_MessageSignature{MessageSignature: &common.MessageSignature{
			MessageDigest: &common.HashOutput{Algorithm: algorithm, Digest: e.Digest}, Signature: s.Content}}})
	if err != nil {
		return nil, fmt.Errorf("encoding bundle: %w", err)
	}
	if s.Certificate != nil {
		return bundle, ErrNoTimestamp
	}
	return bundle, nil
}
