package monitor_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// direct asks a handler without a network, for tests whose clock is not the world's.
type direct struct{ handler http.Handler }

func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	d.handler.ServeHTTP(w, r)
	return w.Result(), nil
}

// A timedSink takes events, and keeps when; until a time it fails, in its way.
type timedSink struct {
	mu    sync.Mutex
	asked []time.Time
	taken []monitor.Event
	at    []time.Time
	until time.Time // fails before it
	fail  func(ctx context.Context, s *timedSink, e monitor.Event) error
}

func (s *timedSink) Send(ctx context.Context, e monitor.Event) error {
	s.mu.Lock()
	s.asked = append(s.asked, time.Now())
	failing := time.Now().Before(s.until)
	s.mu.Unlock()
	if failing {
		return s.fail(ctx, s, e)
	}
	s.take(e)
	return nil
}

func (s *timedSink) take(e monitor.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.taken, s.at = append(s.taken, e), append(s.at, time.Now())
}

// ids returns the IDs of what was taken.
func (s *timedSink) ids() (ids []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.taken {
		ids = append(ids, e.ID)
	}
	return ids
}

// events returns what was taken.
func (s *timedSink) events() []monitor.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.taken)
}

// askedAt returns when it was asked, and takenAt when it took the events.
func (s *timedSink) askedAt() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.asked)
}

func (s *timedSink) takenAt() []time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.at)
}

// A clockwork runs a monitor in time that passes at once.
type clockwork struct {
	*station
	log    *testLog
	ca     *testCA
	cancel context.CancelFunc
	ended  chan error
}

// inNoTime calls f in a bubble of its own time, which begins at midnight UTC, with a monitor of one
// log that looks at it with every poll. It watches alice, of whom all is told, and bob.
func inNoTime(t *testing.T, poll time.Duration, routes map[string]monitor.Route, f func(c *clockwork)) {
	t.Helper()
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	bubble.Test(t, func(t *testing.T) {
		log := l.config(monitor.KindRekor)
		log.End = time.Now().Add(-time.Hour) // it need not be fresh
		c := &clockwork{station: newStation(t, log), log: l, ca: ca}
		rules, err := rule.New(rule.Options{Identities: []rule.Identity{
			{Name: "alice", Email: alice, Expect: rule.Expect{Issuers: []string{goodIssuer}}, Rules: map[rule.ID]rule.Params{rule.IDSeen: {}}},
			{Name: "bob", Email: bob}}})
		if err != nil {
			t.Fatal(err)
		}
		c.options.Rules, c.options.Routes = rules, routes
		c.options.Poll = poll
		c.options.HTTP = &http.Client{Transport: direct{l}}
		l.publish()
		c.start()
		f(c)
		c.stop()
	})
}

func (c *clockwork) start() {
	c.t.Helper()
	m, err := monitor.New(c.options)
	if err != nil {
		c.t.Fatal(err)
	}
	var ctx context.Context
	ctx, c.cancel = context.WithCancel(context.Background())
	c.ended = make(chan error, 1)
	go func() { c.ended <- m.Run(ctx) }()
}

func (c *clockwork) stop() {
	c.t.Helper()
	synctest.Wait() // one that is told to end while it reads its state says so
	c.cancel()
	if err := <-c.ended; err != nil {
		c.t.Error(err)
	}
}

// pass lets time pass; a monitor is ended in the middle of it, and another one starts.
func (c *clockwork) pass(d time.Duration) {
	time.Sleep(d / 2)
	synctest.Wait()
	c.stop()
	c.start()
	time.Sleep(d - d/2)
	synctest.Wait()
}

