package monitor_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/mem"
)

// signed has the monitors of a station sign their states.
func (s *station) signed() *station {
	s.options.Key = seedKey("monitor")
	return s
}

// init runs Init of a new monitor.
func (s *station) init(origins ...string) ([]monitor.Beginning, error) {
	s.t.Helper()
	m, err := monitor.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	return m.Init(s.t.Context(), origins...)
}

// begin is init that must go well.
func (s *station) begin(origins ...string) []monitor.Beginning {
	s.t.Helper()
	found, err := s.init(origins...)
	if err != nil {
		s.t.Fatal(err)
	}
	return found
}

// empty expects that no state was made.
func (s *station) empty() {
	s.t.Helper()
	for key := range s.options.State.List(s.t.Context(), "") {
		s.t.Errorf("there is a state at %s", key)
	}
}

func TestInitBeginsAtTheHead(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(append(filler(ca, 300), ca.entry(alice, evilIssuer))...)
	c := l.config(monitor.KindRekor)
	c.Start = monitor.StartAtHead
	s := newStation(t, c).signed()
	for range 2 { // a state must not come into being by the way, whatever is tried
		if r := s.expect(rule.Operational); !strings.Contains(r.Logs[0].Err, "tallywood monitor init") {
			t.Fatalf("starting at the head unasked: %q", r.Logs[0].Err)
		}
	}
	s.empty()
	b := s.begin()[0]
	root := l.root(301)
	if b.Origin != l.origin || b.Size != 301 || b.Start != 301 || !bytes.Equal(b.Root, root[:]) || len(b.Witnesses) != 3 || b.Cosigned.IsZero() {
		t.Errorf("found %+v", b)
	}
	s.expect(rule.Clean)
	l.add(ca.entry(alice, evilIssuer))
	if e := s.expect(rule.IdentityAlert, rule.IDUnexpected).Events[0]; e.Index != 301 {
		t.Errorf("event %+v", e)
	}

	s.options.State = mem.New() // lost: nothing is skipped in silence
	s.expect(rule.Operational)
	s.empty()
}

func TestInitReplacesNoState(t *testing.T) {
	ca := newTestCA(t)
	first, second := newTestLog(t, "first.localhost"), newTestLog(t, "second.localhost")
	first.add(filler(ca, 2)...)
	s := newStation(t, first.config(monitor.KindRekor)).signed()
	s.begin()
	before := s.state(first)
	s.options.Logs = append(s.options.Logs, second.config(monitor.KindRekor))
	for _, origins := range [][]string{nil, {"first.localhost"}, {"first.localhost", "second.localhost"}} {
		if _, err := s.init(origins...); !errors.Is(err, monitor.ErrBegun) {
			t.Errorf("init of %q: %v", origins, err)
		}
	}
	if _, err := s.init("third.localhost"); !errors.Is(err, monitor.ErrUnknownLog) {
		t.Errorf("init of a log that is not configured: %v", err)
	}
	if b := s.begin("second.localhost"); len(b) != 1 || b[0].Origin != "second.localhost" {
		t.Errorf("found %+v", b)
	}
	if !bytes.Equal(s.state(first), before) {
		t.Error("the state of the other log is changed")
	}
	s.expect(rule.Clean)
}

func TestInitMakesNothingIfALogDoesNotVerify(t *testing.T) {
	ca := newTestCA(t)
	for name, c := range map[string]struct {
		spoil func(l *testLog)
		class rule.Class
	}{
		"no quorum": {func(l *testLog) {
			l.cosigners = l.cosigners[:1]
			l.publish()
		}, rule.Misbehaved},
		"unreachable": {func(l *testLog) { l.replace("checkpoint", nil) }, rule.Operational},
		"hash tile": {func(l *testLog) {
			path := tilePath("0", 1, 44)
			tile := l.file(path)
			tile[100] ^= 1
			l.replace(path, tile)
		}, rule.Operational},
		"entry": {func(l *testLog) {
			path := tilePath("entries", 1, 44)
			bundle := l.file(path)
			bundle[5] ^= 1
			l.replace(path, bundle)
		}, rule.Operational},
	} {
		t.Run(name, func(t *testing.T) {
			good, bad := newTestLog(t, "good.localhost"), newTestLog(t, "bad.localhost")
			bad.add(filler(ca, 300)...)
			s := newStation(t, good.config(monitor.KindRekor), bad.config(monitor.KindRekor)).signed()
			c.spoil(bad)
			_, err := s.init()
			if err == nil || !strings.Contains(err.Error(), "bad.localhost") || monitor.ClassOf(err) != c.class {
				t.Errorf("init: class %d, %v", monitor.ClassOf(err), err)
			}
			s.empty()
		})
	}
	t.Run("another kind", func(t *testing.T) {
		l := newTestLog(t, "log.localhost")
		l.add(filler(ca, 3)...)
		s := newStation(t, l.config(monitor.KindCT)).signed()
		if _, err := s.init(); err == nil {
			t.Error("a signature log was taken for a certificate log")
		}
		s.empty()
	})
}

