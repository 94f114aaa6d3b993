package rule

import (
	"crypto/sha256"
	"fmt"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/log/ctentry"
)

const (
	// shortLived is the longest validity of a certificate that says when it was used.
	shortLived = 24 * time.Hour
	// skew is how far the clocks of a CA, of witnesses and of ours may be apart.
	skew = 2 * time.Minute
	// narrow is how far the bounds of an entry may be apart for the time between them to be known.
	narrow = time.Hour
)

// judging is one match on its way through the rules that remember.
type judging struct {
	book    *Book
	memory  *memory // of the identity, to note in
	watch   *watch
	entry   *Entry
	signer  *Signer
	times   Times
	time    time.Time // see [Signer.moment]
	exact   bool
	verdict *Verdict
}

// add adds a reason to the verdict.
func (j *judging) add(r Reason) { j.verdict.add(r) }

// moment returns when an entry of s was made, zero if that is not known, and whether it is exact to
// minutes or only the latest it can have been. A certificate of the usual few minutes began to be
// valid just before it was used, so it says the same whoever reads it and whenever: that is the time,
// unless the bounds contradict it. Of all else the bounds are known alone. They say when the entry
// was logged if they are narrow; in a backlog they span all of it, or there are none.
func (s *Signer) moment(at Times) (t time.Time, exact bool) {
	if s.Certificate != nil {
		from, until, ok := s.Certificate.validity()
		if ok && until.Sub(from) <= shortLived && !at.contradict(from, until) {
			return from, true
		}
	}
	if at.After.IsZero() || at.Before.IsZero() {
		return time.Time{}, false
	}
	return at.Before, at.Before.Sub(at.After) <= narrow
}

// contradict reports whether an entry cannot have been logged between from and until.
func (at Times) contradict(from, until time.Time) bool {
	return !at.After.IsZero() && at.After.After(until.Add(skew)) ||
		!at.Before.IsZero() && at.Before.Add(skew).Before(from) ||
		!at.Now.IsZero() && at.Now.Add(skew).Before(from)
}

// outsideValidity is entry.time-outside-validity. It keeps nothing.
func outsideValidity(j *judging) {
	if j.signer.Certificate == nil || j.times.After.IsZero() || j.times.Before.IsZero() {
		return
	}
	from, until, ok := j.signer.Certificate.validity()
	if !ok || !(Times{After: j.times.After, Before: j.times.Before}).contradict(from, until) {
		return
	}
	period := func(a, b time.Time) string {
		return a.UTC().Format(time.RFC3339) + " to " + b.UTC().Format(time.RFC3339)
	}
	valid, logged := period(from, until), period(j.times.After, j.times.Before)
	j.add(Reason{Rule: EntryOutsideCert, Text: fmt.Sprintf("logged from %s, its certificate was valid from %s", logged, valid),
		Field: "time logged", Expected: []string{valid}, Seen: logged})
}

// validity returns from when and until when c is valid.
func (c *Certificate) validity() (from, until time.Time, ok bool) {
	period := c.period
	ok = readTime(&period, &from) && readTime(&period, &until) && period.Empty()
	return from, until, ok && !until.Before(from)
}

func readTime(in *cryptobyte.String, out *time.Time) bool {
	if in.PeekASN1Tag(cbasn1.UTCTime) {
		return in.ReadASN1UTCTime(out)
	}
	return in.ReadASN1GeneralizedTime(out)
}

// tbsHash returns the SHA-256 of what a certificate and its precertificate have in common: the
// to-be-signed bytes without poison and SCTs. If they cannot be told apart it is that of all bytes.
func tbsHash(c *Certificate) [32]byte {
	if tbs, err := ctentry.PrecertTBS(c.Raw); err == nil {
		return sha256.Sum256(tbs)
	}
	if tbs, err := ctentry.TBS(c.Raw); err == nil {
		return sha256.Sum256(tbs)
	}
	return c.Fingerprint()
}

// unix returns the Unix time of t, 0 for the zero time and those before 1970.
func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return max(0, t.Unix())
}
