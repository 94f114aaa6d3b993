package log

import (
	"context"
	"errors"

	"tallywood/storage/driver"
)

// An Outcome is how an add ended, for metrics. The set is closed.
type Outcome string

// The outcomes. A log itself gives the first eleven; what a handler refuses before it asks a log has
// those after them.
const (
	OutcomeCreated     Outcome = "created"     // a new entry
	OutcomeDuplicate   Outcome = "duplicate"   // the entry was there
	OutcomeTooLarge    Outcome = "too_large"   // more than an entry bundle takes, or than a request may have
	OutcomeNotLeading  Outcome = "not_leading" // another process leads, or none
	OutcomeFull        Outcome = "full"        // too much waits already
	OutcomeRebuilding  Outcome = "rebuilding"  // the duplicate index reads the log
	OutcomeUnpublished Outcome = "unpublished" // what is logged waits for a quorum too long
	OutcomeNoQuorum    Outcome = "no_quorum"   // logged, but not under a cosigned checkpoint in time
	OutcomeUnavailable Outcome = "unavailable" // storage or index did not answer in time
	OutcomeGone        Outcome = "gone"        // whoever asked did not wait
	OutcomeFailed      Outcome = "failed"      // a fault of ours
	OutcomeInvalid     Outcome = "invalid"     // not an entry, or its signature is not
	OutcomeDenied      Outcome = "denied"      // without the right to add
	OutcomeLimited     Outcome = "limited"     // too much from one address
	OutcomeBusy        Outcome = "busy"        // too many requests under way
	OutcomeFrozen      Outcome = "frozen"      // the log takes no entries any more
	OutcomeOther       Outcome = "other"       // none of these
)

// Outcomes are all of them.
func Outcomes() []Outcome {
	return []Outcome{OutcomeCreated, OutcomeDuplicate, OutcomeTooLarge, OutcomeNotLeading, OutcomeFull, OutcomeRebuilding,
		OutcomeUnpublished, OutcomeNoQuorum, OutcomeUnavailable, OutcomeGone, OutcomeFailed, OutcomeInvalid,
		OutcomeDenied, OutcomeLimited, OutcomeBusy, OutcomeFrozen, OutcomeOther}
}

type outcomeKey struct{}

// WithOutcome returns a context by which Add and Sequence leave their outcome at the returned place,
// which is empty if none was called. It is for one add.
func WithOutcome(ctx context.Context) (context.Context, *Outcome) {
	o := new(Outcome)
	return context.WithValue(ctx, outcomeKey{}, o), o
}

// leave leaves the outcome of an add for whoever asked for it.
func leave(ctx context.Context, duplicate bool, err error) {
	if o, ok := ctx.Value(outcomeKey{}).(*Outcome); ok {
		*o = outcomeOf(duplicate, err)
	}
}

func outcomeOf(duplicate bool, err error) Outcome {
	var large *TooLargeError
	var rebuilding *RebuildError
	switch {
	case err == nil && duplicate:
		return OutcomeDuplicate
	case err == nil:
		return OutcomeCreated
	case errors.As(err, &large):
		return OutcomeTooLarge
	case errors.As(err, &rebuilding):
		return OutcomeRebuilding
	case errors.Is(err, ErrUnpublished):
		return OutcomeUnpublished
	case errors.Is(err, ErrNoQuorum):
		return OutcomeNoQuorum
	case errors.Is(err, driver.ErrNotLeading):
		return OutcomeNotLeading
	case errors.Is(err, driver.ErrFull), errors.Is(err, errFlights):
		return OutcomeFull
	case errors.Is(err, context.Canceled):
		return OutcomeGone
	case errors.Is(err, ErrUnavailable), errors.Is(err, context.DeadlineExceeded):
		return OutcomeUnavailable
	}
	return OutcomeFailed
}
