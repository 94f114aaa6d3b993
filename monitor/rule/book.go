package rule

import "encoding/json"

// A Book is what the rules remember of the entries of one log: what is usual for an identity. It is
// part of the monitor's state, written with the position, and bounded: of what does not fit the
// oldest is forgotten. The zero Book is empty.
//
// A Book is not safe for concurrent use.
type Book struct {
	identities map[string]*memory
}

// memory is what a Book holds of one identity.
type memory struct {
}

// Clone returns a copy that shares nothing with b.
func (b *Book) Clone() *Book {
	c := &Book{identities: make(map[string]*memory, len(b.identities))}
	for name, m := range b.identities {
		copied := *m
		c.identities[name] = &copied
	}
	return c
}

// MarshalJSON writes the book.
func (b *Book) MarshalJSON() ([]byte, error) { return json.Marshal(b.identities) }

// UnmarshalJSON reads what MarshalJSON writes.
func (b *Book) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &b.identities) }

// A Verdict is what a match comes to.
type Verdict struct {
	Finding
	Report bool   // there are reasons; if not, the entry is explained and the identity does not want to see it
	Waits  []Wait // reasons that count if nothing explains the entry in time
}

// Judge completes what Match found of e with the rules that need to know when it was logged and what
// was there before, which it notes in b. Entries must be judged in the order of the log, each once.
func (s *Set) Judge(b *Book, e *Entry, m Match, at Times) Verdict {
	v := Verdict{Finding: m.Finding}
	s.complete(&v.Finding, m.watch, &e.Signers[m.signer])
	v.Report = len(v.Reasons) > 0
	v.Waits = m.await(e)
	return v
}
