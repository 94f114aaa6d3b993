package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/faultbucket"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// A ledger is authorizations of digests, and how often they were looked at.
type ledger struct {
	mu      sync.Mutex
	digests map[string]bool
	late    map[string]bool // known only once looked at past caches
	listed  []monitor.Authorized
	fresh   int
	err     error
	hangs   bool // Refresh does not come back unless it is told to
}

func (l *ledger) Digests(identity string) []monitor.Authorized {
	l.mu.Lock()
	defer l.mu.Unlock()
	if identity != "me" {
		return nil
	}
	return slices.Clone(l.listed)
}

// list lists a digest that is to be signed, and was said to be so long ago.
func (l *ledger) list(digest string, ago time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.listed = append(l.listed, monitor.Authorized{Digest: digest, Added: time.Now().Add(-ago).UTC().Truncate(time.Second)})
	l.digests[digest] = true
}

func (l *ledger) Refresh(ctx context.Context, fresh bool) error {
	if l.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if fresh {
		l.fresh++
		for d := range l.late {
			l.digests[d] = true
		}
	}
	return l.err
}

func (l *ledger) Explains(identity string, f rule.Facts, _ time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return identity == "me" && l.digests[f.Digest]
}

func (l *ledger) authorize(e monitor.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.digests[e.Digest] = true
}

// authorized has the identity of a station be one that must be authorized within a grace time, and
// seen or not.
func (s *station) authorized(grace time.Duration, seen bool) *ledger {
	s.t.Helper()
	id := rule.Identity{Name: "me", Email: alice, Rules: map[rule.ID]rule.Params{rule.IDSeen: {Off: !seen}, rule.IDMissing: {}},
		Expect: rule.Expect{Issuers: []string{goodIssuer}, Authorize: true, Grace: grace}}
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{id}})
	if err != nil {
		s.t.Fatal(err)
	}
	l := &ledger{digests: map[string]bool{}, late: map[string]bool{}}
	s.options.Rules, s.options.Authorizations = rules, l
	return l
}

// digestOf returns the digest that an entry is a signature of.
func digestOf(t *testing.T, canonical []byte) string {
	t.Helper()
	b, err := entry.Parse(canonical)
	if err != nil {
		t.Fatal(err)
	}
	return rule.DigestText(b.HashAlg, b.Digest)
}

// evidenceDirs returns how many events have evidence.
func (s *station) evidenceDirs() int {
	dirs, _ := filepath.Glob(filepath.Join(s.options.EvidenceDir, "*"))
	return len(dirs)
}

func TestEntryWaitsForItsAuthorization(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.authorized(time.Hour, true)
	l.add(ca.entry(alice, goodIssuer))

	r := s.expect(rule.Clean, rule.IDSeen) // it is told that it was seen, and no alert
	if got := r.Logs[0]; got.Waiting != 1 || time.Until(got.Until) < 50*time.Minute || time.Until(got.Until) > time.Hour {
		t.Fatalf("status %+v", got)
	}
	if s.evidenceDirs() != 2 {
		t.Errorf("evidence of %d events, want that of the waiting one too", s.evidenceDirs())
	}
	if r = s.expect(rule.Clean); r.Logs[0].Waiting != 1 {
		t.Fatalf("status %+v", r.Logs[0])
	}
	book.authorize(s.sink.all()[0])
	if r = s.expect(rule.Clean); r.Logs[0].Waiting != 0 || !r.Logs[0].Until.IsZero() || s.evidenceDirs() != 1 {
		t.Errorf("status %+v, evidence of %d events", r.Logs[0], s.evidenceDirs())
	}
}

func TestAuthorizedEntryNeverWaits(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.authorized(time.Nanosecond, false)
	e := ca.entry(alice, goodIssuer)
	book.late[digestOf(t, e)] = true // published in the last moment: the caches do not have it
	l.add(e)
	if s.expect(rule.Clean); book.fresh != 1 || s.evidenceDirs() != 0 {
		t.Errorf("looked %d times past caches, evidence of %d events", book.fresh, s.evidenceDirs())
	}
	// What is known already leaves no trace at all.
	e = ca.entry(alice, goodIssuer)
	book.digests[digestOf(t, e)] = true
	l.add(e)
	s.check()
	if strings.Contains(string(s.state(l)), "waiting") || book.fresh != 1 || s.evidenceDirs() != 0 {
		t.Errorf("state %s", s.state(l))
	}
}

