// Package verify checks an artifact and its Sigstore bundle offline, against a Sigstore trusted
// root and a C2SP tlog-policy (https://github.com/sigstore/protobuf-specs, https://c2sp.org/tlog-policy).
//
// What goes in: the bytes of a bundle, the artifact, and the identity and issuer that must have
// signed it. What comes out: a [Result], or an [*Error] that names the check that failed. Any
// other error is one of reading the artifact. There are no options that weaken a check but one,
// [Options.NoPolicy], for trusted roots whose log has no witnesses.
//
// Every check is one that unmodified clients make, made by sigstore-go's own functions, and five
// more that sigstore-go leaves out: the bundle's canonicalizedBody is the entry that its other
// fields rebuild, byte for byte; the fields of the inclusion proof are those of its checkpoint; the
// certificate carries exactly one name; the log's key was in use when the timestamps were made; and
// enough witnesses cosigned the checkpoint. Inclusion is
// computed with golang.org/x/mod here and with transparency-dev/merkle inside sigstore-go, which
// has the last word.
package verify

import (
	"crypto"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"

	"tallywood/witness/policy"
)

// Options say what a Verifier trusts and whom it expects. All fields but Policy and NoPolicy are
// mandatory, and exactly one of those two must be set.
type Options struct {
	TrustedRoot []byte         // trusted_root.json, media type …trustedroot+json;version=0.1
	Policy      *policy.Policy // what the checkpoint of a bundle must satisfy
	NoPolicy    bool           // do not look at witnesses: the log's signature alone suffices
	Identity    string         // exact subject alternative name of the certificate
	Issuer      string         // exact OpenID Connect issuer in the certificate
}

// A Verifier checks bundles. It is safe for concurrent use.
type Verifier struct {
	root     *root.TrustedRoot
	clients  *sigstore.Verifier
	expect   sigstore.CertificateIdentity
	policy   *policy.Policy // nil: witnesses are not looked at
	identity string
	issuer   string
}

// New returns a Verifier, or one error that joins everything wrong with o.
func New(o Options) (*Verifier, error) {
	var errs []error
	v := &Verifier{policy: o.Policy, identity: o.Identity, issuer: o.Issuer}
	var err error
	if v.root, err = root.NewTrustedRootFromJSON(o.TrustedRoot); err != nil {
		errs = append(errs, fmt.Errorf("parsing trusted root: %w", err))
	} else if v.clients, err = sigstore.NewVerifier(v.root,
		sigstore.WithSignedCertificateTimestamps(1),
		sigstore.WithSignedTimestamps(1),
		sigstore.WithTransparencyLog(1),
		sigstore.WithoutStatementPredicate(),
	); err != nil {
		errs = append(errs, fmt.Errorf("configuring sigstore-go: %w", err))
	}
	if v.expect, err = sigstore.NewShortCertificateIdentity(o.Issuer, "", o.Identity, ""); err != nil {
		errs = append(errs, fmt.Errorf("checking expected identity %q of issuer %q: %w", o.Identity, o.Issuer, err))
	}
	if (o.Policy == nil) != o.NoPolicy {
		errs = append(errs, errors.New("checking witness policy: exactly one of Policy and NoPolicy must be set"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return v, nil
}

// A Result says what a bundle that passed every check proves.
type Result struct {
	Identity  string    `json:"identity"`  // subject alternative name of the signer's certificate
	Issuer    string    `json:"issuer"`    // OpenID Connect issuer that vouched for it
	Time      time.Time `json:"time"`      // of the signature, as the earliest timestamp authority saw it
	Origin    string    `json:"origin"`    // of the log
	Index     int64     `json:"index"`     // of the entry in that log
	Size      int64     `json:"size"`      // of the tree whose checkpoint covers the entry
	Witnesses []string  `json:"witnesses"` // names of the policy that cosigned; empty without a policy
}

// Bundle checks that bundle, in Sigstore's JSON form, holds a signature of the expected identity
// over the whole of artifact, with everything a signature needs. The artifact is read once, as a
// stream.
func (v *Verifier) Bundle(bundle []byte, artifact io.Reader) (*Result, error) {
	return v.check(bundle, func(algorithms []crypto.Hash) (digests, error) {
		return digestStream(artifact, algorithms)
	})
}

// Digest is Bundle for an artifact of which only the SHA-256 digest is known.
func (v *Verifier) Digest(bundle []byte, sha256 [32]byte) (*Result, error) {
	return v.check(bundle, func([]crypto.Hash) (digests, error) {
		return digests{crypto.SHA256: sha256[:]}, nil
	})
}

// check runs the checks in an order in which each finds its own kind of damage: what is compared
// with something else comes after what can be told to be wrong by itself.
func (v *Verifier) check(bundle []byte, read func([]crypto.Hash) (digests, error)) (*Result, error) {
	m, err := parse(bundle)
	if err != nil {
		return nil, err
	}
	issuing, err := v.issued(m.leaf)
	if err != nil {
		return nil, err
	}
	if err := v.named(m.leaf); err != nil {
		return nil, err
	}
	if err := v.logged(m.leaf, issuing); err != nil {
		return nil, err
	}
	artifact, err := m.artifact(read)
	if err != nil {
		return nil, err
	}
	if err := m.signed(v.root, artifact); err != nil {
		return nil, err
	}
	times, err := v.timestamped(m)
	if err != nil {
		return nil, err
	}
	result := &Result{Identity: v.identity, Issuer: v.issuer, Time: slices.MinFunc(times, time.Time.Compare)}
	if err := v.included(m, times, result); err != nil {
		return nil, err
	}
	if err := v.agreed(m, artifact); err != nil {
		return nil, err
	}
	return result, nil
}

// agreed asks sigstore-go for its verdict on the whole: what no client accepts is not accepted here.
func (v *Verifier) agreed(m *material, artifact sigstore.ArtifactDigest) error {
	entity, err := m.entity()
	if err != nil {
		return refuse(CheckClients, err)
	}
	wanted := sigstore.NewPolicy(
		sigstore.WithArtifactDigest(artifact.Algorithm, artifact.Digest),
		sigstore.WithCertificateIdentity(v.expect))
	if _, err := v.clients.Verify(entity, wanted); err != nil {
		return refuse(CheckClients, err)
	}
	return nil
}
