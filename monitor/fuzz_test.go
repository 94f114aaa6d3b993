package monitor_test

import (
	"bytes"
	"encoding/binary"
	"os"
	"testing"

	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// FuzzState: whatever is accepted is written and accepted again, the same.
func FuzzState(f *testing.F) {
	ca, l := newTestCA(f), newTestLog(f, "log.localhost")
	s := newStation(f, l.config(monitor.KindRekor))
	s.sink.setRefuse(os.ErrClosed)
	l.add(ca.entry(alice, evilIssuer))
	s.check()
	for key := range s.options.State.List(f.Context(), "") {
		data, _, err := s.options.State.Get(f.Context(), key, storage.Range{})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[:len(data)/2])
	}
	f.Add([]byte(`{"v":1,"seq":1,"next":1,"checkpoint":"x","range":["00"]}`))
	f.Add([]byte(`{}{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		once, err := monitor.DecodeState(data)
		if err != nil {
			return
		}
		twice, err := monitor.DecodeState(once)
		if err != nil || !bytes.Equal(once, twice) {
			t.Errorf("%s was written as %s, then read as %s, %v", data, once, twice, err)
		}
	})
}

// FuzzSplitTlog: what is split joins to what it was split from.
func FuzzSplitTlog(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0, 0})
	f.Add([]byte{0, 1, 'x', 0, 2, 'y'})
	f.Add(bytes.Repeat([]byte{0, 0}, 257))
	f.Fuzz(func(t *testing.T, bundle []byte) {
		entries, err := monitor.SplitTlog(bundle)
		if err != nil {
			return
		}
		var joined []byte
		for _, e := range entries {
			joined = binary.BigEndian.AppendUint16(joined, uint16(len(e)))
			joined = append(joined, e...)
		}
		if len(entries) > 256 || !bytes.Equal(joined, bundle) {
			t.Errorf("%d entries join to %d bytes of %d", len(entries), len(joined), len(bundle))
		}
	})
}

// FuzzDecodeEntry: nothing an entry holds makes the monitor panic.
func FuzzDecodeEntry(f *testing.F) {
	ca := newTestCA(f)
	f.Add(ca.entry(alice, goodIssuer))
	f.Add(ca.tileLeaf(alice, goodIssuer, 0))
	f.Add([]byte(`{"apiVersion":"0.0.2","kind":"dsse","spec":{}}`))
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "me", Email: alice}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, e []byte) {
		for _, kind := range []monitor.Kind{monitor.KindRekor, monitor.KindCT, monitor.KindTlog} {
			monitor.DecodeEntry(kind, 0, e)
		}
		rules.MatchBytes(e)
	})
}

// FuzzAuditLine: whatever is in a CA's record, it is an error or looked up by something.
func FuzzAuditLine(f *testing.F) {
	hash := bytes.Repeat([]byte("ab"), 32)
	for _, line := range []string{"", "00:ff:12", `{"serial":"abc"}`, `{"certificate":"sha256:`, `{"certificate":"x"}`, `{}`, `{"serial":"1"}{}`,
		string(hash), "sha256:" + string(hash), `{"certificate":"sha256:` + string(hash) + `"}`} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		key, err := monitor.ParseAuditLine(line)
		again, againErr := monitor.ParseAuditLine(append(line, '\r', '\n'))
		if key != again || (err == nil) != (againErr == nil) {
			t.Errorf("%q is %x, %v; with an end of line %x, %v", line, key, err, again, againErr)
		}
	})
}
