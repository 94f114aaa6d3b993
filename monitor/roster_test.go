package monitor_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage/mem"
)

// A testRoster is trust material that says which of some logs there are: names, with a key each.
type testRoster struct {
	t    *testing.T
	logs map[string]monitor.Log // all that there ever will be, by origin

	mu  sync.Mutex
	m   monitor.Material
	err error
}

// A listed log, as it is in the material.
type listed struct {
	Origin string
	VKey   string
	Begin  time.Time
	End    time.Time
}

func newTestRoster(t *testing.T, logs ...*testLog) *testRoster {
	r := &testRoster{t: t, logs: map[string]monitor.Log{}}
	for _, l := range logs {
		r.logs[l.origin] = l.config(monitor.KindRekor)
	}
	return r
}

// list has the material name logs, under a root.
func (r *testRoster) list(root int64, logs ...listed) {
	r.t.Helper()
	for i := range logs {
		if logs[i].VKey == "" {
			logs[i].VKey = r.logs[logs[i].Origin].VKey
		}
	}
	data, err := json.Marshal(logs)
	if err != nil {
		r.t.Fatal(err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.m = monitor.Material{Data: data, Root: root}
}

func (r *testRoster) set(change func(r *testRoster)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(r)
}

func (r *testRoster) Name() string { return "https://tuf.example.org" }

func (r *testRoster) Fetch(context.Context) (monitor.Material, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.m, r.err
}

func (r *testRoster) Logs(material []byte) ([]monitor.Log, []monitor.LeftOut, error) {
	var all []listed
	if err := json.Unmarshal(material, &all); err != nil {
		return nil, nil, err
	}
	var logs []monitor.Log
	var left []monitor.LeftOut
	for _, l := range all {
		c, ok := r.logs[l.Origin]
		if !ok {
			left = append(left, monitor.LeftOut{Log: l.Origin, Why: "it has no tiles"})
			continue
		}
		c.VKey, c.Begin, c.End = l.VKey, l.Begin, l.End
		logs = append(logs, c)
	}
	return logs, left, nil
}

// tufRules are the rules about trust material, all on.
var tufRules = map[rule.ID]rule.Params{rule.TUFRootChanged: {}, rule.TUFLogAdded: {}, rule.TUFLogRemoved: {}, rule.TUFExpiring: {}}

// enrolled returns a station whose logs come from a roster.
func enrolled(t *testing.T, r *testRoster) *station {
	s := newStation(t).signed()
	s.options.Rosters, s.options.LogRules = []monitor.Roster{r}, tufRules
	return s
}

func TestShardsComeAndGo(t *testing.T) {
	ca := newTestCA(t)
	first, second := newTestLog(t, "log1.localhost"), newTestLog(t, "log2.localhost")
	r := newTestRoster(t, first, second)
	s := enrolled(t, r)
	first.add(ca.entry(alice, goodIssuer))
	r.list(1, listed{Origin: first.origin}, listed{Origin: "v1.localhost"})
	res := s.expect(rule.Clean, rule.IDSeen)
	if got := res.Trust[0]; got.Root != 1 || len(got.LeftOut) != 1 || got.LeftOut[0].Log != "v1.localhost" || got.Name != r.Name() {
		t.Errorf("trust %+v", got)
	}

	// The roll-over: the first shard gets its last entry, the second has some when it is first seen.
	second.add(append(filler(ca, 3), ca.entry(alice, evilIssuer))...)
	first.add(ca.entry(alice, evilIssuer))
	ended := time.Now().Add(-time.Minute)
	r.list(1, listed{Origin: first.origin, End: ended}, listed{Origin: second.origin})
	res = s.check()
	got := map[string]int{}
	for _, e := range res.Events {
		got[fmt.Sprint(e.Rule, " ", e.Origin, " ", e.Index)]++
	}
	for _, want := range []string{"id.unexpected-issuer log1.localhost 1", "id.unexpected-issuer log2.localhost 3",
		"tuf.log-added https://tuf.example.org -1", "tuf.root-changed https://tuf.example.org -1"} {
		if got[want] != 1 {
			t.Errorf("no %s in %v", want, got)
		}
	}
	if len(got) != 4 || res.Class != rule.IdentityAlert {
		t.Errorf("class %d, events %v", res.Class, got)
	}

	// The retired one need not be fresh, and is watched for the rest of its days.
	first.stamp = time.Now().Add(-2 * time.Hour)
	first.publish()
	s.expect(rule.Clean)
	undo := first.setCheckpoint(first.sign(1, first.root(1)))
	s.expect(rule.Misbehaved, rule.LogRollback)
	undo()
	s.expect(rule.Clean)

	// What is no longer named is still followed, by another process too.
	r.list(2, listed{Origin: second.origin})
	e := s.expect(rule.Operational, rule.TUFRootChanged, rule.TUFLogRemoved).Events[0]
	if !strings.Contains(string(evidence(t, e, "trusted_root.json")), second.origin) {
		t.Error("the trust material is not in the evidence")
	}
	s.expect(rule.Clean)
	first.stamp = time.Time{}
	first.add(ca.entry(alice, evilIssuer))
	if e := s.expect(rule.IdentityAlert, rule.IDUnexpected).Events[0]; e.Origin != first.origin || e.Index != 2 {
		t.Errorf("event %+v", e)
	}
	if got := len(s.sink.all()); got != 9 {
		t.Errorf("sink got %d events", got)
	}
}

func TestShardThatAppearsWhileRunning(t *testing.T) {
	ca := newTestCA(t)
	first, second := newTestLog(t, "log1.localhost"), newTestLog(t, "log2.localhost")
	r := newTestRoster(t, first, second)
	for origin, c := range r.logs { // old entries are of no interest, those of a new shard are
		c.Start = monitor.StartAtHead
		r.logs[origin] = c
	}
	s := enrolled(t, r)
	s.options.Poll = 5 * time.Millisecond
	first.add(ca.entry(alice, evilIssuer))
	second.add(ca.entry(alice, evilIssuer))
	soon := time.Now().Add(time.Hour)
	r.list(1, listed{Origin: first.origin}, listed{Origin: second.origin, Begin: soon})
	s.expect(rule.Operational) // without init
	if b := s.begin(); len(b) != 1 || b[0].Origin != first.origin || b[0].Start != 1 {
		t.Fatalf("found %+v", b)
	}
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	m.SetRosterPoll(5 * time.Millisecond)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	first.add(ca.entry(alice, evilIssuer))
	await := func(origin string, index int64) {
		t.Helper()
		for deadline := time.Now().Add(time.Minute); !slices.ContainsFunc(s.sink.all(), func(e monitor.Event) bool {
			return e.Origin == origin && e.Index == index
		}); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("no event of entry %d of %s: %+v, %+v", index, origin, m.Status(), m.Trust())
			}
		}
	}
	await(first.origin, 1)
	r.list(1, listed{Origin: first.origin, End: time.Now()}, listed{Origin: second.origin})
	await(second.origin, 0)
	second.add(ca.entry(alice, evilIssuer))
	await(second.origin, 1)
	settled := func() bool { // that is, nothing that was found is on its way to the sink
		return m.Trust()[0].Pending == 0 && !slices.ContainsFunc(m.Status(), func(s monitor.LogStatus) bool { return s.Pending > 0 })
	}
	for deadline := time.Now().Add(time.Minute); !settled(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not all is delivered: %+v, %+v", m.Status(), m.Trust())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	for _, e := range s.sink.all() {
		if e.Origin == first.origin && e.Index == 0 {
			t.Error("an entry from before the start was reported")
		}
	}
	// Another process goes on with both, and misses the state of neither.
	s.expect(rule.Clean)
	s.options.State = mem.New()
	s.expect(rule.Operational)
}

