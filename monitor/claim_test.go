package monitor_test

import (
	"bytes"
	"net/http"
	"strings"
	"testing"

	"tallywood/monitor/rule"
)

// cached has a cache answer with another checkpoint whoever does not ask past it.
func (l *testLog) cached(note []byte) {
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path != "/checkpoint" || r.Header.Get("Cache-Control") == "no-cache" {
			return false
		}
		w.Write(note)
		return true
	})
}

// notPastCaches has requests that ask past caches refused, for paths with a part.
func (l *testLog) notPastCaches(part string) {
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.Contains(r.URL.Path, part) || r.Header.Get("Cache-Control") != "no-cache" {
			return false
		}
		http.Error(w, "not for you", http.StatusForbidden)
		return true
	})
}

func TestForkThatOnlyCachesServeIsAFork(t *testing.T) {
	ca, l, s := settled(t, 5)
	verified := l.file("checkpoint")
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	l.cached(f.file("checkpoint"))
	l.add(ca.entry(alice, evilIssuer))

	r := s.expect(rule.Misbehaved, rule.LogSplitView, rule.IDUnexpected) // the honest log is followed
	e := r.Events[0]
	if !bytes.Equal(evidence(t, e, "checkpoint.seen"), f.file("checkpoint")) || !bytes.Equal(evidence(t, e, "checkpoint.verified"), verified) {
		t.Error("the two checkpoints are not in the evidence")
	}
	if r.Logs[0].Scanned != 6 || r.Logs[0].Err == "" {
		t.Errorf("status %+v", r.Logs[0])
	}
	s.expect(rule.Misbehaved) // as long as it is served, with no new event
	l.intercept(nil)
	s.expect(rule.Clean)
}

func TestForkIsRaisedBeforeTheSecondLook(t *testing.T) {
	ca, l, s := settled(t, 5)
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	l.become(f)
	l.notPastCaches("/checkpoint")
	s.expect(rule.Misbehaved, rule.LogSplitView, rule.LogUnreachable)
}

func TestForkOfAnotherSizeIsNotForgotten(t *testing.T) {
	t.Run("smaller", func(t *testing.T) {
		ca, l, s := settled(t, 5)
		f := l.fork(3)
		f.add(ca.entry(bob, goodIssuer))
		l.cached(f.file("checkpoint"))
		e := s.expect(rule.Misbehaved, rule.LogSplitView).Events[0]
		if e.Size != 4 || !bytes.Equal(evidence(t, e, "checkpoint.seen"), f.file("checkpoint")) {
			t.Errorf("event %+v", e)
		}
		s.expect(rule.Misbehaved)
	})
	t.Run("smaller and true", func(t *testing.T) {
		_, l, s := settled(t, 5)
		l.cached(l.sign(4, l.root(4)))
		s.expect(rule.Clean)
	})
	t.Run("larger, without cosignatures", func(t *testing.T) {
		ca, l, s := settled(t, 5)
		f := l.fork(4)
		f.cosigners = nil
		f.add(filler(ca, 4)...)
		l.cached(f.file("checkpoint"))
		s.expect(rule.Clean) // nothing to compare it with yet
		l.intercept(nil)
		s.grownInto(ca, l, f.file("checkpoint"))
	})
	t.Run("larger, without tiles", func(t *testing.T) {
		ca, l, s := settled(t, 5)
		f := l.fork(4)
		f.add(filler(ca, 4)...)
		undo := l.setCheckpoint(f.file("checkpoint"))
		s.expect(rule.Operational, rule.LogUnreachable)
		undo()
		s.grownInto(ca, l, f.file("checkpoint"))
	})
	t.Run("larger, with tiles of the other tree", func(t *testing.T) {
		ca, l, s := settled(t, 5)
		f := l.fork(4)
		f.add(filler(ca, 4)...)
		l.add(filler(ca, 3)...)
		l.cached(f.file("checkpoint"))
		s.expect(rule.Misbehaved, rule.LogInconsistent)
	})
}

// grownInto expects that a forked checkpoint of size 8, seen before, is remembered once the log
// itself has grown beyond it.
func (s *station) grownInto(ca *testCA, l *testLog, fork []byte) {
	s.t.Helper()
	l.add(filler(ca, 1)...)
	s.expect(rule.Clean)
	l.add(filler(ca, 5)...)
	e := s.expect(rule.Misbehaved, rule.LogSplitView).Events[0]
	if e.Size != 8 || !bytes.Equal(evidence(s.t, e, "checkpoint.seen"), fork) {
		s.t.Errorf("event %+v", e)
	}
	evidence(s.t, e, "checkpoint.verified")
	s.expect(rule.Clean)
}

func TestClaimThatTheLogKeepsIsForgotten(t *testing.T) {
	ca, l, s := settled(t, 5)
	all := l.cosigners
	l.cosigners = nil
	l.add(filler(ca, 2)...)
	s.expect(rule.Misbehaved, rule.QuorumLost)
	if !bytes.Contains(s.state(l), []byte(`"claims":`)) {
		t.Error("the checkpoint without quorum is not kept")
	}
	l.cosigners = all
	l.add(filler(ca, 1)...)
	s.expect(rule.Clean)
	if bytes.Contains(s.state(l), []byte(`"claims":`)) {
		t.Error("the checkpoint is kept although the log grew out of it")
	}
}

func TestFirstLookIsNotForgottenWhenTheSecondFails(t *testing.T) {
	t.Run("checkpoint", func(t *testing.T) {
		_, l, s := settled(t, 5)
		old := l.sign(3, l.root(3))
		l.setCheckpoint(old)
		l.notPastCaches("/checkpoint")
		e := s.expect(rule.Misbehaved, rule.LogRollback, rule.LogUnreachable).Events[0]
		if !bytes.Equal(evidence(t, e, "checkpoint.seen"), old) {
			t.Error("the checkpoint is not in the evidence")
		}
	})
	t.Run("bundle", func(t *testing.T) {
		ca, l, s := settled(t, 2)
		l.add(filler(ca, 1)...)
		path := tilePath("entries", 0, 3)
		bundle := l.file(path)
		bundle[5] ^= 1
		l.replace(path, bundle)
		l.notPastCaches("/tile/entries/")
		e := s.expect(rule.Misbehaved, rule.LogBundleMismatch, rule.LogUnreachable).Events[0]
		if !bytes.Equal(evidence(t, e, strings.ReplaceAll(path, "/", "-")), bundle) {
			t.Error("the bundle is not in the evidence")
		}
	})
	t.Run("hash tile", func(t *testing.T) {
		ca, l, s := settled(t, 5)
		l.add(filler(ca, 3)...)
		path := tilePath("0", 0, 8)
		tile := l.file(path)
		tile[100] ^= 1
		l.replace(path, tile)
		l.notPastCaches("/tile/0/")
		e := s.expect(rule.Misbehaved, rule.LogInconsistent, rule.LogUnreachable).Events[0]
		if !bytes.Equal(evidence(t, e, strings.ReplaceAll(path, "/", "-")), tile) {
			t.Error("the tile is not in the evidence")
		}
	})
}
