package monitor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tallywood/monitor/rule"
)

// A told burst is one that was found in a log.
type toldBurst struct {
	origin string
	kind   Kind
	index  int64     // of the entry that it was told of
	at     time.Time // when that was made, about
}

// bursts are those found by a Monitor, by identity the newest of each log. Signatures with certificates
// are in two logs: what is a burst in the one is a burst in the other, and whoever is told twice should
// know that it is the same.
type bursts struct {
	mu   sync.Mutex
	told map[string]map[string]toldBurst // by identity and origin
}

// note notes b, and returns the one in a log of the other kind that is of the same time, if there is.
func (s *bursts) note(identity string, b toldBurst, window time.Duration) (toldBurst, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told == nil {
		s.told = map[string]map[string]toldBurst{}
	}
	if s.told[identity] == nil {
		s.told[identity] = map[string]toldBurst{}
	}
	s.told[identity][b.origin] = b
	for _, other := range s.told[identity] {
		if b.same(other, window) {
			return other, true
		}
	}
	return toldBurst{}, false
}

// same reports whether b and other, of one identity, are of the same certificates.
func (b toldBurst) same(other toldBurst, window time.Duration) bool {
	pair := b.kind == KindCT && other.kind == KindRekor || b.kind == KindRekor && other.kind == KindCT
	return pair && b.at.Sub(other.at).Abs() <= window
}

// relate has a finding that is a burst say which other log has the same one, if that was told first.
// What was told before this process began is in the states, as long as it is among the newest alerts.
func (w *walk) relate(ctx context.Context, h hit, f *rule.Finding, at rule.Times) {
	i := slices.IndexFunc(f.Reasons, func(r rule.Reason) bool { return r.Rule == rule.IDBurst })
	if i < 0 {
		return
	}
	b := toldBurst{origin: w.cp.Origin(), kind: w.tail.cfg.Kind, index: h.index}
	for s := range h.decoded.entry.Signers {
		if b.at.IsZero() {
			b.at = h.decoded.entry.Signers[s].Moment(at)
		}
	}
	window := w.tail.rules.Opted(rule.IDBurst)[f.Identity].BurstWindow()
	// In this order: of two logs that meet the same burst at once, the one that notes it first must not
	// read in the other's state what that has told of it since.
	before, told := w.tail.m.toldBefore(ctx, f.Identity, b, window)
	other, found := w.tail.m.bursts.note(f.Identity, b, window)
	if !found {
		other, found = before, told
	}
	if found {
		f.Reasons[i].Text += fmt.Sprintf("; the same burst was told of entry %d of %s", other.index, other.origin)
	}
}

// toldBefore looks for such a burst in the states of all logs.
func (m *Monitor) toldBefore(ctx context.Context, identity string, b toldBurst, window time.Duration) (toldBurst, bool) {
	for _, t := range m.all() {
		st, err := t.journal.load(ctx)
		if err != nil {
			continue // its log says so
		}
		for _, e := range slices.Backward(st.Alerts) {
			other := toldBurst{e.Origin, t.cfg.Kind, e.Index, e.Time}
			if !e.LoggedBefore.IsZero() {
				other.at = e.LoggedBefore
			}
			isBurst := slices.ContainsFunc(e.Reasons, func(r rule.Reason) bool { return r.Rule == rule.IDBurst })
			if e.Identity == identity && isBurst && b.same(other, window) {
				return other, true
			}
		}
	}
	return toldBurst{}, false
}
