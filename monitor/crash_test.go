package monitor_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/faultbucket"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// scenario drives a station through growth, an alert of each kind and an outage, whatever the
// bucket does, and returns how many events must have come out of it.
type scenario struct {
	l     *testLog
	steps []func()
}

func newScenario(t *testing.T) *scenario {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	var undo func()
	return &scenario{l: l, steps: []func(){
		func() { l.add(append(filler(ca, 3), ca.entry(alice, goodIssuer))...) },
		func() { l.add(ca.entry(alice, evilIssuer)) },
		func() { undo = l.setCheckpoint(l.sign(2, l.root(2))) },
		func() { undo(); l.add(ca.entry(alice, goodIssuer)) },
	}}
}

const scenarioEvents = 4

// checkOnce runs one monitor on the bucket as a process would: it may die in the middle.
func checkOnce(ctx context.Context, s *station, b storage.Bucket) {
	o := s.options
	o.State = b
	m, err := monitor.New(o)
	if err != nil {
		s.t.Fatal(err)
	}
	_, _ = m.Check(ctx) // the next process sees what this one left
}

// TestCrashAtEveryStorageOperation kills the monitor at each operation in each way, restarts it,
// and wants every event queued exactly once and delivered at least once.
func TestCrashAtEveryStorageOperation(t *testing.T) {
	inner := mem.New()
	s := newScenario(t)
	st := newStation(t, s.l.config(monitor.KindRekor))
	var ops []int // of each step
	for _, step := range s.steps {
		step()
		b := faultbucket.New(inner)
		checkOnce(t.Context(), st, b)
		ops = append(ops, len(b.Ops()))
	}
	if len(st.sink.all()) != scenarioEvents {
		t.Fatalf("%d events without faults", len(st.sink.all()))
	}
	for _, mode := range []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Crash, faultbucket.CrashAfter} {
		for step := range ops {
			for n := range ops[step] {
				t.Run(fmt.Sprintf("%s at %d of step %d", mode, n, step), func(t *testing.T) { crashAt(t, step, n, mode) })
			}
		}
	}
}

func crashAt(t *testing.T, at, n int, mode faultbucket.Mode) {
	s := newScenario(t)
	st := newStation(t, s.l.config(monitor.KindRekor))
	inner := mem.New()
	queued := map[string]int64{} // by event ID, the position it was queued at
	for i, step := range s.steps {
		step()
		if i == at {
			b := faultbucket.New(inner)
			b.FailAt(n, mode)
			checkOnce(t.Context(), st, b)
			if len(b.Ops()) <= n {
				t.Fatalf("operation %d did not happen, only %d", n, len(b.Ops()))
			}
			b.Crash()
		}
		checkOnce(t.Context(), st, inner)
		noteQueued(t, inner, queued)
	}
	counts := map[string]int{}
	rules := map[rule.ID]int{}
	for _, e := range st.sink.all() {
		if counts[e.ID]++; counts[e.ID] == 1 {
			rules[e.Rule]++
		}
		if _, err := os.Stat(filepath.Join(e.Evidence, "evidence.json")); err != nil {
			t.Errorf("event without evidence: %v", err)
		}
	}
	if len(counts) != scenarioEvents || rules[rule.IDSeen] != 2 || rules[rule.IDUnexpected] != 1 || rules[rule.LogRollback] != 1 {
		t.Errorf("events %v", rules)
	}
	if len(queued) != scenarioEvents {
		t.Errorf("%d events were queued, want %d", len(queued), scenarioEvents)
	}
	left, _ := filepath.Glob(filepath.Join(st.options.EvidenceDir, "*"))
	if len(left) != scenarioEvents {
		t.Errorf("evidence of %d events, want %d: %q", len(left), scenarioEvents, left)
	}
}

