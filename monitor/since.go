package monitor

import (
	"context"
	"crypto/x509"
	"fmt"
	"time"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
)

// sinceMargin is how much earlier than the time asked for is looked for: certificates are older than
// the entries they are in, and clocks differ.
const sinceMargin = time.Hour

// shortLived is how long a certificate may be valid to say anything of when it was used.
const shortLived = 24 * time.Hour

// since returns where to begin so that nothing is missed that was logged at or after a time. Entries
// do not say when they were logged; certificates that are valid for hours say about when they were
// used, and entries of certificate logs carry the log's clock. So the answer is a whole bundle and
// more too early. It is too late only if somebody filled most of a bundle with expired certificates:
// a bundle counts as older if half of its entries say when they were made, and all that do say so.
// Without such certificates the answer is 0.
func (w *walk) since(ctx context.Context, at time.Time) (int64, string, error) {
	if now := time.Now(); at.After(now) {
		return 0, "", fmt.Errorf("start %s is in the future", at.Format(time.RFC3339))
	}
	lo, hi := int64(0), (w.cp.Size()+bundleWidth-1)/bundleWidth
	for lo < hi {
		mid := lo + (hi-lo)/2
		s, err := w.bundle(ctx, mid)
		if err != nil {
			return 0, "", fmt.Errorf("looking for the first entry since %s: %w", at.Format(time.RFC3339), err)
		}
		if w.tail.older(s, at.Add(-sinceMargin)) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	start := max(lo-1, 0) * bundleWidth
	why := fmt.Sprintf("the bundle before the first that may hold an entry since %s", at.UTC().Format(time.RFC3339))
	return start, why, nil
}

// older reports whether a bundle is from before a time, as far as its entries say.
func (t *tail) older(s *scanned, at time.Time) bool {
	entries, err := t.layout.split(s.raw.data)
	if err != nil || len(entries) < s.width {
		return false
	}
	say := 0
	for _, e := range entries[:s.width] {
		made, ok := t.layout.made(e)
		switch {
		case ok && !made.Before(at):
			return false
		case ok:
			say++
		}
	}
	return 2*say >= s.width
}

// madeRekor returns when the newest certificate in an entry began to be valid, if all its signers have
// certificates that are soon over.
func madeRekor(canonical []byte) (newest time.Time, ok bool) {
	b, err := entry.Parse(canonical)
	if err != nil {
		return newest, false
	}
	for _, s := range b.Signatures {
		c, err := x509.ParseCertificate(s.Certificate)
		if err != nil || c.NotAfter.Sub(c.NotBefore) > shortLived {
			return newest, false
		}
		if c.NotBefore.After(newest) {
			newest = c.NotBefore
		}
	}
	return newest, !newest.IsZero()
}

// madeCT returns the time in the log's promise.
func madeCT(tileLeaf []byte) (time.Time, bool) {
	e, err := ctentry.Parse(tileLeaf)
	if err != nil {
		return time.Time{}, false
	}
	return time.UnixMilli(e.Timestamp), true
}
