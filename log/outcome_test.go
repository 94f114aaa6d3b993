package log_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/log"
)

func contextWithin(t *testing.T, d time.Duration) (context.Context, context.CancelFunc) {
	t.Helper()
	return context.WithTimeout(t.Context(), d)
}

func TestOutcomesOfAdds(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		f, c := newFixture(t), newCosigner(t)
		f.witnessed(c)
		f.options.QuorumTimeout = 50 * time.Millisecond
		l := f.open()
		add := func(text string) log.Outcome {
			ctx, outcome := log.WithOutcome(t.Context())
			_, err := l.Add(ctx, tlogEntry(text))
			if (err == nil) != (*outcome == log.OutcomeCreated || *outcome == log.OutcomeDuplicate) {
				t.Errorf("%v, and the outcome %s", err, *outcome)
			}
			if !slices.Contains(log.Outcomes(), *outcome) {
				t.Errorf("%q is not one of the outcomes", *outcome)
			}
			return *outcome
		}
		want := func(text string, want log.Outcome) {
			t.Helper()
			if got := add(text); got != want {
				t.Errorf("%.10q: %s; want %s", text, got, want)
			}
		}
		want("before it leads", log.OutcomeNotLeading)
		f.lead(l)
		want("entry", log.OutcomeCreated)
		want("entry", log.OutcomeDuplicate)
		want(strings.Repeat("x", 1<<16), log.OutcomeTooLarge)
		c.silent.Store(true)
		want("too few cosign", log.OutcomeNoQuorum)

		ctx, outcome := log.WithOutcome(t.Context())
		if _, err := l.Sequence(ctx, tlogEntry("promised")); err != nil || *outcome != log.OutcomeCreated {
			t.Errorf("sequencing: %v, %s", err, *outcome)
		}
		s := l.Stats()
		if s.Committed != 3 || s.Published != 1 || s.OldestUnpublished.IsZero() || !s.Leading || s.Lookups < 3 || s.Found > s.Lookups {
			t.Errorf("%+v", s)
		}
		if ctx, outcome := log.WithOutcome(t.Context()); *outcome != "" || ctx == t.Context() {
			t.Errorf("%q before any add", *outcome)
		}
	})
}
