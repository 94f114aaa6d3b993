package monitor_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// settled returns a log with n entries and a station that has seen them all.
func settled(t *testing.T, n int) (*testCA, *testLog, *station) {
	t.Helper()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	l.add(filler(ca, n)...)
	s := newStation(t, l.config(monitor.KindRekor))
	s.expect(rule.Clean)
	return ca, l, s
}

// misbehaving expects one event of a rule, once, and class 4 for as long as it lasts; then the
// log is honest again and the monitor goes on, having missed nothing.
func (s *station) misbehaving(ca *testCA, l *testLog, undo func(), id rule.ID) monitor.Event {
	s.t.Helper()
	e := s.expect(rule.Misbehaved, id).Events[0]
	if e.Severity != rule.Critical || e.Identity != "" || e.Summary == "" {
		s.t.Errorf("event %+v", e)
	}
	s.expect(rule.Misbehaved)
	s.expect(rule.Misbehaved)
	undo()
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	s.expect(rule.Clean)
	return e
}

func TestTamperedBundleIsCaught(t *testing.T) {
	// flip changes one byte of an entry, which concerns nobody either way.
	flip := func(_ *testCA, bundle []byte) []byte { bundle[len(bundle)-20] ^= 1; return bundle }
	for name, tc := range map[string]struct {
		path   string
		width  int
		tamper func(ca *testCA, bundle []byte) []byte
		index  int64
	}{
		"one byte":     {tilePath("entries", 1, 44), 300, flip, 299},
		"full bundle":  {tilePath("entries", 0, 256), 300, flip, 255},
		"cut short":    {tilePath("entries", 1, 44), 300, func(_ *testCA, b []byte) []byte { return b[:len(b)-1] }, 256},
		"empty":        {tilePath("entries", 1, 44), 300, func(*testCA, []byte) []byte { return []byte{} }, 256},
		"one too many": {tilePath("entries", 1, 44), 300, func(_ *testCA, b []byte) []byte { return append(b, 0, 0) }, 256},
		"neighbour twice": {tilePath("entries", 0, 3), 3, func(_ *testCA, b []byte) []byte {
			n := len(b) / 3 // fillers of one digit have one length
			return append(bytes.Clone(b[:2*n]), b[n:2*n]...)
		}, 2},
		"swapped": {tilePath("entries", 0, 3), 3, func(_ *testCA, b []byte) []byte {
			n := len(b) / 3
			return append(append(bytes.Clone(b[n:2*n]), b[:n]...), b[2*n:]...)
		}, 0},
		"alice hidden": {tilePath("entries", 0, 3), 3, func(ca *testCA, b []byte) []byte {
			e := ca.entry(alice, evilIssuer)
			return append(append(bytes.Clone(b[:2*len(b)/3]), byte(len(e)>>8), byte(len(e))), e...)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			ca, l, s := settled(t, 0)
			l.add(filler(ca, tc.width)...)
			undo := l.replace(tc.path, tc.tamper(ca, l.file(tc.path)))
			tampered := l.file(tc.path)
			e := s.misbehaving(ca, l, undo, rule.LogBundleMismatch)
			if e.Index != tc.index || e.Size != int64(tc.width) {
				t.Errorf("event is about index %d, size %d; want %d, %d", e.Index, e.Size, tc.index, tc.width)
			}
			if got := evidence(t, e, strings.ReplaceAll(tc.path, "/", "-")); !bytes.Equal(got, tampered) {
				t.Error("the bytes as received are not in the evidence")
			}
			if got := evidence(t, e, "checkpoint.seen"); !bytes.Contains(got, []byte("log.localhost")) {
				t.Errorf("checkpoint in the evidence: %q", got)
			}
		})
	}
}

func TestTamperedEntryOfAWatchedIdentityRaisesNoIdentityAlert(t *testing.T) {
	ca, l, s := settled(t, 1)
	l.add(ca.entry(alice, goodIssuer))
	path := tilePath("entries", 0, 2)
	l.replace(path, bytes.Replace(l.file(path), []byte(`"digest":"`), []byte(`"digest":"A`), 1)[:len(l.file(path))])
	s.expect(rule.Misbehaved, rule.LogBundleMismatch)
}

