package verify

import (
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
)

// issued returns the certificate of the authority that signed leaf. It looks at the signature
// alone: when leaf was valid can be asked only once there is a trusted time.
func (v *Verifier) issued(leaf *x509.Certificate) (*x509.Certificate, error) {
	known := false
	for _, authority := range v.root.FulcioCertificateAuthorities() {
		a, ok := authority.(*root.FulcioCertificateAuthority)
		if !ok {
			continue
		}
		for _, c := range append([]*x509.Certificate{a.Root}, a.Intermediates...) {
			if string(c.RawSubject) != string(leaf.RawIssuer) {
				continue
			}
			known = true
			if leaf.CheckSignatureFrom(c) == nil {
				return c, nil
			}
		}
	}
	if known {
		return nil, refusef(CheckCertificate, "the signature of %q on it is not valid: it was changed, or somebody else made it", leaf.Issuer)
	}
	return nil, refusef(CheckCertificate, "it was issued by %q, which is not an authority of the trusted root", leaf.Issuer)
}

// named checks whom the certificate was issued to, and who vouched for that.
func (v *Verifier) named(leaf *x509.Certificate) (identity, issuer string, err error) {
	identity, issuer, err = Signer(leaf)
	switch {
	case err != nil:
		return "", "", refuse(CheckCertificate, err)
	case !v.signer.identity.matches(identity):
		return "", "", refusef(CheckIdentity, "signed by %q, expected %s", identity, v.signer.identity)
	case !v.signer.issuer.matches(issuer):
		return "", "", refusef(CheckIssuer, "%q vouched for the signer, expected %s", issuer, v.signer.issuer)
	}
	return identity, issuer, nil
}

// logged checks the promise of a certificate log to log leaf.
//
// > Unless performing online verification … the Verifier MUST extract the SignedCertificateTimestamp
// > embedded in the leaf certificate, and verify it as in RFC 9162 §8.1.3 (Sigstore Client Spec)
func (v *Verifier) logged(leaf, issuing *x509.Certificate) error {
	chains := [][]*x509.Certificate{{leaf, issuing}}
	if err := sigstore.VerifySignedCertificateTimestamp(chains, 1, v.root); err != nil {
		return refuse(CheckSCT, fmt.Errorf("no certificate log of the trusted root signed for the certificate: %w", err))
	}
	return nil
}

// whyInvalid says why leaf does not verify at t; sigstore-go only says that it does not.
func (v *Verifier) whyInvalid(leaf *x509.Certificate, t time.Time) error {
	if t.Before(leaf.NotBefore) || t.After(leaf.NotAfter) {
		return fmt.Errorf("it was valid from %s to %s, and signed at %s",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339), t.UTC().Format(time.RFC3339))
	}
	var errs []error
	for _, authority := range v.root.FulcioCertificateAuthorities() {
		if _, err := authority.Verify(leaf, t); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
