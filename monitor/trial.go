package monitor

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"tallywood/monitor/rule"
)

// TestAlert is the rule of events that are sent by hand. It is in no catalogue: nothing fires it.
const TestAlert rule.ID = "test.alert"

// A Trial is how a sink took a test event.
type Trial struct {
	Sink  string        `json:"sink"`
	Taken bool          `json:"taken"`
	Took  time.Duration `json:"took_ns"`
	Err   string        `json:"error,omitempty"` // why it was not taken, safe to print
}

// Try sends one event, marked as a test and otherwise like a critical alert, through the routes
// named, whatever their severities, digests and limits, and returns how each took it, in order, and
// the event. Sinks that fail are not tried again.
func Try(ctx context.Context, routes map[string]Route, names []string) ([]Trial, Event) {
	var id [16]byte
	rand.Read(id[:]) // never the same, so that no receiver takes it for a repetition
	e := Event{ID: hex.EncodeToString(id[:]), Time: time.Now().UTC(), Rule: TestAlert, Severity: rule.Critical, Index: NoIndex, Test: true,
		Summary: "TEST: this is how an alert of this monitor comes to you; nothing has happened"}
	trials := make([]Trial, len(names))
	var wg sync.WaitGroup
	for i, name := range names {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, deliverTimeout)
			defer cancel()
			begin := time.Now()
			err := routes[name].Sink.Send(ctx, e)
			trials[i] = Trial{Sink: name, Taken: err == nil, Took: time.Since(begin)}
			if err != nil {
				trials[i].Err = clipped(err.Error(), maxSummary)
			}
		})
	}
	wg.Wait()
	return trials, e
}
