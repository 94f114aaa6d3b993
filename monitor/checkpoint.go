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

// checkpoint fetches the log's checkpoint and verifies all that can be seen from it and the
// verified one alone. Whatever is wrong must be wrong past caches too. The error then holds every
// trouble there is.
func (t *tail) checkpoint(ctx context.Context, verified policy.Checkpoint) (policy.Checkpoint, error) {
	for fresh := false; ; fresh = true {
		note, err := t.source.get(ctx, "checkpoint", maxCheckpoint, fresh)
		if err != nil {
			return policy.Checkpoint{}, err
		}
		cp, found := t.open(note, verified)
		if len(found) == 0 {
			return cp, nil
		}
		if fresh {
			errs := make([]error, len(found))
			for i, tr := range found {
				tr.files = t.notes(verified, note)
				errs[i] = tr
			}
			return policy.Checkpoint{}, errors.Join(errs...)
		}
	}
}

// open verifies a note: the log's own key, the policy, and whether it contradicts the verified
// checkpoint. A contradiction that the log has signed counts even if no witness has.
func (t *tail) open(note []byte, verified policy.Checkpoint) (policy.Checkpoint, []*trouble) {
	signed, err := t.own.OpenLog(note)
	if err != nil {
		return signed, []*trouble{t.badSignature(note, verified, err)}
	}
	found := contradictions(signed, verified)
	cp, err := t.policy.Open(note)
	var qe *policy.QuorumError
	switch {
	case errors.As(err, &qe):
		found = append(found, &trouble{rule: rule.QuorumLost, key: stateKey(verified), index: NoIndex,
			size: signed.Size(), summary: qe.Error()})
	case err != nil:
		found = append(found, t.badSignature(note, verified, err))
	}
	return cp, found
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
		tr.rule = rule.LogSplitView
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

// fresh raises log.stale if the newest cosignature is too old. A checkpoint without cosignatures
// states no time that anyone else vouches for, and is not judged.
func (t *tail) fresh(ctx context.Context, cp policy.Checkpoint) error {
	_, last := cosigned(cp)
	age := time.Since(last)
	limits := t.cfg.Freshness
	if last.IsZero() || age < limits.Warn {
		t.setStale(time.Time{})
		return nil
	}
	// Whoever polls all the time gives a log that was itself just started a moment to publish.
	if since := t.setStale(time.Now()); time.Since(since) < t.patience {
		return nil
	}
	tr := &trouble{rule: rule.LogStale, severity: rule.Warning, index: NoIndex, size: cp.Size(),
		summary: fmt.Sprintf("newest cosignature is of %s", last.UTC().Format(time.RFC3339)),
		files:   []file{{name: "checkpoint", data: cp.Note(), url: "checkpoint", at: time.Now()}}}
	if age >= limits.Critical {
		tr.severity = rule.Critical
	}
	tr.key = fmt.Sprintf("%d %s", last.Unix(), tr.severity)
	return t.raiseOne(ctx, tr)
}
