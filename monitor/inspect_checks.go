package monitor

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor/rule"
)

const noCAs = "not checked: nothing says which authorities are to be trusted"

// checkSignature checks that signature n of b is over its digest.
func (i *Inspection) checkSignature(b entry.Body, n int) {
	const what = "signature"
	if b.Kind != entry.Kind {
		if err := b.Signatures[n].CheckForm(); err != nil && !errors.Is(err, entry.ErrUnverifiable) {
			i.check(what, Failed, "%v", err)
			return
		}
		i.check(what, Skipped, "not checked: it is over an envelope that the log does not hold; the key can have made it")
		return
	}
	switch err := b.Signatures[n].Verify(b.HashAlg, b.Digest); {
	case errors.Is(err, entry.ErrUnverifiable):
		i.check(what, Skipped, "not checked: %v", err)
	case err != nil:
		i.check(what, Failed, "%v", err)
	default:
		i.check(what, OK, "made over this digest by the key that the entry holds")
	}
}

// checkChain checks that a certificate ends at a trusted authority, at the time it began to be
// valid, and returns who issued it, nil if that was not found out.
func (i *Inspection) checkChain(c *rule.Certificate, trust Trust, r *SignerReport) *x509.Certificate {
	const what = "certificate"
	if len(trust.CAs) == 0 {
		i.check(what, Skipped, noCAs)
		return nil
	}
	chain, err := chainOf(c.Raw, trust.CAs)
	if err != nil {
		i.check(what, Failed, "it does not end at a trusted authority: %v", err)
		return nil
	}
	for _, ca := range chain {
		r.Chain = append(r.Chain, ca.Subject.String())
	}
	i.check(what, OK, "issued by %q, which is trusted", chain[0].Subject)
	return chain[0]
}

// chainOf returns the certificates above leaf, up to one of cas.
func chainOf(leaf []byte, cas []*x509.Certificate) ([]*x509.Certificate, error) {
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return nil, err
	}
	// What crypto/x509 does not know and the rules have read does not count against it.
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions,
		func(id asn1.ObjectIdentifier) bool {
			return id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) || id.Equal(ctentry.OIDPoison)
		})
	pool := x509.NewCertPool()
	for _, ca := range cas {
		pool.AddCert(ca)
	}
	chains, err := cert.Verify(x509.VerifyOptions{Roots: pool, CurrentTime: cert.NotBefore,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return nil, err
	}
	if len(chains[0]) == 1 {
		return nil, errors.New("it is itself one of the trusted authorities")
	}
	return chains[0][1:], nil
}

// checkSCTs checks the signed certificate timestamps in a certificate that issuing issued.
func (i *Inspection) checkSCTs(c *rule.Certificate, issuing *x509.Certificate, trust Trust) {
	const what = "SCT"
	scts, err := ctentry.SCTs(c.Raw)
	switch {
	case err != nil:
		i.check(what, Failed, "the signed certificate timestamps cannot be read: %v", err)
	case len(scts) == 0 && len(trust.CTLogs) == 0:
		i.check(what, Skipped, "the certificate has none, and nothing says that it must")
	case len(scts) == 0:
		i.check(what, Failed, "the certificate has no signed certificate timestamp: no log promised to log it")
	case len(trust.CTLogs) == 0:
		i.check(what, Skipped, "not checked: nothing says which certificate logs are to be trusted")
	case issuing == nil:
		i.check(what, Skipped, "not checked: it is over the issuer's key, and the issuer is not known")
	default:
		i.checkEach(scts, c, issuing, trust)
	}
}

func (i *Inspection) checkEach(scts []ctentry.SCT, c *rule.Certificate, issuing *x509.Certificate, trust Trust) {
	const what = "SCT"
	tbs, err := ctentry.PrecertTBS(c.Raw)
	if err != nil {
		i.check(what, Failed, "%v", err)
		return
	}
	e := ctentry.Entry{Precert: true, IssuerKeyHash: sha256.Sum256(issuing.RawSubjectPublicKeyInfo), Certificate: tbs}
	for _, s := range scts {
		key := slices.IndexFunc(trust.CTLogs, func(k crypto.PublicKey) bool {
			id, err := ctentry.LogID(k)
			return err == nil && id == s.LogID
		})
		if key < 0 {
			i.check(what, Failed, "it is of certificate log %x, which is not trusted", s.LogID)
			continue
		}
		if err := s.Verify(trust.CTLogs[key], e); err != nil {
			i.check(what, Failed, "%v", err)
			continue
		}
		text := fmt.Sprintf("certificate log %x… promised at %s to log the certificate", s.LogID[:6], time.UnixMilli(s.Timestamp).UTC().Format(time.RFC3339))
		if at, err := s.Index(); err == nil {
			text += fmt.Sprintf(", as its entry %d", at)
		}
		i.check(what, OK, "%s", text)
	}
}

// checkIssuance checks that an entry of a certificate log was signed by the authority it names,
// and whether that one is trusted.
func (i *Inspection) checkIssuance(e ctentry.Entry, trust Trust, fetch func(string) ([]byte, error), r *SignerReport) {
	const what = "certificate"
	issuer, err := i.issuer(e, trust.CAs, fetch)
	switch {
	case err != nil && len(trust.CAs) > 0:
		i.check(what, Failed, "it does not end at a trusted authority: %v", err)
		return
	case err != nil:
		i.check(what, Skipped, "not checked: %v", err)
		return
	}
	if err := e.Check(issuer); err != nil {
		i.check(what, Failed, "%v", err)
		return
	}
	r.Chain = append(r.Chain, issuer.Subject.String())
	if len(trust.CAs) == 0 {
		i.check(what, Skipped, "signed by %q; whether that is to be trusted was %s", issuer.Subject, noCAs)
		return
	}
	i.check(what, OK, "issued by %q, which is trusted", issuer.Subject)
}

// issuer returns the certificate of the authority that e names: one of cas, or if there are none
// whatever the log has for it.
func (i *Inspection) issuer(e ctentry.Entry, cas []*x509.Certificate, fetch func(string) ([]byte, error)) (*x509.Certificate, error) {
	for _, ca := range cas {
		if e.Precert && sha256.Sum256(ca.RawSubjectPublicKeyInfo) == e.IssuerKeyHash {
			return ca, nil
		}
		if c, err := x509.ParseCertificate(e.Certificate); !e.Precert && err == nil && bytes.Equal(c.RawIssuer, ca.RawSubject) && c.CheckSignatureFrom(ca) == nil {
			return ca, nil
		}
	}
	switch {
	case len(cas) > 0:
		return nil, errors.New("it names another one")
	case len(e.UnverifiedFingerprints) == 0:
		return nil, errors.New("the entry does not say which certificate issued it")
	}
	want := e.UnverifiedFingerprints[0]
	der, err := fetch(hex.EncodeToString(want[:]))
	if err != nil {
		return nil, fmt.Errorf("the issuer's certificate cannot be had: %w", err)
	}
	if sha256.Sum256(der) != want {
		return nil, errors.New("the log has another certificate under the issuer's fingerprint")
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("reading the issuer's certificate: %w", errors.New(strings.TrimPrefix(err.Error(), "x509: ")))
	}
	return c, nil
}
