package monitor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"tallywood/monitor/rule"
)

// maxWaiting is how many entries of one log wait at most. Of more, those that are due first are
// raised at once: a flood must not push anything out.
const maxWaiting = 1024

// maxWhy bounds what an event says of authorizations that cannot be used, in bytes.
const maxWhy = 1024

// Authorizations know what the owners of identities meant to sign. They are safe for concurrent use.
type Authorizations interface {
	// Refresh looks at the sources again where what is known of them is old; fresh: at all of them,
	// past caches. Its error says which of them cannot be used; what the others say counts.
	Refresh(ctx context.Context, fresh bool) error
	// Explains reports whether one explains an entry of the identity that was logged at a time, as
	// far as is known without I/O.
	Explains(identity string, f rule.Facts, at time.Time) bool
	// Digests returns the digests that the owner of the identity means to sign, likewise.
	Digests(identity string) []Authorized
}

// A waiting entry is an event that is raised when it is due, unless something explains the entry
// until then. Its evidence is on disk.
type waiting struct {
	Event Event      `json:"event"`
	Sinks []string   `json:"sinks,omitempty"` // asked for, empty for all
	Due   time.Time  `json:"due"`
	Facts rule.Facts `json:"facts"`
	Told  bool       `json:"told,omitempty"` // the identity was alerted of the entry at once, for something else
}

// logged returns when the entry was logged at the latest.
func (w waiting) logged() time.Time {
	if t := w.Event.LoggedBefore; !t.IsZero() {
		return t
	}
	return w.Event.Time
}

// An answer is what is known of an entry that waits.
type answer int

const (
	unexplained answer = iota // it is raised when it is due
	explained                 // it is forgotten
	undecided                 // it waits, even when it is due: what may explain it could not be looked at
)

// explain says what is known of an entry that waits.
func (t *tail) explain(w waiting) answer {
	switch w.Event.Rule {
	case rule.IDUnauthorized:
		if t.authority != nil && t.authority.Explains(w.Event.Identity, w.Facts, w.logged()) {
			return explained
		}
	case rule.XCertWithoutEntry, rule.XEntryWithoutCert:
		return t.compare(w)
	case rule.XIssuedUnexplained:
		return t.audits.explain(w)
	}
	return unexplained
}

// A deferred finding is one that counts only if nothing explains it.
type deferred struct {
	finding rule.Finding
	due     time.Time
	facts   rule.Facts
	told    bool // see waiting
}

// await adds to h what of a verdict counts later.
func (h *hit) await(v rule.Verdict, at rule.Times) {
	for _, w := range v.Waits {
		f := v.Finding
		f.Rule, f.Severity, f.Reasons = w.Reason.Rule, w.Reason.Severity, []rule.Reason{w.Reason}
		since := at.Now
		switch {
		case !w.Since.IsZero():
			since = w.Since
		case !at.Before.IsZero() && at.Before.Before(since):
			since = at.Before
		}
		h.waits = append(h.waits, deferred{finding: f, due: since.Add(w.Grace), facts: w.Facts})
	}
}

// settle drops what h needs not wait for: that of which an identity was alerted at once as of nothing
// less, and what is explained already. A warning is less than what is critical: who hears of the latter
// alone would hear of neither.
func (w *walk) settle(ctx context.Context, h *hit) {
	alerted := func(d deferred, least rule.Severity) bool {
		return slices.ContainsFunc(h.findings, func(f rule.Finding) bool {
			return f.Identity == d.finding.Identity && f.Severity >= least
		})
	}
	h.waits = slices.DeleteFunc(h.waits, func(d deferred) bool {
		return !rule.Crosses(d.finding.Rule) && alerted(d, d.finding.Severity) || w.explained(*h, d)
	})
	for i, d := range h.waits {
		h.waits[i].told = alerted(d, rule.Warning)
	}
	if len(h.waits) == 0 || w.refreshed {
		return
	}
	w.refreshed = true             // once for each checkpoint: a busy log must not make us ask all the time
	_ = w.tail.refresh(ctx, false) // ripe tells
	_ = w.tail.audits.refresh()    // likewise
	h.waits = slices.DeleteFunc(h.waits, func(d deferred) bool { return w.explained(*h, d) })
}

func (w *walk) explained(h hit, d deferred) bool {
	return w.tail.explain(waiting{Event: w.event(h, d.finding), Facts: d.facts}) == explained
}

