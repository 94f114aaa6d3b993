package monitor_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"filippo.io/torchwood"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// A memorySink keeps events, and refuses them while told to.
type memorySink struct {
	mu     sync.Mutex
	events []monitor.Event
	refuse error
	got    chan struct{} // signalled, if there is room
}

func newMemorySink() *memorySink { return &memorySink{got: make(chan struct{}, 1)} }

func (s *memorySink) Send(_ context.Context, e monitor.Event) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refuse != nil {
		return s.refuse
	}
	s.events = append(s.events, e)
	select {
	case s.got <- struct{}{}:
	default:
	}
	return nil
}

func (s *memorySink) all() []monitor.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.events)
}

func (s *memorySink) setRefuse(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refuse = err
}

// A station is what a monitor has beside the logs; it outlives monitors.
type station struct {
	t       testing.TB
	options monitor.Options
	sink    *memorySink

	tune func(*monitor.Monitor) // if set, called with every new one
}

// stateKey returns where the state of a log is.
func stateKey(l *testLog) string { return fmt.Sprintf("monitor/%x", sha256.Sum256([]byte(l.origin))) }

// state returns the state of a log as it is stored.
func (s *station) state(l *testLog) []byte {
	s.t.Helper()
	data, _, err := s.options.State.Get(s.t.Context(), stateKey(l), storage.Range{})
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// setState puts another state in its place.
func (s *station) setState(l *testLog, data []byte) {
	s.t.Helper()
	if _, err := s.options.State.Put(s.t.Context(), stateKey(l), data, storage.PutOptions{}); err != nil {
		s.t.Fatal(err)
	}
}

func newStation(t testing.TB, logs ...monitor.Log) *station {
	t.Helper()
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{
		Name: "me", Email: alice, Expect: rule.Expect{Issuers: []string{goodIssuer}},
		Rules: map[rule.ID]rule.Params{rule.IDSeen: {}}}}})
	if err != nil {
		t.Fatal(err)
	}
	sink := newMemorySink()
	return &station{t: t, sink: sink, options: monitor.Options{State: mem.New(), Logs: logs, Rules: rules,
		EvidenceDir: filepath.Join(t.TempDir(), "evidence"), Routes: map[string]monitor.Route{"all": {Sink: sink}}}}
}