// noteQueued reads from the state which events were queued, and fails if one is there twice.
func noteQueued(t *testing.T, b storage.Bucket, queued map[string]int64) {
	t.Helper()
	for key := range b.List(t.Context(), "") {
		data, _, err := b.Get(t.Context(), key, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		var s struct {
			Next   int64           `json:"next"`
			Alerts []monitor.Event `json:"alerts"`
			Outbox []struct {
				Event monitor.Event `json:"event"`
			} `json:"outbox"`
		}
		if err := json.Unmarshal(data, &s); err != nil {
			t.Fatal(err)
		}
		seen := map[string]bool{}
		for _, e := range s.Alerts {
			if seen[e.ID] {
				t.Errorf("event %s was queued twice", e.ID)
			}
			seen[e.ID] = true
			queued[e.ID] = s.Next
		}
		if len(s.Outbox) > 0 {
			t.Errorf("%d events are left in the outbox", len(s.Outbox))
		}
	}
}

func TestSinkThatIsDownGetsTheSameEventLater(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	down := newMemorySink()
	down.setRefuse(errors.New("down"))
	s.options.Routes["down"] = monitor.Route{Sink: down}
	quiet := newMemorySink()
	s.options.Routes["quiet"] = monitor.Route{Sink: quiet, MinSeverity: rule.Critical}

	l.add(ca.entry(alice, goodIssuer))
	if r := s.expect(rule.Operational, rule.IDSeen); r.Undelivered != 1 {
		t.Errorf("%d undelivered", r.Undelivered)
	}
	l.add(ca.entry(alice, evilIssuer))
	if r := s.expect(rule.IdentityAlert, rule.IDUnexpected); r.Undelivered != 2 {
		t.Errorf("%d undelivered", r.Undelivered)
	}
	if got := s.sink.all(); len(got) != 2 {
		t.Fatalf("the other sink got %d events", len(got))
	}
	if got := quiet.all(); len(got) != 1 || got[0].Rule != rule.IDUnexpected {
		t.Errorf("the sink for criticals got %+v", got)
	}
	down.setRefuse(nil)
	s.expect(rule.IdentityAlert) // an alert of before, delivered only now
	s.expect(rule.Clean)
	ids := func(events []monitor.Event) (out []string) {
		for _, e := range events {
			out = append(out, e.ID)
		}
		return out
	}
	if !slices.Equal(ids(down.all()), ids(s.sink.all())) || len(s.sink.all()) != 2 {
		t.Errorf("sinks got %q and %q", ids(down.all()), ids(s.sink.all()))
	}
}

func TestSinkThatHangsDelaysNobodyElse(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Poll = 10 * time.Millisecond
	s.options.Routes["hanging"] = monitor.Route{Sink: hangingSink{}}
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	for i := range 3 {
		l.add(ca.entry(alice, goodIssuer))
		select {
		case <-s.sink.got:
		case <-time.After(time.Minute):
			t.Fatalf("event %d is late: %+v", i, m.Status())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := m.Status()[0]; got.Pending != 3 || got.Scanned != 3 {
		t.Errorf("status %+v", got)
	}
}

type hangingSink struct{}

func (hangingSink) Send(ctx context.Context, _ monitor.Event) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestSinkThatIsGoneFromTheConfigurationHasFailed(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.sink.setRefuse(errors.New("down"))
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Operational, rule.IDSeen)
	s.options.Routes = map[string]monitor.Route{"other": {Sink: newMemorySink()}}
	s.failed("all", rule.IDSeen, "configured")
}

// failed expects one delivery that was given up, shown by every check until it is acknowledged.
func (s *station) failed(sink string, id rule.ID, why string) {
	s.t.Helper()
	for range 2 {
		r := s.check()
		if r.Class == rule.Clean || r.GivenUp != 1 || r.Undelivered != 0 || len(r.Logs[0].Failures) != 1 {
			s.t.Fatalf("class %d, %d given up, status %+v", r.Class, r.GivenUp, r.Logs)
		}
		if f := r.Logs[0].Failures[0]; f.Sink != sink || f.Event.Rule != id || !strings.Contains(f.Error, why) || f.Time.IsZero() {
			s.t.Errorf("failure %+v", f)
		}
	}
	s.expect(rule.Operational)
	m, err := monitor.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	if _, err := m.Check(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if err := m.Acknowledge(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	if r := s.expect(rule.Clean); r.GivenUp != 0 || len(r.Logs[0].Failures) != 0 {
		s.t.Errorf("status %+v after it was acknowledged", r.Logs)
	}
}

func TestDeliveryThatIsGivenUpIsShown(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.sink.setRefuse(errors.New("down\x1b[2J"))
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	since := regexp.MustCompile(`"since":"[^"]*"`)
	old := since.ReplaceAll(s.state(l), fmt.Appendf(nil, `"since":%q`, time.Now().Add(-73*time.Hour).Format(time.RFC3339)))
	s.setState(l, old)
	s.failed("all", rule.IDUnexpected, `down\x1b[2J`)
}

func TestGravestFailuresAreKept(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.sink.setRefuse(errors.New("down"))
	l.add(ca.entry(alice, evilIssuer))
	for range 70 {
		l.sequence(ca.entry(alice, goodIssuer))
	}
	l.publish()
	s.check()
	s.options.Routes = map[string]monitor.Route{"other": {Sink: newMemorySink()}}
	r := s.check()
	kept := r.Logs[0].Failures
	if r.GivenUp != 71 || len(kept) != 64 || kept[len(kept)-1].Event.Rule != rule.IDUnexpected {
		t.Errorf("%d given up, %d kept", r.GivenUp, len(kept))
	}
}

// TestTwoMonitorsShareAState runs two on one state: events are queued once, whoever is first.
func TestTwoMonitorsShareAState(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Poll = 5 * time.Millisecond
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 2)
	for range 2 {
		m, err := monitor.New(s.options)
		if err != nil {
			t.Fatal(err)
		}
		go func() { done <- m.Run(ctx) }()
	}
	const n = 10
	for range n {
		l.add(ca.entry(alice, goodIssuer))
		time.Sleep(20 * time.Millisecond)
	}
	told := func() map[int64]string {
		out := map[int64]string{}
		for _, e := range s.sink.all() {
			if id, ok := out[e.Index]; ok && id != e.ID {
				t.Errorf("entry %d has events %s and %s", e.Index, id, e.ID)
			}
			out[e.Index] = e.ID
		}
		return out
	}
	// What was sent a moment ago need not be noted yet.
	for deadline := time.Now().Add(time.Minute); len(told()) < n || bytes.Contains(s.state(l), []byte(`"outbox":`)); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("events of %d entries, want %d; the state is %s", len(told()), n, s.state(l))
		}
	}
	cancel()
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	queued := map[string]int64{}
	noteQueued(t, s.options.State, queued)
	if len(queued) != n {
		t.Errorf("%d events queued, want %d", len(queued), n)
	}
}

// TestStateThatIsRolledBackRepeatsIDs puts an older state back, as from a backup: what was told since
// is told again, as the same events, of entries and of the log.
func TestStateThatIsRolledBackRepeatsIDs(t *testing.T) {
	t.Parallel()
	ca, l, s := settled(t, 3)
	s.options.Rules = watching(t, map[rule.ID]rule.Params{rule.IDSeen: {}, rule.IDBurst: {Max: 3}})
	l.add(ca.entry(alice, goodIssuer))
	s.check()
	backup := map[string][]byte{}
	for key := range s.options.State.List(t.Context(), "") {
		data, _, err := s.options.State.Get(t.Context(), key, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		backup[key] = data
	}
	f := l.fork(2)
	f.add(filler(ca, 1)...)
	told := func() (ids []string) {
		before := len(s.sink.all())
		undo := l.setCheckpoint(f.file("checkpoint"))
		s.check()
		undo()
		s.check()
		for _, e := range s.sink.all()[before:] {
			ids = append(ids, fmt.Sprint(e.Rule, " ", e.Index, " ", e.ID))
		}
		slices.Sort(ids)
		return ids
	}
	for _, issuer := range []string{goodIssuer, evilIssuer, goodIssuer, goodIssuer} {
		l.add(ca.entry(alice, issuer))
	}
	first := told()
	for key, data := range backup {
		if _, err := s.options.State.Put(t.Context(), key, data, storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	again := told()
	if len(first) < 5 || !slices.Equal(first, again) {
		t.Errorf("told first:\n%s\ntold again:\n%s", strings.Join(first, "\n"), strings.Join(again, "\n"))
	}
}

func TestNoEvidenceNoEvent(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	if err := os.WriteFile(s.options.EvidenceDir, nil, 0o600); err != nil { // not a directory
		t.Fatal(err)
	}
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.Operational)
	if err := os.Remove(s.options.EvidenceDir); err != nil {
		t.Fatal(err)
	}
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
}
