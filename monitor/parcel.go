package monitor

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tallywood/monitor/rule"
)

// maxMembers is how many members of a parcel are kept; the others are counted. The evidence of all
// of them is on disk.
const maxMembers = 50

// A Limit is how many events of one identity are sent one by one in a window that begins with the
// first of them. The others are sent as one at its end. Critical events are never held back, nor
// counted. The zero Limit is none.
type Limit struct {
	Max    int
	Window time.Duration
}

// A parcel is what is held back for a sink, to be sent as one event. It is in the state, so that
// nothing is lost or sent twice whenever a process ends.
type parcel struct {
	Sink     string          `json:"sink"`
	Identity string          `json:"identity"` // of all members; of a digest whatever they have
	Digest   bool            `json:"digest,omitempty"`
	Due      time.Time       `json:"due"`
	Gravest  Event           `json:"gravest"` // the first of those
	Count    int             `json:"count"`
	Members  []Member        `json:"members"`           // the first
	Rules    map[rule.ID]int `json:"rules"`             // how many of each
	Sum      string          `json:"sum"`               // of the IDs of all
	Origins  []string        `json:"origins,omitempty"` // of all, in order
	From     time.Time       `json:"from"`
	To       time.Time       `json:"to"`
}

// A pace is how many events of an identity a sink was sent in the window that began at Since.
type pace struct {
	Sink     string    `json:"sink"`
	Identity string    `json:"identity"`
	Since    time.Time `json:"since"`
	Sent     int       `json:"sent"`
}

// cloneParcels returns a copy that may be changed.
func cloneParcels(all []parcel) []parcel {
	all = slices.Clone(all)
	for i := range all {
		all[i].Members = slices.Clone(all[i].Members)
		all[i].Rules = maps.Clone(all[i].Rules)
		all[i].Origins = slices.Clone(all[i].Origins)
	}
	return all
}

// A fate is what a courier does with an event.
type fate int

const (
	sendNow fate = iota
	holdForDigest
	holdForGroup
)

// fate decides about an event that waits for r, and has come as far as a says. sent is how many of
// its identity were sent in the window that runs, those decided about just now included.
func (r Route) fate(e Event, a attempt, sent int) fate {
	switch {
	case e.Severity == rule.Critical || e.Test:
		return sendNow
	case a.Held || a.Tries > 0: // it has waited, or the sink may have it
		return sendNow
	case e.Severity == rule.Info && r.Digest > 0:
		return holdForDigest
	case r.Limit.Max > 0 && sent >= r.Limit.Max:
		return holdForGroup
	}
	return sendNow
}

// paced returns the pace of a sink and an identity, a new one if its window is over.
func (s *state) paced(sink, identity string, window time.Duration, now time.Time) pace {
	for _, p := range s.Paces {
		if p.Sink == sink && p.Identity == identity && now.Before(p.Since.Add(window)) && !now.Before(p.Since) {
			return p
		}
	}
	return pace{Sink: sink, Identity: identity, Since: now}
}

// counts reports whether an event counts towards the limit.
func (r Route) counts(e Event) bool {
	return r.Limit.Max > 0 && e.Severity != rule.Critical && !e.Test
}

// pass notes that an event was sent, as far as it counts.
func (s *state) pass(sink string, r Route, e Event, now time.Time) {
	if !r.counts(e) {
		return
	}
	p := s.paced(sink, e.Identity, r.Limit.Window, now)
	p.Sent++
	s.Paces = slices.DeleteFunc(s.Paces, func(o pace) bool {
		return o.Sink == sink && (o.Identity == e.Identity || !now.Before(o.Since.Add(r.Limit.Window)))
	})
	s.Paces = append(s.Paces, p)
}

// hold adds an event to what is held back for a sink.
func (s *state) hold(sink string, h held) {
	e := h.event
	i := slices.IndexFunc(s.Parcels, func(p parcel) bool {
		return p.Sink == sink && p.Digest == h.digest && (h.digest || p.Identity == e.Identity)
	})
	if i < 0 {
		i = len(s.Parcels)
		s.Parcels = append(s.Parcels, parcel{Sink: sink, Identity: e.Identity, Digest: h.digest, Due: h.due.UTC(), Gravest: e,
			Rules: map[rule.ID]int{}, From: e.Time, To: e.Time})
	}
	s.Parcels[i].add(e)
}

