package monitor_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"tallywood/internal/faultbucket"
	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage/mem"
)

// A keyless signature: a certificate as its log has it, and the signature made with it.
type keyless struct {
	leaf   []byte // of the certificate log, at the index it was made for
	entry  []byte // of the signature log
	serial string
	tbs    string // "sha256:hex" of what both have in common
}

// keyless makes a signature of alice as of some time ago, with an SCT of a log.
func (ca *testCA) keyless(index int64, ago time.Duration, logID [32]byte) keyless {
	ca.t.Helper()
	ca.n++
	from := time.Now().Add(-ago)
	issue := func(last pkix.Extension) []byte {
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(ca.n), NotBefore: from, NotAfter: from.Add(10 * time.Minute),
			EmailAddresses:  []string{alice},
			ExtraExtensions: []pkix.Extension{{Id: []int{1, 3, 6, 1, 4, 1, 57264, 1, 1}, Value: []byte(goodIssuer)}, last}}, ca.cert, ca.key.Public(), ca.key)
		if err != nil {
			ca.t.Fatal(err)
		}
		return der
	}
	pre := issue(pkix.Extension{Id: ctentry.OIDPoison, Critical: true, Value: []byte{5, 0}})
	sct, err := ctentry.SCT{LogID: logID, Timestamp: from.UnixMilli(), Hash: ctentry.HashSHA256, Algorithm: ctentry.SignatureECDSA, Signature: []byte{1}}.Marshal()
	if err != nil {
		ca.t.Fatal(err)
	}
	list, err := ctentry.MarshalSCTExtension([][]byte{sct})
	if err != nil {
		ca.t.Fatal(err)
	}
	final := issue(pkix.Extension{Id: ctentry.OIDSCTList, Value: list})
	tbs, err := ctentry.PrecertTBS(pre)
	if err != nil {
		ca.t.Fatal(err)
	}
	if same, err := ctentry.PrecertTBS(final); err != nil || !bytes.Equal(tbs, same) {
		ca.t.Fatalf("certificate and precertificate differ: %v", err)
	}
	extensions, err := ctentry.MarshalExtensions(index)
	if err != nil {
		ca.t.Fatal(err)
	}
	leaf, err := ctentry.Entry{Timestamp: from.UnixMilli(), Precert: true, IssuerKeyHash: sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo),
		Certificate: tbs, Extensions: extensions, UnverifiedPrecertificate: pre, UnverifiedFingerprints: [][32]byte{sha256.Sum256(ca.cert.Raw)}}.TileLeaf()
	if err != nil {
		ca.t.Fatal(err)
	}
	digest := sha256.Sum256(final)
	sig, err := ecdsa.SignASN1(rand.Reader, ca.key, digest[:])
	if err != nil {
		ca.t.Fatal(err)
	}
	e, err := entry.Canonical(digest[:], entry.Signature{Content: sig, Certificate: final, KeyDetails: entry.ECDSAP256})
	if err != nil {
		ca.t.Fatal(err)
	}
	sum := sha256.Sum256(tbs)
	return keyless{leaf, e, fmt.Sprintf("%x", ca.n), "sha256:" + hex.EncodeToString(sum[:])}
}

// A pair is a certificate log and a signature log, both watched for alice by rules that compare them.
type pair struct {
	*station
	ca     *testCA
	certs  *testLog
	sigs   *testLog
	logged int64 // certificates
}

// newPair watches with one rule, of which the grace is over for signatures of a minute ago.
func newPair(t *testing.T, id rule.ID, p rule.Params) *pair {
	t.Helper()
	if p.Grace == 0 {
		p.Grace = 30 * time.Second
	}
	certs, sigs := newTestLog(t, "ct.localhost"), newTestLog(t, "log.localhost")
	certs.ct = true
	s := newStation(t, certs.config(monitor.KindCT), sigs.config(monitor.KindRekor))
	s.options.Rules = watching(t, map[rule.ID]rule.Params{id: p})
	return &pair{station: s, ca: newTestCA(t), certs: certs, sigs: sigs}
}

