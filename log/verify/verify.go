// Package verify checks an artifact and its Sigstore bundle offline, against a Sigstore trusted
// root and a C2SP tlog-policy (https://github.com/sigstore/protobuf-specs, https://c2sp.org/tlog-policy),
// and an entry and its C2SP tlog-proof against such a policy alone ([Proof]).
//
// What goes in: the bytes of a bundle, the artifact or its digest, and who must have signed it: an
// identity and the issuer that vouched for it, or the public key of a managed key. What comes out:
// a [Result], or an [*Error] that names the check that failed. Any other error is one of reading
// the artifact. There are no options that weaken a check but one, [Options.NoPolicy], for trusted
// roots whose log has no witnesses, those of Rekor v1 among them.
//
// Every check is one that unmodified clients make, made by sigstore-go's own functions, and six
// more that sigstore-go leaves out: the bundle's canonicalizedBody is the entry that its other
// fields rebuild, byte for byte (hashedrekord 0.0.2; entries of Rekor v1 are compared field by
// field); the fields of the inclusion proof are those of its checkpoint; the certificate carries
// exactly one name; an attestation's statement has no member twice; the log's key was in use when
// the signature was made; and enough witnesses cosigned the checkpoint. Inclusion is computed with
// golang.org/x/mod here and with transparency-dev/merkle inside sigstore-go, which has the last word.
package verify

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"tallywood/witness/policy"
)

// Options say what a Verifier trusts and whom it expects. TrustedRoot is mandatory, exactly one of
// Policy and NoPolicy must be set, and either Key or one field each of identity and issuer.
type Options struct {
	TrustedRoot []byte         // trusted_root.json, media type …trustedroot+json;version=0.1
	Policy      *policy.Policy // what the checkpoint of a bundle must satisfy
	NoPolicy    bool           // do not look at witnesses: the log's signature alone suffices

	Identity        string // exact subject alternative name of the certificate
	IdentityPattern string // regular expression (RE2) that matches the whole of that name
	Issuer          string // exact OpenID Connect issuer in the certificate
	IssuerPattern   string // regular expression (RE2) that matches the whole of the issuer

	// Key is the public half of a managed key: what signed without a certificate. It has no
	// validity of its own, so that a bundle needs no timestamp; one that is there must be good.
	Key crypto.PublicKey

	// PredicateType is that of the attestation a bundle must hold, exactly. Empty: attestations of
	// any type, and signatures over the artifact itself.
	PredicateType string
}

// A Verifier checks bundles. It is safe for concurrent use.
type Verifier struct {
	root      *root.TrustedRoot
	trusted   root.TrustedMaterial // root, and the managed key if there is one
	policy    *policy.Policy       // nil: witnesses are not looked at
	signer    signer
	predicate string
}

// New returns a Verifier, or one error that joins everything wrong with o.
func New(o Options) (*Verifier, error) {
	var errs []error
	v := &Verifier{policy: o.Policy, predicate: o.PredicateType}
	var err error
	if v.root, err = root.NewTrustedRootFromJSON(o.TrustedRoot); err != nil {
		errs = append(errs, fmt.Errorf("parsing trusted root: %w", err))
	}
	if v.signer, err = newSigner(o); err != nil {
		errs = append(errs, err)
	}
	if (o.Policy == nil) != o.NoPolicy {
		errs = append(errs, errors.New("checking witness policy: exactly one of Policy and NoPolicy must be set"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	v.trusted = v.root
	if v.signer.managed != nil {
		v.trusted = root.TrustedMaterialCollection{v.signer.managed, v.root}
	}
	return v, nil
}

// A Result says what a bundle that passed every check proves.
type Result struct {
	Identity  string    `json:"identity,omitempty"`       // subject alternative name of the signer's certificate
	Issuer    string    `json:"issuer,omitempty"`         // OpenID Connect issuer that vouched for it
	Key       string    `json:"key,omitempty"`            // of a managed key: "sha256:" and the digest of its SubjectPublicKeyInfo
	Predicate string    `json:"predicate_type,omitempty"` // of an attestation
	Time      time.Time `json:"time,omitzero"`            // of the signature, as the earliest timestamp or log entry has it; a managed key's may have none
	Origin    string    `json:"origin"`                   // of the log
	Index     int64     `json:"index"`                    // of the entry in that log
	Size      int64     `json:"size"`                     // of the tree whose checkpoint covers the entry
	Witnesses []string  `json:"witnesses"`                // names of the policy that cosigned; empty without a policy
}

// Bundle checks that bundle, in Sigstore's JSON form, holds a signature of the expected signer
// over the whole of artifact, or an attestation about it, with everything a signature needs. The
// artifact is read once, as a stream.
func (v *Verifier) Bundle(bundle []byte, artifact io.Reader) (*Result, error) {
	return v.check(bundle, func(algorithms []crypto.Hash) (digests, error) {
		return digestStream(artifact, algorithms)
	})
}

// Digest is Bundle for an artifact of which only one digest is known. A bundle that names its
// artifact by digests of other algorithms does not verify.
func (v *Verifier) Digest(bundle []byte, algorithm crypto.Hash, digest []byte) (*Result, error) {
	return v.check(bundle, func([]crypto.Hash) (digests, error) {
		return digests{algorithm: digest}, nil
	})
}

// check runs the checks in an order in which each finds its own kind of damage: what is compared
// with something else comes after what can be told to be wrong by itself.
func (v *Verifier) check(bundle []byte, read func([]crypto.Hash) (digests, error)) (*Result, error) {
	m, err := parse(bundle)
	if err != nil {
		return nil, err
	}
	result := &Result{Witnesses: []string{}}
	if err := v.signedBy(m, result); err != nil {
		return nil, err
	}
	artifact, err := m.artifact(read)
	if err != nil {
		return nil, err
	}
	if err := m.signed(v.trusted, artifact); err != nil {
		return nil, err
	}
	if err := v.typed(m); err != nil {
		return nil, err
	}
	result.Predicate = m.predicate
	seen, err := v.seen(m)
	if err != nil {
		return nil, err
	}
	result.Time = seen.earliest()
	if err := v.included(m, seen, result); err != nil {
		return nil, err
	}
	if err := v.agreed(m, artifact, seen); err != nil {
		return nil, err
	}
	return result, nil
}

// agreed asks sigstore-go for its verdict on the whole: what no client accepts is not accepted here.
// Of times it has to demand what the bundle has.
func (v *Verifier) agreed(m *material, artifact sigstore.ArtifactDigest, seen times) error {
	entity, err := m.entity()
	if err != nil {
		return refuse(CheckClients, err)
	}
	demands := []sigstore.VerifierOption{sigstore.WithTransparencyLog(1), sigstore.WithoutStatementPredicate()}
	if m.leaf != nil {
		demands = append(demands, sigstore.WithSignedCertificateTimestamps(1))
	}
	if len(seen.stamps) > 0 {
		demands = append(demands, sigstore.WithSignedTimestamps(1))
	}
	if len(seen.promises) > 0 {
		demands = append(demands, sigstore.WithIntegratedTimestamps(1))
	}
	if len(seen.all()) == 0 {
		demands = append(demands, sigstore.WithNoObserverTimestamps())
	}
	clients, err := sigstore.NewVerifier(v.trusted, demands...)
	if err != nil {
		return refuse(CheckClients, err)
	}
	wanted := sigstore.NewPolicy(sigstore.WithArtifactDigest(artifact.Algorithm, artifact.Digest), v.signer.demand)
	if _, err := clients.Verify(entity, wanted); err != nil {
		return refuse(CheckClients, err)
	}
	return nil
}
