package monitor_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/faultbucket"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// byHost answers for several logs.
type byHost map[string]http.Handler

func (b byHost) ServeHTTP(w http.ResponseWriter, r *http.Request) { b[r.URL.Host].ServeHTTP(w, r) }

// several is logs that a monitor follows in time that passes at once.
type several struct {
	ca   *testCA
	logs []*testLog
	hold byHost
}

func newSeveral(t *testing.T, n int) *several {
	s := &several{ca: newTestCA(t), hold: byHost{}}
	for i := range n {
		l := newTestLog(t, fmt.Sprintf("log%d.localhost", i))
		s.logs = append(s.logs, l)
		s.hold[strings.TrimPrefix(l.server.URL, "http://")] = l
	}
	return s
}

// station returns one for the logs, of which alice's entries are told.
func (s *several) station(t *testing.T, routes map[string]monitor.Route) *station {
	t.Helper()
	st := newStation(t)
	for _, l := range s.logs {
		log := l.config(monitor.KindRekor)
		log.End = time.Now().Add(-time.Hour) // it need not be fresh
		st.options.Logs = append(st.options.Logs, log)
	}
	st.options.Routes, st.options.Poll = routes, 10*time.Minute
	st.options.HTTP = &http.Client{Transport: direct{s.hold}}
	return st
}

// use has alice sign so many times in each log.
func (s *several) use(times int) {
	for _, l := range s.logs {
		for range times {
			l.sequence(s.ca.entry(alice, goodIssuer))
		}
		l.publish()
	}
}

// TestDigestOfSeveralLogs is one event, whether one process looks all the time or many look once.
func TestDigestOfSeveralLogs(t *testing.T) {
	for _, once := range []bool{false, true} {
		t.Run(fmt.Sprintf("once=%v", once), func(t *testing.T) {
			t.Parallel()
			s := newSeveral(t, 3)
			bubble.Test(t, func(t *testing.T) {
				quiet := &timedSink{}
				st := s.station(t, map[string]monitor.Route{"quiet": {Sink: quiet, Digest: 24 * time.Hour}})
				c := &clockwork{station: st}
				pass := func(d time.Duration) { c.pass(d) }
				if once {
					pass = func(d time.Duration) { st.check(); time.Sleep(d); st.check() }
				} else {
					c.start()
				}
				for range 2 {
					s.use(2)
					pass(2 * time.Hour)
				}
				if got := quiet.events(); len(got) != 0 {
					t.Fatalf("after hours there are %d events", len(got))
				}
				if r := st.check(); r.Held != 12 || r.Class != rule.Clean {
					t.Errorf("%d events are held back, class %d", r.Held, r.Class)
				}
				pass(23 * time.Hour)
				if !once {
					c.stop()
				}
				got := quiet.events()
				if len(got) != 1 || got[0].Count != 12 || got[0].Origin != "" || !strings.Contains(got[0].Summary, "(3 logs): 12 id.seen") {
					t.Fatalf("events %+v", got)
				}
				logs := map[string]int{}
				for _, m := range got[0].Group {
					logs[m.Origin]++
				}
				if len(logs) != 3 || logs["log0.localhost"] != 4 {
					t.Errorf("members of logs %v", logs)
				}
			})
		})
	}
}

// TestLimitOfSeveralLogs is one limit: as many events one by one as it says, and one group.
func TestLimitOfSeveralLogs(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 3)
	bubble.Test(t, func(t *testing.T) {
		limited := &timedSink{}
		c := &clockwork{station: s.station(t, map[string]monitor.Route{"limited": {Sink: limited, Limit: monitor.Limit{Max: 4, Window: time.Hour}}})}
		c.start()
		s.use(5)
		c.pass(20 * time.Minute)
		s.use(2)
		c.pass(20 * time.Minute)
		if got := limited.events(); len(got) != 4 {
			t.Errorf("%d events came one by one", len(got))
		}
		c.pass(30 * time.Minute)
		c.stop()
		got := limited.events()
		if len(got) != 5 || got[4].Count != 17 || got[4].Identity != "me" {
			t.Errorf("%d events: %+v", len(got), got[len(got)-1])
		}
	})
}