func TestStaleCacheIsAskedAgain(t *testing.T) {
	ca, l, s := settled(t, 2)
	old := l.file("checkpoint")
	l.add(ca.entry(alice, goodIssuer))
	bundle := l.file(tilePath("entries", 0, 3))
	bundle[5] ^= 1
	asked := 0
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Header.Get("Cache-Control") == "no-cache" {
			return false
		}
		switch {
		case strings.HasSuffix(r.URL.Path, "/checkpoint") && asked > 0:
			w.Write(old[:len(old)-1]) // a cache that is behind and cuts off
		case strings.Contains(r.URL.Path, "/tile/0/"):
			w.Write(bytes.Repeat([]byte{7}, 96))
		case strings.Contains(r.URL.Path, "/tile/entries/"):
			w.Write(bundle)
		default:
			asked++
			return false
		}
		return true
	})
	s.expect(rule.Clean, rule.IDSeen)
	s.expect(rule.Clean)
}

func TestRolledBackCheckpoint(t *testing.T) {
	ca, l, s := settled(t, 5)
	old := l.sign(3, l.root(3))
	e := s.misbehaving(ca, l, l.setCheckpoint(old), rule.LogRollback)
	if e.Size != 3 || !bytes.Equal(evidence(t, e, "checkpoint.seen"), old) {
		t.Errorf("event %+v", e)
	}
	if got := evidence(t, e, "checkpoint.verified"); !bytes.HasPrefix(got, []byte("log.localhost\n5\n")) {
		t.Errorf("verified checkpoint in the evidence: %q", got)
	}
}

func TestRolledBackToNothing(t *testing.T) {
	ca, l, s := settled(t, 5)
	s.misbehaving(ca, l, l.become(l.fork(0)), rule.LogRollback)
}

func TestForkOfTheSameSize(t *testing.T) {
	ca, l, s := settled(t, 5)
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	e := s.misbehaving(ca, l, l.become(f), rule.LogSplitView)
	if !bytes.Equal(evidence(t, e, "checkpoint.seen"), f.file("checkpoint")) {
		t.Error("the forked checkpoint is not in the evidence")
	}
}

func TestForkThatGrew(t *testing.T) {
	ca, l, s := settled(t, 300)
	f := l.fork(299)
	f.add(filler(ca, 30)...)
	e := s.misbehaving(ca, l, l.become(f), rule.LogSplitView)
	evidence(t, e, "tile-1-000.p-1")
}

func TestForkWithoutCosignaturesIsStillAFork(t *testing.T) {
	ca, l, s := settled(t, 5)
	f := l.fork(4)
	f.cosigners = nil
	f.add(ca.entry(bob, goodIssuer))
	l.become(f)
	s.expect(rule.Misbehaved, rule.LogSplitView, rule.QuorumLost)
}

func TestSignedRootThatTilesDoNotMake(t *testing.T) {
	ca, l, s := settled(t, 5)
	l.sequence(filler(ca, 1)...)
	l.publish()
	e := s.misbehaving(ca, l, l.setCheckpoint(l.sign(6, tlog.Hash{1, 2, 3})), rule.LogInconsistent)
	evidence(t, e, "checkpoint.seen")
	evidence(t, e, "checkpoint.verified")
}

func TestDamagedHashTile(t *testing.T) {
	ca, l, s := settled(t, 5)
	l.add(filler(ca, 3)...)
	path := tilePath("0", 0, 8)
	tile := l.file(path)
	tile[100] ^= 1
	e := s.misbehaving(ca, l, l.replace(path, tile), rule.LogInconsistent)
	if !bytes.Equal(evidence(t, e, strings.ReplaceAll(path, "/", "-")), tile) {
		t.Error("the tile as received is not in the evidence")
	}
}