// sign makes a signature of a minute ago, and logs of it what is asked for.
func (p *pair) sign(certificate, signature bool) keyless {
	p.t.Helper()
	k := p.ca.keyless(p.logged, time.Minute, [32]byte{1})
	if certificate {
		p.certs.add(k.leaf)
		p.logged++
	}
	if signature {
		p.sigs.add(k.entry)
	}
	return k
}

// waits fails unless so many entries wait in all.
func (p *pair) waits(r monitor.Result, want int) {
	p.t.Helper()
	if got := r.Logs[0].Waiting + r.Logs[1].Waiting; got != want {
		p.t.Fatalf("%d entries wait, want %d: %+v", got, want, r.Logs)
	}
}

// refuse has a log answer nothing until undone.
func refuse(l *testLog) (undo func()) {
	l.intercept(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "down", http.StatusInternalServerError)
		return true
	})
	return func() { l.intercept(nil) }
}

// touch has a log publish again what it has published, cosigned now or at a time.
func touch(l *testLog, at time.Time) {
	l.mu.Lock()
	l.stamp = at
	l.mu.Unlock()
	l.publish()
}

func TestCertificateWithoutEntry(t *testing.T) {
	p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
	p.sign(true, true)
	p.waits(p.expect(rule.Clean), 0)
	if p.evidenceDirs() != 0 {
		t.Errorf("evidence of %d events", p.evidenceDirs())
	}
	k := p.sign(true, false)
	touch(p.sigs, time.Now().Add(time.Second))
	r := p.expect(rule.IdentityAlert, rule.XCertWithoutEntry)
	p.waits(r, 0)
	if e := r.Events[0]; e.Origin != "ct.localhost" || e.Index != 1 || e.Severity != rule.Warning || e.Identity != "me" || !strings.Contains(e.Summary, alice) {
		t.Errorf("event %+v", e)
	}
	p.sigs.add(k.entry) // late, and told of
	p.waits(p.expect(rule.Clean), 0)
	p.sigs.add(p.ca.keyless(0, time.Minute, [32]byte{1}).entry) // the other way round is another rule's
	p.waits(p.expect(rule.Clean), 0)
}

func TestEntryWithoutCertificate(t *testing.T) {
	p := newPair(t, rule.XEntryWithoutCert, rule.Params{})
	p.sign(true, true)
	p.sign(true, false)
	p.waits(p.expect(rule.Clean), 0)
	p.sign(false, true)
	p.sigs.add(p.ca.entry(alice, goodIssuer)) // without an SCT nobody promised anything
	touch(p.certs, time.Now().Add(time.Second))
	r := p.expect(rule.IdentityAlert, rule.XEntryWithoutCert)
	p.waits(r, 0)
	if e := r.Events[0]; e.Origin != "log.localhost" || e.Index != 1 || e.Severity != rule.Critical {
		t.Errorf("event %+v", e)
	}
}

// TestNothingIsMissingBeforeItIsDue: within the grace an entry waits, and what comes explains it.
func TestNothingIsMissingBeforeItIsDue(t *testing.T) {
	p := newPair(t, rule.XCertWithoutEntry, rule.Params{Grace: time.Hour})
	k := p.sign(true, false)
	touch(p.sigs, time.Now().Add(2*time.Hour)) // as if it were late already, which it is not
	p.waits(p.expect(rule.Clean), 1)
	p.waits(p.expect(rule.Clean), 1)
	p.sigs.add(k.entry)
	p.waits(p.expect(rule.Clean), 0)
	if p.evidenceDirs() != 0 {
		t.Errorf("evidence of %d events", p.evidenceDirs())
	}
}

