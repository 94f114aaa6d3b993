package monitor

import (
	"crypto"
	"errors"
	"strings"
	"time"

	"tallywood/monitor/rule"
	"tallywood/witness/policy"
)

// DecodeState reads and writes again a state object.
func DecodeState(data []byte) ([]byte, error) {
	s, err := decodeState(data)
	if err != nil {
		return nil, err
	}
	return s.encode()
}

// SplitTlog is splitTlog.
var SplitTlog = splitTlog

// DecodeEntry decodes an entry of a kind, and returns whether it could be read.
func DecodeEntry(kind Kind, index int64, entry []byte) bool {
	_, err := layouts[kind].decode(rule.ParseCertificate, index, entry)
	return err == nil
}

// MatchEntry hashes, decodes and matches an entry of a kind, as following does, and returns how many
// identities it concerns.
func MatchEntry(s *rule.Set, kind Kind, index int64, entry []byte) (int, error) {
	l := layouts[kind]
	if _, err := l.leafHash(entry); err != nil {
		return 0, err
	}
	d, err := l.decode(s.Certificate, index, entry)
	return len(s.Match(&d.entry)), err
}

// SetMaxPending has following wait at n events in the outbox.
func (m *Monitor) SetMaxPending(n int) {
	for _, t := range m.tails {
		t.maxPending = n
	}
}

// Remembers notes digests of an identity in this order, authorized or not, and reports whether the
// first is remembered after that.
func Remembers(digests []string, authorized func(string) bool) bool {
	var s signed
	for _, d := range digests {
		s.note(d, authorized(d))
	}
	return s.has(mark(digests[0]))
}

// Together makes events of those about one entry and identity, and returns the IDs of the others.
func Together(events ...Event) (raised []Event, absorbed []string) {
	var due []waiting
	for _, e := range events {
		due = append(due, waiting{Event: e})
	}
	due, gone := together(due)
	for _, w := range due {
		raised = append(raised, w.Event)
	}
	for _, w := range gone {
		absorbed = append(absorbed, w.Event.ID)
	}
	return raised, absorbed
}

// SetMaxWaiting has no more than n entries of a log wait at once.
func (m *Monitor) SetMaxWaiting(n int) {
	for _, t := range m.tails {
		t.maxWaiting = n
	}
}

// SetMaxBytes has following wait at a state of outbox bytes, commits events by chunk bytes, and
// refuses to write a state of more than limit.
func (m *Monitor) SetMaxBytes(outbox, chunk, limit int) {
	for _, t := range m.tails {
		t.maxOutbox, t.chunkBytes, t.journal.limit = outbox, chunk, limit
	}
}

// Printable is printable.
var Printable = printable

// Seal signs a state.
func Seal(key crypto.Signer, state []byte) ([]byte, error) {
	s, err := newSeal(key)
	if err != nil {
		return nil, err
	}
	return s.close(state)
}

// Unseal returns the state in what Seal made.
func Unseal(key crypto.Signer, object []byte) ([]byte, error) {
	s, err := newSeal(key)
	if err != nil {
		return nil, err
	}
	return s.open(object)
}

// Describe reads an entry as Inspect does once it is proved.
func Describe(kind Kind, index int64, raw []byte, trust Trust) *Inspection {
	i := &Inspection{Kind: kind, Index: index, Raw: raw}
	i.judge(trust, func(string) ([]byte, error) { return nil, errors.New("none") })
	return i
}

// UsedAt notes a use of an identity.
func UsedAt(u *Usage, identity string, at time.Time, index int64, now time.Time) {
	u.used(identity, Use{Time: at, Index: index}, now)
}

// SetRosterPoll has trust material read so often.
func (m *Monitor) SetRosterPoll(d time.Duration) {
	for _, r := range m.rosters {
		r.poll = d
	}
}

// Counterparts returns the origin of the certificate log that an entry with an SCT is compared with,
// of one with a key of type 0x05 and one of which the log ID is not known.
func Counterparts(vkey, other, sct string) (string, error) {
	key, err := policy.ParseVKey(vkey)
	if err != nil {
		return "", err
	}
	rules, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "me", Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.XEntryWithoutCert: {}}}}})
	if err != nil {
		return "", err
	}
	t := &tail{rules: rules}
	known, unknown := &tail{cfg: Log{Kind: KindCT, Origin: key.Name()}, key: key}, &tail{cfg: Log{Kind: KindCT, Origin: other}}
	t.peers = func() []*tail { return []*tail{t, unknown, known} }
	var origins []string
	for _, o := range t.counterparts(waiting{Event: Event{Rule: rule.XEntryWithoutCert, Identity: "me"}, Facts: rule.Facts{SCTs: sct}}) {
		origins = append(origins, o.cfg.Origin)
	}
	return strings.Join(origins, " "), nil
}

// ParseAuditLine returns what a line of a CA's record is looked up by.
var ParseAuditLine = parseAuditLine
