package monitor_test

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// wantEvidence inspects the evidence of an event.
func wantEvidence(t *testing.T, dir string, trust monitor.Trust, holds bool) *monitor.Evidence {
	t.Helper()
	ev, err := monitor.InspectEvidence(t.Context(), dir, trust)
	if err != nil {
		t.Fatal(err)
	}
	if ev.Holds != holds {
		t.Errorf("evidence of %s holds: %v; want %v: %+v", ev.Event.Rule, ev.Holds, holds, ev.Checks)
	}
	return ev
}

// TestEvidenceProvesWhatALogDid: what each misbehaviour leaves is proved again by it alone, and no
// longer once a file of it is changed.
func TestEvidenceProvesWhatALogDid(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		rule rule.ID
		do   func(ca *testCA, l *testLog)
	}{
		"two trees of one size": {rule.LogSplitView, func(ca *testCA, l *testLog) {
			f := l.fork(2)
			f.add(filler(ca, 5)[2:]...)
			l.become(f)
		}},
		"a larger fork": {rule.LogSplitView, func(ca *testCA, l *testLog) {
			f := l.fork(2)
			f.add(filler(ca, 12)...)
			l.become(f)
		}},
		"rolled back": {rule.LogRollback, func(ca *testCA, l *testLog) { l.setCheckpoint(l.sign(3, l.root(3))) }},
		"an entry changed": {rule.LogBundleMismatch, func(ca *testCA, l *testLog) {
			l.add(filler(ca, 3)...)
			path := tilePath("entries", 0, 8)
			l.replace(path, bytes.Replace(l.file(path), []byte(`"digest":"`), []byte(`"digesT":"`), 1))
		}},
		"tiles that make no root": {rule.LogInconsistent, func(ca *testCA, l *testLog) {
			l.add(filler(ca, 3)...)
			tile := l.file(tilePath("0", 0, 8))
			tile[len(tile)-1] ^= 1
			l.replace(tilePath("0", 0, 8), tile)
		}},
		"signed by nobody": {rule.LogBadSignature, func(ca *testCA, l *testLog) {
			l.setCheckpoint(bytes.Replace(l.file("checkpoint"), []byte("\n5\n"), []byte("\n6\n"), 1))
		}},
		"signed by another key": {rule.LogKeyChange, func(ca *testCA, l *testLog) {
			l.key = seedKey("another")
			l.setCheckpoint(l.sign(5, l.root(5)))
		}},
		"too few witnesses": {rule.QuorumLost, func(ca *testCA, l *testLog) {
			l.cosigners = l.cosigners[:1]
			l.add(filler(ca, 1)...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ca, l, s := settled(t, 5)
			trust := monitor.Trust{Policy: l.policy}
			tc.do(ca, l)
			r := s.check()
			at := slices.IndexFunc(r.Events, func(e monitor.Event) bool { return e.Rule == tc.rule })
			if at < 0 {
				t.Fatalf("no %s among %+v", tc.rule, r.Events)
			}
			dir := r.Events[at].Evidence
			ev := wantEvidence(t, dir, trust, true)
			if ev.Event.ID != r.Events[at].ID || ev.Entry != nil {
				t.Errorf("event %+v", ev.Event)
			}
			// Nobody's key proves nothing, and neither does another's.
			wantEvidence(t, dir, monitor.Trust{Unverified: true}, false)
			if tc.rule != rule.LogBadSignature && tc.rule != rule.LogKeyChange {
				other, err := policy.Parse([]byte("log " + newTestLogKey("log.localhost", "a third") + "\nquorum none\n"))
				if err != nil {
					t.Fatal(err)
				}
				wantEvidence(t, dir, monitor.Trust{Policy: other}, false)
			}
			spoil(t, filepath.Join(dir, "checkpoint.seen"))
			wantEvidence(t, dir, trust, false)
		})
	}
}

// spoil changes the last letter of a file.
func spoil(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-2] ^= 1
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestEvidenceThatProvesNothingIsRefused: an honest log's notes, under an event that accuses it.
func TestEvidenceThatProvesNothingIsRefused(t *testing.T) {
	t.Parallel()
	ca, l, s := settled(t, 5)
	before := l.file("checkpoint")
	l.setCheckpoint(l.sign(3, l.root(3)))
	e := s.check().Events[0]
	l.setCheckpoint(before)
	l.add(filler(ca, 4)...)
	for _, accused := range []rule.ID{rule.LogSplitView, rule.LogRollback, rule.LogInconsistent, rule.LogBundleMismatch, rule.QuorumLost, rule.LogBadSignature} {
		dir := t.TempDir()
		e.Rule = accused
		files := map[string][]byte{"checkpoint.verified": before, "checkpoint.seen": l.file("checkpoint"),
			"tile-0-000.p-9": l.file(tilePath("0", 0, 9)), "tile-entries-000.p-9": l.file(tilePath("entries", 0, 9))}
		forge(t, dir, e, files)
		wantEvidence(t, dir, monitor.Trust{Policy: l.policy}, false)
	}
}