func TestBadSignatures(t *testing.T) {
	for name, tc := range map[string]struct {
		make func(l *testLog) []byte
		rule rule.ID
	}{
		"unsigned": {func(l *testLog) []byte {
			text, _, _ := strings.Cut(string(l.file("checkpoint")), "\n\n")
			return []byte(text + "\n\n")
		}, rule.LogBadSignature},
		"changed text": {func(l *testLog) []byte {
			return bytes.Replace(l.file("checkpoint"), []byte("\n5\n"), []byte("\n6\n"), 1)
		}, rule.LogBadSignature},
		"web page":     {func(*testLog) []byte { return []byte("<html>Please log in</html>") }, rule.LogBadSignature},
		"empty":        {func(*testLog) []byte { return []byte{} }, rule.LogBadSignature},
		"huge":         {func(*testLog) []byte { return bytes.Repeat([]byte("x"), 3<<20) }, rule.LogBadSignature},
		"other origin": {func(l *testLog) []byte { return newTestLog(l.t, "other.localhost").file("checkpoint") }, rule.LogBadSignature},
		"another key": {func(l *testLog) []byte {
			f := l.fork(5)
			f.key = seedKey("thief")
			f.publish()
			return f.file("checkpoint")
		}, rule.LogKeyChange},
		"forged cosignature": {func(l *testLog) []byte {
			lines := strings.SplitAfter(string(l.file("checkpoint")), "\n")
			last := lines[len(lines)-2]
			lines[len(lines)-2] = last[:len(last)-10] + "AAAAAAA=\n"
			return []byte(strings.Join(lines, ""))
		}, rule.LogBadSignature},
	} {
		t.Run(name, func(t *testing.T) {
			ca, l, s := settled(t, 5)
			note := tc.make(l)
			e := s.misbehaving(ca, l, l.setCheckpoint(note), tc.rule)
			if got := evidence(t, e, "checkpoint.seen"); !bytes.HasPrefix(note, got[:min(len(got), 1<<20)]) {
				t.Error("the note as received is not in the evidence")
			}
		})
	}
}

func TestQuorumLost(t *testing.T) {
	ca, l, s := settled(t, 5)
	all := l.cosigners
	l.cosigners = all[2:]
	l.add(ca.entry(alice, evilIssuer))
	e := s.expect(rule.Misbehaved, rule.QuorumLost).Events[0]
	if !strings.Contains(e.Summary, "w0.example.org") || e.Size != 6 {
		t.Errorf("event %+v", e)
	}
	s.expect(rule.Misbehaved)
	l.cosigners = all[1:]
	l.publish()
	s.expect(rule.IdentityAlert, rule.IDUnexpected)

	// A loss is a new one when there was a quorum in between, even without growth.
	l.cosigners, l.stamp = all, time.Now().Add(2*time.Second)
	l.publish()
	s.expect(rule.Clean)
	l.cosigners = nil
	l.publish()
	s.expect(rule.Misbehaved, rule.QuorumLost)
	s.options.Logs[0].Policy, s.options.Logs[0].NoPolicy = nil, true
	s.expect(rule.Clean)
}

func TestStaleCosignatures(t *testing.T) {
	_, l, s := settled(t, 5)
	s.options.Logs[0].Freshness = monitor.Freshness{Warn: time.Minute, Critical: time.Hour}
	l.stamp = time.Now().Add(-10 * time.Minute)
	l.publish()
	if r := s.expect(rule.Operational, rule.LogStale); len(r.Standing) > 0 {
		t.Errorf("what is told now is still so: %q", r.Standing)
	}
	if r := s.expect(rule.Operational); len(r.Standing) != 1 || !strings.HasPrefix(r.Standing[0], "warning: log.stale: "+l.origin+": newest cosignature is of ") {
		t.Errorf("why it is not clean is said as %q", r.Standing)
	}
	l.stamp = time.Now().Add(-2 * time.Hour)
	l.publish()
	if e := s.expect(rule.Operational, rule.LogStale).Events[0]; e.Severity != rule.Critical {
		t.Errorf("event %+v", e)
	}
	l.stamp = time.Time{}
	l.publish()
	if r := s.expect(rule.Clean); len(r.Standing) > 0 {
		t.Errorf("in the end: %q", r.Standing)
	}
}

