package monitor_test

import (
	"strings"
	"testing"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// told returns the events of a burst, by log.
func told(t *testing.T, r monitor.Result) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, e := range r.Events {
		if e.Rule == rule.IDBurst {
			out[e.Origin] = e.Summary
		}
	}
	return out
}

// TestBurstInBothLogs is told of both, and of the second with a reference to the first: found by one
// process, or by two of which the second reads what the first told.
func TestBurstInBothLogs(t *testing.T) {
	t.Parallel()
	const toCerts, toSigs = "the same burst was told of entry 2 of ct.localhost", "the same burst was told of entry 2 of log.localhost"
	burst := func(certs, sigs bool) *pair {
		p := newPair(t, rule.XCertWithoutEntry, rule.Params{})
		p.options.Rules = watching(t, map[rule.ID]rule.Params{rule.IDBurst: {Max: 2}})
		for range 3 {
			k := p.ca.keyless(p.logged, 0, [32]byte{1})
			p.logged++
			if certs {
				p.certs.sequence(k.leaf)
			}
			if sigs {
				p.sigs.sequence(k.entry)
			}
		}
		p.certs.publish()
		return p
	}
	p := burst(true, true)
	p.sigs.publish()
	got := told(t, p.check())
	if len(got) != 2 || strings.Contains(got["log.localhost"], toCerts) == strings.Contains(got["ct.localhost"], toSigs) {
		t.Errorf("in one look: %q", got)
	}

	p = burst(true, true)
	if got := told(t, p.check()); len(got) != 1 || strings.Contains(got["ct.localhost"], "the same burst") {
		t.Errorf("of certificates: %q", got)
	}
	p.sigs.publish()
	if got := told(t, p.check()); len(got) != 1 || !strings.Contains(got["log.localhost"], toCerts) {
		t.Errorf("of signatures, later: %q", got)
	}

	p = burst(true, false)
	if got := told(t, p.check()); len(got) != 1 || strings.Contains(got["ct.localhost"], "the same burst") {
		t.Errorf("of certificates alone: %q", got)
	}
}
