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
	Grace  time.Duration // since the entry was logged
	Facts  Facts         // what the explanation is looked for by
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

// facts returns what of the entry may explain it, if it is i that signed.
func (e *Entry) facts(i int) Facts {
	var f Facts
	if e.Hash != 0 && len(e.Digest) > 0 {
		f.Digest = DigestText(e.Hash, e.Digest)
	}
	c := e.Signers[i].Certificate
	if c == nil {
		return f
	}
	// Certificates of before 1.8 and later have the extensions 3, 5 and 6 instead.
	first := func(n, old int) string {
		if v, ok := c.Extensions[n]; ok {
			return v
		}
		return c.Extensions[old]
	}
	f.Run, f.Commit, f.Ref, f.Repository = c.Extensions[21], first(13, 3), first(14, 6), c.Extensions[12]
	if repo := c.Extensions[5]; f.Repository == "" && repo != "" {
		f.Repository = "https://github.com/" + repo
	}
	// Facts are kept in the state while an entry waits; nothing that long explains anything.
	for _, v := range []*string{&f.Run, &f.Commit, &f.Ref, &f.Repository} {
		if len(*v) > maxFact {
			*v = ""
		}
	}
	return f
}

// maxFact bounds each text of Facts, in bytes.
const maxFact = 2048

// DigestText returns a digest as events and authorizations write it: "sha256:" and hexadecimal digits.
func DigestText(h crypto.Hash, digest []byte) string {
	return strings.ToLower(strings.ReplaceAll(h.String(), "-", "")) + ":" + hex.EncodeToString(digest)
}