// forge writes evidence of e.
func forge(t *testing.T, dir string, e monitor.Event, files map[string][]byte) {
	t.Helper()
	type about struct{ File, SHA256, Path string }
	list := struct {
		Event monitor.Event `json:"event"`
		Files []about       `json:"files"`
	}{Event: e}
	for name, data := range files {
		path := strings.Replace(strings.Replace(name, "-", "/", 2), ".p-", ".p/", 1)
		list.Files = append(list.Files, about{name, hex.EncodeToString(sum(data)), path})
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text, err := json.Marshal(list)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "evidence.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestEvidenceShowsTheEntry(t *testing.T) {
	t.Parallel()
	for _, certificates := range []bool{false, true} {
		ca, l := newTestCA(t), newTestLog(t, "log.localhost")
		l.ct = certificates
		kind := monitor.KindRekor
		if certificates {
			kind = monitor.KindCT
			l.add(ca.tileLeaf(bob, goodIssuer, 0), ca.tileLeaf(alice, evilIssuer, 1))
		} else {
			l.add(ca.entry(bob, goodIssuer), ca.entry(alice, evilIssuer))
		}
		s := newStation(t, l.config(kind))
		e := s.expect(rule.IdentityAlert, rule.IDUnexpected).Events[0]
		trust := monitor.Trust{Policy: l.policy}
		ev := wantEvidence(t, e.Evidence, trust, true)
		if i := ev.Entry; i == nil || i.Index != 1 || i.Kind != kind || i.Statement.Signers[0].Issuers[0] != evilIssuer || !i.Verified {
			t.Errorf("%+v", ev.Checks)
		}
		wantProof(t, l, ev.Entry)
		// That an entry is bad, as the alert may say, makes the evidence no worse.
		ev = wantEvidence(t, e.Evidence, monitor.Trust{Policy: l.policy, CAs: []*x509.Certificate{newTestCA(t).cert}}, true)
		if ev.Entry.Verified {
			t.Error("a certificate of an unknown authority was not noticed")
		}
		spoil(t, filepath.Join(e.Evidence, "entry"))
		wantEvidence(t, e.Evidence, trust, false)
	}
}

func TestEvidenceThatCannotBeReadIsAnError(t *testing.T) {
	t.Parallel()
	l := newTestLog(t, "log.localhost")
	for name, text := range map[string]string{
		"no list":         "",
		"no JSON":         "{",
		"no event":        `{"event":{},"files":[]}`,
		"a file outside":  `{"event":{"id":"00","rule":"log.rollback"},"files":[{"file":"../evidence.json"}]}`,
		"the same, nicer": `{"event":{"id":"00","rule":"log.rollback"},"files":[{"file":".."}]}`,
		"an absent file":  `{"event":{"id":"00","rule":"log.rollback"},"files":[{"file":"checkpoint.seen"}]}`,
		"a directory":     `{"event":{"id":"00","rule":"log.rollback"},"files":[{"file":"sub"}]}`,
	} {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "sub"), 0o700); err != nil {
			t.Fatal(err)
		}
		if text != "" {
			if err := os.WriteFile(filepath.Join(dir, "evidence.json"), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if ev, err := monitor.InspectEvidence(t.Context(), dir, monitor.Trust{Policy: l.policy}); err == nil {
			t.Errorf("%s: %+v", name, ev)
		}
	}
}

// TestEvidenceProvesWhatAWitnessDid: a witness that shows another tree, and one whose clock is off.
func TestEvidenceProvesWhatAWitnessDid(t *testing.T) {
	t.Parallel()
	ca, l, s, witness, _ := looked(t)
	trust := monitor.Trust{Policy: l.policy}
	f := l.fork(4)
	f.add(ca.entry(bob, goodIssuer))
	root := f.root(5)
	s.named(rule.WitnessConflict, rule.Params{})
	witness.show(cosignOnly(t, l.cosigners[0], fmt.Sprintf("%s\n5\n%s\n", l.origin, base64.StdEncoding.EncodeToString(root[:]))))
	dir := s.expect(rule.Misbehaved, rule.WitnessConflict).Events[0].Evidence
	wantEvidence(t, dir, trust, true)
	spoil(t, filepath.Join(dir, "checkpoint.seen"))
	wantEvidence(t, dir, trust, false)
	// The same event over what the witness rightly cosigned.
	e := monitor.Event{ID: "00", Rule: rule.WitnessConflict, Origin: l.origin}
	honest := t.TempDir()
	forge(t, honest, e, map[string][]byte{"checkpoint.seen": l.file("checkpoint"), "checkpoint.verified": l.file("checkpoint")})
	wantEvidence(t, honest, trust, false)

	e.Rule, e.Time = rule.WitnessClockSkew, time.Now()
	agreed := t.TempDir()
	forge(t, agreed, e, map[string][]byte{"checkpoint.seen": l.file("checkpoint"), "checkpoint.verified": l.file("checkpoint")})
	wantEvidence(t, agreed, trust, false)
	l.stamp = time.Now().Add(time.Hour)
	future := t.TempDir()
	forge(t, future, e, map[string][]byte{"checkpoint.seen": l.sign(5, l.root(5)), "checkpoint.verified": l.file("checkpoint")})
	wantEvidence(t, future, trust, true)
}
