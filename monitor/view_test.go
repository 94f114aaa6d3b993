package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// memoryDisplay keeps the views it was shown last.
type memoryDisplay struct {
	views []monitor.View
	all   monitor.Overview
	err   error
}

func (d *memoryDisplay) Show(_ context.Context, o monitor.Overview) error {
	d.views, d.all = o.Logs, o
	return d.err
}

// TestDisplaySeesWhatWasUsed counts the uses of an identity by the day that their certificates say.
func TestDisplaySeesWhatWasUsed(t *testing.T) {
	l := newTestLog(t, "log.example.org")
	ca := newTestCA(t)
	s := newStation(t, l.config(monitor.KindRekor))
	d := &memoryDisplay{}
	s.options.Display = d
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean, rule.IDSeen)
	use := d.views[0].Usage.Last["me"]
	if sum := used(t, d); sum.Used["me"] != 1 || sum.Size != 1 || use.Index != 0 || use.Time.IsZero() {
		t.Errorf("before the monitor: %+v, last %+v", sum, use)
	}
	l.add(ca.entry(alice, goodIssuer), ca.entry(alice, "https://other.example"))
	s.expect(rule.IdentityAlert, rule.IDSeen, rule.IDUnexpected)
	use = d.views[0].Usage.Last["me"]
	if sum := used(t, d); sum.Used["me"] != 3 || sum.Alerted["me"] != 1 || sum.Size != 3 || use.Index != 2 || use.Time.IsZero() {
		t.Errorf("with the monitor: %+v, last %+v", sum, use)
	}
	if v := d.views[0]; v.Checkpoint.Size() != 3 || v.VKey != l.vkey || v.Policy != l.policy || v.Size != 3 {
		t.Errorf("the view is %+v", v)
	}

	// Who is not watched any more is forgotten.
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "you", Email: "bob@example.org"}}})
	if err != nil {
		t.Fatal(err)
	}
	s.options.Rules = rules
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean)
	if sum := used(t, d); len(sum.Used)+len(sum.Alerted)+len(d.views[0].Usage.Last) > 0 {
		t.Errorf("the usage is still %+v", d.views[0].Usage)
	}
}

// used sums up the days of the one log: at midnight there is more than one.
func used(t *testing.T, d *memoryDisplay) monitor.Day {
	t.Helper()
	days := d.views[0].Usage.Days
	if len(days) == 0 {
		t.Fatal("there is no day")
	}
	sum := monitor.Day{Size: days[len(days)-1].Size, Used: map[string]int64{}, Alerted: map[string]int64{}}
	for _, day := range days {
		for name, n := range day.Used {
			sum.Used[name] += n
		}
		for name, n := range day.Alerted {
			sum.Alerted[name] += n
		}
	}
	return sum
}

// TestDisplayThatFailsIsTold has check end with a class of its own.
func TestDisplayThatFailsIsTold(t *testing.T) {
	l := newTestLog(t, "log.example.org")
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Display = &memoryDisplay{err: errors.New("disk full")}
	s.expect(rule.Operational)
}

// TestDisplayIsShownTheEnd stops a monitor just after it has verified something new.
func TestDisplayIsShownTheEnd(t *testing.T) {
	t.Parallel()
	l := newTestLog(t, "log.example.org")
	s := newStation(t, l.config(monitor.KindRekor))
	d := &memoryDisplay{}
	s.options.Display, s.options.Poll = d, 10*time.Millisecond
	l.add(newTestCA(t).entry(alice, goodIssuer))
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); m.Status()[0].Scanned < 1; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("status %+v", m.Status())
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	if got := d.views[0].Scanned; got != 1 {
		t.Errorf("what was shown last has %d entries; want 1", got)
	}
}

// TestUsageIsBounded keeps a month, whatever comes in whatever order.
func TestUsageIsBounded(t *testing.T) {
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	var u monitor.Usage
	for i := range 100 {
		at := now.AddDate(0, 0, (i*37)%100-90)
		monitor.UsedAt(&u, "me", at, int64(i), now)
	}
	if len(u.Days) != 31 || u.Days[0].Date != "2026-10-29" || u.Days[30].Date != "2026-11-28" {
		t.Errorf("there are %d days: %+v", len(u.Days), u.Days)
	}
	for i, d := range u.Days {
		if want := now.AddDate(0, 0, i-30).Format(time.DateOnly); d.Date != want || d.Used["me"] != 1 {
			t.Errorf("day %d is %+v; want %s", i, d, want)
		}
	}
	monitor.UsedAt(&u, "me", now, 100, now.AddDate(0, 0, 40))
	if len(u.Days) != 0 || u.Last["me"].Index != 100 {
		t.Errorf("after 40 days: %s", fmt.Sprint(u))
	}
}

// TestRoutesThatTakeEverything sends the events of an identity that asks for another sink.
func TestRoutesThatTakeEverything(t *testing.T) {
	l := newTestLog(t, "log.example.org")
	ca := newTestCA(t)
	s := newStation(t, l.config(monitor.KindRekor))
	mine, pages, others := newMemorySink(), newMemorySink(), newMemorySink()
	s.options.Routes = map[string]monitor.Route{"mine": {Sink: mine}, "pages": {Sink: pages, Always: true}, "others": {Sink: others}}
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "me", Email: alice, Notify: []string{"mine"}}}})
	if err != nil {
		t.Fatal(err)
	}
	s.options.Rules = rules
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean, rule.IDSeen)
	if len(mine.all()) != 1 || len(pages.all()) != 1 || len(others.all()) != 0 {
		t.Errorf("sent %d, %d, %d events; want 1, 1, 0", len(mine.all()), len(pages.all()), len(others.all()))
	}
}
