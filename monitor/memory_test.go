package monitor_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"tallywood/internal/faultbucket"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// watching returns rules that watch alice.
func watching(t testing.TB, on map[rule.ID]rule.Params) *rule.Set {
	t.Helper()
	s, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "me", Email: alice,
		Expect: rule.Expect{Issuers: []string{goodIssuer}}, Rules: on}}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestMemorySurvivesKills: a burst that begins before a kill and goes on after it is the same burst,
// whichever storage operation the kill comes at and however the entries are cut into commits.
func TestMemorySurvivesKills(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(filler(ca, 1)...)
	for range 4 {
		l.sequence(ca.entry(alice, goodIssuer))
	}
	l.publish()
	run := func(at int, mode faultbucket.Mode) (ops int, ids []string) {
		s := newStation(t, l.config(monitor.KindRekor))
		s.options.Rules = watching(t, map[rule.ID]rule.Params{rule.IDSeen: {}, rule.IDBurst: {Max: 2}})
		inner := mem.New()
		b := faultbucket.New(inner)
		if at >= 0 {
			b.FailAt(at, mode)
		}
		once := func(b storage.Bucket) {
			o := s.options
			o.State = b
			m, err := monitor.New(o)
			if err != nil {
				t.Fatal(err)
			}
			m.SetMaxBytes(1<<20, 1, 1<<20) // a commit for each entry
			_, _ = m.Check(t.Context())    // the next one sees what this one left
		}
		once(b)
		ops = len(b.Ops())
		b.Crash()
		once(inner)
		for _, e := range s.sink.all() {
			if !slices.Contains(ids, e.ID) {
				ids = append(ids, e.ID)
			}
			if burst := e.Index == 3; burst != (e.Rule == rule.IDBurst) {
				t.Errorf("entry %d raised %s", e.Index, e.Rule)
			}
		}
		return ops, ids
	}
	ops, want := run(-1, faultbucket.Fail)
	if len(want) != 4 || ops < 6 {
		t.Fatalf("%d events and %d storage operations without faults", len(want), ops)
	}
	for at := range ops {
		for _, mode := range []faultbucket.Mode{faultbucket.Crash, faultbucket.CrashAfter} {
			t.Run(fmt.Sprintf("%s at %d", mode, at), func(t *testing.T) {
				t.Parallel()
				if _, got := run(at, mode); !slices.Equal(got, want) {
					t.Errorf("events %q, want %q", got, want)
				}
			})
		}
	}
}

// TestStateOfTheVersionBefore: one without a book is read as one that remembers nothing.
func TestStateOfTheVersionBefore(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Rules = watching(t, map[rule.ID]rule.Params{rule.IDFirstUse: {}})
	l.add(filler(ca, 3)...)
	s.expect(rule.Clean)
	var old map[string]any
	if err := json.Unmarshal(s.state(l), &old); err != nil {
		t.Fatal(err)
	}
	old["v"] = 1
	delete(old, "book")
	data, err := json.Marshal(old)
	if err != nil {
		t.Fatal(err)
	}
	s.setState(l, data)
	l.add(ca.entry(alice, goodIssuer)) // not known to be the first: nobody looked at those before
	if r := s.expect(rule.Clean); r.Logs[0].Scanned != 4 {
		t.Errorf("status %+v", r.Logs[0])
	}
	old["v"] = 3
	if data, err = json.Marshal(old); err != nil {
		t.Fatal(err)
	}
	s.setState(l, data)
	s.expect(rule.Operational)
}
