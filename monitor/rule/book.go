package rule

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// maxStrangers is how many identities a Book remembers that are not watched any more: one that is
// taken out of the configuration by mistake, and put back, is not a new one.
const maxStrangers = 64

// everyone is the name under which a Book keeps what concerns all identities, and the audit of what
// concerns none; no identity is called so.
const everyone = ""

// A Book is what the rules remember of the entries of one log: what is usual for an identity. It is
// part of the monitor's state, written with the position, and bounded: each rule says where it is
// defined how much it keeps and what it forgets first. A rule keeps something of an identity from
// when it is switched on for it. The zero Book is empty.
//
// A Book is not safe for concurrent use, and cheap to clone: a clone copies what is changed in it.
type Book struct {
	identities map[string]*memory
	mine       map[string]bool // of identities: may be changed, no other Book has it
}

// memory is what a Book holds of one identity.
type memory struct {
	Whole      bool          `json:"whole,omitempty"` // watched since the log was empty
	Last       int64         `json:"last,omitempty"`  // Unix time of the newest entry; 1: not known
	Burst      *burst        `json:"burst,omitempty"` // see there, as for all below
	FanOut     []group       `json:"fan_out,omitempty"`
	Refs       recall        `json:"refs,omitzero"`
	Visibility recall        `json:"visibility,omitzero"`
	Kept       recall        `json:"kept_keys,omitzero"`
	Once       recall        `json:"keys,omitzero"`
	Subjects   recall        `json:"subjects,omitzero"`
	Signed     recall        `json:"signed,omitzero"`
	Issued     *certificates `json:"certificates,omitempty"`
}

// clone returns a copy that shares nothing with m that is ever changed.
func (m *memory) clone() *memory {
	c := *m
	if m.Burst != nil {
		b := *m.Burst
		b.Counts = slices.Clone(b.Counts)
		c.Burst = &b
	}
	c.FanOut = slices.Clone(m.FanOut)
	for i := range c.FanOut {
		c.FanOut[i].Repositories = slices.Clone(c.FanOut[i].Repositories)
	}
	for _, r := range []*recall{&c.Refs, &c.Visibility, &c.Kept, &c.Once, &c.Subjects, &c.Signed} {
		*r = slices.Clone(*r)
	}
	if m.Issued != nil {
		c.Issued = &certificates{Since: m.Issued.Since, Seen: slices.Clone(m.Issued.Seen)}
	}
	return &c
}

// Clone returns a copy; what is noted in either from then on is not in the other.
func (b *Book) Clone() *Book {
	if b.mine != nil { // not so in a Book that nothing was noted in, which others may read
		b.mine = nil
	}
	return &Book{identities: maps.Clone(b.identities)}
}

// of returns the memory of an identity to note something in.
func (b *Book) of(name string) *memory {
	if b.identities == nil {
		b.identities = map[string]*memory{}
	}
	m := b.identities[name]
	switch {
	case m == nil:
		m = &memory{}
	case b.mine[name]:
		return m
	default:
		m = m.clone()
	}
	if b.mine == nil {
		b.mine = map[string]bool{}
	}
	b.identities[name], b.mine[name] = m, true
	return m
}

// forgetStrangers forgets the identities not watched any more of which the last entry is the oldest.
func (b *Book) forgetStrangers(watches []*watch) {
	var strangers []string
	for name := range b.identities {
		if name != everyone && !slices.ContainsFunc(watches, func(w *watch) bool { return w.Name == name }) {
			strangers = append(strangers, name)
		}
	}
	slices.SortFunc(strangers, func(x, y string) int {
		if d := b.identities[y].Last - b.identities[x].Last; d != 0 {
			return int(d)
		}
		return bytes.Compare([]byte(x), []byte(y))
	})
	for _, name := range strangers[min(maxStrangers, len(strangers)):] {
		delete(b.identities, name)
	}
}

// MarshalJSON writes the book.
func (b Book) MarshalJSON() ([]byte, error) {
	if b.identities == nil {
		return []byte("{}"), nil
	}
	return json.Marshal(b.identities)
}

// UnmarshalJSON reads what MarshalJSON writes, strictly.
func (b *Book) UnmarshalJSON(data []byte) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var in map[string]*memory
	if err := dec.Decode(&in); err != nil {
		return fmt.Errorf("decoding what the rules remember: %w", err)
	}
	for name, m := range in {
		if err := m.check(); err != nil {
			return fmt.Errorf("decoding what the rules remember of %q: %w", name, err)
		}
	}
	*b = Book{identities: in}
	return nil
}

// check says what cannot be in a memory.
func (m *memory) check() error {
	if m == nil {
		return errors.New("nothing is there")
	}
	if m.Last < 0 || m.Issued != nil && m.Issued.Since < 0 {
		return errors.New("negative time")
	}
	if len(m.FanOut) > maxGroups {
		return fmt.Errorf("%d groups, at most %d are kept", len(m.FanOut), maxGroups)
	}
	return m.Burst.check()
}

// A Verdict is what a match comes to.
type Verdict struct {
	Finding
	Report bool   // there are reasons; if not, the entry is explained and the identity does not want to see it
	Waits  []Wait // reasons that count if nothing explains the entry in time
}

// Attend notes in b, before anything else is, that entries from index next on will be judged, and
// that what was logged until then, a time, is not known. It may be called again with each step.
func (s *Set) Attend(b *Book, next int64, until time.Time) {
	if s == nil {
		return
	}
	if next == 0 {
		until = time.Time{}
	}
	for _, w := range s.watches {
		known := b.identities[w.Name]
		if next == 0 && len(w.remembers) > 0 && known == nil {
			b.of(w.Name).Whole = true
		}
		if w.crossed && (known == nil || known.Issued == nil) {
			b.of(w.Name).Issued = &certificates{Since: unix(until)}
		}
	}
	b.forgetStrangers(s.watches)
}

// Judge completes what Match found of e with the rules that need to know when it was logged and what
// was there before, which it notes in b. Entries must be judged in the order of the log, each once.
//
// An entry that is certainly not the identity's, because its signature or the CA is wrong, is
// reported as such; what is usual for the identity is not learned from it.
func (s *Set) Judge(b *Book, e *Entry, m Match, at Times) Verdict {
	v := Verdict{Finding: m.Finding}
	v.Reasons = slices.Clone(v.Reasons)
	signer := &e.Signers[m.signer]
	forged := slices.ContainsFunc(m.Reasons, func(r Reason) bool { return r.Rule == IDUnknownCA || r.Rule == EntryBadSignature })
	if len(m.watch.remembers) > 0 && !forged {
		j := &judging{book: b, memory: b.of(m.Identity), watch: m.watch, entry: e, signer: signer, times: at, verdict: &v}
		j.time, j.exact = signer.moment(at)
		for _, judge := range m.watch.remembers {
			judge(j)
		}
		if j.memory.Last = max(j.memory.Last, unix(j.time)); j.memory.Last == 0 {
			j.memory.Last = 1 // there was one, at a time that is not known
		}
	}
	s.complete(&v.Finding, m.watch, signer)
	v.Report = len(v.Reasons) > 0
	v.Waits = append(v.Waits, m.await(e)...)
	return v
}
