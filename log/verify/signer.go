package verify

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/sigstore/sigstore/pkg/signature/options"

	"tallywood/log/entry"
)

// A signer is whom a Verifier expects: either a managed key, or an identity and its issuer.
type signer struct {
	identity, issuer expectation
	key              crypto.PublicKey
	fingerprint      string               // of key
	managed          root.TrustedMaterial // key; nil if a certificate is expected

	demand sigstore.PolicyOption // the same, for sigstore-go
}

// An expectation is a text, or a pattern that matches the whole of one.
type expectation struct {
	exact   string
	pattern *regexp.Regexp // nil: exact
}

func (e expectation) matches(s string) bool {
	if e.pattern != nil {
		return e.pattern.MatchString(s)
	}
	return s == e.exact
}

// String says what is expected, for error texts.
func (e expectation) String() string {
	if e.pattern != nil {
		return fmt.Sprintf("what matches %s as a whole", e.pattern)
	}
	return fmt.Sprintf("%q", e.exact)
}

func newSigner(o Options) (signer, error) {
	if o.Key != nil {
		if o.Identity != "" || o.IdentityPattern != "" || o.Issuer != "" || o.IssuerPattern != "" {
			return signer{}, errors.New("checking expected signer: a Key has no Identity and no Issuer")
		}
		return newManaged(o.Key)
	}
	var s signer
	var errs [3]error
	s.identity, errs[0] = expect(o.Identity, o.IdentityPattern)
	s.issuer, errs[1] = expect(o.Issuer, o.IssuerPattern)
	for i, name := range []string{"identity", "issuer"} {
		if errs[i] != nil {
			errs[i] = fmt.Errorf("checking expected %s: %w", name, errs[i])
		}
	}
	if err := errors.Join(errs[:]...); err != nil {
		return signer{}, err
	}
	wanted, err := sigstore.NewShortCertificateIdentity(s.issuer.exact, s.issuer.source(), s.identity.exact, s.identity.source())
	if err != nil {
		return signer{}, fmt.Errorf("checking expected identity %s of issuer %s: %w", s.identity, s.issuer, err)
	}
	s.demand = sigstore.WithCertificateIdentity(wanted)
	return s, nil
}

// expect wants exactly one of exact and pattern. A pattern is anchored: one that matched any part
// of a name would match names that somebody else chose around it.
func expect(exact, pattern string) (expectation, error) {
	switch {
	case (exact == "") == (pattern == ""):
		return expectation{}, errors.New("exactly one of an exact value and a pattern must be set")
	case exact != "":
		return expectation{exact: exact}, nil
	}
	// By itself first: a parenthesis too many would close the group that anchors it.
	if _, err := regexp.Compile(pattern); err != nil {
		return expectation{}, err
	}
	anchored, err := regexp.Compile("^(?:" + pattern + ")$")
	return expectation{pattern: anchored}, err
}

func (e expectation) source() string {
	if e.pattern == nil {
		return ""
	}
	return e.pattern.String()
}

// newManaged expects key, which is good at any time.
func newManaged(key crypto.PublicKey) (signer, error) {
	if _, err := entry.KeyDetailsFor(key); err != nil {
		return signer{}, fmt.Errorf("checking expected key: %w", err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return signer{}, fmt.Errorf("encoding expected key: %w", err)
	}
	// Of Ed25519, logs take the prehashed form alone: the pure one signs no digest.
	verifier, err := signature.LoadDefaultVerifier(key, options.WithED25519ph())
	if err != nil {
		return signer{}, fmt.Errorf("checking expected key: %w", err)
	}
	always := root.NewExpiringKey(verifier, time.Time{}, time.Time{})
	return signer{
		key: key, fingerprint: fmt.Sprintf("sha256:%x", sha256.Sum256(spki)), demand: sigstore.WithKey(),
		// The bundle's hint is a name somebody gave the key; the key is what counts.
		managed: root.NewTrustedPublicKeyMaterial(func(string) (root.TimeConstrainedVerifier, error) { return always, nil }),
	}, nil
}

// signedBy checks, as far as that can be told before there is a trusted time, that m is by whom it
// is expected to be, and puts that into result.
func (v *Verifier) signedBy(m *material, result *Result) error {
	if v.signer.managed != nil {
		if m.leaf != nil {
			return refusef(CheckBundle, "signed with a certificate, and a managed key was expected")
		}
		m.key, result.Key = v.signer.key, v.signer.fingerprint
		return nil
	}
	if m.leaf == nil {
		return refuse(CheckBundle, ErrManagedKey)
	}
	issuing, err := v.issued(m.leaf)
	if err != nil {
		return err
	}
	if result.Identity, result.Issuer, err = v.named(m.leaf); err != nil {
		return err
	}
	return v.logged(m.leaf, issuing)
}
