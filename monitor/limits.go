package monitor

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"tallywood/monitor/rule"
)

const (
	patience         = time.Minute      // with what is only just so, for whoever polls all the time
	unreachableAfter = 5 * time.Minute  // of log.unreachable, likewise
	behindAfter      = 15 * time.Minute // of log.behind
)

// limits are the rules about logs that are on, with their parameters.
type limits map[rule.ID]rule.Params

// limitsOf returns the rules about logs that are on where these are named for the whole
// configuration.
func limitsOf(named map[rule.ID]rule.Params) limits {
	on := limits{}
	for _, r := range rule.All() {
		p, ok := named[r.ID]
		if r.PerLog && !p.Off && (ok || r.Mode != rule.OptIn) {
			on[r.ID] = p
		}
	}
	return on
}

// on reports whether a rule is on.
func (l limits) on(id rule.ID) bool {
	_, ok := l[id]
	return ok
}

// patience is how long something is only just so.
func (t *tail) patience() time.Duration {
	if t.daemon {
		return patience
	}
	return 0
}

// unreachableAfter is how long the log may fail to answer. Who looks once does not wait, unless told.
func (t *tail) unreachableAfter() time.Duration {
	usual := time.Duration(0)
	if t.daemon {
		usual = unreachableAfter
	}
	return cmp.Or(t.limits[rule.LogUnreachable].After, usual)
}

// behind raises log.behind if entries up to a verified size have not been matched for too long, or
// are too many and not just a burst.
func (t *tail) behind(ctx context.Context, st *state, size int64) error {
	p := t.limits[rule.LogBehind]
	lag, since := size-st.Next, time.Since(st.Behind)
	if !t.limits.on(rule.LogBehind) || lag <= 0 || st.Behind.IsZero() ||
		since < cmp.Or(p.After, behindAfter) && (p.Max == 0 || lag <= int64(p.Max) || since < t.patience()) {
		return nil
	}
	return t.raiseOne(ctx, &trouble{rule: rule.LogBehind, key: fmt.Sprint(st.Behind.Unix()), index: NoIndex, size: size,
		summary: fmt.Sprintf("%d of %d entries are not matched, and have not all been since %s", lag, size, st.Behind.Format(time.RFC3339))})
}

// behindSince returns since when a state is behind that is at next of a verified size.
func behindSince(before time.Time, next, size int64) time.Time {
	switch {
	case next >= size:
		return time.Time{}
	case before.IsZero():
		return time.Now().UTC().Truncate(time.Second)
	}
	return before
}