// TestHandingOverSurvivesKills ends the monitor at each storage operation while it hands over what is
// held back, in each way: a digest loses nothing and doubles nothing, and what a limit lets through
// and what it holds back is all that there is.
func TestHandingOverSurvivesKills(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 2)
	s.use(2)
	ops := handingOver(t, s, -1, faultbucket.None)
	for _, mode := range []faultbucket.Mode{faultbucket.Lose, faultbucket.Crash, faultbucket.CrashAfter} {
		for n := range ops {
			t.Run(fmt.Sprintf("%s at %d", mode, n), func(t *testing.T) {
				t.Parallel()
				handingOver(t, s, n, mode)
			})
		}
	}
}

func handingOver(t *testing.T, s *several, at int, mode faultbucket.Mode) (ops int) {
	bubble.Test(t, func(t *testing.T) {
		digested, limited := &timedSink{}, &timedSink{}
		st := s.station(t, map[string]monitor.Route{
			"digested": {Sink: digested, Digest: 24 * time.Hour}, "limited": {Sink: limited, Limit: monitor.Limit{Max: 1, Window: time.Hour}}})
		inner := st.options.State
		b := faultbucket.New(inner)
		if at >= 0 {
			b.FailAt(at, mode)
		}
		checkOnce(t.Context(), st, b)
		ops = len(b.Ops())
		b.Crash()
		checkOnce(t.Context(), st, inner)
		time.Sleep(25 * time.Hour)
		if r := st.check(); r.GivenUp != 0 {
			t.Errorf("taken for lost: %+v", r.Failures)
		}
		if told := s.told(digested.events()); len(told) != 4 || slices.Max(slices.Collect(maps.Values(told))) != 1 {
			t.Errorf("told by digests, and how often: %v", told)
		}
		// An event that was sent when the monitor ended, and not noted, may be in a group too.
		if told := s.told(limited.events()); len(told) != 4 {
			t.Errorf("told where there is a limit: %v", told)
		}
	})
	return ops
}

// TestSharedStateThatIsLost alone, or is replaced by an older copy, is told of as a delivery that was given
// up, at the next start and while the monitor runs; what comes after that is held back as before.
func TestSharedStateThatIsLost(t *testing.T) {
	t.Parallel()
	for _, older := range []bool{false, true} {
		for _, running := range []bool{false, true} {
			t.Run(fmt.Sprintf("older copy=%v, running=%v", older, running), func(t *testing.T) {
				t.Parallel()
				s := newSeveral(t, 2)
				bubble.Test(t, func(t *testing.T) {
					quiet := &timedSink{}
					st := s.station(t, map[string]monitor.Route{"quiet": {Sink: quiet, Digest: 24 * time.Hour}})
					d := &memoryDisplay{}
					st.options.Display = d
					s.use(1)
					if r := st.expect(rule.Clean, rule.IDSeen, rule.IDSeen); r.Held != 2 {
						t.Fatalf("%d events are held back", r.Held)
					}
					copied := st.shared()
					s.use(2)
					st.check()
					c := &clockwork{station: st}
					if running {
						c.start()
						synctest.Wait()
					}
					if err := st.options.State.Delete(t.Context(), sharedKey); err != nil {
						t.Fatal(err)
					}
					held := 2
					if older {
						held += 2
						if _, err := st.options.State.Put(t.Context(), sharedKey, copied, storage.PutOptions{}); err != nil {
							t.Fatal(err)
						}
					}
					s.use(1)
					if running {
						time.Sleep(time.Hour)
						synctest.Wait()
						c.stop()
					}
					for range 2 {
						r := st.check()
						if r.Class != rule.Operational || r.GivenUp != 1 || r.Held != held || len(r.Failures) != 1 ||
							r.Failures[0].Sink != "quiet" || !strings.Contains(r.Failures[0].Error, "older copy") {
							t.Fatalf("class %d, %d given up, %d held back, failures %+v", r.Class, r.GivenUp, r.Held, r.Failures)
						}
						if d.all.GivenUp != 1 || len(d.all.Failures) != 1 || len(d.all.Logs) != 2 {
							t.Errorf("shown: %+v", d.all)
						}
					}
					m, err := monitor.New(st.options)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := m.Check(t.Context()); err != nil {
						t.Fatal(err)
					}
					if err := m.Acknowledge(t.Context()); err != nil {
						t.Fatal(err)
					}
					st.expect(rule.Clean)
					time.Sleep(25 * time.Hour)
					st.expect(rule.Clean)
					if got := quiet.events(); len(got) != 1 || got[0].Count != held {
						t.Errorf("events %+v", got)
					}
				})
			})
		}
	}
}

