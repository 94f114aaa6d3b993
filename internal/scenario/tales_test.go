package scenario_test

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"tallywood/internal/mint"
)

const (
	seconds = time.Second
	minutes = time.Minute
)

// signAt logs entries so long after now, one for each time, and looks after the last.
func (s *stage) signAt(e func(i int) mint.Entry, times ...time.Duration) {
	s.t.Helper()
	start := time.Now()
	for i, t := range times {
		time.Sleep(time.Until(start.Add(t)))
		s.sign(e(i))
	}
	s.look()
}

// alices is a signature by alice, whichever.
func alices(int) mint.Entry { return person(alice, accounts) }

// burst is a tale of signatures by alice where three in ten minutes are usual.
func burst(name string, want []string, times ...time.Duration) tale {
	return both("burst, "+name, rules("id.burst: {max: 3, window: 10m}"), want, func(s *stage) { s.signAt(alices, times...) })
}

const (
	bursts     = "me warning id.burst"
	critically = "me critical id.burst"
	fansOut    = "all critical id.fan-out"
)

// fan is a tale of signatures for repositories where five of one owner, runner or commit are usual.
func fan(name string, want []string, e func(i int) mint.Run, times ...time.Duration) tale {
	settings := `identities: [{name: all, san: "https://github.com/*", expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {id.fan-out: {max: 5, window: 10m}}}]`
	return both("fan-out, "+name, settings+"\n", want, func(s *stage) {
		s.signAt(func(i int) mint.Entry { return entryOf(e(i).GitHub()) }, times...)
	})
}

var windowTales = []tale{
	burst("as many as usual", nil, 0, minutes, 2*minutes),
	burst("one more, just within", []string{bursts}, 0, minutes, 2*minutes, 599*seconds),
	burst("one more, when the first is over", nil, 0, minutes, 2*minutes, 600*seconds),
	burst("two more", []string{bursts}, 0, 1, 2, 3*minutes, 4*minutes),
	burst("three times as many", []string{bursts}, 0, 1, 2, 3, 4, 5, 6, 7, 8),
	burst("more than that", []string{critically, bursts}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9),
	both("burst, and another", rules("id.burst: {max: 3, window: 10m}"), []string{bursts, bursts}, func(s *stage) {
		s.signAt(alices, 0, 1, 2, 3)
		s.after(time.Hour)
		s.signAt(alices, 0, 1, 2, 3)
	}),
	fan("of an owner, just within", []string{fansOut}, func(i int) mint.Run { return release(fmt.Sprint("r", i), "v1") }, 0, 1, 2, 3, 4, 599*seconds),
	fan("of an owner, when the first is over", nil, func(i int) mint.Run { return release(fmt.Sprint("r", i), "v1") }, 0, 1, 2, 3, 4, 600*seconds),
	fan("of one repository", nil, func(i int) mint.Run { return release("tool", fmt.Sprint("v", i)) }, 0, 1, 2, 3, 4, 5, 6),
	fan("of three in two cases", nil, func(i int) mint.Run {
		return release([]string{"a", "A", "b", "B", "c", "C"}[i], "v1")
	}, 0, 1, 2, 3, 4, 5),
	fan("of a commit", []string{fansOut}, func(i int) mint.Run {
		return mint.Run{Repository: fmt.Sprintf("o%d/r", i), Commit: strings.Repeat("ab", 20)}
	}, 0, 1, 2, 3, 4, 5),
	fan("of nobody in common", nil, func(i int) mint.Run { return mint.Run{Repository: fmt.Sprintf("o%d/r", i)} }, 0, 1, 2, 3, 4, 5),
}

// inJune is a time of June 2026, which begins on a Monday.
func inJune(day, hour, minute, second int) time.Time {
	return time.Date(2026, 6, day, hour, minute, second, 0, time.UTC)
}

// hour is a tale of one signature, inside of what is usual or not.
func hour(params string, at time.Time, inside bool) tale {
	var want []string
	if !inside {
		want = []string{"me info id.off-hours"}
	}
	return both(fmt.Sprint(strings.ReplaceAll(params, "/", " of "), at.Format(", Monday 15:04:05")), rules("id.off-hours: {"+params+"}"), want, func(s *stage) {
		time.Sleep(time.Until(at))
		s.look()
		s.sign(person(alice, accounts))
		s.look()
	})
}

