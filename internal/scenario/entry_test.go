package scenario_test

import (
	"encoding/asn1"
	"time"

	"tallywood/internal/mint"
	"tallywood/log/entry"
	"tallywood/monitor/rule"
)

// changed is a signature by alice that is other than usual.
func changed(change func(*mint.Entry)) mint.Entry {
	e := person(alice, accounts)
	change(&e)
	return e
}

// bobs is the same by somebody who is not watched.
func bobs(change func(*mint.Entry)) mint.Entry {
	e := person("bob@example.com", accounts)
	change(&e)
	return e
}

func withSCT(p mint.Promise) func(*mint.Entry) { return func(e *mint.Entry) { e.SCT = p } }

func withDetails(k entry.KeyDetails) func(*mint.Entry) {
	return func(e *mint.Entry) { e.Details, e.Key = k, "key" }
}

func withLife(d time.Duration) func(*mint.Entry) { return func(e *mint.Entry) { e.Lifetime = d } }

func withUsages(ids ...asn1.ObjectIdentifier) func(*mint.Entry) {
	return func(e *mint.Entry) { e.Usages = ids }
}

func forged(e *mint.Entry) { e.Forged = true }

var entryScenarios = []scenario{
	{rule: rule.EntryBadSignature, settings: watchAlice,
		trigger: logged(changed(forged)),
		near:    logged(person(alice, accounts), bobs(forged))},
	{rule: rule.EntryBadSignature, what: "of anybody", settings: "audit: true\nidentities: []\n",
		trigger: logged(bobs(forged)),
		near: logged(bobs(withDetails(entry.Ed25519ph)), bobs(withDetails(entry.ECDSAP384)), bobs(withDetails(entry.ECDSAP521)),
			bobs(withDetails(entry.RSA2048)))},
	{rule: rule.EntryOutsideCert, settings: rules("entry.time-outside-validity: {}"),
		trigger: func(s *stage) { s.late(40 * time.Minute) },
		near:    func(s *stage) { s.late(9 * time.Minute) }},
	{rule: rule.EntryWeakKey, settings: rules("entry.weak-key: {allow: [ecdsa-p256, ecdsa-p384, rsa-3072]}"),
		trigger: logged(changed(withDetails(entry.RSA2048))),
		near:    logged(changed(withDetails(entry.ECDSAP256)), changed(withDetails(entry.ECDSAP384)), bobs(withDetails(entry.RSA2048)))},
	{rule: rule.CertLongLived, settings: rules("cert.long-lived: {}"),
		trigger: logged(changed(withLife(time.Hour))),
		near:    logged(changed(withLife(10*time.Minute)), bobs(withLife(time.Hour)))},
	{rule: rule.CertBadEKU, settings: rules("cert.bad-eku: {}"),
		trigger: logged(changed(withUsages(mint.CodeSigning, mint.ServerAuth))),
		near:    logged(changed(withUsages(mint.CodeSigning)), bobs(withUsages(mint.ServerAuth)))},
	{rule: rule.CertNoSCT, settings: rules("cert.no-sct: {}"),
		trigger: logged(changed(withSCT(mint.NoSCT))),
		near:    logged(person(alice, accounts), bobs(withSCT(mint.NoSCT)))},
	{rule: rule.CertBadSCT, settings: rules("cert.bad-sct: {}"),
		trigger: logged(changed(withSCT(mint.WrongSCT))),
		near:    logged(person(alice, accounts), bobs(withSCT(mint.WrongSCT)))},
	{rule: rule.CertUnknownSCTLog, settings: rules("cert.sct-unknown-log: {}"),
		trigger: logged(changed(withSCT(mint.StrangerSCT))),
		near:    logged(person(alice, accounts), bobs(withSCT(mint.StrangerSCT)))},
}

// late has alice's signature logged so long after her certificate began, by one checkpoint each minute.
func (s *stage) late(by time.Duration) {
	s.t.Helper()
	m := s.issue(person(alice, accounts))
	s.logCertificate(m)
	s.look()
	s.after(by)
	s.logEntry(m.Bytes)
	time.Sleep(10 * time.Second)
	s.look()
}