// TestSharedStateThatIsLostIsToldOfAllSinks has it lost while two logs hold back for a sink each, of which one
// goes on to hand over until the state has been written as often as when the other last did.
func TestSharedStateThatIsLostIsToldOfAllSinks(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 2)
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{
		{Name: "alice", Email: alice, Notify: []string{"busy"}, Rules: map[rule.ID]rule.Params{rule.IDSeen: {}}},
		{Name: "bob", Email: bob, Notify: []string{"rare"}, Rules: map[rule.ID]rule.Params{rule.IDSeen: {}}}}})
	if err != nil {
		t.Fatal(err)
	}
	sign := func(log int, email string) {
		s.logs[log].sequence(s.ca.entry(email, goodIssuer))
		s.logs[log].publish()
	}
	bubble.Test(t, func(t *testing.T) {
		st := s.station(t, map[string]monitor.Route{"busy": {Sink: &timedSink{}, Digest: 24 * time.Hour}, "rare": {Sink: &timedSink{}, Digest: 24 * time.Hour}})
		st.options.Rules = rules
		sign(1, bob)
		st.check()
		sign(0, alice)
		c := &clockwork{station: st}
		c.start()
		time.Sleep(time.Hour)
		if err := st.options.State.Delete(t.Context(), sharedKey); err != nil {
			t.Fatal(err)
		}
		for range 3 {
			sign(0, alice)
			time.Sleep(time.Hour)
		}
		c.stop()
		for range 2 {
			var sinks []string
			r := st.check()
			for _, f := range r.Failures {
				sinks = append(sinks, f.Sink)
			}
			if slices.Sort(sinks); r.GivenUp != 2 || !slices.Equal(sinks, []string{"busy", "rare"}) {
				t.Errorf("%d given up, of sinks %q", r.GivenUp, sinks)
			}
		}
	})
}

// TestSinkThatFailsForLongIsShown from an hour on, with what it says.
func TestSinkThatFailsForLongIsShown(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 2)
	bubble.Test(t, func(t *testing.T) {
		down := &timedSink{until: time.Now().Add(3 * time.Hour), fail: func(context.Context, *timedSink, monitor.Event) error { return errors.New("no answer") }}
		st := s.station(t, map[string]monitor.Route{"pager": {Sink: down}, "mail": {Sink: &timedSink{}}})
		d := &memoryDisplay{}
		st.options.Display = d
		s.use(2)
		began := time.Now()
		for _, want := range []int{0, 4, 0} {
			st.check()
			late := 0
			for _, l := range d.all.Late {
				if late += l.Events; l.Sink != "pager" || l.Error != "no answer" || l.Since.Sub(began).Abs() > time.Second {
					t.Errorf("late: %+v", l)
				}
			}
			if late != want {
				t.Errorf("after %v %d events are late, want %d", time.Since(began), late, want)
			}
			time.Sleep(2 * time.Hour)
		}
	})
}

