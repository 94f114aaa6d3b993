package monitor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"time"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// A sighting is what looking at a log's checkpoint came to.
type sighting struct {
	cp     policy.Checkpoint   // to go on with: it satisfies the policy
	aside  []policy.Checkpoint // signed by the log too; neither gone on with nor proved wrong yet
	proved []*trouble          // misbehaviour that nothing served later undoes
}

// checkpoint fetches the log's checkpoint and verifies all that can be seen from it and the
// verified one alone. Where a cache on the way may be to blame, it must be wrong past caches too.
// Not so where the log itself has signed a contradiction: that is raised before anything else is
// asked. The error holds every trouble because of which there is no checkpoint to go on with; if
// the second look fails, those of the first, with its bytes, beside the reason.
func (t *tail) checkpoint(ctx context.Context, verified policy.Checkpoint) (sighting, error) {
	var s sighting
	cp, found, err := t.sight(ctx, verified, &s, false)
	if err != nil || len(found) == 0 {
		s.cp = cp
		return s, err
	}
	_ = t.raise(ctx, verified, joined(s.proved)) // at once; the caller raises it again, with its error
	cp, again, err := t.sight(ctx, verified, &s, true)
	switch {
	case err != nil && ctx.Err() != nil: // we are told to stop: that says nothing about the log
		return s, err
	case err != nil:
		return s, errors.Join(joined(found), err)
	case len(again) > 0:
		return s, joined(union(s.proved, again))
	}
	s.cp = cp
	return s, nil
}

// sight looks at the checkpoint once, notes in s what stays true of it, and returns it with what
// is wrong with it.
func (t *tail) sight(ctx context.Context, verified policy.Checkpoint, s *sighting, fresh bool) (policy.Checkpoint, []*trouble, error) {
	note, err := t.source.get(ctx, "checkpoint", maxCheckpoint, fresh)
	if err != nil {
		return policy.Checkpoint{}, nil, err
	}
	cp, signed, found := t.inspect(note, verified)
	t.sawQuorum(found)
	proved := false
	for _, tr := range found {
		tr.files = t.notes(verified, note)
		if tr.rule != rule.LogSplitView && tr.rule != rule.LogInconsistent {
			continue
		}
		proved = true
		s.proved = union(s.proved, []*trouble{tr})
	}
	if len(found) > 0 && !proved && signed.Origin() != "" {
		s.aside = append(s.aside, signed)
	}
	return cp, found, nil
}

// inspect verifies a note: the log's own key, the policy, and whether it contradicts the verified
// checkpoint. A contradiction that the log has signed counts even if no witness has; signed is the
// checkpoint as far as the log's key goes, zero if it did not sign it.
func (t *tail) inspect(note []byte, verified policy.Checkpoint) (cp, signed policy.Checkpoint, found []*trouble) {
	signed, err := t.own.OpenLog(note)
	if err != nil {
		return cp, policy.Checkpoint{}, []*trouble{t.badSignature(note, verified, err)}
	}
	found = contradictions(signed, verified)
	cp, err = t.policy.Open(note)
	var qe *policy.QuorumError
	switch {
	case errors.As(err, &qe):
		found = append(found, &trouble{rule: rule.QuorumLost, key: stateKey(verified), index: NoIndex,
			size: signed.Size(), summary: qe.Error()})
	case err != nil:
		found = append(found, t.badSignature(note, verified, err))
	}
	return cp, signed, found
}

// badSignature returns the trouble of a note that does not verify. Anyone between us and the log
// can make one, so it is one trouble however many different ones there are.
func (t *tail) badSignature(note []byte, verified policy.Checkpoint, err error) *trouble {
	tr := &trouble{rule: rule.LogBadSignature, key: stateKey(verified), index: NoIndex, size: verified.Size(),
		summary: fmt.Sprintf("checkpoint does not verify: %v", err)}
	n, parseErr := policy.ParseNote(note)
	if parseErr != nil {
		return tr
	}
	other := false
	for _, s := range n.Signatures {
		if t.key.Matches(s) {
			return tr
		}
		other = other || s.Name == t.key.Name()
	}
	if other {
		tr.rule = rule.LogKeyChange
		tr.summary = fmt.Sprintf("checkpoint is signed as %q by a key other than %s", t.key.Name(), t.key)
	}
	return tr
}

// contradictions compares two checkpoints that the log has signed.
func contradictions(seen, verified policy.Checkpoint) []*trouble {
	tr := &trouble{key: contradictionKey(verified, seen), index: NoIndex, size: seen.Size()}
	switch {
	case seen.Size() == 0 && seen.Root() != sha256.Sum256(nil):
		tr.rule = rule.LogInconsistent
		tr.summary = fmt.Sprintf("root of the empty tree is %x", seen.Root())
	case seen.Size() < verified.Size():
		tr.rule = rule.LogRollback
		tr.summary = fmt.Sprintf("size went back from %d to %d", verified.Size(), seen.Size())
	case seen.Size() == verified.Size() && verified.Origin() != "" && seen.Root() != verified.Root():
		tr.rule, tr.key = rule.LogSplitView, forkKey(seen)
		tr.summary = fmt.Sprintf("two trees of size %d: root %x was verified, now it is %x",
			seen.Size(), verified.Root(), seen.Root())
	default:
		return nil
	}
	return []*trouble{tr}
}

// stateKey names what was verified last: it changes whenever the log is in order again.
func stateKey(verified policy.Checkpoint) string {
	_, last := cosigned(verified)
	return fmt.Sprintf("%d %d", verified.Size(), last.Unix())
}

// contradictionKey names a contradiction by both sides of it, which only the log can make.
func contradictionKey(verified, seen policy.Checkpoint) string {
	return fmt.Sprintf("%d %d %x", verified.Size(), seen.Size(), seen.Root())
}

// forkKey names a checkpoint that cannot be true beside the verified ones, however far they have
// come when it is seen.
func forkKey(seen policy.Checkpoint) string { return fmt.Sprintf("%d %x", seen.Size(), seen.Root()) }

// fresh raises log.stale if the newest cosignature is too old. A checkpoint without cosignatures
// states no time that anyone else vouches for, and is not judged; neither is that of a frozen log.
func (t *tail) fresh(ctx context.Context, cp policy.Checkpoint) error {
	_, last := cosigned(cp)
	age := time.Since(last)
	old := t.cfg.Freshness
	if !t.limits.on(rule.LogStale) || last.IsZero() || age < old.Warn || t.ended() {
		t.setStale(time.Time{})
		return nil
	}
	// Whoever polls all the time gives a log that was itself just started a moment to publish.
	if since := t.setStale(time.Now()); time.Since(since) < t.patience() {
		return nil
	}
	tr := &trouble{rule: rule.LogStale, severity: rule.Warning, index: NoIndex, size: cp.Size(),
		summary: fmt.Sprintf("newest cosignature is of %s", last.UTC().Format(time.RFC3339)),
		files:   []file{{name: "checkpoint", data: cp.Note(), url: "checkpoint", at: time.Now()}}}
	if age >= old.Critical {
		tr.severity = rule.Critical
	}
	tr.key = fmt.Sprintf("%d %s", last.Unix(), tr.severity)
	return t.raiseOne(ctx, tr)
}