func TestUnauthorizedEntryIsRaisedAfterGrace(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.authorized(time.Nanosecond, true)
	canonical := ca.entry(alice, goodIssuer)
	l.add(canonical)
	r := s.expect(rule.IdentityAlert, rule.IDSeen, rule.IDUnauthorized)
	e := r.Events[1]
	if e.Severity != rule.Critical || e.Index != 0 || e.Identity != "me" || r.Logs[0].Waiting != 0 || book.fresh != 1 ||
		len(e.Reasons) != 1 || e.Reasons[0].Seen != e.Digest || e.Digest == "" {
		t.Errorf("event %+v, status %+v", e, r.Logs[0])
	}
	checkEvidence(t, l, e, canonical)
	if got := s.sink.all(); len(got) != 2 {
		t.Errorf("the sink got %d events", len(got))
	}
	s.expect(rule.Clean)

	// When what would explain it cannot be read, that is said with the alert, and of the check.
	book.err = errors.New("manifest is gone\x1b[2J")
	r = s.expect(rule.Operational, rule.AuthorizeUnusable)
	if e = r.Events[0]; e.Severity != rule.Warning || !strings.HasSuffix(e.Summary, `: manifest is gone\x1b[2J`) || r.Unusable != `manifest is gone\x1b[2J` {
		t.Errorf("event %+v, result says %q", e, r.Unusable)
	}
	s.expect(rule.Operational) // as long as it lasts, with no new event
	l.add(ca.entry(alice, goodIssuer))
	e = s.expect(rule.IdentityAlert, rule.IDSeen, rule.IDUnauthorized).Events[1]
	if !strings.HasSuffix(e.Summary, `; manifest is gone\x1b[2J`) {
		t.Errorf("summary %q", e.Summary)
	}
	book.err = nil
	s.expect(rule.Clean)
}

func TestEntryThatWasAlertedDoesNotWait(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(time.Nanosecond, true)
	l.add(ca.entry(alice, evilIssuer))
	if r := s.expect(rule.IdentityAlert, rule.IDUnexpected); r.Logs[0].Waiting != 0 {
		t.Errorf("status %+v", r.Logs[0])
	}
}

// TestWarningIsNotAllThatIsToldOfAnUnauthorizedEntry: a sink for what is critical never heard of it, and
// so a thief had only to break a lesser rule as well. It is one entry that nothing explains all the same.
func TestWarningIsNotAllThatIsToldOfAnUnauthorizedEntry(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(time.Nanosecond, false)
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "me", Email: alice, Rules: map[rule.ID]rule.Params{rule.IDFirstUse: {}},
		Expect: rule.Expect{Issuers: []string{goodIssuer}, Authorize: true, Grace: time.Nanosecond}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.options.Rules = rules
	d := &memoryDisplay{}
	s.options.Display = d
	l.add(ca.entry(alice, goodIssuer))
	r := s.expect(rule.IdentityAlert, rule.IDFirstUse, rule.IDUnauthorized)
	if w, u := r.Events[0], r.Events[1]; w.Severity != rule.Warning || u.Severity != rule.Critical || w.Index != u.Index || w.ID == u.ID {
		t.Errorf("events %+v", r.Events)
	}
	if sum := used(t, d); sum.Used["me"] != 1 || sum.Alerted["me"] != 1 {
		t.Errorf("use is shown as %+v", sum)
	}
	s.expect(rule.Clean)
}

func TestCertificateLogEntryNeedsNoAuthorization(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "ct.localhost")
	l.ct = true
	s := newStation(t, l.config(monitor.KindCT))
	s.authorized(time.Nanosecond, true)
	l.add(ca.tileLeaf(alice, goodIssuer, 0))
	s.expect(rule.Clean, rule.IDSeen)
}

// TestFloodOfUnauthorizedEntriesIsRaised: what does not fit is raised before it is due.
func TestFloodOfUnauthorizedEntriesIsRaised(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(time.Hour, false)
	s.tune = func(m *monitor.Monitor) { m.SetMaxWaiting(3) }
	for range 5 {
		l.sequence(ca.entry(alice, goodIssuer))
	}
	l.publish()
	r := s.expect(rule.IdentityAlert, rule.IDUnauthorized, rule.IDUnauthorized)
	if r.Logs[0].Waiting != 3 || r.Events[0].Index == r.Events[1].Index {
		t.Errorf("status %+v, events %+v", r.Logs[0], r.Events)
	}
}

func TestIdentityThatMustBeAuthorizedNeedsAuthorizations(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(0, false)
	s.options.Authorizations = nil
	if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), `identity "me" must be authorized`) {
		t.Errorf("got %v", err)
	}
}

