// Package ca issues short-lived code-signing certificates for verified identities, in the profile
// of https://github.com/sigstore/fulcio/blob/main/docs/certificate-specification.md.
//
// In go a public key whose possession was proved and the [oidc.Identity] of a verified token; out
// comes a certificate that carries a signed certificate timestamp (RFC 6962 section 3.3): the
// precertificate is logged before the certificate exists, and if the log does not answer, there
// is no certificate. The caller has verified the token and the proof of possession.
package ca

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"tallywood/ca/oidc"
)

// lifetime is how long a certificate is valid, unless its issuer ends earlier.
const lifetime = 10 * time.Minute

// expiryWarning is how long before the issuing certificate ends New starts to warn.
const expiryWarning = 90 * 24 * time.Hour

// ErrUnavailable is wrapped by the errors of [CA.Issue] that a later attempt may not meet: the
// certificate log does not answer, or the request was cancelled while it was asked.
var ErrUnavailable = errors.New("certificate log unavailable")

// ErrKey is wrapped by the errors of [CA.Issue] that are those of the Signer. A key in memory signs
// always; one elsewhere may sign again later.
var ErrKey = errors.New("signing key unavailable")

// CTLog is a certificate log. AddPreChain takes a precertificate and its issuers, DER, issuing
// certificate first and root last, and returns the serialized SCT (RFC 6962 section 3.2). The SCT
// is a promise: the entry is durable when it is returned. Adding the same precertificate again is
// harmless. An error whose own method Temporary() bool answers false (an error it wraps does not
// count) says that trying again is pointless; any other error means that it may help.
type CTLog interface {
	AddPreChain(ctx context.Context, chain [][]byte) (sct []byte, err error)
}

// Options configure a CA.
type Options struct {
	// Chain is the issuing certificate, its issuers if any, and the root last. Required.
	Chain []*x509.Certificate
	// Signer holds the key of Chain[0]. Required.
	Signer crypto.Signer
	// CTLog receives every precertificate. Required unless NoCT is set.
	CTLog CTLog
	// NoCT issues certificates that no log has seen and that most clients refuse.
	NoCT bool
	// Recorder keeps a record of every certificate, made before anything is signed; nil: none is kept.
	Recorder Recorder
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Log receives warnings about the chain; nil discards them.
	Log *slog.Logger
}

// CA issues certificates. It is safe for concurrent use.
type CA struct {
	chain    []*x509.Certificate
	rawChain [][]byte
	signer   signer
	ctLog    CTLog
	recorder Recorder // nil: none
	now      func() time.Time
	notAfter time.Time // of the certificate in the chain that ends first
}

// Certificate is an issued certificate.
type Certificate struct {
	DER      []byte
	NotAfter time.Time
}

// New checks the chain and the key and returns a CA.
func New(o Options) (*CA, error) {
	now := o.Now
	if now == nil {
		now = time.Now
	}
	errs := []error{checkChain(o.Chain, now())}
	if (o.CTLog == nil) != o.NoCT {
		errs = append(errs, errors.New("ca: either a CTLog or NoCT is required, not both"))
	}
	var s signer
	if o.Signer == nil {
		errs = append(errs, errors.New("ca: a Signer is required"))
	} else if len(o.Chain) > 0 && o.Chain[0] != nil {
		var err error
		s, err = newSigner(o.Signer, o.Chain[0])
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	c := &CA{chain: o.Chain, signer: s, ctLog: o.CTLog, recorder: o.Recorder, now: now, notAfter: o.Chain[0].NotAfter}
	for _, cert := range o.Chain {
		c.rawChain = append(c.rawChain, cert.Raw)
		if cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	if left := c.notAfter.Sub(now()); left < expiryWarning && o.Log != nil {
		o.Log.Warn("the CA's chain ends soon", "dur", left)
	}
	return c, nil
}

// Chain returns the issuing certificate, its issuers and the root, in this order.
func (c *CA) Chain() []*x509.Certificate { return c.chain }

// NotAfter is when the first certificate of the chain ends and issuing with it.
func (c *CA) NotAfter() time.Time { return c.notAfter }

// Logged reports whether certificates carry an SCT.
func (c *CA) Logged() bool { return c.ctLog != nil }

// Issue returns a certificate for pub and id. It returns a *[KeyError] for a key the profile does
// not allow, an error wrapping [ErrUnavailable] when the certificate log did not answer, one wrapping
// [ErrKey] when the key did not sign, and any other error for a fault of our own.
func (c *CA) Issue(ctx context.Context, pub crypto.PublicKey, id oidc.Identity) (Certificate, error) {
	if err := CheckKey(pub); err != nil {
		return Certificate{}, err
	}
	now := c.now().UTC().Truncate(time.Second)
	if now.Before(c.chain[0].NotBefore) || !now.Before(c.notAfter) {
		return Certificate{}, fmt.Errorf("issuing certificate is not valid at %s", now.Format(time.RFC3339))
	}
	p, err := c.profile(pub, id, now)
	if err != nil {
		return Certificate{}, err
	}
	if err := c.record(ctx, p, id); err != nil {
		return Certificate{}, err
	}
	last := extension{}
	if c.ctLog != nil {
		if last, err = c.logged(ctx, p); err != nil {
			return Certificate{}, err
		}
	}
	der, err := c.signer.sign(p.tbs(last))
	if err != nil {
		return Certificate{}, fmt.Errorf("signing certificate: %w: %w", ErrKey, err)
	}
	if err := c.check(der); err != nil {
		return Certificate{}, fmt.Errorf("checking certificate before it leaves: %w", err)
	}
	return Certificate{DER: der, NotAfter: p.notAfter}, nil
}

// logged signs and logs the precertificate and returns the SCT list for the certificate.
//
// > The CA constructs a Precertificate by adding a special critical poison extension to the
// > end-entity TBSCertificate (RFC 6962 section 3.1)
func (c *CA) logged(ctx context.Context, p *profile) (extension, error) {
	pre, err := c.signer.sign(p.tbs(poison))
	if err != nil {
		return extension{}, fmt.Errorf("signing precertificate: %w: %w", ErrKey, err)
	}
	sct, err := c.ctLog.AddPreChain(ctx, append([][]byte{pre}, c.rawChain...))
	if err != nil {
		// Only the log's own word counts: network errors it may wrap have a method Temporary too,
		// which answers false for a refused connection.
		if t, ok := err.(interface{ Temporary() bool }); ok && !t.Temporary() {
			return extension{}, fmt.Errorf("logging precertificate: %w", err)
		}
		return extension{}, fmt.Errorf("logging precertificate: %w: %w", ErrUnavailable, err)
	}
	return sctList(sct)
}

// check parses a new certificate and verifies it as a client would. A signature that does not
// verify never leaves, be it a wrong key behind the signer or a flipped bit.
func (c *CA) check(der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("parsing: %w", err)
	}
	return c.chain[0].CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature)
}

// newSerial returns the 20 octets of a random serial number: positive, as the first bit is clear,
// and of constant length, as the second is set.
//
// > Conforming CAs MUST NOT use serialNumber values longer than 20 octets. (RFC 5280 section
// > 4.1.2.2)
func newSerial() []byte {
	serial := make([]byte, 20)
	rand.Read(serial) // never fails
	serial[0] = serial[0]&0x7f | 0x40
	return serial
}