// TestTrustMaterialThatCannotBeHad is told of once; that it has expired, once a day.
func TestTrustMaterialThatCannotBeHad(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	bubble.Test(t, func(t *testing.T) {
		r := newTestRoster(t, l)
		s := enrolled(t, r)
		s.options.HTTP = &http.Client{Transport: direct{l}}
		l.publish()
		r.list(1, listed{Origin: l.origin})
		d := &memoryDisplay{}
		s.options.Display = d
		s.expect(rule.Clean)
		r.set(func(r *testRoster) { r.err = errors.New("no route") })
		l.add(ca.entry(alice, evilIssuer))
		res := s.expect(rule.IdentityAlert, rule.IDUnexpected, rule.LogUnreachable) // the logs are followed as before
		if !strings.Contains(res.Trust[0].Err, "no route") || len(d.all.Trust) != 1 || d.all.Trust[0].Err != res.Trust[0].Err {
			t.Errorf("trust %+v, shown %+v", res.Trust, d.all.Trust)
		}
		r.set(func(r *testRoster) { r.err = fmt.Errorf("%w: timestamp", monitor.ErrExpired) })
		s.expect(rule.Operational, rule.TUFExpiring)
		s.expect(rule.Operational)
		time.Sleep(24 * time.Hour)
		l.publish()
		s.expect(rule.Operational, rule.TUFExpiring)
		r.set(func(r *testRoster) { r.err, r.m.Role, r.m.Expires = nil, "root", time.Now().Add(23*time.Hour) })
		if e := s.expect(rule.Operational, rule.TUFExpiring).Events[0]; !strings.Contains(e.Summary, "root metadata expires") {
			t.Errorf("event %+v", e)
		}
		s.expect(rule.Operational) // as long as it is so, with no new event
		r.set(func(r *testRoster) { r.m.Data = []byte("nonsense") })
		if res := s.check(); res.Class != rule.Operational || !strings.Contains(res.Trust[0].Err, "invalid character") {
			t.Errorf("class %d, trust %+v", res.Class, res.Trust)
		}
	})
}

func TestKeyThatTrustMaterialChanges(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	r := newTestRoster(t, l)
	s := enrolled(t, r)
	s.options.LogRules = nil // a core rule
	r.list(1, listed{Origin: l.origin})
	s.expect(rule.Clean)
	r.list(2, listed{Origin: l.origin, VKey: newTestLogKey(l.origin, "other")})
	e := s.expect(rule.Misbehaved, rule.LogKeyChange).Events[0]
	if e.Origin != l.origin || !strings.Contains(e.Summary, l.vkey) {
		t.Errorf("event %+v", e)
	}
	l.add(ca.entry(alice, evilIssuer)) // by the old key, as it is known
	s.expect(rule.Misbehaved, rule.IDUnexpected)
}
