package scenario_test

import (
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/rule"
)

const (
	alice    = "alice@example.com"
	accounts = "https://accounts.example.com"
	evil     = "https://accounts.evil.example"
)

// watchAlice is a person with all that can be said about one.
const watchAlice = `
identities:
  - {name: me, email: alice@example.com, expect: {issuers: ["https://accounts.example.com"]}}
`

// entryOf is an entry that a certificate signs, and no more.
func entryOf(c mint.Certificate) mint.Entry { return mint.Entry{Certificate: c} }

// person is a signature by a person.
func person(address, issuer string) mint.Entry { return entryOf(mint.ForEmail(address, issuer)) }

// logged returns the story in which entries are logged, and the monitor looks.
func logged(entries ...mint.Entry) func(*stage) {
	return func(s *stage) {
		s.sign(entries...)
		s.look()
	}
}

// with returns an entry with more names in its certificate.
func with(e mint.Entry, names ...mint.Name) mint.Entry {
	e.Names = append(e.Names[:len(e.Names):len(e.Names)], names...)
	return e
}

var identityScenarios = []scenario{
	{rule: rule.IDSeen, settings: "identities: [{name: me, email: alice@example.com}]",
		trigger: logged(person(alice, accounts)),
		near:    logged(person("malice@example.com", accounts), person("alice@example.com.evil.example", accounts))},
	{rule: rule.IDSeen, what: "explained, and asked for",
		settings: "identities: [{name: me, email: alice@example.com, expect: {issuers: [\"https://accounts.example.com\"]}, rules: {id.seen: {}}}]",
		trigger:  logged(person("Alice@EXAMPLE.com", accounts)),
		near:     logged(person("alice@example.org", accounts))},
	{rule: rule.IDSeen, what: "any kind of name", settings: "identities: [{name: us, domain: example.com}]",
		trigger: logged(entryOf(mint.Certificate{Names: []mint.Name{{Kind: mint.DNS, Value: "*.example.com"}}}),
			entryOf(mint.Certificate{Names: []mint.Name{{Kind: mint.Other, Value: "root@build.example.com"}}}),
			entryOf(mint.ForURI("https://x.example.com/y", ""))),
		near: logged(entryOf(mint.Certificate{Names: []mint.Name{{Kind: mint.DNS, Value: "notexample.com"}}}),
			entryOf(mint.ForURI("https://evil.example/example.com", "")))},
	{rule: rule.IDSeen, what: "an IP address", settings: `identities: [{name: resolver, san: "1.1.1.1"}]`,
		trigger: logged(with(entryOf(mint.Certificate{}), mint.Name{Kind: mint.IP, Value: "\x01\x01\x01\x01"})),
		near:    logged(with(entryOf(mint.Certificate{}), mint.Name{Kind: mint.IP, Value: "\x01\x01\x01\x02"}))},
	{rule: rule.IDUnexpected, settings: watchAlice,
		trigger: logged(person(alice, evil)),
		near:    logged(person(alice, accounts), person("bob@example.com", evil))},
	{rule: rule.IDUnexpected, what: "the old and the new extension differ", settings: watchAlice,
		trigger: logged(entryOf(mint.Certificate{Names: []mint.Name{{Kind: mint.Email, Value: alice}},
			Extensions: map[int]string{1: accounts, 8: evil}})),
		near: logged(entryOf(mint.Certificate{Names: []mint.Name{{Kind: mint.Email, Value: alice}},
			Extensions: map[int]string{8: accounts}}))},
	{rule: rule.IDUnexpected, what: "a name that C would end early", settings: watchAlice,
		trigger: logged(person(alice+"\x00.evil.example", evil)),
		near:    logged(person(alice+".evil.example", evil))},
	{rule: rule.IDUnexpected, what: "beside other names", settings: watchAlice,
		trigger: logged(with(person("bob@example.com", evil), mint.Name{Kind: mint.Email, Value: alice})),
		near:    logged(with(person("bob@example.com", evil), mint.Name{Kind: mint.Email, Value: "carol@example.com"}))},
	{rule: rule.IDNoIssuer, settings: watchAlice,
		trigger: logged(person(alice, "")),
		near:    logged(person(alice, accounts), person("bob@example.com", ""))},
	{rule: rule.IDUnknownCA, settings: watchAlice, beside: []rule.ID{rule.CertBadSCT},
		trigger: func(s *stage) { s.otherAuthority(alice) },
		near:    func(s *stage) { s.otherAuthority("bob@example.com") }},
	{rule: rule.IDFingerprintUsed, settings: rules("id.fingerprint-used: {keys: [RETIRED]}"),
		trigger: func(s *stage) { s.retiredKey("retired") },
		near:    func(s *stage) { s.retiredKey("another") }},
	{rule: rule.IDLookalike, settings: `
identities:
  - {name: tool, github: example/tool, expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {id.lookalike: {}}}
`,
		trigger: logged(entryOf(mint.Run{Repository: "examp1e/tool"}.GitHub())),
		near:    logged(entryOf(mint.Run{Repository: "example/tool"}.GitHub()), entryOf(mint.Run{Repository: "elsewhere/hammer"}.GitHub()))},
}

// otherAuthority has an authority that nobody knows certify an address, which its issuer vouched for.
func (s *stage) otherAuthority(address string) {
	s.t.Helper()
	ca := must(s.world.Authority("another"))(s.t)
	e := person(address, accounts)
	e.CA = ca
	s.sign(e)
	s.look()
}

// retiredKey signs as alice with the key of a name; the one named retired is retired.
func (s *stage) retiredKey(name string) {
	s.t.Helper()
	retired := must(s.world.KeyHash(p256, "retired"))(s.t)
	s.replace("RETIRED", retired)
	e := person(alice, accounts)
	e.Key = name
	s.sign(e)
	s.look()
	s.after(10 * time.Minute)
}
