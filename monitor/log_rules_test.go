package monitor_test

import (
	"bytes"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// named names a rule about logs for a station.
func (s *station) named(id rule.ID, p rule.Params) *station {
	s.options.LogRules = map[rule.ID]rule.Params{id: p}
	return s
}

// since has a state say that something has been so since a time.
func (s *station) since(l *testLog, field string, at time.Time) {
	s.t.Helper()
	found := regexp.MustCompile(`"` + field + `":"[^"]*"`)
	before := s.state(l)
	after := found.ReplaceAll(before, []byte(`"`+field+`":"`+at.UTC().Format(time.RFC3339)+`"`))
	if bytes.Equal(before, after) {
		s.t.Fatalf("state has no %q: %s", field, before)
	}
	s.setState(l, after)
}

func TestFreshnessIsConfigured(t *testing.T) {
	_, l, s := settled(t, 3)
	l.stamp = time.Now().Add(-2 * time.Hour)
	l.publish()
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: 3 * time.Hour, Critical: 4 * time.Hour}
	s.expect(rule.Clean)
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: time.Hour, Critical: 4 * time.Hour}
	if e := s.expect(rule.Operational, rule.LogStale).Events[0]; e.Severity != rule.Warning {
		t.Errorf("event %+v", e)
	}
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: time.Minute, Critical: time.Hour}
	if e := s.expect(rule.Operational, rule.LogStale).Events[0]; e.Severity != rule.Critical {
		t.Errorf("event %+v", e)
	}
	s.named(rule.LogStale, rule.Params{Off: true}).expect(rule.Clean)
}

func TestUnreachableForAWhile(t *testing.T) {
	_, l, s := settled(t, 3)
	l.replace("checkpoint", nil)
	s.named(rule.LogUnreachable, rule.Params{After: time.Hour})
	s.expect(rule.Operational) // it is met, and not told yet
	s.since(l, "down", time.Now().Add(-59*time.Minute))
	s.expect(rule.Operational)
	s.since(l, "down", time.Now().Add(-61*time.Minute))
	s.named(rule.LogUnreachable, rule.Params{Off: true}).expect(rule.Operational)
	s.named(rule.LogUnreachable, rule.Params{After: time.Hour}).expect(rule.Operational, rule.LogUnreachable)
	s.expect(rule.Operational) // once
}

func TestBehind(t *testing.T) {
	// What waits, waits for a sink that takes nothing.
	t.Run("too many", func(t *testing.T) {
		ca, l, s := settled(t, 1)
		s.tune = func(m *monitor.Monitor) { m.SetMaxPending(1); m.SetMaxBytes(1<<20, 1, 1<<20) }
		s.sink.setRefuse(errors.New("down"))
		l.add(append([][]byte{ca.entry(alice, goodIssuer)}, filler(ca, 10)...)...)
		s.named(rule.LogBehind, rule.Params{Max: 20}).expect(rule.Operational, rule.IDSeen)
		e := s.named(rule.LogBehind, rule.Params{Max: 9}).expect(rule.Operational, rule.LogBehind).Events[0]
		if e.Size != 12 || !strings.Contains(e.Summary, "10 of 12 entries") {
			t.Errorf("event %+v", e)
		}
		s.expect(rule.Operational) // once
		s.tune = nil
		s.sink.setRefuse(nil)
		s.expect(rule.Operational) // that it was behind is delivered only now
		s.expect(rule.Clean)
		if bytes.Contains(s.state(l), []byte(`"behind"`)) {
			t.Error("the state is still behind")
		}
	})
	t.Run("too long", func(t *testing.T) {
		ca, l, s := settled(t, 1)
		s.tune = func(m *monitor.Monitor) { m.SetMaxPending(1); m.SetMaxBytes(1<<20, 1, 1<<20) }
		s.sink.setRefuse(errors.New("down"))
		l.add(append([][]byte{ca.entry(alice, goodIssuer)}, filler(ca, 10)...)...)
		s.expect(rule.Operational, rule.IDSeen)
		s.since(l, "behind", time.Now().Add(-14*time.Minute))
		s.expect(rule.Operational)
		s.since(l, "behind", time.Now().Add(-16*time.Minute))
		s.named(rule.LogBehind, rule.Params{Off: true}).expect(rule.Operational)
		s.named(rule.LogBehind, rule.Params{After: time.Hour}).expect(rule.Operational)
		s.options.LogRules = nil
		s.expect(rule.Operational, rule.LogBehind)
	})
}

func TestMalformedEntriesNobodyWantsToHearOf(t *testing.T) {
	ca, l, s := settled(t, 1)
	l.add([]byte("nonsense"))
	s.named(rule.LogMalformedEntry, rule.Params{Off: true}).expect(rule.Clean)
	l.add(append([]byte("nonsense "), alice...)) // that it holds what is watched is about an identity
	s.expect(rule.IdentityAlert, rule.LogMalformedEntry)
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean, rule.IDSeen)
}

func TestRulesAboutLogsAreChecked(t *testing.T) {
	for _, c := range []struct {
		id   rule.ID
		p    rule.Params
		want string
	}{
		{rule.LogSplitView, rule.Params{Off: true}, "always on"},
		{rule.LogBehind, rule.Params{Window: time.Hour}, `does not take "window"`},
		{"log.nonsense", rule.Params{}, "unknown rule"},
	} {
		s := newStation(t, newTestLog(t, "log.localhost").config(monitor.KindRekor)).named(c.id, c.p)
		if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s %+v: %v", c.id, c.p, err)
		}
	}
}