func TestReasonsThatAreDueTogetherAreOneAlert(t *testing.T) {
	event := func(id string, index int64, identity string, s rule.Severity) monitor.Event {
		return monitor.Event{ID: id, Index: index, Identity: identity, Severity: s, Rule: rule.ID(id), Summary: "as " + id,
			Reasons: []rule.Reason{{Rule: rule.ID(id), Severity: s}}}
	}
	raised, absorbed := monitor.Together(event("a", 1, "me", rule.Warning), event("b", 1, "you", rule.Warning),
		event("c", 2, "me", rule.Warning), event("d", 1, "me", rule.Critical))
	if len(raised) != 3 || !slices.Equal(absorbed, []string{"a"}) {
		t.Fatalf("raised %+v, absorbed %q", raised, absorbed)
	}
	if e := raised[0]; e.ID != "d" || e.Rule != "d" || e.Severity != rule.Critical || len(e.Reasons) != 2 ||
		e.Reasons[0].Rule != "d" || e.Summary != "as d; as a" {
		t.Errorf("event %+v", e)
	}
}

// TestRunRaisesWhatIsDue has an entry become due while nothing else happens in the log.
func TestRunRaisesWhatIsDue(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(2*time.Second, false) // cosignatures have whole seconds
	s.options.Poll = 10 * time.Millisecond
	l.add(ca.entry(alice, goodIssuer))
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	select {
	case <-s.sink.got:
	case <-time.After(time.Minute):
		t.Errorf("nothing was raised: %+v", m.Status())
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := s.sink.all(); len(got) != 1 || got[0].Rule != rule.IDUnauthorized {
		t.Errorf("the sink got %+v", got)
	}
}

// TestSourceThatHangsDelaysNoAlert: what is unexpected by itself is told while a server of manifests
// does not answer.
func TestSourceThatHangsDelaysNoAlert(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.authorized(time.Hour, false).hangs = true
	s.options.Poll = 10 * time.Millisecond
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	for range 2 {
		l.add(ca.entry(alice, evilIssuer))
		select {
		case <-s.sink.got:
		case <-time.After(time.Minute):
			t.Fatalf("nothing was raised: %+v", m.Status())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// waitingSteps drives a station through an entry that waits and is explained, one that nothing
// explains, and one that is authorized and never comes.
func waitingSteps(t *testing.T, s *station, l *testLog) []func() {
	ca := newTestCA(t)
	entries := [][]byte{ca.entry(alice, goodIssuer), ca.entry(alice, goodIssuer)}
	first := digestOf(t, entries[0])
	var book *ledger
	return []func(){
		func() { book = s.authorized(time.Hour, false); l.add(entries[0]) },
		func() { book.authorize(monitor.Event{Digest: first}) },
		func() {
			s.authorized(time.Nanosecond, false).authorize(monitor.Event{Digest: first})
			l.add(entries[1])
		},
		func() {
			book := s.authorized(time.Hour, false)
			book.authorize(monitor.Event{Digest: first})
			book.list("sha256:00", 2*time.Hour)
		},
		func() { l.publish() },
	}
}

// TestCrashWhileEntriesWait kills the monitor at each operation in each way: of an entry that waits
// nothing is lost, and nothing told twice.
func TestCrashWhileEntriesWait(t *testing.T) {
	inner := mem.New()
	l := newTestLog(t, "log.localhost")
	l.stamp = time.Now() // a checkpoint with later cosignatures would be written too, or not
	st := newStation(t, l.config(monitor.KindRekor))
	var ops []int // of each step
	for _, step := range waitingSteps(t, st, l) {
		step()
		b := faultbucket.New(inner)
		checkOnce(t.Context(), st, b)
		ops = append(ops, len(b.Ops()))
	}
	for _, mode := range []faultbucket.Mode{faultbucket.Fail, faultbucket.Lose, faultbucket.Crash, faultbucket.CrashAfter} {
		for step := range ops {
			for n := range ops[step] {
				t.Run(fmt.Sprintf("%s at %d of step %d", mode, n, step), func(t *testing.T) {
					t.Parallel()
					crashWaiting(t, step, n, mode)
				})
			}
		}
	}
}

func crashWaiting(t *testing.T, at, n int, mode faultbucket.Mode) {
	l := newTestLog(t, "log.localhost")
	l.stamp = time.Now()
	st := newStation(t, l.config(monitor.KindRekor))
	var inner storage.Bucket = mem.New()
	queued := map[string]int64{}
	for i, step := range waitingSteps(t, st, l) {
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
	ids := map[string]bool{}
	for _, e := range st.sink.all() {
		if ids[e.ID] = true; (e.Rule != rule.IDUnauthorized || e.Index != 1) && e.Rule != rule.IDMissing {
			t.Errorf("event %+v", e)
		}
		if _, err := os.Stat(filepath.Join(e.Evidence, "evidence.json")); err != nil {
			t.Errorf("event without evidence: %v", err)
		}
	}
	if len(ids) != 2 || len(queued) != 2 {
		t.Errorf("%d events delivered, %d queued", len(ids), len(queued))
	}
}
