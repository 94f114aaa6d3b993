package monitor_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/keys"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// An onlooker shows a checkpoint of a log.
type onlooker struct {
	url  string
	path string

	mu   sync.Mutex
	note []byte
	gets int
}

func newOnlooker(t *testing.T, l *testLog, path string) *onlooker {
	o := &onlooker{path: fmt.Sprintf(path, sha256.Sum256([]byte(l.origin)))}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o.mu.Lock()
		defer o.mu.Unlock()
		if o.gets++; r.URL.Path != o.path || o.note == nil {
			http.NotFound(w, r)
			return
		}
		w.Write(o.note)
	}))
	t.Cleanup(srv.Close)
	o.url = srv.URL
	return o
}

func (o *onlooker) show(note []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.note = note
}

// looked returns a log of five entries and a station that has seen them, with the witness w0 and
// another monitor beside it, who show what they know.
func looked(t *testing.T) (ca *testCA, l *testLog, s *station, witness, peer *onlooker) {
	ca, l, s = settled(t, 5)
	witness, peer = newOnlooker(t, l, "/%x/checkpoint"), newOnlooker(t, l, "/pages/checkpoints/%x")
	s.options.Logs[0].Onlookers = []monitor.Onlooker{{Name: "w0.example.org", URL: witness.url + "/", Witness: true}}
	s.options.Peers = []string{peer.url + "/pages"}
	return ca, l, s, witness, peer
}

// cosignOnly returns what a witness alone says: the text without the log's signature.
func cosignOnly(t *testing.T, w keys.Witness, text string) []byte {
	t.Helper()
	k, err := policy.ParseVKey(w.VKeys()[0])
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now().Unix()
	sig := binary.BigEndian.AppendUint64(nil, uint64(now))
	sig = append(sig, ed25519.Sign(w.Ed25519.(ed25519.PrivateKey), policy.CosignatureMessage(now, text))...)
	return []byte(text + "\n" + policy.FormatSignature(w.Name, k.ID(), sig))
}

func TestForkThatOnlyOthersAreShown(t *testing.T) {
	for name, who := range map[string]func(witness, peer *onlooker) *onlooker{
		"a witness":       func(witness, _ *onlooker) *onlooker { return witness },
		"another monitor": func(_, peer *onlooker) *onlooker { return peer },
	} {
		t.Run(name, func(t *testing.T) {
			ca, l, s, witness, peer := looked(t)
			other := who(witness, peer)
			s.expect(rule.Clean) // they do not know the log yet
			other.show(l.file("checkpoint"))
			s.expect(rule.Clean)
			other.show(l.sign(3, l.root(3)))
			s.expect(rule.Clean) // behind, and true
			f := l.fork(4)
			f.add(ca.entry(bob, goodIssuer))
			other.show(f.file("checkpoint"))
			r := s.expect(rule.Misbehaved, rule.LogSplitView)
			if len(r.Standing) > 0 {
				t.Errorf("what is told now is still so: %q", r.Standing)
			}
			e := r.Events[0]
			if !bytes.Equal(evidence(t, e, "checkpoint.seen"), f.file("checkpoint")) || !bytes.Equal(evidence(t, e, "checkpoint.verified"), l.file("checkpoint")) {
				t.Error("the two checkpoints are not in the evidence")
			}
			if !strings.Contains(e.Summary, "as w0.example.org shows") && !strings.Contains(e.Summary, "as "+peer.url) {
				t.Errorf("summary %q", e.Summary)
			}
			if r := s.expect(rule.Misbehaved); len(r.Standing) != 1 { // as long as it is shown, with no new event
				t.Errorf("still so: %q", r.Standing)
			}
			other.show(nil)
			s.expect(rule.Clean)
		})
	}
	t.Run("ahead of the log", func(t *testing.T) {
		ca, l, s, witness, _ := looked(t)
		f := l.fork(4)
		f.add(filler(ca, 4)...)
		witness.show(f.file("checkpoint"))
		s.expect(rule.Clean) // nothing to compare it with yet
		witness.show(nil)
		s.grownInto(ca, l, f.file("checkpoint"))
	})
	t.Run("ahead of the log, and true", func(t *testing.T) {
		ca, l, s, witness, _ := looked(t)
		before := l.file("checkpoint")
		l.add(filler(ca, 3)...)
		witness.show(l.file("checkpoint"))
		undo := l.setCheckpoint(before)
		s.expect(rule.Clean)
		undo()
		s.expect(rule.Clean)
		if bytes.Contains(s.state(l), []byte(`"claims":`)) {
			t.Error("the checkpoint is kept although the log grew into it")
		}
	})
}

