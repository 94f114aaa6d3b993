package scenario_test

import (
	"fmt"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/rule"
)

// rules is a person, or all repositories of an owner, with rules switched on.
func rules(on string) string {
	return `
identities:
  - {name: me, email: alice@example.com, expect: {issuers: ["https://accounts.example.com"]}, rules: {` + on + `}}
`
}

func ownerRules(on string) string {
	return `
identities:
  - {name: ours, github: example/*, expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {` + on + `}}
`
}

// release is a release of a repository of example's, of a tag.
func release(repository, tag string) mint.Run {
	return mint.Run{Repository: "example/" + repository, Ref: "refs/tags/" + tag, ID: 42}
}

// keyed is a signature by alice with the key of a name.
func keyed(address, key string) mint.Entry {
	e := person(address, accounts)
	e.Key = key
	return e
}

// times returns the story of n signatures by alice, one after another in so much time.
func times(n int, within time.Duration) func(*stage) {
	return func(s *stage) {
		for range n {
			s.sign(person(alice, accounts))
			time.Sleep(within / time.Duration(n))
		}
		s.look()
	}
}

// spread returns the story of an owner who releases n repositories in so much time.
func spread(n int, within time.Duration) func(*stage) {
	return func(s *stage) {
		for i := range n {
			s.sign(entryOf(release(fmt.Sprint("repository-", i), "v1").GitHub()))
			time.Sleep(within / time.Duration(n))
			if i%20 == 19 {
				s.look()
			}
		}
		s.look()
	}
}

var memoryScenarios = []scenario{
	{rule: rule.IDVisibilityChange, settings: ownerRules("id.visibility-change: {}"),
		trigger: func(s *stage) { s.visibility("tool", "private") },
		near:    func(s *stage) { s.visibility("other", "private") }},
	{rule: rule.IDRefDrift, settings: ownerRules("id.ref-drift: {}"),
		trigger: func(s *stage) { s.moved("refs/tags/v1") },
		near:    func(s *stage) { s.moved("refs/heads/main") }},
	{rule: rule.IDRefDrift, what: "the same tag of another repository", settings: ownerRules("id.ref-drift: {}"),
		trigger: func(s *stage) { s.moved("refs/tags/v1") },
		near: func(s *stage) {
			s.sign(entryOf(release("a", "v1").GitHub()), entryOf(release("b", "v1").GitHub()), entryOf(release("a", "v1").GitHub()))
			s.look()
		}},
	{rule: rule.IDNewKey, settings: rules("id.new-key: {}"),
		trigger: func(s *stage) { s.habit("mine", "another") },
		near:    func(s *stage) { s.habit("mine", "mine") }},
	{rule: rule.IDKeyReuse, settings: `
identities:
  - {name: we, domain: example.com, expect: {issuers: ["https://accounts.example.com"]}, rules: {id.key-reuse: {}}}
`,
		trigger: logged(keyed("bob@example.com", "shared"), keyed(alice, "shared")),
		near:    logged(keyed("bob@example.com", "bob's"), keyed(alice, "alice's"), keyed(alice, "alice's"))},
	{rule: rule.IDBurst, settings: rules("id.burst: {max: 20, window: 10m}"),
		trigger: times(21, 9*time.Minute),
		near:    times(20, 9*time.Minute)},
	{rule: rule.IDBurst, what: "the same number in more time", settings: rules("id.burst: {max: 5, window: 10m}"),
		trigger: times(6, 9*time.Minute),
		near:    times(6, 13*time.Minute)},
	{rule: rule.IDFanOut, settings: ownerRules("id.fan-out: {max: 5, window: 10m}"),
		trigger: spread(6, 9*time.Minute),
		near:    spread(5, 9*time.Minute)},
	{rule: rule.IDFanOut, what: "as many repositories in more time", settings: ownerRules("id.fan-out: {max: 5, window: 10m}"),
		trigger: spread(6, 9*time.Minute),
		near:    spread(6, 13*time.Minute)},
	{rule: rule.IDFirstUse, settings: rules("id.first-use: {after: 24h}"),
		trigger: func(s *stage) { s.again(25 * time.Hour) },
		near:    func(s *stage) { s.again(23 * time.Hour) }},
	{rule: rule.IDFirstUse, what: "ever", settings: rules("id.first-use: {}"),
		trigger: logged(person("bob@example.com", accounts), person(alice, accounts)),
		near:    logged(person("bob@example.com", accounts), person("carol@example.com", accounts))},
	{rule: rule.IDOffHours, settings: rules(`id.off-hours: {hours: "08:00-18:00", days: [mon, tue, wed, thu, fri], zone: Europe/Berlin}`),
		trigger: func(s *stage) { // 18:05 in Berlin, where it is summer
			time.Sleep(7*time.Hour + 5*time.Minute)
			logged(person(alice, accounts))(s)
		},
		near: func(s *stage) { // 17:55
			time.Sleep(6*time.Hour + 55*time.Minute)
			logged(person(alice, accounts))(s)
		}},
	{rule: rule.EntryDuplicate, settings: rules("entry.duplicate: {}"),
		trigger: func(s *stage) {
			m := s.sign(person(alice, accounts))[0]
			s.logEntry(m.Bytes)
			s.look()
		},
		near: func(s *stage) { // another signature with the same certificate
			m := s.sign(person(alice, accounts))[0]
			again := must(m.Sign(mint.Entry{Content: []byte("more")}))(s.t)
			s.logEntry(again.Bytes)
			s.look()
		}},
}

// visibility has the public repository tool release once, and then another with a visibility.
func (s *stage) visibility(repository, visibility string) {
	s.t.Helper()
	s.sign(entryOf(release("tool", "v1").GitHub()))
	s.look()
	r := release(repository, "v2")
	r.Visibility = visibility
	s.sign(entryOf(r.GitHub()))
	s.look()
}

// moved has a ref stand for one commit and then for another.
func (s *stage) moved(ref string) {
	s.t.Helper()
	for _, commit := range []string{"1111111111111111111111111111111111111111", "2222222222222222222222222222222222222222"} {
		r := release("tool", "")
		r.Ref, r.Commit = ref, commit
		s.sign(entryOf(r.GitHub()))
		s.look()
	}
}

// habit has alice sign with one key several times, and then with one that may be another.
func (s *stage) habit(key, then string) {
	s.t.Helper()
	for range 4 {
		s.sign(keyed(alice, key))
		s.after(time.Minute)
	}
	s.sign(keyed(alice, then))
	s.look()
}

// again has alice sign once, and once more after a while. The logs are not read from their beginning, so
// that her first entry there need not be her first.
func (s *stage) again(after time.Duration) {
	s.t.Helper()
	s.begins = 1
	s.sign(person("bob@example.com", accounts), person(alice, accounts))
	s.look()
	time.Sleep(after)
	s.sign(person(alice, accounts))
	s.look()
}
