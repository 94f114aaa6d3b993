package monitor

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"tallywood/monitor/rule"
)

const (
	maxRecent  = 1024 // newest digests of an identity that are remembered, authorized or not
	maxFound   = 8192 // authorized ones
	maxMissing = 64   // events of one look
)

// An Authorized digest is one that its owner means to sign.
type Authorized struct {
	Digest  string // "sha256:hex"
	Added   time.Time
	Expires time.Time // zero: never
}

// signed is what is remembered of the signatures of an identity in one log, so that it is noticed
// when one that was authorized never comes.
type signed struct {
	Since  time.Time `json:"since"`            // when that began
	Whole  bool      `json:"whole,omitempty"`  // it began with entry 0
	Found  []string  `json:"found,omitempty"`  // marks of authorized digests
	Recent []string  `json:"recent,omitempty"` // of the newest others, newest last
}

// mark stands for a digest where many are kept.
func mark(digest string) string {
	sum := sha256.Sum256([]byte(digest))
	return base64.RawURLEncoding.EncodeToString(sum[:12])
}

// has reports whether a digest is remembered.
func (s *signed) has(m string) bool {
	return slices.Contains(s.Found, m) || slices.Contains(s.Recent, m)
}

// note remembers a digest.
func (s *signed) note(digest string, authorized bool) {
	m := mark(digest)
	if s.has(m) {
		return
	}
	if authorized && len(s.Found) < maxFound {
		s.Found = append(slices.Clip(s.Found), m)
		return
	}
	s.Recent = append(slices.Clip(s.Recent), m)
	if n := len(s.Recent) - maxRecent; n > 0 {
		s.Recent = s.Recent[n:]
	}
}

// cloneSigned returns a copy whose values may be changed.
func cloneSigned(in map[string]*signed) map[string]*signed {
	out := maps.Clone(in)
	for name, s := range out {
		c := *s
		out[name] = &c
	}
	return out
}

// A noted signature of an identity.
type noted struct{ identity, digest string }

// expecting reports whether signatures in this log are what authorized digests come to.
func (t *tail) expecting() bool {
	return t.authority != nil && t.cfg.Kind == KindRekor && len(t.rules.Missing()) > 0
}

// note notes what h is a signature of, unless it is reported as not being the identity's.
func (w *walk) note(h hit) {
	if !w.tail.expecting() {
		return
	}
	named := w.tail.rules.Missing()
	for _, m := range h.matches {
		_, on := named[m.Identity]
		alerted := slices.ContainsFunc(h.findings, func(f rule.Finding) bool {
			return f.Identity == m.Identity && f.Severity >= rule.Warning
		})
		if on && !alerted && m.Facts.Digest != "" {
			w.noted = append(w.noted, noted{m.Identity, m.Facts.Digest})
		}
	}
}

// remember notes in s the signatures that were found since the last commit.
func (w *walk) remember(s *state) {
	if !w.tail.expecting() {
		return
	}
	for name := range w.tail.rules.Missing() {
		if s.Signed[name] == nil {
			if s.Signed == nil {
				s.Signed = map[string]*signed{}
			}
			s.Signed[name] = &signed{Since: time.Now().UTC().Truncate(time.Second), Whole: w.from == 0}
		}
	}
	for _, n := range w.noted {
		known := w.tail.authority.Explains(n.identity, rule.Facts{Digest: n.digest}, time.Time{})
		s.Signed[n.identity].note(n.digest, known)
	}
}

// missing raises id.missing for authorized digests that no log has in time. One log does so for all.
func (t *tail) missing(ctx context.Context) error {
	if !t.home() || !t.expecting() {
		return nil
	}
	st, err := t.journal.load(ctx)
	if err != nil {
		return err
	}
	decided := map[string][]string{}
	var reports []report
	for name, p := range t.rules.Missing() {
		done, some := t.decide(name, p, st.Decided[name], maxMissing-len(reports))
		if len(done) > 0 {
			decided[name] = done
		}
		reports = append(reports, some...)
	}
	if maps.EqualFunc(decided, st.Decided, slices.Equal) {
		return nil
	}
	for i := range reports {
		r := &reports[i]
		if r.event.Evidence, err = writeEvidence(t.evidence, r.event, r.files); err != nil {
			return err
		}
	}
	_, err = t.journal.update(ctx, nil, func(s *state) {
		s.Decided = decided
		for _, r := range reports {
			s.queue(r.event, t.routesFor(r.event, r.notify))
		}
	})
	if err != nil {
		return fmt.Errorf("raising missing signatures: %w", err)
	}
	for _, r := range reports {
		t.queued(r.event)
	}
	return nil
}

