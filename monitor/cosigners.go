package monitor

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

const (
	missingAfter = time.Hour        // of witness.missing
	skewWindow   = 15 * time.Minute // of witness.clock-skew
)

// cosigners judges the witnesses of a checkpoint: by their clocks, and by how long they have not
// cosigned while others did.
func (t *tail) cosigners(ctx context.Context, st *state, cp policy.Checkpoint) error {
	_, newest := cosigned(cp)
	if newest.IsZero() {
		return nil
	}
	if t.limits.on(rule.WitnessClockSkew) {
		if err := t.skewed(ctx, cp, newest); err != nil {
			return err
		}
	}
	if !t.limits.on(rule.WitnessMissing) {
		return nil
	}
	return t.absent(ctx, st, cp, newest)
}

// skewed raises witness.clock-skew for cosignatures from the future, or from long before the others.
func (t *tail) skewed(ctx context.Context, cp policy.Checkpoint, newest time.Time) error {
	window := cmp.Or(t.limits[rule.WitnessClockSkew].Window, skewWindow)
	for _, c := range cp.Cosignatures() {
		off := ""
		switch {
		case time.Until(c.Time) > window:
			off = "is from the future"
		case newest.Sub(c.Time) > window && time.Until(newest) <= window:
			off = fmt.Sprintf("is from %s before the newest", newest.Sub(c.Time).Truncate(time.Second))
		default:
			continue
		}
		tr := &trouble{rule: rule.WitnessClockSkew, key: fmt.Sprintf("%s %s", c.Witness, time.Now().UTC().Format(time.DateOnly)),
			index: NoIndex, size: cp.Size(), files: t.notes(cp, cp.Note()),
			summary: fmt.Sprintf("cosignature of witness %s says %s, which %s", c.Witness, c.Time.UTC().Format(time.RFC3339), off)}
		if err := t.raiseOne(ctx, tr); err != nil {
			return err
		}
	}
	return nil
}

// absent raises witness.missing for witnesses whose last cosignature is long before the newest of
// all. One that was never seen counts from when it was first looked for.
func (t *tail) absent(ctx context.Context, st *state, cp policy.Checkpoint, newest time.Time) error {
	p := t.limits[rule.WitnessMissing]
	after := cmp.Or(p.After, missingAfter)
	last := t.lastSeen(st, cp, newest)
	old := func(name string, at time.Time) bool {
		return at.Sub(st.Witnesses[name]) > after/8 || st.Witnesses[name].IsZero()
	}
	if len(last) != len(st.Witnesses) || slices.ContainsFunc(slices.Collect(maps.Keys(last)), func(n string) bool { return old(n, last[n]) }) {
		if _, err := t.journal.update(ctx, nil, func(s *state) { s.Witnesses = last }); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(last)) {
		if newest.Sub(last[name]) <= after || !t.survey.complete() || len(p.Witnesses) > 0 && !slices.Contains(p.Witnesses, name) {
			continue
		}
		tr := &trouble{rule: rule.WitnessMissing, key: fmt.Sprintf("%s %d", name, st.Witnesses[name].Unix()), index: NoIndex, size: cp.Size(),
			files:   t.notes(cp, cp.Note()),
			summary: fmt.Sprintf("witness %s has not cosigned since %s, others have until %s", name, last[name].UTC().Format(time.RFC3339), newest.UTC().Format(time.RFC3339))}
		if err := t.raiseOne(ctx, tr); err != nil {
			return err
		}
	}
	return nil
}

// lastSeen returns when the witnesses of the policy were last seen to cosign: in cp, in what they or the
// log show besides, or before.
func (t *tail) lastSeen(st *state, cp policy.Checkpoint, newest time.Time) map[string]time.Time {
	last := map[string]time.Time{}
	for _, w := range t.policy.Witnesses() {
		last[w.Name] = st.Witnesses[w.Name]
		if last[w.Name].IsZero() {
			last[w.Name] = newest.UTC()
		}
	}
	for _, c := range cp.Cosignatures() {
		if c.Time.After(last[c.Witness]) {
			last[c.Witness] = c.Time.UTC()
		}
	}
	for name, at := range t.survey.cosigned(t.policy) {
		if at.After(last[name]) {
			last[name] = at.UTC()
		}
	}
	return last
}

// cosigned returns when witnesses cosigned what they show themselves, and what the log shows beside its
// checkpoint, which appears as soon as there is a quorum.
func (s *survey) cosigned(p *policy.Policy) map[string]time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]time.Time{}
	for o, v := range s.shown {
		cp, err := p.OpenLog(v.note)
		if err != nil || !o.Witness && !o.full {
			continue
		}
		for _, c := range cp.Cosignatures() {
			if (o.full || c.Witness == o.Name) && c.Time.After(out[c.Witness]) {
				out[c.Witness] = c.Time
			}
		}
	}
	return out
}

// unwitnessed says which of the witnesses that witness.missing is about no policy has: nobody could
// miss them. Which logs trust material names, and so with which policy, is not known yet.
func unwitnessed(o Options) []error {
	if len(o.Rosters) > 0 {
		return nil
	}
	var known []string
	for _, l := range o.Logs {
		if l.Policy == nil {
			continue
		}
		for _, w := range l.Policy.Witnesses() {
			known = append(known, w.Name)
		}
	}
	var errs []error
	for _, name := range o.LogRules[rule.WitnessMissing].Witnesses {
		if !slices.Contains(known, name) {
			errs = append(errs, fmt.Errorf("rule %q: no policy has a witness called %q; there are: %s", rule.WitnessMissing, name,
				cmp.Or(strings.Join(slices.Compact(slices.Sorted(slices.Values(known))), ", "), "none")))
		}
	}
	return errs
}
