package verify

import (
	"crypto"
	_ "crypto/sha256" // the hashes an artifact may be named by
	_ "crypto/sha512"
	"crypto/subtle"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"slices"
	"strings"

	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// digests are the digests of one artifact.
type digests map[crypto.Hash][]byte

// digestStream reads artifact to its end, once, for all algorithms.
func digestStream(artifact io.Reader, algorithms []crypto.Hash) (digests, error) {
	hashes := make(map[crypto.Hash]hash.Hash)
	var all []io.Writer
	for _, a := range algorithms {
		if hashes[a] == nil {
			hashes[a] = a.New()
			all = append(all, hashes[a])
		}
	}
	if _, err := io.Copy(io.MultiWriter(all...), artifact); err != nil {
		return nil, fmt.Errorf("reading artifact: %w", err)
	}
	sums := make(digests)
	for a, h := range hashes {
		sums[a] = h.Sum(nil)
	}
	return sums, nil
}

// A named artifact is a digest as the bundle spells it.
type named struct {
	algorithm string
	hash      crypto.Hash
	digest    []byte
}

// artifact returns the digest by which both the bundle and the artifact go.
func (m *material) artifact(read func([]crypto.Hash) (digests, error)) (sigstore.ArtifactDigest, error) {
	subjects, err := m.subjects()
	if err != nil {
		return sigstore.ArtifactDigest{}, refuse(CheckArtifact, err)
	}
	var algorithms []crypto.Hash
	for _, s := range subjects {
		algorithms = append(algorithms, s.hash)
	}
	sums, err := read(algorithms)
	if err != nil {
		return sigstore.ArtifactDigest{}, err
	}
	comparable := false
	for _, s := range subjects {
		if subtle.ConstantTimeCompare(sums[s.hash], s.digest) == 1 {
			return sigstore.ArtifactDigest{Algorithm: s.algorithm, Digest: s.digest}, nil
		}
		comparable = comparable || sums[s.hash] != nil
	}
	if !comparable {
		return sigstore.ArtifactDigest{}, refusef(CheckArtifact, "the bundle names what it is about by %s, which cannot be compared with the digest at hand", hashNames(algorithms))
	}
	return sigstore.ArtifactDigest{}, refusef(CheckArtifact, "the bundle is about something else: the artifact was changed, or it is another one's bundle")
}

// subjects lists what the bundle claims to be about, and notes the type of an attestation.
func (m *material) subjects() ([]named, error) {
	if msg := m.content.MessageSignatureContent(); msg != nil {
		h, err := hashNamed(msg.DigestAlgorithm())
		if err != nil {
			return nil, err
		}
		if len(msg.Digest()) != h.Size() {
			return nil, fmt.Errorf("%s digest of %d bytes, and it has %d", msg.DigestAlgorithm(), len(msg.Digest()), h.Size())
		}
		return []named{{msg.DigestAlgorithm(), h, msg.Digest()}}, nil
	}
	envelope := m.bundle.GetDsseEnvelope()
	if envelope.GetPayloadType() != bundle.IntotoMediaType {
		return nil, fmt.Errorf("payload type %q, and only %q names artifacts", envelope.GetPayloadType(), bundle.IntotoMediaType)
	}
	subjects, predicate, err := readStatement(envelope.GetPayload())
	m.predicate = predicate
	return subjects, err
}

// hashNames lists algorithms for people, each once.
func hashNames(algorithms []crypto.Hash) string {
	var names []string
	for _, a := range algorithms {
		names = append(names, a.String())
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), " and ")
}

// hashNamed maps the spellings of bundles and statements.
func hashNamed(algorithm string) (crypto.Hash, error) {
	switch algorithm {
	case "SHA2_256", "sha256":
		return crypto.SHA256, nil
	case "SHA2_384", "sha384":
		return crypto.SHA384, nil
	case "SHA2_512", "sha512":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("digest algorithm %q is not supported", algorithm)
}

// signed checks the signature over the artifact, or over the statement about it, with the key of
// the certificate, or the managed one of trusted.
func (m *material) signed(trusted root.TrustedMaterial, artifact sigstore.ArtifactDigest) error {
	signer, err := m.bundle.VerificationContent()
	if err != nil {
		return refuse(CheckBundle, err)
	}
	if err := sigstore.VerifySignatureWithArtifactDigests(m.content, signer, trusted, []sigstore.ArtifactDigest{artifact}); err != nil {
		whose := "certificate's"
		if m.leaf == nil {
			whose = "expected"
		}
		return refuse(CheckSignature, fmt.Errorf("not made with the %s key over this artifact: %w", whose, err))
	}
	return nil
}

// typed checks that the bundle holds an attestation of the expected type, if one is expected.
func (v *Verifier) typed(m *material) error {
	switch {
	case v.predicate == "" || v.predicate == m.predicate:
		return nil
	case m.bundle.GetDsseEnvelope() == nil:
		return refusef(CheckPredicate, "the bundle is a signature and no attestation, expected one of type %q", v.predicate)
	}
	return refusef(CheckPredicate, "the attestation is of type %q, expected %q", m.predicate, v.predicate)
}

// hexBytes are bytes written as hexadecimal digits.
type hexBytes []byte

// UnmarshalText decodes hexadecimal digits of either case.
func (b *hexBytes) UnmarshalText(text []byte) error {
	decoded := make([]byte, hex.DecodedLen(len(text)))
	if _, err := hex.Decode(decoded, text); err != nil {
		return err
	}
	*b = decoded
	return nil
}
