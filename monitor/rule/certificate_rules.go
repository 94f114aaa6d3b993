package rule

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/log/ctentry"
)

const (
	usualLifetime     = 10 * time.Minute // of a certificate for one signature
	lifetimeTolerance = 10 * time.Second
)

// Promises says which signed certificate timestamps are believed.
type Promises struct {
	Logs []crypto.PublicKey // of certificate logs; ECDSA
	// Issuers are certificates of authorities beside Options.CAs: what a log promises names the
	// issuer's key, which no entry holds.
	Issuers []*x509.Certificate
}

// promises is Promises, indexed.
type promises struct {
	logs    map[[32]byte]crypto.PublicKey
	issuers map[string][][32]byte // hashes of the keys of a subject, by its DER
}

// promise sets what timestamps are verified with, and says what is missing for the rules that are on.
func (s *Set) promise(o Options) error {
	p := promises{map[[32]byte]crypto.PublicKey{}, map[string][][32]byte{}}
	for _, key := range o.Promises.Logs {
		if _, ok := key.(*ecdsa.PublicKey); !ok {
			return fmt.Errorf("key of a certificate log is %T, must be ECDSA", key)
		}
		id, err := ctentry.LogID(key)
		if err != nil {
			return err
		}
		p.logs[id] = key
	}
	for _, list := range [][]*x509.Certificate{o.CAs, o.Promises.Issuers} {
		for _, c := range list {
			subject := string(c.RawSubject)
			p.issuers[subject] = append(p.issuers[subject], sha256.Sum256(c.RawSubjectPublicKeyInfo))
		}
	}
	s.promises = p
	var errs []error
	for _, id := range []ID{CertBadSCT, CertUnknownSCTLog} {
		on := false
		for _, w := range s.all() {
			on = on || w.on(id)
		}
		if on && len(p.logs) == 0 {
			errs = append(errs, fmt.Errorf("rule %q needs ct_keys, the keys of certificate logs", id))
		}
		if on && len(p.issuers) == 0 && id == CertBadSCT {
			errs = append(errs, fmt.Errorf("rule %q needs cas, or a trusted root among ct_keys: a timestamp is for the key of the certificate's issuer", id))
		}
	}
	return errors.Join(errs...)
}

// judgeCertificate runs the rules cert.* that are on for w on a certificate of e.
func (s *Set) judgeCertificate(w *watch, f *Finding, e *Entry, c *Certificate) {
	add := func(id ID, field, expected, seen, text string) {
		f.add(Reason{Rule: id, Field: field, Expected: one(expected), Seen: Clip(seen), Text: fmt.Sprintf("certificate for %q %s", f.Subject, text)})
	}
	if p, on := w.rule(CertLongLived); on {
		most := usualLifetime + lifetimeTolerance
		if p.Window > 0 {
			most = usualLifetime + p.Window
		}
		switch life, ok := c.lifetime(); {
		case !ok:
			add(CertLongLived, "validity", usualLifetime.String(), "", "does not say for how long it is valid")
		case life > most:
			add(CertLongLived, "validity", usualLifetime.String(), life.String(), fmt.Sprintf("is valid for %v, longer than %v", life, most))
		}
	}
	if w.on(CertBadEKU) && !c.codeSigningAlone() {
		add(CertBadEKU, "eku", "code signing", c.usages(), "is not for code signing alone")
	}
	if !e.Certified { // else it is a precertificate, or what it will be
		s.judgeSCTs(w, c, add)
	}
}

// judgeSCTs runs the rules about signed certificate timestamps that are on for w.
func (s *Set) judgeSCTs(w *watch, c *Certificate, add func(id ID, field, expected, seen, text string)) {
	if !c.promised {
		if w.on(CertNoSCT) {
			add(CertNoSCT, "sct", "", "", "has no signed certificate timestamp: no certificate log promised to show it")
		}
		return
	}
	scts, err := ctentry.SCTs(c.Raw)
	if err != nil {
		if w.on(CertBadSCT) {
			add(CertBadSCT, "sct", "", "", fmt.Sprintf("has signed certificate timestamps that cannot be read: %q", Clip(err.Error())))
		}
		return
	}
	for _, sct := range scts {
		key, known := s.promises.logs[sct.LogID]
		log := hex.EncodeToString(sct.LogID[:])
		switch {
		case !known && w.on(CertUnknownSCTLog):
			add(CertUnknownSCTLog, "sct", "", log, "has a signed certificate timestamp of a log that is not known: "+log)
		case known && w.on(CertBadSCT):
			if err := s.promises.verify(c, sct, key); err != nil {
				add(CertBadSCT, "sct", "", log, fmt.Sprintf("has a signed certificate timestamp of log %s that does not verify: %v", log, err))
			}
		}
	}
}

// verify returns nil if sct is for c, by any of the known keys of its issuer.
func (p *promises) verify(c *Certificate, sct ctentry.SCT, key crypto.PublicKey) error {
	tbs, err := ctentry.PrecertTBS(c.Raw)
	if err != nil {
		return err
	}
	err = errors.New("the certificate's issuer is not known")
	for _, issuer := range p.issuers[string(c.issuer)] {
		e := ctentry.Entry{Precert: true, IssuerKeyHash: issuer, Certificate: tbs}
		if err = sct.Verify(key, e); err == nil {
			return nil
		}
	}
	return err
}

// lifetime returns how long c is valid, if it says so.
func (c *Certificate) lifetime() (time.Duration, bool) {
	from, to, ok := c.validity()
	return to.Sub(from), ok
}

// codeSigning is the DER of id-kp-codeSigning, 1.3.6.1.5.5.7.3.3.
const codeSigning = "\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03"

// codeSigningAlone reports whether c's extended key usage is code signing and nothing else.
func (c *Certificate) codeSigningAlone() bool {
	value := c.eku
	var list cryptobyte.String
	return value.ReadASN1(&list, cbasn1.SEQUENCE) && value.Empty() && string(list) == codeSigning
}

// usages returns the object identifiers of c's extended key usage, for people.
func (c *Certificate) usages() string {
	value := c.eku
	var list cryptobyte.String
	if len(value) == 0 || !value.ReadASN1(&list, cbasn1.SEQUENCE) {
		return ""
	}
	text := ""
	for !list.Empty() {
		var id cryptobyte.String
		if !list.ReadASN1(&id, cbasn1.OBJECT_IDENTIFIER) {
			break
		}
		var oid x509.OID
		if oid.UnmarshalBinary(id) != nil {
			break
		}
		text += ", " + oid.String()
	}
	return Clip(text[min(2, len(text)):])
}