func TestPoisonEntriesStopNothing(t *testing.T) {
	ca, l, s := settled(t, 2)
	hidden := ca.entry(alice, goodIssuer)
	l.add(
		[]byte("not JSON"), []byte{}, []byte(`{"kind":"intoto","apiVersion":"0.0.2","spec":{}}`),
		append([]byte(" "), ca.entry(bob, goodIssuer)...), // same content, other bytes
		bytes.Repeat([]byte{0xff}, 65535),
		append(bytes.Clone(hidden[:len(hidden)-2]), `,"x":1}`...), // alice's certificate in an entry nobody parses
		ca.entry(alice, goodIssuer))
	r := s.expect(rule.IdentityAlert, rule.LogMalformedEntry, rule.LogMalformedEntry, rule.IDSeen)
	if e := r.Events[1]; e.Severity != rule.Critical || e.Identity != "me" || e.Index != 7 {
		t.Errorf("event %+v", e)
	}
	if e := r.Events[0]; e.Severity != rule.Info || e.Index != 2 || !strings.Contains(e.Summary, "4 more") {
		t.Errorf("event %+v", e)
	}
	s.expect(rule.Clean)
}

func TestGzipUnasked(t *testing.T) {
	ca, l, s := settled(t, 2)
	l.add(ca.entry(alice, goodIssuer))
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/entries/") {
			return false
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(gzipped(l.file(strings.TrimPrefix(r.URL.Path, "/"))))
		return true
	})
	s.expect(rule.Clean, rule.IDSeen)
}

func TestHugeResponses(t *testing.T) {
	ca, l, s := settled(t, 2)
	l.add(filler(ca, 1)...)
	bomb := gzipped(make([]byte, 64<<20)) // 64 kB on the wire
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, "/entries/") {
			return false
		}
		w.Header().Set("Content-Encoding", "gzip")
		w.Write(bomb)
		return true
	})
	e := s.expect(rule.Misbehaved, rule.LogBundleMismatch).Events[0]
	if got := evidence(t, e, "tile-entries-000.p-3"); len(got) > 17<<20 {
		t.Errorf("%d bytes kept", len(got))
	}
}

func TestPartialsAreGone(t *testing.T) {
	ca, l, s := settled(t, 2)
	l.add(append(filler(ca, 100), ca.entry(alice, goodIssuer))...)
	checkpoint := l.file("checkpoint")
	l.add(append(filler(ca, 400), ca.entry(alice, goodIssuer))...)
	for _, path := range []string{tilePath("entries", 0, 103), tilePath("0", 0, 103)} {
		l.replace(path, nil)
	}
	// A cache still has the old checkpoint: its partial tiles are cut from full ones.
	undo := l.setCheckpoint(checkpoint)
	r := s.expect(rule.Clean, rule.IDSeen)
	if e := r.Events[0]; e.Index != 102 || e.Size != 103 {
		t.Errorf("event %+v", e)
	}
	undo()
	s.expect(rule.Clean, rule.IDSeen)
}

func TestUnreachableLog(t *testing.T) {
	ca, l, s := settled(t, 2)
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
		return true
	})
	s.expect(rule.Operational, rule.LogUnreachable)
	s.expect(rule.Operational)
	l.intercept(nil)
	l.add(ca.entry(alice, goodIssuer))
	s.expect(rule.Clean, rule.IDSeen)
	// One hiccup is not worth a word.
	failed := false
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if failed {
			return false
		}
		failed = true
		panic(http.ErrAbortHandler)
	})
	s.expect(rule.Clean)
	if !failed {
		t.Error("nothing failed")
	}
}

func TestRedirectElsewhereIsNotFollowed(t *testing.T) {
	_, l, s := settled(t, 2)
	asked := false
	other := newTestLog(t, "log.localhost")
	other.intercept(func(http.ResponseWriter, *http.Request) bool { asked = true; return false })
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		http.Redirect(w, r, other.server.URL+r.URL.Path, http.StatusFound)
		return true
	})
	s.expect(rule.Operational, rule.LogUnreachable)
	if asked {
		t.Error("the redirect was followed")
	}
}

func TestTwoLogsThatFailDifferently(t *testing.T) {
	ca, l, s := settled(t, 2)
	gone := newTestLog(t, "gone.localhost").config(monitor.KindRekor)
	gone.URL = "http://127.0.0.1:1" // where nobody listens, nor ever will by chance
	s.options.Logs = append(s.options.Logs, gone)
	l.add(ca.entry(alice, evilIssuer))
	s.expect(rule.IdentityAlert, rule.IDUnexpected, rule.LogUnreachable) // 3 before 5
	l.setCheckpoint(l.sign(1, l.root(1)))
	s.expect(rule.Misbehaved, rule.LogRollback) // 4 before 5
}