const (
	byDay    = `hours: "09:00-18:00"`
	byNight  = `hours: "22:00-06:00"`
	onFriday = `hours: "22:00-06:00", days: [fri]`
)

var hourTales = []tale{
	hour(byDay, inJune(2, 8, 59, 59), false), hour(byDay, inJune(2, 9, 0, 0), true),
	hour(byDay, inJune(2, 17, 59, 59), true), hour(byDay, inJune(2, 18, 0, 0), false),
	hour(byNight, inJune(2, 22, 0, 0), true), hour(byNight, inJune(2, 3, 0, 0), true),
	hour(byNight, inJune(2, 6, 0, 0), false), hour(byNight, inJune(2, 12, 0, 0), false),
	hour(onFriday, inJune(5, 3, 0, 0), false), hour(onFriday, inJune(6, 3, 0, 0), true), hour(onFriday, inJune(6, 23, 0, 0), false),
	hour(`days: [tue], zone: Asia/Tokyo`, inJune(1, 16, 0, 0), true), hour(`days: [mon], zone: Asia/Tokyo`, inJune(1, 16, 0, 0), false),
	hour(byDay+", zone: Asia/Kolkata", inJune(2, 3, 30, 0), true), hour(byDay+", zone: Asia/Kolkata", inJune(2, 3, 29, 59), false),
	hour(byDay+", zone: Europe/Berlin", inJune(2, 7, 0, 0), true), hour(byDay+", zone: Europe/Berlin", inJune(2, 6, 59, 59), false),
	hour(`hours: "18:00-24:00"`, inJune(2, 23, 59, 59), true), hour(`hours: "18:00-24:00"`, inJune(3, 0, 0, 0), false),
}

// eachThen has entries logged one after another, and looked at each time.
func eachThen(entries ...mint.Entry) func(*stage) {
	return func(s *stage) {
		for _, e := range entries {
			s.sign(e)
			s.look()
			time.Sleep(time.Minute)
		}
	}
}

// tagged is a release of a tag from the commit of a repeated byte, with a visibility.
func tagged(commit, visibility string) mint.Entry {
	r := release("tool", "v1")
	r.Commit, r.Visibility = strings.Repeat(commit, 20), visibility
	return entryOf(r.GitHub())
}

// kept is a signature by alice with a certificate of two days, and so a key that is kept.
func kept(key string) mint.Entry {
	e := keyed(alice, key)
	e.Lifetime = 48 * time.Hour
	return e
}

var habitTales = []tale{
	both("a tag there and back", ownerRules("id.ref-drift: {}"), []string{"ours warning id.ref-drift", "ours warning id.ref-drift"},
		eachThen(tagged("11", ""), tagged("22", ""), tagged("11", ""), tagged("11", ""))),
	both("public, and it stays so", ownerRules("id.visibility-change: {}"), []string{"ours warning id.visibility-change"},
		eachThen(tagged("11", "private"), tagged("22", "private"), tagged("33", "public"), tagged("44", "public"))),
	both("another key, and it stays so", rules("id.new-key: {}"), []string{"me warning id.new-key"},
		eachThen(kept("a"), kept("a"), kept("a"), kept("b"), kept("b"))),
	both("a key for each signature", rules("id.new-key: {}"), nil, eachThen(alices(0), alices(1), alices(2))),
	{"thrice the same entry", rules("entry.duplicate: {}"), []string{"me info entry.duplicate", "me info entry.duplicate"}, nil, func(s *stage) {
		m := s.sign(person(alice, accounts))[0]
		s.logEntry(m.Bytes)
		s.logEntry(m.Bytes)
		s.look()
	}},
	both("a day less than ninety", rules("id.first-use: {}"), nil, func(s *stage) { s.again(89 * 24 * time.Hour) }),
	both("a day more than ninety", rules("id.first-use: {}"), []string{"me warning id.first-use"}, func(s *stage) { s.again(91 * 24 * time.Hour) }),
}

// hit is what is told of alice with another issuer.
const hit = foreign

