package monitor_test

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// expecting has authorized digests of the identity of a station be missed after a grace time.
func (s *station) expecting(grace time.Duration) *ledger {
	s.t.Helper()
	id := rule.Identity{Name: "me", Email: alice, Expect: rule.Expect{Issuers: []string{goodIssuer}},
		Rules: map[rule.ID]rule.Params{rule.IDMissing: {Grace: grace}}}
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{id}})
	if err != nil {
		s.t.Fatal(err)
	}
	l := &ledger{digests: map[string]bool{}, late: map[string]bool{}}
	s.options.Rules, s.options.Authorizations = rules, l
	return l
}

func TestAuthorizedDigestThatIsNeverSignedIsMissed(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.expecting(time.Hour)
	before, after := ca.entry(alice, goodIssuer), ca.entry(alice, goodIssuer)
	book.list(digestOf(t, before), 2*time.Hour)
	book.list("sha256:00", 2*time.Hour)
	book.list("sha256:01", time.Minute) // not due
	withdrawn := monitor.Authorized{Digest: "sha256:02", Added: time.Now().Add(-2 * time.Hour), Expires: time.Now().Add(-90 * time.Minute)}
	book.listed = append(book.listed, withdrawn)
	l.add(before, after)

	r := s.expect(rule.IdentityAlert, rule.IDMissing)
	e := r.Events[0]
	if e.Severity != rule.Warning || e.Identity != "me" || e.Digest != "sha256:00" || e.Index != monitor.NoIndex || e.Origin != "log.localhost" ||
		len(e.Reasons) != 1 || e.Reasons[0].Field != "digest" || e.Reasons[0].Expected[0] != "sha256:00" {
		t.Errorf("event %+v", e)
	}
	if got := evidence(t, e, "checkpoint.0"); string(got) != string(l.file("checkpoint")) {
		t.Errorf("evidence has checkpoint %q", got)
	}
	s.expect(rule.Clean)
	// One that was signed before it was authorized is not missing.
	book.list(digestOf(t, after), 2*time.Hour)
	s.expect(rule.Clean)
	// One that is signed later than that is not told of again.
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean)
}

func TestSignatureByAnotherIsStillMissing(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.expecting(time.Hour)
	forged := ca.entry(alice, evilIssuer)
	book.list(digestOf(t, forged), 2*time.Hour)
	l.add(forged)
	s.expect(rule.IdentityAlert, rule.IDUnexpected, rule.IDMissing)
}

func TestDigestMayBeInAnyLog(t *testing.T) {
	ca := newTestCA(t)
	first, second := newTestLog(t, "log1.localhost"), newTestLog(t, "log2.localhost")
	s := newStation(t, first.config(monitor.KindRekor), second.config(monitor.KindRekor))
	book := s.expecting(time.Hour)
	e := ca.entry(alice, goodIssuer)
	book.list(digestOf(t, e), 2*time.Hour)
	second.add(e)
	s.expect(rule.Clean)

	// While one of them cannot be read, nothing is known to be missing.
	book.list("sha256:00", 2*time.Hour)
	second.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		w.WriteHeader(http.StatusForbidden)
		return true
	})
	s.expect(rule.Operational, rule.LogUnreachable)
	second.intercept(nil)
	s.expect(rule.IdentityAlert, rule.IDMissing)
}

func TestWhatWasSignedBeforeTheMonitorBeganIsNotMissed(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	cfg := l.config(monitor.KindRekor)
	cfg.Start = 1
	s := newStation(t, cfg)
	book := s.expecting(time.Hour)
	e := ca.entry(alice, goodIssuer)
	book.list(digestOf(t, e), 2*time.Hour)
	l.add(e, ca.entry(bob, goodIssuer))
	s.expect(rule.Clean)
	s.expect(rule.Clean)
}

// TestStaleLogTellsNothingOfWhatIsMissing: a checkpoint from before the grace time was over may lack
// what has been logged since.
func TestStaleLogTellsNothingOfWhatIsMissing(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	cfg := l.config(monitor.KindRekor)
	cfg.Freshness = monitor.Freshness{Warn: -1, Critical: -1}
	s := newStation(t, cfg)
	s.expecting(time.Hour).list("sha256:00", 2*time.Hour)
	l.stamp = time.Now().Add(-90 * time.Minute)
	l.publish()
	s.expect(rule.Clean)
	l.stamp = time.Time{}
	l.publish()
	s.expect(rule.IdentityAlert, rule.IDMissing)
}

// TestMissingIsToldWhateverIsListedFirst: trust material may name certificate logs before those of signatures.
func TestMissingIsToldWhateverIsListedFirst(t *testing.T) {
	t.Parallel()
	certs, sigs := newTestLog(t, "ct.localhost"), newTestLog(t, "log.localhost")
	r := newTestRoster(t, sigs)
	r.logs[certs.origin] = certs.config(monitor.KindCT)
	r.list(1, listed{Origin: certs.origin}, listed{Origin: sigs.origin})
	certs.publish()
	sigs.publish()
	s := enrolled(t, r)
	s.expecting(time.Hour).list("sha256:00", 2*time.Hour)
	if e := s.expect(rule.IdentityAlert, rule.IDMissing).Events[0]; e.Origin != sigs.origin {
		t.Errorf("event %+v", e)
	}
	s.expect(rule.Clean)
}

func TestMissingNeedsAuthorizations(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	s.expecting(0)
	s.options.Authorizations = nil
	if _, err := monitor.New(s.options); err == nil {
		t.Error("id.missing without authorizations is accepted")
	}
}

func TestAuthorizedDigestsOutlastAFlood(t *testing.T) {
	digests := []string{"mine"}
	for i := range 2000 {
		digests = append(digests, fmt.Sprint(i))
	}
	if !monitor.Remembers(digests, func(d string) bool { return d == "mine" }) {
		t.Error("an authorized digest is forgotten")
	}
	if monitor.Remembers(digests, func(string) bool { return false }) || !monitor.Remembers(digests[:1000], func(string) bool { return false }) {
		t.Error("of others not the newest thousand are remembered")
	}
}

// TestManyMissingAreToldInTurns: a manifest full of what never comes does not fill the outbox at once.
func TestManyMissingAreToldInTurns(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	book := s.expecting(time.Hour)
	for i := range 70 {
		book.list(fmt.Sprintf("sha256:%02x", i), 2*time.Hour)
	}
	l.publish()
	if n := len(s.check().Events); n != 64 {
		t.Errorf("%d events at once", n)
	}
	if n := len(s.check().Events); n != 6 {
		t.Errorf("%d events after that", n)
	}
	book.err = errors.New("gone") // what was decided stays so
	s.expect(rule.Operational, rule.AuthorizeUnusable)
}