// TestInitBeginsAtATime has certificates say when bundles were filled, and wants a start that is a
// little too early, and never too late.
func TestInitBeginsAtATime(t *testing.T) {
	ca := newTestCA(t)
	now := time.Now().Truncate(time.Second)
	at := now.Add(-30 * time.Hour)
	aged := func(n int, made time.Time) (out [][]byte) {
		ca.made = made
		defer func() { ca.made = time.Time{} }()
		return append(out, slices.Repeat([][]byte{ca.entry(bob, goodIssuer)}, n)...)
	}
	start := func(t *testing.T, entries ...[]byte) int64 {
		t.Helper()
		l := newTestLog(t, "log.localhost")
		l.add(entries...)
		c := l.config(monitor.KindRekor)
		c.StartTime = at
		b := newStation(t, c).signed().begin()[0]
		if !strings.Contains(b.Why, at.UTC().Format(time.RFC3339)) {
			t.Errorf("found %+v", b)
		}
		return b.Start
	}
	var hours [][]byte // a bundle each
	for h := range 40 {
		hours = append(hours, aged(256, now.Add(time.Duration(h-40)*time.Hour))...)
	}
	// Bundle 10 is of that hour, bundle 9 within the margin.
	if got := start(t, hours...); got != 8*256 {
		t.Errorf("begins with bundle %d", got/256)
	}
	// One entry among old ones, signed with an old certificate, does not make it later.
	young := slices.Clone(hours[:3*256])
	copy(young[256:], aged(100, now.Add(-time.Hour)))
	if got := start(t, young...); got != 0 {
		t.Errorf("begins with entry %d, entry 256 is of the time", got)
	}
	if got := start(t, hours[:5*256]...); got != 4*256 {
		t.Errorf("all is older: begins with entry %d", got)
	}
	// What says nothing may be of any time.
	ca.lives = 365 * 24 * time.Hour
	long := aged(600, now.Add(-100*time.Hour))
	ca.lives = 0
	if got := start(t, long...); got != 0 {
		t.Errorf("certificates that live long were believed: begins with entry %d", got)
	}
	if got := start(t); got != 0 {
		t.Errorf("an empty log: begins with entry %d", got)
	}

	l := newTestLog(t, "ct.localhost")
	l.ct = true
	for i := range int64(256) {
		l.sequence(ca.tileLeaf(alice, goodIssuer, i)) // just now
	}
	l.publish()
	c := l.config(monitor.KindCT)
	c.StartTime = at
	if b := newStation(t, c).signed().begin()[0]; b.Start != 0 {
		t.Errorf("found %+v", b)
	}
	c.StartTime = now.Add(time.Hour)
	if _, err := newStation(t, c).signed().init(); err == nil || !strings.Contains(err.Error(), "future") {
		t.Errorf("a time in the future: %v", err)
	}
	c.Kind, c.StartTime = monitor.KindTlog, at
	s := newStation(t, c)
	if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), "do not say when") {
		t.Errorf("a log of anything: %v", err)
	}
	c.Kind = monitor.KindCT
	s = newStation(t, c)
	r := s.expect(rule.Operational) // as with the head
	if err := r.Logs[0].Err; !strings.Contains(err, `has no state yet: run "tallywood monitor init"`) || strings.Contains(err, "monitor/") {
		t.Errorf("without init: %q; want what to do, and no path", err)
	}
	s.empty()
}

