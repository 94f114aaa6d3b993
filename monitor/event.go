package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"tallywood/monitor/rule"
)

// NoIndex is the Index of an event that is not about an entry.
const NoIndex = -1

// An Event is one alert. Its JSON is what sinks pass on.
type Event struct {
	ID       string        `json:"id"`       // 32 hex digits; the same whenever the same thing is found
	Time     time.Time     `json:"time"`     // when it was found, UTC
	Rule     rule.ID       `json:"rule"`     // the worst of Reasons
	Severity rule.Severity `json:"severity"` // info, warning or critical
	Identity string        `json:"identity"` // name of the watched identity; empty for events about logs
	Origin   string        `json:"origin"`   // the log
	Index    int64         `json:"index"`    // the entry; NoIndex if it is about none
	Size     int64         `json:"size"`     // of the checkpoint that proves it, or that is complained about
	Summary  string        `json:"summary"`  // one line, safe to print
	Evidence string        `json:"evidence"` // directory with the signed notes, bytes and proofs

	Reasons     []rule.Reason `json:"reasons,omitempty"`     // all rules that fired on the entry
	Subject     string        `json:"subject,omitempty"`     // name or key that matched, as logged
	Issuer      string        `json:"issuer,omitempty"`      // OpenID Connect issuer seen
	Expected    []string      `json:"expected,omitempty"`    // issuers that would have explained it
	Digest      string        `json:"digest,omitempty"`      // what was signed, "sha256:hex"
	Certificate string        `json:"certificate,omitempty"` // its fingerprint, "sha256:hex"
	RunURL      string        `json:"run_url,omitempty"`     // run invocation URI in the certificate
	LogURL      string        `json:"log_url"`               // where the log is read
	Page        string        `json:"page,omitempty"`        // URL of its page for people, if they have one

	// When it was logged, as far as cosignatures tell: after the last checkpoint without the entry,
	// before the first with it.
	LoggedAfter  time.Time `json:"logged_after,omitzero"`
	LoggedBefore time.Time `json:"logged_before,omitzero"`

	// Of a digest or a group, which stands for several events: how many, and the first of them. The
	// other fields are those of the gravest; Identity, and what is of the log, are empty if there are
	// several.
	Count int      `json:"count,omitempty"`
	Group []Member `json:"group,omitempty"`

	Test bool `json:"test,omitempty"` // sent by hand, to try the sinks
}

// A Member is an event that a digest or a group stands for.
type Member struct {
	ID       string        `json:"id"`
	Time     time.Time     `json:"time"`
	Rule     rule.ID       `json:"rule"`
	Severity rule.Severity `json:"severity"`
	Identity string        `json:"identity,omitempty"`
	Origin   string        `json:"origin,omitempty"`
	Index    int64         `json:"index"`
	Summary  string        `json:"summary"`
	Evidence string        `json:"evidence"`
	Page     string        `json:"page,omitempty"`
}

// Class returns the exit class of the event.
func (e Event) Class() rule.Class { return rule.ClassOf(e.Rule, e.Severity) }

// A Sink passes an event on. Send returns nil once the event is safely with whoever it is for; any
// error means it will be sent again, perhaps days later, under the same ID. Send may be called
// concurrently, and must return soon after ctx ends.
type Sink interface {
	Send(ctx context.Context, e Event) error
}

// A RetryError is an error of a Sink that has been told when to come again. It is asked nothing
// before that, or for an hour, whichever is shorter.
type RetryError struct {
	After time.Duration
	Err   error
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RetryError) Unwrap() error { return e.Err }

// A Route is a sink and what it wants to hear.
type Route struct {
	Sink        Sink
	MinSeverity rule.Severity // less severe events are not sent; zero: all are
	Always      bool          // events of identities that ask for other sinks are sent too

	// Digest, if not zero, has events of severity info sent as one, whenever so much time begins
	// (UTC; weeks on Mondays): an hour, a day or a week.
	Digest time.Duration
	// Limit says how many other events are sent one by one.
	Limit Limit
}

// printable returns text as one line that is safe to show on a terminal: what is not a printable
// character is written as in a Go string. Logs and sinks choose part of what we print.
func printable(text string) string {
	var b strings.Builder
	for _, r := range strings.ReplaceAll(text, "\n", "; ") {
		if strconv.IsPrint(r) {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRune(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}

// clipped is printable of text that is cut after some bytes.
func clipped(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return printable(text)
}

// eventID derives an ID from what makes an event the event it is.
func eventID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:16])
}