// TestALyingWitnessAccusesOnlyItself has a witness show trees that the log never signed.
func TestALyingWitnessAccusesOnlyItself(t *testing.T) {
	ca, l, s, witness, peer := looked(t)
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	root := f.root(5)
	text := fmt.Sprintf("%s\n5\n%s\n", l.origin, base64.StdEncoding.EncodeToString(root[:]))
	lie := cosignOnly(t, l.cosigners[0], text)
	other := l.fork(5)
	other.key = seedKey("other") // under the log's name
	for _, note := range [][]byte{lie, other.signText(text), []byte("nonsense"), bytes.Repeat([]byte("x"), 2<<20),
		cosignOnly(t, l.cosigners[0], strings.Replace(text, l.origin, "other.localhost", 1))} {
		witness.show(note)
		peer.show(note)
		s.expect(rule.Clean)
	}
	s.named(rule.WitnessConflict, rule.Params{})
	witness.show(lie)
	peer.show(nil)
	e := s.expect(rule.Misbehaved, rule.WitnessConflict).Events[0]
	if !bytes.Equal(evidence(t, e, "checkpoint.seen"), lie) || !strings.Contains(e.Summary, "w0.example.org") {
		t.Errorf("event %+v", e)
	}
	// Another witness's cosignature does not make it this one's view, nor does any that is wrong.
	witness.show(cosignOnly(t, l.cosigners[1], text))
	s.expect(rule.Clean)
	witness.show(bytes.Replace(lie, []byte("\n5\n"), []byte("\n4\n"), 1))
	s.expect(rule.Clean)
	// One that cosigned what the log did sign is in conflict as well, and the log is found out.
	witness.show(f.file("checkpoint"))
	s.expect(rule.Misbehaved, rule.LogSplitView)
	g := l.fork(3)
	g.add(ca.entry(bob, goodIssuer))
	witness.show(g.file("checkpoint"))
	s.expect(rule.Misbehaved, rule.WitnessConflict, rule.LogSplitView)
}

func TestOnlookersAreAskedWhileRunning(t *testing.T) {
	ca, l, s, _, peer := looked(t)
	s.options.Poll = 5 * time.Millisecond
	s.runUntil(func() bool { return peerAsked(peer) > 2 })
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	peer.show(f.file("checkpoint"))
	s.runUntil(func() bool {
		return slices.ContainsFunc(s.sink.all(), func(e monitor.Event) bool { return e.Rule == rule.LogSplitView })
	})
}

func peerAsked(o *onlooker) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.gets
}

func TestOnlookersAreChecked(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	for name, c := range map[string]struct {
		change func(o *monitor.Options)
		want   string
	}{
		"unknown witness": {func(o *monitor.Options) {
			o.Logs[0].Onlookers = []monitor.Onlooker{{Name: "w9.example.org", URL: "https://w9.example.org", Witness: true}}
		}, "not in the policy"},
		"no URL": {func(o *monitor.Options) { o.Peers = []string{"monitor.example.org"} }, "not an http"},
	} {
		s := newStation(t, l.config(monitor.KindRekor))
		c.change(&s.options)
		if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestWitnessThatDoesNotCosignAnyMore(t *testing.T) {
	_, l, s, witness, _ := looked(t)
	s.named(rule.WitnessMissing, rule.Params{After: 30 * time.Minute})
	began := time.Now().Add(-3 * time.Hour)
	at := func(minutes int) {
		l.stamp = began.Add(time.Duration(minutes) * time.Minute)
		l.publish()
	}
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: -1, Critical: -1}
	at(0)
	s.expect(rule.Clean)
	all := l.cosigners
	l.cosigners = all[1:]
	at(25)
	s.expect(rule.Clean)
	at(31)
	e := s.expect(rule.Operational, rule.WitnessMissing).Events[0]
	if !strings.Contains(e.Summary, "w0.example.org") {
		t.Errorf("event %+v", e)
	}
	at(40)
	s.expect(rule.Operational) // once
	s.named(rule.WitnessMissing, rule.Params{After: 30 * time.Minute, Witnesses: []string{"w1.example.org"}})
	s.expect(rule.Clean)
	// It does cosign, only too late for the log to wait for it, as it shows itself.
	s.named(rule.WitnessMissing, rule.Params{After: 30 * time.Minute})
	before := l.file("checkpoint")
	l.cosigners = all
	l.publish()
	witness.show(l.file("checkpoint"))
	l.setCheckpoint(before)
	s.expect(rule.Clean)
	witness.show(nil)
	l.cosigners = all[1:]
	at(71)
	s.expect(rule.Operational, rule.WitnessMissing) // a new absence
}

// TestWitnessThatIsLate cosigns when the log has published already: that is in its full checkpoint.
func TestWitnessThatIsLate(t *testing.T) {
	ca, l, s := settled(t, 5)
	s.named(rule.WitnessMissing, rule.Params{After: 30 * time.Minute})
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: -1, Critical: -1}
	all, began := l.cosigners, time.Now().Add(-3*time.Hour)
	at := func(minutes int, full bool) {
		l.stamp = began.Add(time.Duration(minutes) * time.Minute)
		l.cosigners = all
		note := l.sign(l.published, l.root(l.published))
		if !full {
			note = nil
		}
		l.replace("checkpoint.full", note)
		l.cosigners = all[1:]
		l.publish()
	}
	for _, minutes := range []int{0, 20, 40, 60} {
		at(minutes, true)
		s.expect(rule.Clean)
	}
	at(80, false) // there is none any more, as at logs of others
	s.expect(rule.Clean)
	at(100, false)
	if e := s.expect(rule.Operational, rule.WitnessMissing).Events[0]; !strings.Contains(e.Summary, "w0.example.org") {
		t.Errorf("event %+v", e)
	}
	// It is signed by the log, and counts against it like any other checkpoint.
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	l.replace("checkpoint.full", f.file("checkpoint"))
	if e := s.expect(rule.Misbehaved, rule.LogSplitView).Events[0]; !strings.Contains(e.Summary, "as checkpoint.full shows") {
		t.Errorf("event %+v", e)
	}
	// Without the rule nobody asks.
	s.options.LogRules = nil
	l.gets = nil
	s.expect(rule.Clean)
	if slices.Contains(l.gets, "checkpoint.full") {
		t.Errorf("asked for %q", l.gets)
	}
}

