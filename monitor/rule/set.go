package rule

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Finding is what one identity has to do with one entry. If several rules fire it is still one
// finding: Rule and Severity are those of the worst, Reasons are all.
type Finding struct {
	Rule     ID
	Severity Severity
	Reasons  []Reason // at least one, the worst first

	Identity string   // name of the identity
	Notify   []string // the identity's sinks, empty for all
	Subject  string   // the name or key that matched, as it is in the entry, clipped
	Expected []string // issuers that would have explained it
	Seen     string   // the issuer that is there, clipped; several are joined by ", "
}

// A Reason is one rule that fired.
type Reason struct {
	Rule     ID       `json:"rule"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // a sentence, safe to print

	// What was compared, if the rule compares: what would have explained the entry beside what is in
	// it, clipped.
	Field    string   `json:"field,omitempty"` // such as "issuer", "workflow", "ref"
	Expected []string `json:"expected,omitempty"`
	Seen     string   `json:"seen,omitempty"`
}

// A Match is an entry that concerns an identity. Its Finding holds what the entry alone tells: no
// reasons if that is as expected.
type Match struct {
	Finding
	Facts  Facts
	watch  *watch
	signer int // of the entry
}

// Summary returns the finding in one line, safe to print.
func (f Finding) Summary() string {
	texts := make([]string, len(f.Reasons))
	for i, r := range f.Reasons {
		texts[i] = r.Text
	}
	return strings.Join(texts, "; ")
}

// Options configure a Set.
type Options struct {
	Identities []Identity // at least one
	// CAs are certificates at which the chain of a watched identity's certificate must end: roots,
	// or issuing certificates themselves. Empty: id.unknown-ca is silent.
	CAs []*x509.Certificate
}

// A Set holds compiled identities. It is immutable.
type Set struct {
	watches []*watch
	cas     *x509.CertPool // nil: any CA will do
	missing map[string]Missing
}

// New checks and compiles o.
func New(o Options) (*Set, error) {
	if len(o.Identities) == 0 {
		return nil, errors.New("no identities to watch")
	}
	var errs []error
	s := &Set{}
	names := map[string]bool{}
	for _, i := range o.Identities {
		w, err := i.compile()
		if err == nil && names[i.Name] {
			err = fmt.Errorf("identity %q is there twice", i.Name)
		}
		names[i.Name] = true
		errs = append(errs, err)
		s.watches = append(s.watches, w)
	}
	if len(o.CAs) > 0 {
		s.cas = x509.NewCertPool()
		for _, c := range o.CAs {
			s.cas.AddCert(c)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	s.missing = missingOf(s.watches)
	return s, nil
}

// Notify returns the names of all sinks that identities ask for.
func (s *Set) Notify() []string {
	var names []string
	for _, w := range s.watches {
		names = append(names, w.Identity.Notify...)
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Authorized returns the names of the identities of which authorizations must explain the entries.
func (s *Set) Authorized() []string {
	var names []string
	for _, w := range s.watches {
		if w.Expect.Authorize {
			names = append(names, w.Name)
		}
	}
	return names
}

// Match judges an entry by what is in it, and returns at most one match for each identity. It may be
// called concurrently. A nil Set matches nothing.
func (s *Set) Match(e *Entry) []Match {
	if s == nil {
		return nil
	}
	var out []Match
	for _, w := range s.watches {
		found := false
		var worst Match
		for i := range e.Signers {
			name, ok := w.match(&e.Signers[i])
			if !ok {
				continue
			}
			m := s.judge(w, e, i, name)
			if !found || len(m.Reasons) > 0 && (len(worst.Reasons) == 0 || m.Severity > worst.Severity) {
				found, worst = true, m
			}
		}
		if found {
			out = append(out, worst)
		}
	}
	return out
}

// judge returns the match of w and signer i of e, which has the given name.
func (s *Set) judge(w *watch, e *Entry, i int, name string) Match {
	name = Clip(name)
	m := Match{watch: w, signer: i, Facts: e.facts(i), Finding: Finding{Identity: w.Name, Notify: w.Identity.Notify, Subject: name, Expected: w.expected}}
	f := &m.Finding
	if c := e.Signers[i].Certificate; c != nil {
		issuers := c.Issuers()
		f.Seen = Clip(strings.Join(issuers, ", "))
		switch {
		case len(w.expected) == 0:
		case len(issuers) == 0:
			f.add(Reason{Rule: IDNoIssuer, Text: fmt.Sprintf("certificate for %q without OpenID Connect issuer", name),
				Field: "issuer", Expected: w.expected})
		case slices.ContainsFunc(issuers, func(i string) bool { return !slices.Contains(w.expected, i) }):
			f.add(Reason{Rule: IDUnexpected, Text: fmt.Sprintf("certificate for %q from unexpected issuer %q", name, f.Seen),
				Field: "issuer", Expected: w.expected, Seen: f.Seen})
		}
		if s.cas != nil && !s.fromKnownCA(c) {
			f.add(Reason{Rule: IDUnknownCA, Text: fmt.Sprintf("certificate for %q does not chain to a pinned CA", name)})
		}
	} else if len(w.expected) > 0 {
		f.add(Reason{Rule: IDNoIssuer, Text: fmt.Sprintf("key %q was used without a certificate, so that no issuer vouches for it", name),
			Field: "issuer", Expected: w.expected})
	}
	return m
}

// add appends a reason, with the rule's usual severity unless it has a higher one, and keeps the
// worst first: rule and severity of the finding.
func (f *Finding) add(r Reason) {
	r.Severity = max(r.Severity, catalogue[r.Rule].Severity)
	f.Reasons = append(f.Reasons, r)
	slices.SortStableFunc(f.Reasons, func(a, b Reason) int { return int(b.Severity) - int(a.Severity) })
	f.Rule, f.Severity = f.Reasons[0].Rule, f.Reasons[0].Severity
}

// complete adds id.seen to a finding without reasons, if w wants to see it.
func (s *Set) complete(f *Finding, w *watch, e *Signer) {
	if len(f.Reasons) > 0 || !w.seen {
		return
	}
	text := fmt.Sprintf("key %q was used", f.Subject)
	switch {
	case e.Certificate != nil && f.Seen != "":
		text = fmt.Sprintf("certificate for %q from issuer %q", f.Subject, f.Seen)
	case e.Certificate != nil:
		text = fmt.Sprintf("certificate for %q, no issuer", f.Subject)
	}
	f.add(Reason{Rule: IDSeen, Text: text})
}

// Clip cuts text of a log entry to what fits an event: an entry may hold 64 kB of it, and events
// are kept in memory. The evidence has all of it.
func Clip(text string) string {
	const most = 512
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// fromKnownCA reports whether c chains to a pinned CA, at the time it began to be valid. The
// extensions that crypto/x509 does not know and this package has read do not count against it.
func (s *Set) fromKnownCA(c *Certificate) bool {
	cert, err := x509.ParseCertificate(c.Raw)
	if err != nil {
		return false
	}
	cert.UnhandledCriticalExtensions = slices.DeleteFunc(cert.UnhandledCriticalExtensions,
		func(id asn1.ObjectIdentifier) bool { return id.Equal(oidSAN) || id.Equal(oidPoison) })
	_, err = cert.Verify(x509.VerifyOptions{
		Roots:       s.cas,
		CurrentTime: cert.NotBefore,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	return err == nil
}

// MatchBytes returns the names of the identities that the bytes of an entry nobody can parse seem
// to be about: they hold the identity's literal, plain or in base64. A nil Set finds nothing.
func (s *Set) MatchBytes(entry []byte) []Finding {
	if s == nil {
		return nil
	}
	texts := append(decodeRuns(entry), entry)
	for i := range texts {
		texts[i] = bytes.ToLower(texts[i])
	}
	var out []Finding
	for _, w := range s.watches {
		if !slices.ContainsFunc(texts, w.inBytes) {
			continue
		}
		r := Reason{Rule: LogMalformedEntry, Severity: Critical, Text: fmt.Sprintf("malformed entry holds what identity %q watches", w.Name)}
		out = append(out, Finding{Rule: r.Rule, Severity: r.Severity, Reasons: []Reason{r},
			Identity: w.Name, Notify: w.Identity.Notify, Expected: w.expected})
	}
	return out
}

// decodeRuns decodes every run of base64 characters in b, at each of the four alignments.
func decodeRuns(b []byte) [][]byte {
	const shortest = 16 // characters; fewer cannot hold an identity
	var out [][]byte
	standard := strings.NewReplacer("-", "+", "_", "/")
	isBase64 := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("+/-_", c)
	}
	for _, run := range bytes.FieldsFunc(b, func(c rune) bool { return !isBase64(c) }) {
		text := standard.Replace(string(run))
		for skip := 0; skip < 4 && len(text)-skip >= shortest; skip++ {
			part := text[skip:]
			if len(part)%4 == 1 { // no byte count encodes to this
				part = part[:len(part)-1]
			}
			if decoded, err := base64.RawStdEncoding.DecodeString(part); err == nil {
				out = append(out, decoded)
			}
		}
	}
	return out
}
