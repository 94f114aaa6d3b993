package monitor

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// compared says which rules that compare logs could never fire, as a log to compare with is missing.
// Which logs trust material names is not known yet.
func compared(o Options) []error {
	var errs []error
	for id, kinds := range map[rule.ID][]Kind{
		rule.XCertWithoutEntry: {KindCT, KindRekor}, rule.XEntryWithoutCert: {KindCT, KindRekor}, rule.XIssuedUnexplained: {KindCT},
	} {
		for _, kind := range kinds {
			there := len(o.Rosters) > 0 || slices.ContainsFunc(o.Logs, func(l Log) bool { return l.Kind == kind })
			if identities := slices.Sorted(maps.Keys(o.Rules.Opted(id))); len(identities) > 0 && !there {
				errs = append(errs, fmt.Errorf("identity %q: rule %q needs a log of kind %s, there is none", identities[0], id, kind))
			}
		}
	}
	return errs
}

// compare says what other logs have of a certificate: a signature log the entry that was made with it
// (x.cert-without-entry), a certificate log the certificate (x.entry-without-cert). One that has it
// explains the entry. That none has it is known when all of them have been read up to a checkpoint
// that is newer than the time at which it had to be there: of one that is behind, or does not answer,
// nothing is known, and the entry waits. What was logged before a log was watched is not judged.
func (t *tail) compare(w waiting) answer {
	others := t.counterparts(w)
	if len(others) == 0 {
		return explained // the rule is off by now, or the logs are gone
	}
	out := unexplained
	for _, o := range others {
		switch o.answers(w) {
		case explained:
			return explained
		case undecided:
			out = undecided
		}
	}
	return out
}

// counterparts returns the logs that w is compared with.
func (t *tail) counterparts(w waiting) []*tail {
	if _, on := t.rules.Opted(w.Event.Rule)[w.Event.Identity]; !on {
		return nil
	}
	kind := KindRekor
	if w.Event.Rule == rule.XEntryWithoutCert {
		kind = KindCT
	}
	var all, promised []*tail
	for _, o := range t.peers() {
		if o.cfg.Kind != kind || o.endedBefore(w.Facts.Issued) {
			continue
		}
		id := o.logID()
		switch {
		case kind == KindCT && slices.Contains(strings.Fields(w.Facts.SCTs), id):
			promised = append(promised, o)
		case kind == KindRekor || id == "":
			all = append(all, o)
		}
	}
	if len(promised) > 0 {
		return promised
	}
	return all
}

// logID returns the ID that SCTs of a certificate log have, in hex; empty if the log's key is not the
// one that signs them, so that it is not known.
func (t *tail) logID() string {
	if t.key.Alg() != policy.AlgRFC6962 {
		return ""
	}
	sum := sha256.Sum256(t.key.Public())
	return hex.EncodeToString(sum[:])
}

// answers says whether t has shown the certificate that w is about by the time that w is due.
func (t *tail) answers(w waiting) answer {
	read := t.readAt(w.Due)
	st := t.journal.peek() // of the same time, or later
	if st == nil || st.Checkpoint == "" {
		return undecided
	}
	sight := st.Book.Certificate(w.Event.Identity, w.Facts)
	switch {
	case sight == rule.Seen || sight == rule.Unknown: // of the latter nobody will ever know more
		return explained
	case sight == rule.Unattended && read && t.endedBefore(w.Due): // likewise
		return explained
	case sight == rule.Unseen && read:
		return unexplained
	}
	return undecided
}