// TestSinkThatFailsForAnHour loses nothing and doubles nothing, whichever way it fails, and delays
// no other sink.
func TestSinkThatFailsForAnHour(t *testing.T) {
	ways := map[string]func(context.Context, *timedSink, monitor.Event) error{
		"refuses": func(context.Context, *timedSink, monitor.Event) error { return errors.New("down") },
		"hangs": func(ctx context.Context, _ *timedSink, _ monitor.Event) error {
			<-ctx.Done()
			return ctx.Err()
		},
		"is overloaded": func(context.Context, *timedSink, monitor.Event) error {
			return &monitor.RetryError{After: 10 * time.Minute, Err: errors.New("429")}
		},
		"panics for want of air": func(context.Context, *timedSink, monitor.Event) error {
			return &monitor.RetryError{After: 1000 * time.Hour, Err: errors.New("503")}
		},
	}
	for name, fail := range ways {
		t.Run(name, func(t *testing.T) {
			good, bad := &timedSink{}, &timedSink{fail: fail}
			inNoTime(t, 10*time.Minute, map[string]monitor.Route{"good": {Sink: good}, "bad": {Sink: bad}}, func(c *clockwork) {
				begin := time.Now()
				bad.mu.Lock()
				bad.until = begin.Add(time.Hour)
				bad.mu.Unlock()
				for range 20 { // events all the time
					c.log.add(c.ca.entry(alice, goodIssuer), c.ca.entry(alice, evilIssuer))
					c.pass(3 * time.Minute)
				}
				if got := good.ids(); len(got) != 40 {
					t.Errorf("the good sink has %d events", len(got))
				}
				for i, at := range good.takenAt() {
					if late := at.Sub(good.events()[i].Time); late > time.Second {
						t.Errorf("event %d is %s late at the good sink", i, late)
					}
				}
				if got := bad.ids(); len(got) != 0 {
					t.Fatalf("the bad sink has %d events", len(got))
				}
				if n := len(bad.askedAt()); n > 20*(10+60) { // ten tries of each soon, then fewer and fewer
					t.Errorf("the bad sink was asked %d times", n)
				}
				c.pass(80 * time.Minute)
				want, got := good.ids(), bad.ids()
				slices.Sort(want)
				slices.Sort(got)
				if !slices.Equal(want, got) {
					t.Errorf("the bad sink has %d events, the good one %d", len(got), len(want))
				}
			})
		})
	}
}

// TestSinkWhoseAnswersAreLost takes events and says it did not: each comes again under its ID.
func TestSinkWhoseAnswersAreLost(t *testing.T) {
	lossy := &timedSink{fail: func(_ context.Context, s *timedSink, e monitor.Event) error {
		s.take(e)
		return errors.New("answer lost")
	}}
	inNoTime(t, 10*time.Minute, map[string]monitor.Route{"lossy": {Sink: lossy}}, func(c *clockwork) {
		lossy.mu.Lock()
		lossy.until = time.Now().Add(32 * time.Minute) // the log is looked at after half an hour at the latest
		lossy.mu.Unlock()
		c.log.add(c.ca.entry(alice, goodIssuer), c.ca.entry(alice, evilIssuer))
		c.pass(time.Hour)
		times := map[string]int{}
		for _, id := range lossy.ids() {
			times[id]++
		}
		if len(times) != 2 || len(lossy.events()) < 4 {
			t.Errorf("taken: %v", times)
		}
	})
}

// TestSinkThatSaysWhenToComeAgain is not asked before, however much there is to say, nor after a
// longer time than it asked for.
func TestSinkThatSaysWhenToComeAgain(t *testing.T) {
	busy := &timedSink{fail: func(context.Context, *timedSink, monitor.Event) error {
		return &monitor.RetryError{After: 20 * time.Minute, Err: errors.New("429")}
	}}
	inNoTime(t, time.Minute, map[string]monitor.Route{"busy": {Sink: busy}}, func(c *clockwork) {
		busy.mu.Lock()
		busy.until = time.Now().Add(50 * time.Minute)
		busy.mu.Unlock()
		for range 80 {
			c.log.add(c.ca.entry(alice, evilIssuer))
			time.Sleep(time.Minute)
			synctest.Wait()
		}
		time.Sleep(10 * time.Minute)
		for i := range 2 {
			if d := busy.askedAt()[i+1].Sub(busy.askedAt()[i]); d < 20*time.Minute || d > 26*time.Minute {
				t.Errorf("asked again after %s", d)
			}
		}
		if n := len(busy.askedAt()) - len(busy.events()); len(busy.events()) != 80 || n != 3 {
			t.Errorf("taken: %d, refused: %d", len(busy.events()), n)
		}
	})
}

