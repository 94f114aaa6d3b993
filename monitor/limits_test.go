package monitor_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"tallywood/internal/keys"
	"tallywood/log/entry"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// TestForeignCertificateLog follows a log that has nothing but an RFC 6962 key (0x05).
func TestForeignCertificateLog(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	ca, l := newTestCA(t), newTestLog(t, "ct.example.org")
	l.ct = true
	id := sha256.Sum256(spki)
	keyID := keys.KeyID(l.origin, keys.AlgRFC6962, id[:])
	sign := func() {
		size := int64(len(l.entries))
		root := l.root(size)
		ms := uint64(time.Now().UnixMilli())
		head := binary.BigEndian.AppendUint64([]byte{0, 1}, ms)
		head = append(binary.BigEndian.AppendUint64(head, uint64(size)), root[:]...)
		digest := sha256.Sum256(head)
		sig, err := ecdsa.SignASN1(rand.Reader, key, digest[:])
		if err != nil {
			t.Fatal(err)
		}
		blob := binary.BigEndian.AppendUint32(nil, keyID)
		blob = append(binary.BigEndian.AppendUint64(blob, ms), 4, 3)
		blob = append(binary.BigEndian.AppendUint16(blob, uint16(len(sig))), sig...)
		l.setCheckpoint(fmt.Appendf(nil, "%s\n%d\n%s\n\n— %s %s\n— grease %s\n", l.origin, size,
			base64.StdEncoding.EncodeToString(root[:]), l.origin, base64.StdEncoding.EncodeToString(blob),
			base64.StdEncoding.EncodeToString([]byte("whatever it is"))))
	}
	c := monitor.Log{Origin: l.origin, URL: l.server.URL + "/", Kind: monitor.KindCT, NoPolicy: true,
		VKey: fmt.Sprintf("%s+%08x+%s", l.origin, keyID, base64.StdEncoding.EncodeToString(append([]byte{5}, spki...)))}
	s := newStation(t, c)
	sign()
	s.expect(rule.Clean)
	l.add(ca.tileLeaf(alice, evilIssuer, 0))
	sign()
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
	l.publish() // signed with the other key
	s.expect(rule.Misbehaved, rule.LogKeyChange)
}

func TestHostileNamesAreClipped(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "all of us", Domain: "example.com",
		Expect: rule.Expect{Issuers: []string{goodIssuer}}}}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Rules = rules
	l.add(ca.entry(strings.Repeat("x\x1b[31m", 4000)+"@example.com", evilIssuer+strings.Repeat("/", 8000)))
	e := s.expect(rule.IdentityAlert, rule.IDUnexpected).Events[0]
	data, err := json.Marshal(e)
	if err != nil || len(data) > 16<<10 {
		t.Errorf("event of %d bytes, %v", len(data), err)
	}
	if strings.ContainsRune(e.Summary, '\x1b') {
		t.Errorf("summary %q", e.Summary)
	}
	if got := evidence(t, e, "certificate.pem"); len(got) < 30_000 {
		t.Errorf("certificate of %d bytes in the evidence", len(got))
	}
}

// TestMemoryIsBounded follows a backlog far larger than what may be held of it.
func TestMemoryIsBounded(t *testing.T) {
	const bundles = 60 // of 2.5 MB each
	l := newTestLog(t, "log.localhost")
	one := make([]byte, 10_000)
	for range bundles * 256 {
		l.sequence(one)
	}
	l.publish()
	for n := range int64(bundles) { // so that the log itself holds one of them
		l.replace(tilePath("entries", n, 256), l.files[tilePath("entries", 0, 256)])
	}
	s := newStation(t, l.config(monitor.KindTlog))
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var before runtime.MemStats
	runtime.ReadMemStats(&before)
	var mu sync.Mutex
	var peak uint64
	l.intercept(func(http.ResponseWriter, *http.Request) bool {
		mu.Lock()
		defer mu.Unlock()
		var now runtime.MemStats
		runtime.ReadMemStats(&now)
		peak = max(peak, now.HeapAlloc)
		return false
	})
	s.expect(rule.Clean)
	// Read ahead are eight bundles, 20 MB; the rest is garbage not collected yet.
	if grown := int64(peak) - int64(before.HeapAlloc); grown > 100<<20 {
		t.Errorf("heap grew by %d MB", grown>>20)
	}
}