// TestLogsThatAreBehindRaiseNothing: what a log does not show yet is not missing.
func TestLogsThatAreBehindRaiseNothing(t *testing.T) {
	for name, behind := range map[string]func(p *pair) (catchUp func()){
		"down":           func(p *pair) func() { return refuse(p.sigs) },
		"not new enough": func(p *pair) func() { touch(p.sigs, time.Now().Add(-40*time.Second)); return func() {} },
		"its newest bundle cannot be read": func(p *pair) func() {
			touch(p.sigs, time.Time{})
			p.sigs.add(filler(p.ca, 2)...)
			return p.sigs.replace(tilePath("entries", 0, 2), nil)
		},
	} {
		for _, comes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, comes %v", name, comes), func(t *testing.T) {
				t.Parallel()
				p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
				touch(p.sigs, time.Now().Add(-50*time.Second))
				m, err := monitor.New(p.options)
				if err != nil {
					t.Fatal(err)
				}
				check := func() monitor.Result { // by one and the same monitor
					r, err := m.Check(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					return r
				}
				check()
				catchUp := behind(p)
				k := p.sign(true, false)
				for range 2 {
					r := check()
					p.waits(r, 1)
					for _, e := range r.Events {
						if e.Identity != "" {
							t.Fatalf("event %+v", e)
						}
					}
				}
				catchUp()
				if comes {
					touch(p.sigs, time.Time{})
					p.sigs.add(k.entry)
				} else {
					touch(p.sigs, time.Now().Add(time.Second))
				}
				r := check()
				p.waits(r, 0)
				if raised := len(r.Events) == 1 && r.Events[0].Rule == rule.XCertWithoutEntry; raised == comes {
					t.Errorf("events %+v", r.Events)
				}
			})
		}
	}
}

// TestWhatWasBeforeIsNotMissing: a log that is watched from its middle may have had it.
func TestWhatWasBeforeIsNotMissing(t *testing.T) {
	p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
	p.sign(true, true)
	p.options.Logs[1].Start = 1
	p.waits(p.expect(rule.Clean), 0)
	old := p.sign(true, false)
	_ = old
	touch(p.sigs, time.Now().Add(time.Second))
	p.waits(p.expect(rule.Clean), 0) // of a minute ago: before it was watched
}

// TestARuleThatWasOffKnowsNothingOfBefore: nor when it is switched on later.
func TestARuleThatWasOffKnowsNothingOfBefore(t *testing.T) {
	p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
	on := p.options.Rules
	p.options.Rules = watching(t, map[rule.ID]rule.Params{rule.IDBurst: {}})
	k := p.sign(false, true)
	p.expect(rule.Clean)
	p.options.Rules = on
	p.certs.add(k.leaf)
	for range 2 {
		touch(p.sigs, time.Now().Add(time.Second))
		p.check()
	}
	p.waits(p.expect(rule.Clean), 0)
}

// TestTooManyCertificatesWait: those that do not fit are not raised because of that.
func TestTooManyCertificatesWait(t *testing.T) {
	p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
	p.tune = func(m *monitor.Monitor) { m.SetMaxWaiting(2) }
	touch(p.sigs, time.Now().Add(-50*time.Second))
	p.expect(rule.Clean)
	up := refuse(p.sigs)
	for range 5 {
		p.sign(true, false)
	}
	r := p.check()
	p.waits(r, 2)
	if r.Class != rule.Operational {
		t.Errorf("class %d", r.Class)
	}
	up()
	touch(p.sigs, time.Now().Add(time.Second))
	r = p.expect(rule.IdentityAlert, rule.XCertWithoutEntry, rule.XCertWithoutEntry)
	if r.Events[0].Index != 3 || r.Events[1].Index != 4 {
		t.Errorf("events %+v", r.Events)
	}
}