// TestDigest has a quiet sink: what is for information comes once a day, all of it, and what is
// critical at once.
func TestDigest(t *testing.T) {
	quiet, feed := &timedSink{}, &timedSink{}
	routes := map[string]monitor.Route{"quiet": {Sink: quiet, Digest: 24 * time.Hour}, "feed": {Sink: feed}}
	inNoTime(t, 10*time.Minute, routes, func(c *clockwork) {
		begin := time.Now()
		for range 10 {
			var batch [][]byte
			for range 7 {
				batch = append(batch, c.ca.entry(alice, goodIssuer))
			}
			c.log.add(append(batch, c.ca.entry(bob, goodIssuer))...)
			c.pass(2 * time.Hour)
		}
		if got := quiet.ids(); len(got) != 0 {
			t.Fatalf("after 20 hours: %d events", len(got))
		}
		c.log.add(c.ca.entry(alice, evilIssuer))
		c.pass(2 * time.Minute)
		if got := quiet.ids(); len(got) != 1 || quiet.events()[0].Severity != rule.Critical {
			t.Fatalf("a critical event came not at once: %v", quiet.events())
		}
		c.pass(5 * time.Hour)
		if got := quiet.ids(); len(got) != 2 {
			t.Fatalf("after a day: %d events", len(got))
		}
		digest, at := quiet.events()[1], quiet.takenAt()[1].Sub(begin)
		if at < 24*time.Hour || at > 24*time.Hour+2*time.Minute {
			t.Errorf("the digest came after %s", at)
		}
		if digest.Count != 80 || len(digest.Group) != 50 || digest.Severity != rule.Info || digest.Identity != "" || digest.Index != monitor.NoIndex ||
			!strings.Contains(digest.Summary, "80 events from 2000-01-01 00:") || !strings.Contains(digest.Summary, "80 id.seen") {
			t.Errorf("digest of %d: %s", digest.Count, digest.Summary)
		}
		for i, m := range digest.Group {
			if e := feed.events()[i]; m.ID != e.ID || m.Evidence != e.Evidence || m.Index != e.Index {
				t.Errorf("member %d is %+v, the event %+v", i, m, e)
			}
		}
		// A day without events is a day without a digest; one event is told as itself.
		c.pass(48 * time.Hour)
		c.log.add(c.ca.entry(bob, goodIssuer))
		c.pass(24 * time.Hour)
		if got := quiet.events(); len(got) != 3 || got[2].Count != 0 || got[2].ID != feed.events()[len(feed.events())-1].ID {
			t.Errorf("after the third day: %d events", len(got))
		}
	})
}

// TestLimit has more events of one identity than a sink wants one by one.
func TestLimit(t *testing.T) {
	limited, feed := &timedSink{}, &timedSink{}
	routes := map[string]monitor.Route{"feed": {Sink: feed},
		"limited": {Sink: limited, Limit: monitor.Limit{Max: 3, Window: time.Hour}}}
	inNoTime(t, 10*time.Minute, routes, func(c *clockwork) {
		var batch [][]byte
		for range 50 {
			batch = append(batch, c.ca.entry(alice, goodIssuer), c.ca.entry(bob, goodIssuer), c.ca.entry(alice, evilIssuer))
		}
		c.log.add(batch...)
		c.pass(10 * time.Minute)
		counts := func() string {
			n := map[string]int{}
			for _, e := range limited.events() {
				kind := e.Identity + " " + e.Severity.String()
				if e.Count > 0 {
					kind += fmt.Sprintf(" %d more", e.Count)
				}
				n[kind]++
			}
			return fmt.Sprint(n)
		}
		// Critical events are neither held back nor counted.
		if got := counts(); got != "map[alice critical:50 alice info:3 bob info:3]" {
			t.Errorf("after ten minutes: %s", got)
		}
		c.log.add(c.ca.entry(bob, goodIssuer))
		c.pass(60 * time.Minute)
		if got := counts(); got != "map[alice critical:50 alice info:3 alice info 47 more:1 bob info:3 bob info 48 more:1]" {
			t.Errorf("after an hour: %s", got)
		}
		group := limited.events()[len(limited.events())-1]
		if !strings.Contains(group.Summary, " more events from ") || len(group.Group) < 40 {
			t.Errorf("group %+v", group)
		}
		// Nothing is missing: what was sent one by one, and what the groups count.
		n := 0
		for _, e := range limited.events() {
			n += max(1, e.Count)
		}
		if n != len(feed.events()) || n != 151 {
			t.Errorf("%d events, the feed has %d", n, len(feed.events()))
		}
		c.log.add(c.ca.entry(bob, goodIssuer))
		c.pass(2 * time.Minute)
		if e := limited.events()[len(limited.events())-1]; e.Count != 0 || e.Identity != "bob" {
			t.Errorf("in the next window: %+v", e)
		}
	})
}

