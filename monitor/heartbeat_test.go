package monitor_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// A pulse counts beats, and misses them while told to.
type pulse struct {
	mu    sync.Mutex
	beats int
	deaf  bool
}

func (p *pulse) Beat(context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.deaf {
		return errors.New("deaf")
	}
	p.beats++
	return nil
}

func (p *pulse) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.beats
}

func (p *pulse) set(deaf bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.deaf = deaf
}

// TestHeartbeatStopsWhenALogIsNotInOrder, and comes back with it.
func TestHeartbeatStopsWhenALogIsNotInOrder(t *testing.T) {
	sink := &timedSink{fail: func(context.Context, *timedSink, monitor.Event) error { return errors.New("down") }}
	inNoTime(t, time.Minute, map[string]monitor.Route{"all": {Sink: sink}}, func(c *clockwork) {
		p := &pulse{}
		c.stop()
		c.options.Pulse, c.options.PulseEvery = p, 5*time.Minute
		c.start()
		// Exactly how many beats there are in a time depends on when it begins.
		beats := func(what string, d time.Duration, least, most int) {
			t.Helper()
			before := p.count()
			time.Sleep(d)
			synctest.Wait()
			if n := p.count() - before; n < least || n > most {
				t.Errorf("%s: %d beats in %s, want %d to %d", what, n, d, least, most)
			}
		}
		beats("all is well", time.Hour, 12, 13)
		c.log.add(c.ca.entry(alice, evilIssuer))
		beats("an alert that was delivered", time.Hour, 11, 13)

		undo := c.log.setCheckpoint(c.log.signText("log.localhost\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n"))
		time.Sleep(5 * time.Minute) // it has to be noticed
		beats("rolled back", time.Hour, 0, 0)
		undo()
		time.Sleep(5 * time.Minute)
		beats("as it was", time.Hour, 11, 13)

		c.log.intercept(func(w http.ResponseWriter, _ *http.Request) bool { w.WriteHeader(503); return true })
		time.Sleep(5 * time.Minute)
		beats("not reachable", time.Hour, 0, 0)
		c.log.intercept(nil)
		time.Sleep(5 * time.Minute)
		beats("reachable again", time.Hour, 11, 13)

		p.set(true)
		beats("nobody hears it", time.Hour, 0, 0)
		p.set(false)
		beats("somebody does", time.Hour, 12, 13)

		sink.mu.Lock()
		sink.until = time.Now().Add(5 * time.Hour)
		sink.mu.Unlock()
		c.log.add(c.ca.entry(alice, evilIssuer))
		beats("a sink fails for half an hour", 30*time.Minute, 5, 7)
		time.Sleep(40 * time.Minute)
		beats("a sink fails for hours", 3*time.Hour, 0, 0)
		time.Sleep(3 * time.Hour)
		beats("it is back", time.Hour, 11, 13)
	})
}

// TestHeartbeatThatStopsIsSaidOnce, whichever of two sinks is the reason.
func TestHeartbeatThatStopsIsSaidOnce(t *testing.T) {
	down := func(context.Context, *timedSink, monitor.Event) error { return errors.New("down") }
	a, b := &timedSink{fail: down}, &timedSink{fail: down}
	inNoTime(t, time.Minute, map[string]monitor.Route{"a": {Sink: a}, "b": {Sink: b}}, func(c *clockwork) {
		c.stop()
		var said bytes.Buffer
		c.options.Pulse, c.options.Log = &pulse{}, slog.New(slog.NewTextHandler(&said, nil))
		a.until, b.until = time.Now().Add(24*time.Hour), time.Now().Add(24*time.Hour)
		c.start()
		c.log.add(c.ca.entry(alice, evilIssuer))
		time.Sleep(6 * time.Hour)
		c.stop()
		if n := strings.Count(said.String(), "giving no heartbeat"); n != 1 {
			t.Errorf("said %d times:\n%s", n, &said)
		}
		c.start()
	})
}

func TestCheckGivesAHeartbeat(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	p := &pulse{}
	s.options.Pulse = p
	s.expect(rule.Clean)
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	if p.count() != 2 {
		t.Errorf("%d beats", p.count())
	}
	l.setCheckpoint([]byte("hello"))
	s.check()
	if p.count() != 2 {
		t.Error("a beat for a log that is not in order")
	}
	p.set(true) // that nobody hears it is no finding
	l.publish()
	s.expect(rule.Clean)
}