// await has r wait, and returns the events that are raised instead as too many do.
func (t *tail) await(s *state, r report) []Event {
	s.Waiting = append(s.Waiting, waiting{Event: r.event, Sinks: r.notify, Due: r.due, Facts: r.facts, Told: r.told})
	if len(s.Waiting) <= t.maxWaiting {
		return nil
	}
	first := slices.IndexFunc(s.Waiting, waiting.crosses)
	for i, w := range s.Waiting {
		if first < 0 || w.Due.Before(s.Waiting[first].Due) && (w.crosses() || !s.Waiting[first].crosses()) {
			first = i
		}
	}
	w := s.Waiting[first]
	s.Waiting = slices.Delete(s.Waiting, first, first+1)
	switch a := t.explain(w); {
	case a == explained:
		return nil
	case w.crosses() && (a == undecided || w.Due.After(time.Now())):
		t.log.Warn("too many entries wait for what another log has: giving up on one", "origin", w.Event.Origin, "index", w.Event.Index, "key", string(w.Event.Rule))
		t.met(rule.Operational)
		return nil
	}
	return []Event{t.raiseWaiting(s, w)}
}

// raiseWaiting queues the event of an entry that has waited.
func (t *tail) raiseWaiting(s *state, w waiting) Event {
	w.Event.Time = time.Now().UTC()
	if !w.Told {
		s.Usage.alerted(w.Event.Identity, w.logged(), w.Event.Time)
	}
	s.queue(w.Event, t.routesFor(w.Event, w.Sinks))
	return w.Event
}

// ripe raises the events that are due, and forgets those of entries that are explained by now.
func (t *tail) ripe(ctx context.Context) error {
	if !t.opened { // look says why
		return nil
	}
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	why, auditErr := t.refresh(ctx, false), t.audits.refresh()
	if auditErr != nil {
		t.met(rule.Operational)
	}
	gone, due := t.sift(st.Waiting)
	if len(due) > 0 {
		why = t.refresh(ctx, true)
		gone, due = t.sift(st.Waiting)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if why != nil {
		for i := range due {
			due[i].Event.Summary += "; " + clipped(why.Error(), maxWhy)
		}
	}
	return errors.Join(t.settleWaiting(ctx, gone, due), t.blind(ctx, errors.Join(why, auditErr)), t.missing(ctx))
}

// sift tells the entries that are explained, and those that are due and not.
func (t *tail) sift(entries []waiting) (gone, due []waiting) {
	now := time.Now()
	for _, w := range entries {
		switch a := t.explain(w); {
		case a == explained:
			gone = append(gone, w)
		case a == unexplained && !w.Due.After(now):
			due = append(due, w)
		}
	}
	return gone, due
}

// settleWaiting takes entries from the state in one write: those that are gone, and those that are
// due, of which it queues the events. If another monitor was faster, it does nothing.
func (t *tail) settleWaiting(ctx context.Context, gone, due []waiting) error {
	if len(gone)+len(due) == 0 {
		return nil
	}
	due, absorbed := together(due)
	var raised []Event
	_, err := t.journal.update(ctx, nil, func(s *state) {
		take := func(w waiting) bool {
			before := len(s.Waiting)
			s.Waiting = slices.DeleteFunc(s.Waiting, func(o waiting) bool { return o.Event.ID == w.Event.ID })
			return len(s.Waiting) < before
		}
		for _, w := range slices.Concat(gone, absorbed) {
			take(w)
		}
		for _, w := range due {
			if take(w) {
				raised = append(raised, t.raiseWaiting(s, w))
			}
		}
	})
	if err != nil {
		return fmt.Errorf("settling what waits: %w", err)
	}
	for _, e := range raised {
		t.queued(e)
	}
	for _, w := range slices.Concat(gone, absorbed) { // nobody will be told of these
		_ = os.RemoveAll(filepath.Join(t.evidence, w.Event.ID))
	}
	return nil
}

// together makes one event of those that are about one entry and identity: the gravest, with the
// reasons of all. The others are absorbed.
func together(due []waiting) (events, absorbed []waiting) {
	for _, w := range due {
		i := slices.IndexFunc(events, func(e waiting) bool {
			return e.Event.Index == w.Event.Index && e.Event.Identity == w.Event.Identity
		})
		if i < 0 {
			events = append(events, w)
			continue
		}
		into, from := &events[i], w
		if w.Event.Severity > into.Event.Severity {
			*into, from = from, *into
		}
		into.Event.Reasons = slices.Concat(into.Event.Reasons, from.Event.Reasons)
		into.Event.Summary += "; " + strings.TrimSpace(from.Event.Summary)
		absorbed = append(absorbed, from)
	}
	return events, absorbed
}

// crosses reports whether w waits for another log, or for the CA's record.
func (w waiting) crosses() bool { return rule.Crosses(w.Event.Rule) }

// waits returns how many entries wait, and until when the first does.
func (s *state) waits() (n int, first time.Time) {
	for _, w := range s.Waiting {
		if first.IsZero() || w.Due.Before(first) {
			first = w.Due
		}
	}
	return len(s.Waiting), first
}