func TestStateWithAnotherRangeIsRefused(t *testing.T) {
	ca, l, s := settled(t, 5)
	key := ""
	for k := range s.options.State.List(t.Context(), "") {
		key = k
	}
	data, _, err := s.options.State.Get(t.Context(), key, storage.Range{})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(data, &fields); err != nil {
		t.Fatal(err)
	}
	other, err := entry.Canonical(make([]byte, 32), entry.Signature{Content: []byte{1}, PublicKey: []byte{2}, KeyDetails: entry.ECDSAP256})
	if err != nil {
		t.Fatal(err)
	}
	f := l.fork(0)
	f.add(append(filler(ca, 4), other)...)
	forged := newStation(t, f.config(monitor.KindRekor))
	forged.expect(rule.Clean)
	for k := range forged.options.State.List(t.Context(), "") {
		data, _, err := forged.options.State.Get(t.Context(), k, storage.Range{})
		if err != nil {
			t.Fatal(err)
		}
		var theirs map[string]any
		if err := json.Unmarshal(data, &theirs); err != nil {
			t.Fatal(err)
		}
		fields["range"] = theirs["range"]
	}
	data, err = json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.options.State.Put(t.Context(), key, data, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if r := s.expect(rule.Operational); !strings.Contains(r.Logs[0].Err, "compact range") {
		t.Errorf("error %q", r.Logs[0].Err)
	}
}

// TestFloodDoesNotOutgrowTheOutbox has more events than an outbox holds while a sink is down:
// following waits, and when the sink is back nothing is missing.
func TestFloodDoesNotOutgrowTheOutbox(t *testing.T) {
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "bob", Email: bob}}})
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Rules = rules
	const n = 300
	l.add(filler(ca, n)...)
	s.sink.setRefuse(errors.New("down"))
	s.tune = func(m *monitor.Monitor) { m.SetMaxPending(100) }
	r := s.check()
	if r.Class != rule.Operational || r.Undelivered < 100 || r.Undelivered == n || r.Logs[0].Scanned == n {
		t.Errorf("class %d, %d undelivered, %d scanned", r.Class, r.Undelivered, r.Logs[0].Scanned)
	}
	again := s.check()
	if again.Undelivered != r.Undelivered {
		t.Errorf("%d undelivered after another check", again.Undelivered)
	}
	s.sink.setRefuse(nil)
	s.expect(rule.Clean, s.rulesOf(n-r.Undelivered)...)
	if got := len(s.sink.all()); got != n {
		t.Errorf("%d events, want %d", got, n)
	}
}

// TestFloodDoesNotOutgrowTheState has one bundle make more bytes of events than a state may hold.
func TestFloodDoesNotOutgrowTheState(t *testing.T) {
	const entries, identities = 60, 4
	const outbox, chunk = 512 << 10, 128 << 10
	const entry = identities * 24 << 10 // the events of one
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	var o rule.Options
	for i := range identities {
		o.Identities = append(o.Identities, rule.Identity{Name: fmt.Sprintf("identity %d", i), Domain: "example.com",
			Expect: rule.Expect{Issuers: []string{goodIssuer}}})
	}
	rules, err := rule.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := newStation(t, l.config(monitor.KindRekor))
	s.options.Rules = rules
	var flood [][]byte
	for range entries {
		flood = append(flood, ca.entry(strings.Repeat("\x01", 600)+"@example.com", strings.Repeat("\x02", 600)))
	}
	l.add(flood...)
	s.sink.setRefuse(errors.New("down"))
	s.tune = func(m *monitor.Monitor) { m.SetMaxBytes(outbox, chunk, 64<<20) }
	r := s.check()
	if n := len(s.state(l)); r.Class != rule.IdentityAlert || r.Logs[0].Scanned == 0 || r.Logs[0].Scanned == entries || n > outbox+chunk+entry {
		t.Errorf("class %d, scanned %d, state of %d bytes", r.Class, r.Logs[0].Scanned, n)
	}
	if again := s.check(); again.Undelivered != r.Undelivered {
		t.Errorf("%d undelivered after another check, %d before", again.Undelivered, r.Undelivered)
	}
	s.sink.setRefuse(nil)
	if r := s.check(); r.Undelivered != 0 || r.Logs[0].Scanned != entries {
		t.Errorf("%d undelivered, scanned %d", r.Undelivered, r.Logs[0].Scanned)
	}
	s.expect(rule.Clean)
	ids := map[string]bool{}
	for _, e := range s.sink.all() {
		ids[e.ID] = true
	}
	if len(ids) != entries*identities || len(s.sink.all()) != len(ids) {
		t.Errorf("%d events, %d different ones; want %d", len(s.sink.all()), len(ids), entries*identities)
	}
}

// TestStateThatWouldBeTooLargeIsNotWritten: what is there can still be read, and says so.
func TestStateThatWouldBeTooLargeIsNotWritten(t *testing.T) {
	ca, l, s := settled(t, 2)
	before := s.state(l)
	l.add(ca.entry(alice, evilIssuer))
	s.tune = func(m *monitor.Monitor) { m.SetMaxBytes(64<<20, 4<<20, len(before)+100) }
	if r := s.expect(rule.Operational); !strings.Contains(r.Logs[0].Err, "can be read back") {
		t.Errorf("status %+v", r.Logs[0])
	}
	s.tune = nil
	s.expect(rule.IdentityAlert, rule.IDUnexpected)
}

// TestServerWritesNothingToOurTerminal has a server choose the words of its status.
func TestServerWritesNothingToOurTerminal(t *testing.T) {
	_, l, s := settled(t, 2)
	l.intercept(func(w http.ResponseWriter, r *http.Request) bool {
		conn, rw, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return true
		}
		rw.WriteString("HTTP/1.1 403 \x1b[2J\u202eoops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		rw.Flush()
		conn.Close()
		return true
	})
	r := s.expect(rule.Operational, rule.LogUnreachable)
	for _, text := range []string{r.Logs[0].Err, r.Events[0].Summary} {
		if !strings.Contains(text, "403 Forbidden") || strings.ContainsAny(text, "\x1b\u202e") || strings.Contains(text, "oops") {
			t.Errorf("text %q", text)
		}
	}
	if got, want := monitor.Printable("é\x1b[2J\u0085\u202e\xff\r\nx"), `é\x1b[2J\u0085\u202e`+"\ufffd"+`\r; x`; got != want {
		t.Errorf("printable is %q, want %q", got, want)
	}
}

// rulesOf is n times id.seen.
func (s *station) rulesOf(n int) []rule.ID {
	out := make([]rule.ID, n)
	for i := range out {
		out[i] = rule.IDSeen
	}
	return out
}