// TestCheckKeepsDigestsAndSendsGroups has nobody who comes back within the hour.
func TestCheckKeepsDigestsAndSendsGroups(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	grouping, digesting := &timedSink{}, &timedSink{}
	s.options.Routes = map[string]monitor.Route{"grouping": {Sink: grouping, Limit: monitor.Limit{Max: 2, Window: time.Hour}},
		"digesting": {Sink: digesting, Digest: 7 * 24 * time.Hour}}
	for range 9 {
		l.sequence(ca.entry(alice, goodIssuer))
	}
	l.publish()
	r := s.check()
	if r.Class != rule.Clean || r.Undelivered != 0 || r.Logs[0].Held != 9 {
		t.Errorf("class %d, %d undelivered, status %+v", r.Class, r.Undelivered, r.Logs[0])
	}
	if got := grouping.events(); len(got) != 3 || got[2].Count != 7 {
		t.Errorf("grouping got %d events", len(got))
	}
	if len(digesting.events()) != 0 {
		t.Errorf("digesting got %d events", len(digesting.events()))
	}
	// Who is no longer configured is not told, and that is said.
	delete(s.options.Routes, "digesting")
	r = s.check()
	if r.GivenUp != 1 || r.Logs[0].Held != 0 || r.Logs[0].Failures[0].Event.Count != 9 {
		t.Errorf("status %+v", r.Logs[0])
	}
}

// TestCheckTriesWhatIsBehindRefusedEvents has a sink that will never take some events.
func TestCheckTriesWhatIsBehindRefusedEvents(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	picky := &timedSink{until: time.Now().Add(time.Hour)}
	picky.fail = func(_ context.Context, s *timedSink, e monitor.Event) error {
		if e.Index < 6 {
			return errors.New("400")
		}
		s.take(e)
		return nil
	}
	s.options.Routes = map[string]monitor.Route{"picky": {Sink: picky}}
	for range 10 {
		l.sequence(ca.entry(alice, goodIssuer))
	}
	l.publish()
	for range 30 {
		s.check()
	}
	if got := picky.ids(); len(got) != 4 {
		t.Errorf("%d of 4 were delivered", len(got))
	}
}

// countingBucket counts writes.
type countingBucket struct {
	storage.Bucket
	puts atomic.Int64
}

func (b *countingBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	b.puts.Add(1)
	return b.Bucket.Put(ctx, key, data, o)
}

// TestManyEventsTakeFewWrites has the state, which holds all that waits, written seldom.
func TestManyEventsTakeFewWrites(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	bucket := &countingBucket{Bucket: s.options.State}
	s.options.State = bucket
	e := ca.entry(alice, evilIssuer)
	for range 500 {
		l.sequence(e)
	}
	l.publish()
	s.check()
	if got := len(s.sink.all()); got != 500 {
		t.Errorf("%d events delivered", got)
	}
	if n := bucket.puts.Load(); n > 20 {
		t.Errorf("the state was written %d times", n)
	}
}
