package rule

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/log/ctentry"
)

// maxCertificates is how many certificates of an identity are kept, of the one not met for longest
// forgotten first.
const maxCertificates = 1024

// maxSCTs is how many SCTs of a certificate are looked at.
const maxSCTs = 8

// The defaults of the rules that compare logs.
const (
	withoutEntryGrace = time.Hour        // from a certificate to the signature made with it
	withoutCertGrace  = 24 * time.Hour   // the usual maximum merge delay
	auditGrace        = 15 * time.Minute // for the CA's record to reach us
)

// certificates is what is kept of the certificates of an identity, in whichever kind of log they are
// met: of the hash of what both have in common 16 bytes, and when they began to be valid.
type certificates struct {
	Since int64  `json:"since"` // of what began to be valid until then it is not known whether it was there
	Seen  recall `json:"seen"`
}

// A Sight is whether a log has shown a certificate of an identity.
type Sight int

// The sights. Unseen is sure.
const (
	Unattended Sight = iota // nobody has looked for certificates of the identity yet
	Unknown                 // it is of before somebody did, or of too long ago
	Unseen
	Seen
)

// Certificate reports whether the entries of an identity judged so far have shown the certificate
// that f is about.
func (b *Book) Certificate(identity string, f Facts) Sight {
	m := b.identities[identity]
	if m == nil || m.Issued == nil {
		return Unattended
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(f.Certificate, "sha256:"))
	if err != nil || len(sum) != sha256.Size {
		return Unknown
	}
	value, ok := m.Issued.Seen.get(binary.BigEndian.Uint64(sum))
	switch {
	case ok && strings.HasPrefix(value, string(sum[8:16])):
		return Seen
	case unix(f.Issued) <= m.Issued.Since:
		return Unknown
	}
	return Unseen
}

// note keeps a certificate.
func (c *certificates) note(sum [32]byte, issued time.Time) {
	value := binary.AppendUvarint(sum[8:16:16], uint64(unix(issued)))
	forgotten, full := c.Seen.put(binary.BigEndian.Uint64(sum[:]), string(value), maxCertificates)
	if full && len(forgotten.value) > 8 {
		at, _ := binary.Uvarint([]byte(forgotten.value[8:]))
		c.Since = max(c.Since, int64(min(at, 1<<62)))
	}
}

// Crosses reports whether rule id is about what another log, or the CA's record, has to say of a
// certificate: reasons that wait, and that count only once that is known.
func Crosses(id ID) bool {
	return id == XCertWithoutEntry || id == XEntryWithoutCert || id == XIssuedUnexplained
}

// Opted returns the parameters of an opt-in rule by the identities for which it is on. A nil Set has
// none.
func (s *Set) Opted(id ID) map[string]Params {
	out := map[string]Params{}
	if s == nil {
		return out
	}
	for _, w := range s.watches {
		if p, on := w.rule(id); on {
			out[w.Name] = p
		}
	}
	return out
}

// newCrossing returns the rules that compare logs, of those that are on: x.cert-without-entry,
// x.entry-without-cert and x.ca-issued-not-in-ca-audit. They note the certificates of both kinds of
// log, and leave what they find to wait for what the other log, or the CA's record, has to say.
func newCrossing(w *watch) func(*judging) {
	unused, unusedOn := w.rule(XCertWithoutEntry)
	unlogged, unloggedOn := w.rule(XEntryWithoutCert)
	unknown, unknownOn := w.rule(XIssuedUnexplained)
	return func(j *judging) {
		c := j.signer.Certificate
		if c == nil {
			return
		}
		issued, _, ok := c.validity()
		if !ok {
			return
		}
		f := certificateFacts(c, issued)
		if unusedOn || unloggedOn {
			if j.memory.Issued == nil { // nobody said since when the log is watched
				j.memory.Issued = &certificates{Since: unix(issued)}
			}
			j.memory.Issued.note(tbsHash(c), issued)
		}
		name := quoted(j.verdict.Subject)
		switch {
		case !j.entry.Certified && unloggedOn && len(f.SCTs) > 0:
			j.wait(XEntryWithoutCert, unlogged.Grace, withoutCertGrace, f,
				fmt.Sprintf("the certificate for %s that this was signed with has an SCT, and no certificate log shows it", name))
		case j.entry.Certified && unusedOn:
			j.wait(XCertWithoutEntry, unused.Grace, withoutEntryGrace, f,
				fmt.Sprintf("a certificate for %s was issued, and no signature made with it was logged", name))
		}
		if j.entry.Certified && unknownOn {
			j.wait(XIssuedUnexplained, unknown.Grace, auditGrace, f,
				fmt.Sprintf("the certificate for %s with serial number %s is not in the CA's record of what it issued", name, f.Serial))
		}
	}
}

// wait leaves a reason to wait.
func (j *judging) wait(id ID, grace, usual time.Duration, f Facts, text string) {
	if grace == 0 {
		grace = usual
	}
	j.verdict.Waits = append(j.verdict.Waits, Wait{Grace: grace, Since: f.Issued, Facts: f,
		Reason: Reason{Rule: id, Severity: catalogue[id].Severity, Text: text}})
}

// certificateFacts returns what another log or the CA's record knows a certificate by.
func certificateFacts(c *Certificate, issued time.Time) Facts {
	sum := tbsHash(c)
	f := Facts{Certificate: "sha256:" + hex.EncodeToString(sum[:]), Issued: issued, Serial: c.serial()}
	scts, err := ctentry.SCTs(c.Raw)
	if err != nil {
		return f
	}
	for _, s := range scts[:min(len(scts), maxSCTs)] {
		f.SCTs = strings.TrimSpace(f.SCTs + " " + hex.EncodeToString(s.LogID[:]))
	}
	return f
}

// serial returns the serial number in hexadecimal, empty if it cannot be read.
func (c *Certificate) serial() string {
	var cert, tbs, number cryptobyte.String
	input := cryptobyte.String(c.Raw)
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.SkipOptionalASN1(cbasn1.Tag(0).Constructed().ContextSpecific()) || !tbs.ReadASN1(&number, cbasn1.INTEGER) {
		return ""
	}
	for len(number) > 1 && number[0] == 0 {
		number = number[1:]
	}
	return hex.EncodeToString(number)
}
