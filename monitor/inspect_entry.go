package monitor

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor/rule"
)

// maxIssuer is how many bytes of an issuer's certificate are read.
const maxIssuer = 64 << 10

// A Statement is what an entry says. Whoever logged it chose the texts: they are as they were
// logged, and not safe to print.
type Statement struct {
	Form   string `json:"form"`             // in a few words, such as "signature (hashedrekord 0.0.2)"
	Digest string `json:"digest,omitempty"` // what was signed, "sha256:hex"
	// Promised is when a certificate log promised to log the certificate.
	Promised time.Time      `json:"promised,omitzero"`
	Signers  []SignerReport `json:"signers,omitempty"`
	Problem  string         `json:"problem,omitempty"` // why it could not be read to its end
}

// A SignerReport is who signed, or was certified.
type SignerReport struct {
	Names      []NamedText `json:"names,omitempty"`      // subject alternative names
	Issuers    []string    `json:"issuers,omitempty"`    // OpenID Connect issuers that vouched
	Extensions []NamedText `json:"extensions,omitempty"` // what they vouched for besides

	Key     string `json:"key,omitempty"`      // its kind, such as "ECDSA P-256"
	KeyHash string `json:"key_hash,omitempty"` // "sha256:hex" of the SubjectPublicKeyInfo

	Certificate string    `json:"certificate,omitempty"` // its fingerprint, "sha256:hex"
	Serial      string    `json:"serial,omitempty"`      // hex
	Authority   string    `json:"authority,omitempty"`   // who issued it, by its own word
	NotBefore   time.Time `json:"not_before,omitzero"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Chain       []string  `json:"chain,omitempty"` // subjects from the issuer to the trusted end, if it was found
}

// A NamedText is a text and what it is.
type NamedText struct {
	Name string `json:"name"`
	Text string `json:"text"`
}

// judge reads the entry and checks what it states. issuer fetches a certificate by its fingerprint.
func (i *Inspection) judge(trust Trust, issuer func(fingerprint string) ([]byte, error)) {
	if i.Kind == KindCT {
		i.judgeCT(trust, issuer)
	} else {
		i.judgeRekor(trust)
	}
	i.Verified = !trust.Unverified && !slices.ContainsFunc(i.Checks, func(c Check) bool { return c.Result == Failed })
}

func (i *Inspection) check(what string, r Outcome, format string, args ...any) {
	i.Checks = append(i.Checks, Check{what, r, fmt.Sprintf(format, args...)})
}

// judgeRekor reads an entry of a signature log. Bytes that are no such entry are those of a log of
// anything, and say nothing to us.
func (i *Inspection) judgeRekor(trust Trust) {
	b, err := entry.Parse(i.Raw)
	if err != nil {
		i.Kind = KindTlog
		sum := sha256.Sum256(i.Raw)
		i.Statement = Statement{Form: fmt.Sprintf("%d bytes, SHA-256 %x", len(i.Raw), sum),
			Problem: "it is no entry of a signature log: " + err.Error()}
		return
	}
	d, err := decodeRekor(rule.ParseCertificate, i.Index, i.Raw)
	i.Statement = Statement{Form: fmt.Sprintf("signature (%s %s)", b.Kind, b.Version), Digest: d.digest}
	if err != nil {
		i.Statement.Problem = err.Error()
		i.check("form", Failed, "verifiers cannot rebuild the entry: %v", err)
	}
	for n := range b.Signatures {
		s := d.entry.Signers[n]
		report := SignerReport{}
		if s.Certificate != nil {
			report.certified(s.Certificate)
		} else {
			report.keyed(s.PublicKey)
		}
		i.checkSignature(b, n)
		if c := s.Certificate; c != nil {
			issuing := i.checkChain(c, trust, &report)
			i.checkSCTs(c, issuing, trust)
		}
		i.Statement.Signers = append(i.Statement.Signers, report)
	}
}

// judgeCT reads an entry of a certificate log.
func (i *Inspection) judgeCT(trust Trust, issuer func(string) ([]byte, error)) {
	e, err := ctentry.Parse(i.Raw)
	if err != nil { // its leaf hash was computed from it
		i.Statement = Statement{Form: "certificate", Problem: err.Error()}
		i.check("form", Failed, "%v", err)
		return
	}
	i.Leaf, err = e.MerkleTreeLeaf()
	if err != nil {
		i.check("form", Failed, "%v", err)
	}
	d, err := decodeCT(rule.ParseCertificate, i.Index, i.Raw)
	i.Statement = Statement{Form: "certificate", Promised: time.UnixMilli(e.Timestamp).UTC()}
	if e.Precert {
		i.Statement.Form = "precertificate: an authority's word that it was about to issue this certificate"
	}
	if err != nil {
		i.Statement.Problem = err.Error()
		i.check("form", Failed, "%v", err)
	}
	for _, s := range d.entry.Signers {
		report := SignerReport{}
		report.certified(s.Certificate)
		i.checkIssuance(e, trust, issuer, &report)
		i.Statement.Signers = append(i.Statement.Signers, report)
	}
}

// certified fills in what a certificate says, as far as it can be read.
func (r *SignerReport) certified(c *rule.Certificate) {
	sum, key := c.Fingerprint(), c.KeyHash()
	r.Certificate, r.KeyHash = "sha256:"+hex.EncodeToString(sum[:]), "sha256:"+hex.EncodeToString(key[:])
	for _, n := range c.Names {
		r.Names = append(r.Names, NamedText{n.Type.String(), n.Value})
	}
	r.Issuers = c.Issuers()
	for _, n := range slices.Sorted(maps.Keys(c.Extensions)) {
		r.Extensions = append(r.Extensions, NamedText{rule.ExtensionName(n), c.Extensions[n]})
	}
	cert, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		return
	}
	r.Key = entry.KeyKind(cert.PublicKey)
	r.Serial, r.Authority = cert.SerialNumber.Text(16), cert.Issuer.String()
	r.NotBefore, r.NotAfter = cert.NotBefore.UTC(), cert.NotAfter.UTC()
}

// keyed fills in what is to be said of a bare key.
func (r *SignerReport) keyed(spki []byte) {
	sum := sha256.Sum256(spki)
	r.KeyHash = "sha256:" + hex.EncodeToString(sum[:])
	if key, err := x509.ParsePKIXPublicKey(spki); err == nil {
		r.Key = entry.KeyKind(key)
	}
}