// check runs a new monitor once and returns what it found.
func (s *station) check() monitor.Result {
	s.t.Helper()
	m, err := monitor.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.tune != nil {
		s.tune(m)
	}
	r, err := m.Check(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// expect runs check and compares class and rules of the events raised.
func (s *station) expect(class rule.Class, rules ...rule.ID) monitor.Result {
	s.t.Helper()
	r := s.check()
	var got []rule.ID
	for _, e := range r.Events {
		got = append(got, e.Rule)
	}
	if r.Class != class || !slices.Equal(got, rules) {
		s.t.Fatalf("check found class %d, rules %q; want %d, %q\nstatus %+v", r.Class, got, class, rules, r.Logs)
	}
	return r
}

// evidence returns a file that an event left.
func evidence(t testing.TB, e monitor.Event, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(e.Evidence, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSeenAndUnexpectedIssuer(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.expect(rule.Clean)

	l.add(filler(ca, 3)...)
	s.expect(rule.Clean)
	l.add(ca.entry(alice, goodIssuer))
	r := s.expect(rule.Clean, rule.IDSeen)
	if e := r.Events[0]; e.Index != 3 || e.Size != 4 || e.Severity != rule.Info || e.Identity != "me" || e.Issuer != goodIssuer {
		t.Errorf("event %+v", e)
	}
	s.expect(rule.Clean)

	bad := ca.entry(alice, evilIssuer)
	l.add(append(filler(ca, 2), bad)...)
	e := s.expect(rule.IdentityAlert, rule.IDUnexpected).Events[0]
	if e.Index != 6 || e.Severity != rule.Critical || e.Issuer != evilIssuer || !slices.Equal(e.Expected, []string{goodIssuer}) {
		t.Errorf("event %+v", e)
	}
	if e.LoggedBefore.IsZero() || e.LoggedAfter.After(e.LoggedBefore) || !strings.HasPrefix(e.Digest, "sha256:") {
		t.Errorf("event %+v", e)
	}
	checkEvidence(t, l, e, bad)
	s.expect(rule.Clean)
	if got := s.sink.all(); len(got) != 2 {
		t.Errorf("sink got %d events, want 2", len(got))
	}
}

// checkEvidence verifies an identity event's evidence with another implementation.
func checkEvidence(t *testing.T, l *testLog, e monitor.Event, entry []byte) {
	t.Helper()
	if got := evidence(t, e, "entry"); !bytes.Equal(got, entry) {
		t.Errorf("evidence has entry %q", got)
	}
	block, _ := pem.Decode(evidence(t, e, "certificate.pem"))
	if block == nil || block.Type != "CERTIFICATE" {
		t.Fatal("evidence has no certificate")
	}
	if sum := sha256.Sum256(block.Bytes); e.Certificate != fmt.Sprintf("sha256:%x", sum) {
		t.Errorf("event has fingerprint %s, evidence %x", e.Certificate, sum)
	}
	v, err := note.NewVerifier(l.vkey)
	if err != nil {
		t.Fatal(err)
	}
	proof := evidence(t, e, "inclusion.tlog-proof")
	if err := torchwood.VerifyProof(torchwood.ThresholdPolicy(2, torchwood.OriginPolicy(l.origin), torchwood.SingleVerifierPolicy(v)),
		tlog.RecordHash(entry), proof); err != nil {
		t.Errorf("verifying proof %q: %v", proof, err)
	}
	if !bytes.HasSuffix(proof, evidence(t, e, "checkpoint")) {
		t.Error("proof and checkpoint differ")
	}
	var about struct {
		Event monitor.Event `json:"event"`
		Files []struct{ File, SHA256 string }
	}
	if err := json.Unmarshal(evidence(t, e, "evidence.json"), &about); err != nil || about.Event.ID != e.ID || len(about.Files) != 4 {
		t.Errorf("evidence.json: %+v, %v", about, err)
	}
}

func TestEventJSONHasThePromisedFields(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	data, err := json.Marshal(s.sink.all()[0])
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"id", "time", "rule", "severity", "identity", "origin", "index", "size", "summary", "evidence"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("event has no %s: %s", name, data)
		}
	}
	if fields["severity"] != "critical" || fields["rule"] != "id.unexpected-issuer" || fields["index"] != 0.0 {
		t.Errorf("event %s", data)
	}
}

func TestCertificateLog(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "ct.localhost")
	l.ct = true
	s := newStation(t, l.config(monitor.KindCT))
	l.add(ca.tileLeaf(bob, goodIssuer, 0), ca.tileLeaf(alice, goodIssuer, 1), ca.tileLeaf(alice, evilIssuer, 2))
	r := s.expect(rule.IdentityAlert, rule.IDSeen, rule.IDUnexpected)
	if r.Events[0].Index != 1 || r.Events[1].Index != 2 {
		t.Errorf("events %+v", r.Events)
	}
	if block, _ := pem.Decode(evidence(t, r.Events[1], "certificate.pem")); block == nil {
		t.Error("no certificate in the evidence")
	}
	// An entry that calls itself another is reported, and what it is about as well.
	l.add(ca.tileLeaf(alice, evilIssuer, 77))
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	l.add(ca.tileLeaf(bob, goodIssuer, 78))
	s.expect(rule.Clean, rule.LogMalformedEntry)
}

func TestNoEntryIsMissedOrSeenTwiceAcrossBundles(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	want := []int64{}
	hit := func() []byte { return ca.entry(alice, evilIssuer) }
	// Alice at index 0, around the first bundle's end, and last; published in uneven steps.
	steps := []int{1, 100, 154, 1, 1, 255, 256, 300, 1}
	for _, n := range steps {
		batch := append(filler(ca, n-1), hit())
		want = append(want, int64(len(l.entries)+n-1))
		l.add(batch...)
		s.check()
	}
	var got []int64
	for _, e := range s.sink.all() {
		got = append(got, e.Index)
	}
	if !slices.Equal(got, want) {
		t.Errorf("alice seen at %v, is at %v", got, want)
	}
}

func TestLongBacklogIsSavedInChunks(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	small := make([][]byte, 70_000)
	for i := range small {
		small[i] = fmt.Appendf(nil, "entry %d", i)
	}
	small[66_000] = ca.entry(alice, evilIssuer)
	l.add(small...)
	s := newStation(t, l.config(monitor.KindTlog))
	s.expect(rule.Clean)

	// The bundle before the end is gone: what lies before it must have been saved.
	s = newStation(t, l.config(monitor.KindTlog))
	undo := l.replace(tilePath("entries", 272, 256), nil)
	r := s.expect(rule.Operational, rule.LogUnreachable)
	if got := r.Logs[0]; got.Scanned < 65_536 || got.Scanned > 272*256 || got.Size != 70_000 {
		t.Errorf("scanned %d of %d", got.Scanned, got.Size)
	}
	undo()
	if r := s.expect(rule.Clean); r.Logs[0].Scanned != 70_000 {
		t.Errorf("status %+v", r.Logs[0])
	}
}

func TestStartInTheMiddle(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(ca.entry(alice, evilIssuer), ca.entry(alice, evilIssuer))
	l.add(filler(ca, 300)...)
	l.add(ca.entry(alice, evilIssuer))
	c := l.config(monitor.KindRekor)
	c.Start = 1
	s := newStation(t, c)
	r := s.expect(rule.IdentityAlert, rule.IDUnexpected, rule.IDUnexpected)
	if r.Events[0].Index != 1 || r.Events[1].Index != 302 {
		t.Errorf("events %+v", r.Events)
	}

	c.Start = 1000
	s = newStation(t, c)
	s.expect(rule.Operational)
}

func TestForeignOrDamagedStateIsRefused(t *testing.T) {
	l, other := newTestLog(t, "log.localhost"), newTestLog(t, "other.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.expect(rule.Clean)
	key := ""
	for k := range s.options.State.List(t.Context(), "") {
		key = k
	}
	refused := func(what string) {
		t.Helper()
		m, err := monitor.New(s.options)
		if err != nil {
			t.Fatal(err)
		}
		r, err := m.Check(t.Context())
		if err != nil || r.Class != rule.Operational || !strings.Contains(r.Logs[0].Err, "monitor state of ") {
			t.Errorf("%s: class %d, error %v, status %q", what, r.Class, err, r.Logs[0].Err)
		}
		var se *monitor.StateError
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := m.Run(ctx); !errors.As(err, &se) {
			t.Errorf("%s: run ends with %v", what, err)
		}
	}
	s.options.Logs[0].VKey, s.options.Logs[0].NoPolicy, s.options.Logs[0].Policy = otherKey(l), true, nil
	refused("another key")
	s.options.Logs[0] = l.config(monitor.KindTlog)
	refused("another kind")
	s.options.Logs[0] = l.config(monitor.KindRekor)

	data, _, err := s.options.State.Get(t.Context(), key, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{
		"truncated":     string(data[:len(data)/2]),
		"empty":         "",
		"other origin":  strings.ReplaceAll(string(data), "log.localhost", other.origin),
		"newer version": strings.Replace(string(data), `{"v":`, `{"v":9`, 1),
		"unknown field": strings.Replace(string(data), `{"v":`, `{"x":1,"v":`, 1),
		"far position":  strings.Replace(string(data), `"next":0`, `"next":5`, 1),
	} {
		if _, err := s.options.State.Put(t.Context(), key, []byte(text), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		refused(what)
	}
}

func TestDamagedStateHidesNoOtherLog(t *testing.T) {
	ca, forked, s := settled(t, 5)
	damaged := newTestLog(t, "damaged.localhost")
	s.options.Logs = append(s.options.Logs, damaged.config(monitor.KindRekor))
	s.expect(rule.Clean)
	good := s.state(damaged)
	s.setState(damaged, good[:len(good)/2])
	damaged.add(ca.entry(alice, evilIssuer))
	f := forked.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	undo := forked.become(f)
	r := s.expect(rule.Misbehaved, rule.LogSplitView) // 4 before 5
	if !strings.Contains(r.Logs[1].Err, "monitor state of") {
		t.Errorf("status %+v", r.Logs[1])
	}
	undo()
	s.expect(rule.Operational)

	// A running monitor follows the others, and that log as well once its state is back.
	s.options.Poll = 10 * time.Millisecond
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	waitFor := func(id rule.ID) {
		t.Helper()
		deadline := time.After(time.Minute)
		for !slices.ContainsFunc(s.sink.all(), func(e monitor.Event) bool { return e.Rule == id }) {
			select {
			case <-s.sink.got:
			case err := <-done:
				t.Fatalf("run ended with %v", err)
			case <-deadline:
				t.Fatalf("no %s: status %+v", id, m.Status())
			}
		}
	}
	forked.add(ca.entry(alice, goodIssuer))
	waitFor(rule.IDSeen)
	s.setState(damaged, good)
	waitFor(rule.IDUnexpected)
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run ends with %v", err)
	}
}

func TestRunAlertsWhileItRuns(t *testing.T) {
	ca, l, broken := newTestCA(t), newTestLog(t, "log.localhost"), newTestLog(t, "broken.localhost")
	broken.setCheckpoint([]byte("this is not a checkpoint\n"))
	s := newStation(t, broken.config(monitor.KindRekor), l.config(monitor.KindRekor))
	s.options.Poll = 20 * time.Millisecond
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	waitFor := func(id rule.ID) {
		t.Helper()
		deadline := time.After(time.Minute)
		for !slices.ContainsFunc(s.sink.all(), func(e monitor.Event) bool { return e.Rule == id }) {
			select {
			case <-s.sink.got:
			case <-deadline:
				t.Fatalf("no %s: status %+v", id, m.Status())
			}
		}
	}
	waitFor(rule.LogBadSignature)
	l.add(ca.entry(alice, goodIssuer))
	waitFor(rule.IDSeen)
	// The broken log is polled again and again, and the other one was found in order.
	for n, deadline := broken.asked(), time.Now().Add(time.Minute); broken.asked() < n+6 || m.Status()[1].Checked.IsZero(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("asked %d times: status %+v", broken.asked()-n, m.Status())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("run ends with %v", err)
	}
	if got := s.sink.all(); len(got) != 2 {
		t.Errorf("events %+v, want two", got)
	}
	status := m.Status()
	if status[0].Err == "" || status[1].Err != "" || status[1].Size != 1 || status[1].Checked.IsZero() || len(status[1].Alerts) != 1 {
		t.Errorf("status %+v", status)
	}
}

func TestWrongOptionsAreAllNamed(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t)
	bad := l.config(monitor.KindRekor)
	bad.Policy = nil
	both := l.config(monitor.KindRekor)
	both.NoPolicy = true
	odd := l.config("sumdb")
	odd.URL, odd.Origin = "ftp://x", "other"
	unlisted := newTestLog(t, "z.localhost").config(monitor.KindRekor)
	unlisted.Policy = l.policy
	s.options.Logs = []monitor.Log{bad, both, odd, unlisted}
	s.options.State, s.options.EvidenceDir, s.options.Poll = nil, "", 105*24*time.Hour // 1024 of which are no duration
	_, err := monitor.New(s.options)
	for _, want := range []string{"no state", "poll 2520h0m0s is longer than 168h0m0s", "no evidence", "to go without one must be said", "both a policy and none",
		"kind", "ftp://x", "key is named", "does not list"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func otherKey(l *testLog) string {
	return newTestLogKey(l.origin, "another seed")
}
