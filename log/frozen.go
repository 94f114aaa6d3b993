package log

import (
	"context"
	"fmt"
	"net/http"

	"tallywood/storage/driver"
)

// Frozen is the end of a log that takes no entries any more, and Successor the log that takes them.
type (
	Frozen    = driver.Frozen
	Successor = driver.Successor
)

// Frozen returns the end of the log, nil while it takes entries as far as this process knows.
func (l *Log) Frozen() *Frozen { return l.driver.Frozen() }

// Freeze asks that the log take no more entries. Whoever leads it publishes what it has accepted, and
// then Frozen tells so. next is noted in the bucket.
func (l *Log) Freeze(ctx context.Context, next Successor) error { return l.driver.Freeze(ctx, next) }

// Successor returns the log that takes the entries of this one once it is frozen: as named says, unless
// that is nil or knows none, else as the request to freeze it said.
func (l *Log) Successor(named func() Successor) Successor {
	if named != nil {
		if s := named(); s != (Successor{}) {
			return s
		}
	}
	if f := l.Frozen(); f != nil {
		return f.Next
	}
	return Successor{}
}

// frozenText is the line by which clients of Rekor v2 know a frozen log.
const frozenText = "This log has been frozen, please switch to the latest log."

// AnswerFrozen answers a write to a frozen log: 405, and which log takes entries now, if any does.
func AnswerFrozen(w http.ResponseWriter, next Successor) {
	h := w.Header()
	h.Set("Allow", "") // required with 405, and true
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	if next.URL != "" {
		h.Set("Link", fmt.Sprintf("<%s>; rel=\"successor-version\"", next.URL))
	}
	w.WriteHeader(http.StatusMethodNotAllowed)
	// The client may be gone; there is no one left to tell.
	_, _ = fmt.Fprintln(w, frozenText)
	switch {
	case next.URL != "":
		_, _ = fmt.Fprintf(w, "%s takes entries now, at %s\n", next.Origin, next.URL)
	case next.Origin != "":
		_, _ = fmt.Fprintf(w, "%s takes entries now\n", next.Origin)
	}
}
