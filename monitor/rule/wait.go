package rule

import (
	"crypto"
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// defaultGrace is how long an entry waits for an authorization.
const defaultGrace = 15 * time.Minute

// A Wait is a reason that counts only if nothing explains the entry within a grace time: what would
// explain it may be published after it.
type Wait struct {
	Reason Reason
	Grace  time.Duration
	Since  time.Time // what the grace begins with; zero: when the entry was logged
	Facts  Facts     // what the explanation is looked for by
}

// await returns what of a match counts later, if nothing has been found wrong with it at once.
func (m *Match) await(e *Entry) []Wait {
	if m.watch == nil { // nobody's: an entry that is looked at as all are
		return nil
	}
	x := m.watch.Expect
	if !x.Authorize || e.Certified && !x.Certificates {
		return nil
	}
	r := Reason{Rule: IDUnauthorized, Severity: catalogue[IDUnauthorized].Severity, Field: "digest", Seen: m.Facts.Digest,
		Text: fmt.Sprintf("no authorization explains what %q signed", m.Subject)}
	if e.Certified {
		r.Text, r.Field, r.Seen = fmt.Sprintf("no authorization explains the certificate for %q", m.Subject), "run", Clip(m.Facts.Run)
	}
	grace := x.Grace
	if grace == 0 {
		grace = defaultGrace
	}
	return []Wait{{Reason: r, Grace: grace, Facts: m.Facts}}
}

// DigestText returns a digest as events and authorizations write it: "sha256:" and hexadecimal digits.
func DigestText(h crypto.Hash, digest []byte) string {
	return strings.ToLower(strings.ReplaceAll(h.String(), "-", "")) + ":" + hex.EncodeToString(digest)
}