func (p *parcel) add(e Event) {
	p.Count++
	p.Rules[e.Rule]++
	p.Sum = eventID(p.Sum, e.ID)
	if e.Severity > p.Gravest.Severity {
		p.Gravest = e
	}
	if e.Identity != p.Identity {
		p.Identity = ""
	}
	if at, found := slices.BinarySearch(p.Origins, e.Origin); !found {
		p.Origins = slices.Insert(p.Origins, at, e.Origin)
	}
	if e.Time.Before(p.From) {
		p.From = e.Time
	}
	if e.Time.After(p.To) {
		p.To = e.Time
	}
	if len(p.Members) < maxMembers {
		p.Members = append(p.Members, Member{ID: e.ID, Time: e.Time, Rule: e.Rule, Severity: e.Severity, Identity: e.Identity,
			Origin: e.Origin, Index: e.Index, Summary: rule.Clip(e.Summary), Evidence: e.Evidence})
	}
}

// event returns the one event that stands for all members. Alone, a member stands for itself.
func (p *parcel) event() Event {
	if p.Count == 1 {
		return p.Gravest
	}
	what := "more events"
	if p.Digest {
		what = "events"
	}
	var rules []string
	for _, id := range slices.Sorted(maps.Keys(p.Rules)) {
		rules = append(rules, fmt.Sprintf("%d %s", p.Rules[id], id))
	}
	const layout = "2006-01-02 15:04"
	g := p.Gravest
	e := Event{ID: eventID("parcel", p.Sink, p.Sum), Time: p.To, Rule: g.Rule, Severity: g.Severity, Identity: p.Identity,
		Origin: g.Origin, Index: NoIndex, Size: g.Size, LogURL: g.LogURL, Count: p.Count, Group: p.Members}
	logs := g.Origin
	if n := len(p.Origins); n > 1 {
		logs, e.Origin, e.Size, e.LogURL = fmt.Sprintf("%d logs", n), "", 0, ""
	}
	e.Summary = fmt.Sprintf("%d %s from %s to %s UTC (%s): %s", p.Count, what, p.From.UTC().Format(layout), p.To.UTC().Format(layout),
		logs, strings.Join(rules, ", "))
	return e
}

// due reports whether a parcel is to be sent now. With all set, as by who does not come again soon,
// those of a limit are.
func (p *parcel) due(now time.Time, all bool) bool { return !p.Due.After(now) || all && !p.Digest }

// unpack puts the parcels of a sink that are due into the outbox.
func (s *state) unpack(sink string, now time.Time, all bool) {
	s.Parcels = slices.DeleteFunc(s.Parcels, func(p parcel) bool {
		if p.Sink != sink || !p.due(now, all) {
			return false
		}
		s.Outbox = append(s.Outbox, pending{Event: p.event(), Sinks: map[string]attempt{sink: {Held: true}}})
		return true
	})
}

// ripe reports whether a parcel of a sink is due, and otherwise when the next one is.
func (s *state) ripe(sink string, now time.Time, all bool) (due bool, next time.Time) {
	for _, p := range s.Parcels {
		if p.Sink != sink {
			continue
		}
		if p.due(now, all) {
			return true, p.Due
		}
		if next.IsZero() || p.Due.Before(next) {
			next = p.Due
		}
	}
	return false, next
}

// unroute gives up what is held back for sinks that are not in routes.
func (s *state) unroute(routes map[string]Route) {
	gone := func(sink string) bool { _, ok := routes[sink]; return !ok }
	for _, p := range s.Parcels {
		if gone(p.Sink) {
			s.giveUp(p.event(), p.Sink, noSuchSink)
		}
	}
	s.Parcels = slices.DeleteFunc(s.Parcels, func(p parcel) bool { return gone(p.Sink) })
	s.Paces = slices.DeleteFunc(s.Paces, func(p pace) bool { return gone(p.Sink) })
	maps.DeleteFunc(s.Taken, func(key string, _ []string) bool { _, sink, _ := strings.Cut(key, "\n"); return gone(sink) })
}

// held returns how many events are held back, for all sinks.
func (s *state) held() int {
	n := 0
	for _, p := range s.Parcels {
		n += p.Count
	}
	return n
}