// decide returns the authorized digests of an identity about which there is nothing more to say, and
// the events of those that have become late, at most some.
func (t *tail) decide(identity string, p rule.Missing, before []string, most int) ([]string, []report) {
	var decided []string
	var reports []report
	was := map[string]bool{}
	for _, m := range before {
		was[m] = true
	}
	now := time.Now()
	for _, a := range t.authority.Digests(identity) {
		m := mark(a.Digest)
		due := a.Added.Add(p.Grace)
		if was[m] {
			decided = append(decided, m)
			continue
		}
		found, why := t.search(identity, m, due, a.Added.Add(-p.Grace))
		withdrawn := !a.Expires.IsZero() && a.Expires.Before(due) && a.Expires.Before(now)
		switch {
		case found, withdrawn:
			decided = append(decided, m)
		case due.After(now) || why == errLate || len(reports) == most:
		case why == errBefore:
			decided = append(decided, m)
		default:
			decided = append(decided, m)
			reports = append(reports, t.missed(identity, p, a))
		}
	}
	return decided, reports
}

var (
	errLate   = errors.New("a log was not read far enough to tell")
	errBefore = errors.New("it may have been signed before that was remembered")
)

// search reports whether some log has a digest by its mark; if none has, whether all were read until
// it was due, and since before it was added.
func (t *tail) search(identity, m string, due, since time.Time) (found bool, why error) {
	for _, u := range t.peers() {
		if u.cfg.Kind != KindRekor {
			continue
		}
		st := u.journal.peek()
		if st == nil || st.Signed[identity] == nil {
			why = errLate
			continue
		}
		s := st.Signed[identity]
		if s.has(m) {
			return true, nil
		}
		switch {
		case !u.readAt(due):
			why = errLate
		case why == nil && !s.Whole && s.Since.After(since):
			why = errBefore
		}
	}
	return false, why
}

// readAt reports whether all that was in the log at a time has been read.
func (t *tail) readAt(due time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	// The newest checkpoint may be one of which the entries could not be had.
	if st := t.journal.peek(); st == nil || st.Next < t.size {
		return false
	}
	ended := !t.cfg.End.IsZero() && t.cfg.End.Before(due)
	return t.upTo.After(due) && (t.cosigned.IsZero() || t.cosigned.After(due) || ended)
}

// missed is the event of an authorized digest that no log has, with what is known of the logs.
func (t *tail) missed(identity string, p rule.Missing, a Authorized) report {
	r := rule.Reason{Rule: rule.IDMissing, Severity: rule.Warning, Field: "digest", Expected: []string{a.Digest},
		Text: fmt.Sprintf("%s was authorized for %q at %s, and no log has a signature of it after %v", a.Digest, identity, a.Added.Format(time.RFC3339), p.Grace)}
	e := Event{ID: eventID(string(rule.IDMissing), identity, a.Digest), Time: time.Now().UTC(), Rule: r.Rule, Severity: r.Severity,
		Identity: identity, Origin: t.cfg.Origin, Index: NoIndex, Size: t.status().Size, Digest: a.Digest, LogURL: t.cfg.URL,
		Summary: clipped(r.Text, maxSummary), Reasons: []rule.Reason{r}}
	var files []file
	for i, u := range t.peers() {
		if st := u.journal.peek(); st != nil && u.cfg.Kind == KindRekor {
			files = append(files, file{name: fmt.Sprintf("checkpoint.%d", i), data: []byte(st.Checkpoint)})
		}
	}
	return report{event: e, notify: p.Notify, files: files}
}