func TestStateThatAnotherWroteIsRefused(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor)).signed()
	l.add(filler(ca, 3)...)
	s.expect(rule.Clean)
	good := s.state(l)
	refused := func(what, why string, state []byte) {
		t.Helper()
		s.setState(l, state)
		if r := s.expect(rule.Operational); !strings.Contains(r.Logs[0].Err, why) || !strings.Contains(r.Logs[0].Err, l.origin) {
			t.Errorf("%s: %q", what, r.Logs[0].Err)
		}
		m, err := monitor.New(s.options)
		if err != nil {
			t.Fatal(err)
		}
		var se *monitor.StateError
		if err := m.Run(t.Context()); !errors.As(err, &se) {
			t.Errorf("%s: Run ended with %v", what, err)
		}
		if now := s.state(l); !bytes.Equal(now, state) {
			t.Errorf("%s: the state was changed", what)
		}
	}
	refused("edited", "not as this monitor wrote it", bytes.Replace(good, []byte(`"next":3`), []byte(`"next":2`), 1))
	refused("unsigned", "not signed", good[:bytes.Index(good, []byte("\n\n"))+1])
	refused("with half a signature", "signature", good[:len(good)-20])
	refused("with more behind it", "signature", append(slices.Clone(good), "x"...))

	other := newStation(t, l.config(monitor.KindRekor))
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	other.options.Key = key
	other.expect(rule.Clean)
	refused("of another monitor", "of another monitor", other.state(l))
	second := newTestLog(t, "second.localhost")
	of := newStation(t, second.config(monitor.KindRekor)).signed()
	of.expect(rule.Clean)
	refused("of another log", "it is of rekor log", of.state(second))

	s.setState(l, good)
	s.expect(rule.Clean)
	s.options.Key = nil
	s.expect(rule.Operational) // not ours to go on with
}

// TestSignedStateIsANote reads a state as somebody else would.
func TestSignedStateIsANote(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor)).signed()
	s.expect(rule.Clean)
	state, signature, ok := bytes.Cut(s.state(l), []byte("\n\n"))
	var fields map[string]any
	if err := json.Unmarshal(state, &fields); err != nil || !ok || fields["origin"] != l.origin {
		t.Fatalf("%v in %s", err, state)
	}
	vkey, err := monitor.VKey(s.options.Key)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(string(signature), "— tallywood-monitor ") || !strings.HasPrefix(vkey, "tallywood-monitor+") {
		t.Errorf("signature %q by %s", signature, vkey)
	}
}

// FuzzSealedState opens states that somebody else wrote.
func FuzzSealedState(f *testing.F) {
	key := seedKey("monitor")
	good, err := monitor.Seal(key, []byte("{}\n"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}\n\n"))
	f.Add([]byte("{}\n\n— tallywood-monitor AAAAAAA=\n"))
	f.Fuzz(func(t *testing.T, object []byte) {
		state, err := monitor.Unseal(key, object)
		if err != nil {
			return
		}
		again, err := monitor.Seal(key, slices.Clone(state))
		if err != nil || !bytes.HasPrefix(object, again[:len(state)]) {
			t.Errorf("opened %q from %q (%v)", state, object, err)
		}
		if string(state) != "{}\n" {
			t.Errorf("a state that was not signed: %q", state)
		}
	})
}

// runUntil has a new monitor run until something is so.
func (s *station) runUntil(done func() bool) {
	s.t.Helper()
	m, err := monitor.New(s.options)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(s.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- m.Run(ctx) }()
	for deadline := time.Now().Add(time.Minute); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Errorf("not so in time: %+v", m.Status())
			break
		}
	}
	cancel()
	if err := <-ended; err != nil {
		s.t.Error(err)
	}
}

// TestRunThatEndsBeforeItBegan is told to end while it reads its state.
func TestRunThatEndsBeforeItBegan(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	ctx, cancel := context.WithCancel(t.Context())
	s.options.State = endingBucket{s.options.State, cancel}
	m, err := monitor.New(s.options)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Run(ctx); err != nil {
		t.Error(err)
	}
	if ctx.Err() == nil {
		t.Error("it did not read its state")
	}
}

// endingBucket calls end at the first read, which fails then.
type endingBucket struct {
	storage.Bucket
	end context.CancelFunc
}

func (b endingBucket) Get(ctx context.Context, _ string, _ storage.Range) ([]byte, storage.Version, error) {
	b.end()
	return nil, "", ctx.Err()
}