// everywhere has alice's name misused at indexes at which bundles and looks begin and end, and looks at
// the log as it grows.
func everywhere(s *stage) {
	hits := []int64{0, 1, 254, 255, 256, 257}
	looks := []int64{1, 2, 255, 256, 257, 258}
	for i := range int64(258) {
		e := s.world.Anybody(i)
		if slices.Contains(hits, i) {
			e = person(alice, evil)
		}
		s.sign(e)
		if slices.Contains(looks, i+1) {
			s.look()
			s.check()
		}
	}
}

// from has the monitor begin with an entry of a log of which the first n are nobody's and the rest hits.
func from(begins int64, n, hits int) func(*stage) {
	return func(s *stage) {
		s.begins = begins
		for i := range n {
			s.sign(s.world.Anybody(int64(i)))
		}
		for range hits {
			s.sign(person(alice, evil))
		}
		s.look()
		s.look()
	}
}

// odds logs entries that no monitor can read, and then a hit.
func odds(entries ...[]byte) func(*stage) {
	return func(s *stage) {
		for _, e := range entries {
			s.logEntry(e)
		}
		s.issued = s.log.Size()
		s.logEntry(s.issue(person(alice, evil)).Bytes)
		s.look()
	}
}

var placeTales = []tale{
	both("at every border", watchAlice, slices.Repeat([]string{hit}, 6), everywhere),
	both("from the middle of a bundle", watchAlice, []string{hit}, from(3, 0, 4)),
	both("from behind the end", watchAlice, nil, from(9, 0, 4)),
	both("from the middle of the second bundle", watchAlice, []string{hit}, from(300, 299, 2)),
	{"nothing as the first entry", watchAlice, []string{"- info log.malformed-entry", hit}, nil, odds([]byte{})},
	{"as much as fits as the first entry", watchAlice, []string{"- info log.malformed-entry", hit}, nil, odds(bytes.Repeat([]byte("x"), 65535))},
	{"a name in the first entry", watchAlice, []string{hit, "me critical log.malformed-entry"}, nil, odds([]byte("alice@example.com was here"))},
	{"white space in entries", watchAlice, []string{"- info log.malformed-entry", "me critical log.malformed-entry"}, nil, func(s *stage) {
		for _, who := range []string{alice, "bob@example.com"} {
			s.logEntry(bytes.Replace(s.issue(person(who, accounts)).Bytes, []byte(`,"`), []byte(`, "`), 1))
		}
		s.look()
	}},
	{"certificates cut off", watchAlice, []string{"- info log.malformed-entry", "me critical log.malformed-entry"}, nil, func(s *stage) {
		s.edited(func(der []byte) []byte { return der[:len(der)-30] })
	}},
	{"certificates with something behind them", watchAlice, []string{"- info log.malformed-entry", "me critical id.unknown-ca"}, nil, func(s *stage) {
		s.edited(func(der []byte) []byte { return append(der, 0) })
	}},
	both("the thousandth name", watchAlice, []string{hit}, func(s *stage) {
		e := person("bob@example.com", evil)
		for i := range 999 {
			e = with(e, mint.Name{Kind: mint.Email, Value: fmt.Sprintf("b%d@example.com", i)})
		}
		s.sign(with(e, mint.Name{Kind: mint.Email, Value: alice}))
		s.look()
	}),
	both("an identity that is named later", nobody, []string{hit}, func(s *stage) {
		s.sign(person(alice, evil))
		s.look()
		s.settings = watchAlice
		s.sign(person(alice, evil))
		s.look()
	}),
	{"a forged signature", watchAlice, []string{"me critical entry.bad-signature id.unexpected-issuer"}, []string{hit}, func(s *stage) {
		e := person(alice, evil)
		forged(&e)
		s.sign(e)
		s.look()
	}},
}

// edited logs entries by alice and by bob of which the certificates were edited.
func (s *stage) edited(edit func(der []byte) []byte) {
	s.t.Helper()
	for _, who := range []string{alice, "bob@example.com"} {
		e := person(who, accounts)
		e.Edit = edit
		s.logEntry(s.issue(e).Bytes)
	}
	s.look()
}

// refuse has both logs answer nothing.
func (s *stage) refuse(refused bool) {
	var answer func(w http.ResponseWriter, r *http.Request) bool
	if refused {
		answer = func(w http.ResponseWriter, r *http.Request) bool {
			http.Error(w, "busy", http.StatusServiceUnavailable)
			return true
		}
	}
	s.logSite.intercept(answer)
	s.ctSite.intercept(answer)
}
