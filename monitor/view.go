package monitor

import (
	"context"
	"maps"
	"slices"
	"time"

	"tallywood/witness/policy"
)

// showEvery is how often a Display is given what there is to see.
const showEvery = 5 * time.Second

// A Display shows people how things stand. A [Sink] is told what happened, once; a Display is given
// all that can be seen, again and again.
type Display interface {
	// Show puts o in the place of what was shown before. After an error what was shown before may
	// still be, in part; Show is called again.
	Show(ctx context.Context, o Overview) error
}

// An Overview is all that there is to see.
type Overview struct {
	Logs  []View        // in the order of Options.Logs, then those of Options.Rosters
	Trust []TrustStatus // in the order of Options.Rosters

	// Deliveries of what is of no single log that were given up: of digests and groups of several, and
	// of events about trust material.
	GivenUp  int64     // until they are acknowledged
	Failures []Failure // some of them

	Late []Late // sinks that have failed for an hour or longer, by name
}

// A Late sink does not take an event, and is tried again.
type Late struct {
	Sink   string
	Since  time.Time // when the first of the events was first tried, UTC
	Events int       // that it has not taken for so long
	Error  string    // why it did not take that one the last time, safe to print
}

// A View is all that there is to see of one log.
type View struct {
	LogStatus
	VKey       string
	Policy     *policy.Policy    // nil: the log's own signature is enough
	Checkpoint policy.Checkpoint // newest verified; zero: none yet
	Usage      Usage             // not to be changed
	Waiting    []Waiting         // entries that are raised unless something explains them in time
}

// A Waiting is an entry that something may explain yet.
type Waiting struct {
	Event Event     // that is raised
	Due   time.Time // if nothing explains it until then
}

// overview returns all that there is to see.
func (m *Monitor) overview() Overview {
	o := Overview{Trust: m.Trust()}
	late := map[string]Late{}
	for _, t := range m.outboxes() {
		if st := t.journal.peek(); st != nil {
			st.late(time.Now(), late)
		}
		if t.cfg.Kind != kindRoster && t.cfg.Kind != kindShared {
			o.Logs = append(o.Logs, t.view())
			continue
		}
		s := t.status()
		o.GivenUp += s.GivenUp
		o.Failures = append(o.Failures, s.Failures...)
	}
	for _, sink := range slices.Sorted(maps.Keys(late)) {
		o.Late = append(o.Late, late[sink])
	}
	return o
}

func (t *tail) view() View {
	v := View{LogStatus: t.status(), VKey: t.cfg.VKey, Policy: t.cfg.Policy}
	t.mu.Lock()
	v.Checkpoint = t.seen
	t.mu.Unlock()
	if st := t.journal.peek(); st != nil {
		v.Usage = st.Usage
		for _, w := range st.Waiting {
			v.Waiting = append(v.Waiting, Waiting{w.Event, w.Due})
		}
	}
	return v
}

// show gives the display all there is to see until ctx ends.
func (m *Monitor) show(ctx context.Context) {
	said := ""
	for {
		err := m.options.Display.Show(ctx, m.overview())
		switch {
		case err == nil:
			said = ""
		case ctx.Err() != nil: // it may have been told to end in the middle
		case err.Error() != said: // once, not every time
			said = err.Error()
			m.options.Log.Error("showing what there is to see", "err", err)
		}
		select {
		case <-time.After(showEvery):
		case <-ctx.Done():
			// What stays says how it stood in the end.
			if err := m.options.Display.Show(context.WithoutCancel(ctx), m.overview()); err != nil {
				m.options.Log.Error("showing what there is to see", "err", err)
			}
			return
		}
	}
}