// TestSCTsOfLogsThatNobodyFollows: a certificate is only missing from a log that promised it.
func TestSCTsOfLogsThatNobodyFollows(t *testing.T) {
	key, err := ecdsa.GenerateKey(newTestCA(t).key.Curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	vkey := keys.TreeHeadVKey("other.localhost", sha256.Sum256(spki), spki)
	for name, tc := range map[string]struct {
		id   [32]byte
		want string
	}{
		"of one whose ID is known": {sha256.Sum256(spki), "other.localhost"},
		"of none that is known":    {[32]byte{1}, "ct.localhost"},
	} {
		got, err := monitor.Counterparts(vkey, "ct.localhost", hex.EncodeToString(tc.id[:]))
		if err != nil || got != tc.want {
			t.Errorf("%s: compared with %q, %v, want %q", name, got, err, tc.want)
		}
	}
}

func TestRulesThatNeedAnotherLog(t *testing.T) {
	l := newTestLog(t, "log.localhost")
	for _, id := range []rule.ID{rule.XCertWithoutEntry, rule.XEntryWithoutCert, rule.XIssuedUnexplained} {
		s := newStation(t, l.config(monitor.KindRekor))
		s.options.Rules = watching(t, map[rule.ID]rule.Params{id: fileFor(id)})
		if _, err := monitor.New(s.options); err == nil || !strings.Contains(err.Error(), "needs a log of kind ct") {
			t.Errorf("%s: error %v", id, err)
		}
	}
}

func fileFor(id rule.ID) rule.Params {
	if id == rule.XIssuedUnexplained {
		return rule.Params{File: "issued.jsonl"}
	}
	return rule.Params{}
}

// TestCAIssuedNotInItsRecord covers every form of record.
func TestCAIssuedNotInItsRecord(t *testing.T) {
	file := filepath.Join(t.TempDir(), "issued.jsonl")
	p := newPair(t, rule.XIssuedUnexplained, rule.Params{File: file})
	write := func(lines string) {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(lines); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	// While it cannot be read nothing is missing from it.
	k := p.sign(true, false)
	r := p.expect(rule.Operational, rule.AuthorizeUnusable)
	if p.waits(r, 1); !strings.Contains(r.Events[0].Summary, "CA's record") {
		t.Errorf("event %+v", r.Events[0])
	}
	write(`{"time":"2026-05-04T12:00:00Z","certificate":"` + k.tbs + "\"}\n")
	p.waits(p.expect(rule.Clean), 0)
	for _, form := range []func(keyless) string{
		func(k keyless) string { return k.tbs + "\n" },
		func(k keyless) string { return strings.TrimPrefix(k.tbs, "sha256:") + "\r\n" },
		func(k keyless) string { return `{"serial":"` + k.serial + "\"}\n\n" },
		func(k keyless) string { return "00:" + k.serial + "\n" },
		func(k keyless) string { return "{\"certificate\":\"sha\n" + k.tbs + "\n" }, // after a CA that was stopped
	} {
		k := p.sign(true, true)
		write(form(k))
		p.waits(p.expect(rule.Clean), 0)
	}
	other := p.ca.keyless(99, time.Minute, [32]byte{1})
	p.sign(true, true)
	write(other.tbs + "\n" + strings.Repeat("f", 38) + "\n" + k.tbs[:20]) // of the last line, the rest is to come
	e := p.expect(rule.IdentityAlert, rule.XIssuedUnexplained).Events[0]
	if e.Severity != rule.Critical || e.Origin != "ct.localhost" || !strings.Contains(e.Summary, "serial number") {
		t.Errorf("event %+v", e)
	}
	// A record begun anew is read from its beginning; one that makes no sense is not gone by.
	k = p.sign(true, true)
	if err := os.WriteFile(file, []byte(k.tbs+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p.waits(p.expect(rule.Clean), 0)
	p.sign(true, true)
	write("certificate;serial\n")
	r = p.check() // told of as above, if it is not of the same second
	if p.waits(r, 1); r.Class != rule.Operational {
		t.Errorf("class %d", r.Class)
	}
}

// TestComparingSurvivesKills wants what is missing told of once, whichever storage operation of
// either log a kill comes at.
func TestComparingSurvivesKills(t *testing.T) {
	play := func(at int, mode faultbucket.Mode) (ops int) {
		p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
		p.sign(true, true)
		p.sign(true, false)
		touch(p.sigs, time.Now().Add(time.Second))
		inner := mem.New()
		b := faultbucket.New(inner)
		if at >= 0 {
			b.FailAt(at, mode)
		}
		checkOnce(t.Context(), p.station, b)
		ops = len(b.Ops())
		b.Crash()
		for range 2 {
			checkOnce(t.Context(), p.station, inner)
		}
		ids := map[string]bool{}
		for _, e := range p.sink.all() {
			ids[e.ID] = true
			if e.Rule != rule.XCertWithoutEntry || e.Index != 1 {
				t.Errorf("event %+v", e)
			}
		}
		if len(ids) != 1 {
			t.Errorf("%d events", len(ids))
		}
		return ops
	}
	ops := play(-1, faultbucket.Fail)
	for at := range ops {
		for _, mode := range []faultbucket.Mode{faultbucket.Crash, faultbucket.CrashAfter} {
			t.Run(fmt.Sprintf("%s at %d of %d", mode, at, ops), func(t *testing.T) { play(at, mode) })
		}
	}
}
