package monitor

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"tallywood/monitor/rule"
)

// An authority is the authorizations as all logs of a monitor share them.
type authority struct {
	Authorizations

	mu  sync.Mutex
	err error // why some cannot be used, as last found out
}

// authorize has the entries of all logs explained by a, by the CA's records and by each other.
func (m *Monitor) authorize(a Authorizations) {
	m.audits = newAudits(m.options.Rules)
	for _, t := range m.tails {
		t.audits, t.peers = m.audits, m.all
	}
	if a == nil {
		return
	}
	m.authority = &authority{Authorizations: a}
	for _, t := range m.tails {
		t.authority = m.authority
	}
}

// home reports whether this log's events tell what is about all logs: the first log of signatures does, or
// where there is none the first of all. Logs of a Roster come and go.
func (t *tail) home() bool {
	t.m.mu.Lock()
	defer t.m.mu.Unlock()
	all := t.m.tails
	first := max(0, slices.IndexFunc(all, func(t *tail) bool { return t.cfg.Kind == KindRekor }))
	return first < len(all) && all[first] == t
}

// Refresh keeps the error for people to look at.
func (a *authority) Refresh(ctx context.Context, fresh bool) error {
	err := a.Authorizations.Refresh(ctx, fresh)
	if ctx.Err() != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
	return err
}

// run looks at the sources for as long as a monitor runs, so that no log is followed later because one
// of them does not answer.
func (a *authority) run(ctx context.Context) {
	for ctx.Err() == nil {
		_ = a.Refresh(ctx, false) // kept, and told by blind
		select {
		case <-ctx.Done():
		case <-time.After(refreshPause):
		}
	}
}

// refreshPause is how often sources are asked whether they want to be looked at.
const refreshPause = time.Second

// last returns what the last Refresh did.
func (a *authority) last() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// trouble returns why some authorizations cannot be used, safe to print, or nothing.
func (a *authority) trouble() string {
	if a == nil {
		return ""
	}
	err := a.last()
	if err == nil {
		return ""
	}
	return clipped(err.Error(), maxSummary)
}

// refresh has what explains entries looked at again.
func (t *tail) refresh(ctx context.Context, fresh bool) error {
	if t.authority == nil {
		return nil
	}
	if t.daemon && !fresh {
		return t.authority.last()
	}
	err := t.authority.Refresh(ctx, fresh)
	if err != nil && ctx.Err() == nil {
		t.met(rule.Operational)
	}
	return err
}

// blind keeps account of how long authorizations, or the CA's records, cannot be used, and raises authorize.unusable when
// that is too long. One log does so for all.
func (t *tail) blind(ctx context.Context, why error) error {
	if !t.home() || t.authority == nil && len(t.audits.files) == 0 {
		return nil
	}
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	if (why != nil) == st.Blind.IsZero() {
		since := time.Time{}
		if why != nil {
			since = time.Now().UTC().Truncate(time.Second)
		}
		if st, err = t.journal.update(ctx, nil, func(s *state) { s.Blind = since }); err != nil {
			return err
		}
	}
	after := t.limits[rule.AuthorizeUnusable].After
	if after == 0 && t.daemon {
		after = unreachableAfter
	}
	if why == nil || !t.limits.on(rule.AuthorizeUnusable) || time.Since(st.Blind) < after {
		return nil
	}
	return t.raiseOne(ctx, &trouble{rule: rule.AuthorizeUnusable, key: fmt.Sprint(st.Blind.Unix()), index: NoIndex,
		size: t.status().Size, summary: fmt.Sprintf("entries cannot all be explained since %s: %v", st.Blind.Format(time.RFC3339), why)})
}