// sharedKey is where the state is that all logs share.
var sharedKey = fmt.Sprintf("monitor/%x", sha256.Sum256([]byte("all logs")))

// shared returns the state that all logs share.
func (s *station) shared() []byte {
	data, _, err := s.options.State.Get(s.t.Context(), sharedKey, storage.Range{})
	if err != nil {
		s.t.Fatal(err)
	}
	return data
}

// TestTwoMonitorsHandOverOnce has two monitors of one state find the same events, of which each tells one
// before it hands over the other. The one that is slow does so when the other one has long handed
// over, and something newer too: no event is in the digest twice.
func TestTwoMonitorsHandOverOnce(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 2)
	for _, l := range s.logs {
		l.sequence(s.ca.entry(alice, evilIssuer))
	}
	s.use(1)
	bubble.Test(t, func(t *testing.T) {
		quick, slow := &timedSink{}, gates{}
		for _, l := range s.logs {
			slow[l.origin] = make(chan struct{})
		}
		st := s.station(t, map[string]monitor.Route{"quiet": {Sink: quick, Digest: 24 * time.Hour}})
		o := st.options
		o.Routes = map[string]monitor.Route{"quiet": {Sink: slow, Digest: 24 * time.Hour}}
		m, err := monitor.New(o)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		go func() {
			_, err := m.Check(t.Context())
			ended <- err
		}()
		synctest.Wait() // it tells the first event of each log
		st.check()
		s.use(1)
		st.check()
		close(slow[s.logs[1].origin]) // and reads again what the logs share
		synctest.Wait()
		close(slow[s.logs[0].origin])
		if err := <-ended; err != nil {
			t.Error(err)
		}
		time.Sleep(25 * time.Hour)
		st.check()
		got := quick.events()
		if told := s.told(got); len(told) != 6 || slices.Max(slices.Collect(maps.Values(told))) != 1 {
			t.Errorf("told, and how often: %v", told)
		}
		if digest := got[len(got)-1]; digest.Count != 4 {
			t.Errorf("a digest of %d events", digest.Count)
		}
	})
}

// gates is a sink that takes the events of each log once its channel is closed.
type gates map[string]chan struct{}

func (g gates) Send(ctx context.Context, e monitor.Event) error {
	select {
	case <-g[e.Origin]:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// told returns the IDs that events tell of, and how often, repetitions of the same event not counted.
func (s *several) told(events []monitor.Event) map[string]int {
	told, seen := map[string]int{}, map[string]bool{}
	for _, e := range events {
		if seen[e.ID] {
			continue
		}
		seen[e.ID] = true
		if e.Count == 0 {
			told[e.ID]++
		}
		for _, m := range e.Group {
			told[m.ID]++
		}
	}
	return told
}

// TestSharedStateThatCannotBeUsed stops no log, and every log holds back for itself.
func TestSharedStateThatCannotBeUsed(t *testing.T) {
	t.Parallel()
	s := newSeveral(t, 2)
	bubble.Test(t, func(t *testing.T) {
		quiet := &timedSink{}
		st := s.station(t, map[string]monitor.Route{"quiet": {Sink: quiet, Digest: 24 * time.Hour}})
		if _, err := st.options.State.Put(context.Background(), sharedKey, []byte("damaged"), storage.PutOptions{}); err != nil {
			t.Fatal(err)
		}
		s.use(2)
		if r := st.check(); r.Class != rule.Operational || r.Held != 4 || r.Logs[0].Held != 2 {
			t.Errorf("class %d, %d held back", r.Class, r.Held)
		}
		time.Sleep(25 * time.Hour)
		st.check()
		if got := quiet.events(); len(got) != 2 || got[0].Count != 2 || got[1].Count != 2 {
			t.Errorf("events %+v", got)
		}
	})
}
