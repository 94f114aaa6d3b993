package scenario_test

import (
	"crypto/sha256"
	"fmt"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/log/ctentry"
	"tallywood/monitor/rule"
)

// issuance is a record of the authority, of certificates by the hash of what they have in common with
// their precertificates.
func (s *stage) issuance(of ...mint.Made) {
	s.t.Helper()
	var b strings.Builder
	for _, m := range of {
		tbs := must(ctentry.PrecertTBS(m.DER))(s.t)
		fmt.Fprintf(&b, "{\"certificate\": \"%x\"}\n", sha256.Sum256(tbs))
	}
	s.write("issued.jsonl", []byte(b.String()))
}

// usual is a day like any other: alice signs now and then.
func (s *stage) usual() []mint.Made {
	s.t.Helper()
	var all []mint.Made
	for range 3 {
		all = append(all, s.sign(person(alice, accounts))...)
		s.after(10 * time.Minute)
	}
	return all
}

var crossScenarios = []scenario{
	{rule: rule.XCertWithoutEntry, settings: rules("x.cert-without-entry: {grace: 1h}"),
		trigger: func(s *stage) { // somebody with her token signs where nobody sees it
			s.usual()
			s.certify(mint.ForEmail(alice, accounts))
			s.after(80 * time.Minute)
		},
		near: func(s *stage) { // the signature comes late, but in time
			s.usual()
			m := s.issue(person(alice, accounts))
			s.logCertificate(m)
			s.after(50 * time.Minute)
			s.logEntry(m.Bytes)
			s.after(30 * time.Minute)
		}},
	{rule: rule.XEntryWithoutCert, settings: rules("x.entry-without-cert: {grace: 2h}"),
		trigger: func(s *stage) { // the certificate log promised, and does not have it
			s.usual()
			s.logEntry(s.issue(person(alice, accounts)).Bytes)
			s.after(130 * time.Minute)
		},
		near: func(s *stage) { // nobody promised; another log has it within its delay
			s.usual()
			m := s.issue(person(alice, accounts))
			s.logEntry(m.Bytes)
			s.after(100 * time.Minute)
			s.logCertificate(m)
			s.after(40 * time.Minute)
			s.logEntry(s.issue(changed(withSCT(mint.NoSCT))).Bytes)
			s.after(130 * time.Minute)
		}},
	{rule: rule.XIssuedUnexplained, settings: rules(`x.ca-issued-not-in-ca-audit: {file: "DIR/issued.jsonl", grace: 15m}`),
		trigger: func(s *stage) { // the authority's key signs elsewhere
			s.issuance(s.sign(person("bob@example.com", accounts))...)
			known := s.usual()
			s.issuance(known...)
			s.sign(person(alice, accounts))
			s.after(20 * time.Minute)
		},
		near: func(s *stage) { // the record comes a little later than the log
			s.issuance(s.sign(person("bob@example.com", accounts))...)
			made := s.sign(person(alice, accounts))
			s.after(10 * time.Minute)
			s.issuance(made...)
			s.after(20 * time.Minute)
		}},
}

// certify logs certificates in the certificate log alone.
func (s *stage) certify(certificates ...mint.Certificate) {
	s.t.Helper()
	for _, c := range certificates {
		s.logCertificate(s.issue(mint.Entry{Certificate: c}))
	}
}