// TestWitnessWhoseClockIsOff is told of once a day.
func TestWitnessWhoseClockIsOff(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	bubble.Test(t, func(t *testing.T) {
		s := newStation(t, l.config(monitor.KindRekor))
		s.options.HTTP = &http.Client{Transport: direct{l}}
		s.options.Logs[0].Freshness = monitor.Freshness{Warn: -1, Critical: -1}
		l.add(filler(ca, 5)...)
		s.expect(rule.Clean)
		mixed := func(first, others time.Time) {
			all := l.cosigners
			defer func() { l.cosigners = all }()
			text, signatures, _ := strings.Cut(string(l.sign(5, l.root(5))), "\n\n")
			logLine, _, _ := strings.Cut(signatures, "\n")
			note := text + "\n\n" + logLine + "\n"
			for i, stamp := range []time.Time{first, others, others} {
				l.cosigners, l.stamp = all[i:i+1], stamp
				_, lines, _ := strings.Cut(string(l.signText(text+"\n")), "\n\n")
				_, line, _ := strings.Cut(lines, "\n")
				note += line
			}
			l.setCheckpoint([]byte(note))
		}
		now := time.Now()
		mixed(now.Add(time.Hour), now)
		s.expect(rule.Clean) // opt-in
		s.named(rule.WitnessClockSkew, rule.Params{})
		mixed(now.Add(10*time.Minute), now)
		s.expect(rule.Clean)
		mixed(now.Add(-10*time.Minute), now)
		s.expect(rule.Clean)
		mixed(now.Add(time.Hour), now)
		if e := s.expect(rule.Operational, rule.WitnessClockSkew).Events[0]; !strings.Contains(e.Summary, "w0.example.org") || !strings.Contains(e.Summary, "future") {
			t.Errorf("event %+v", e)
		}
		mixed(now, now.Add(time.Hour))
		if e := s.expect(rule.Operational, rule.WitnessClockSkew, rule.WitnessClockSkew).Events; strings.Contains(e[0].Summary+e[1].Summary, "w0.example.org") {
			t.Errorf("events %+v", e)
		}
		s.named(rule.WitnessClockSkew, rule.Params{Window: 5 * time.Minute})
		mixed(now, now.Add(-10*time.Minute))
		s.expect(rule.Operational) // told today
		time.Sleep(24 * time.Hour)
		s.expect(rule.Operational, rule.WitnessClockSkew, rule.WitnessClockSkew)
	})
}

// TestMissingWitnessIsOneOfAPolicy: a name with a typing error would be missed by nobody.
func TestMissingWitnessIsOneOfAPolicy(t *testing.T) {
	_, _, s, _, _ := looked(t)
	s.options.LogRules = map[rule.ID]rule.Params{rule.WitnessMissing: {Witnesses: []string{"w0.example.org", "w0.example.com"}}}
	if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), `called "w0.example.com"; there are: w0.example.org, `) {
		t.Errorf("error %v", err)
	}
	s.options.LogRules[rule.WitnessMissing] = rule.Params{Witnesses: []string{"w0.example.org"}}
	if _, err := monitor.New(s.options); err != nil {
		t.Error(err)
	}
	s.options.Logs[0].Policy, s.options.Logs[0].NoPolicy = nil, true
	if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), "there are: none") {
		t.Errorf("without a policy: error %v", err)
	}
}
