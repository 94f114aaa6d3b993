package rule

import (
	"crypto/sha256"
	"regexp/syntax"
	"slices"
	"strings"
)

// A needle says what is in every certificate that a watch can match, so that nothing but the bytes
// of a certificate need be looked at to know that it does not.
type needle struct {
	// One of words, lower case ASCII, is in a name or in one of the extensions that matching looks
	// at, without regard to case. This holds for certificates in which these are ASCII alone, without
	// a percent sign: what folds to what else is not worth knowing for the few others. Empty: there is no such word.
	words []string
	// It may match the text of an IP address, which is not in the certificate.
	ips bool
	// One of words is in this extension too, beside those in searched; 0: none.
	extension int
	// It is matched by these hashes of keys and certificates instead.
	hashes [][32]byte
}

// searched are the extensions that all matching looks at, beside names.
var searched = [...]int{5, 12, 16}

// A filter tells certificates that concern nobody in a set from those that may.
type filter struct {
	everyone bool // every certificate concerns somebody
	ips      bool
	hashes   map[[32]byte]bool
	searched []int // extensions in which words are looked for
	words    automaton
}

// newFilter returns the filter of all that s watches.
func newFilter(s *Set) filter {
	f := filter{everyone: s.audit != nil, hashes: map[[32]byte]bool{}, searched: searched[:]}
	var words []string
	for _, w := range s.watches {
		n := w.needle
		f.everyone = f.everyone || w.likeness != nil || len(n.words)+len(n.hashes) == 0
		f.ips = f.ips || n.ips
		if n.extension > 0 && !slices.Contains(f.searched, n.extension) {
			f.searched = append(f.searched[:len(f.searched):len(f.searched)], n.extension)
		}
		words = append(words, n.words...)
		for _, h := range n.hashes {
			f.hashes[h] = true
		}
		for h := range w.retired {
			f.hashes[h] = true
		}
	}
	if s.stray != nil {
		for h := range s.stray.retired {
			f.hashes[h] = true
		}
	}
	f.words = newAutomaton(words)
	return f
}

// Certificate reads a certificate as ParseCertificate does, but of one that concerns nobody in s, and
// in which nothing is wrong, it keeps neither names nor extensions. s may be nil.
func (s *Set) Certificate(der []byte) (*Certificate, error) {
	var r reader
	err := r.read(der)
	if err == nil && (s == nil || !s.filter.concerns(der, &r)) {
		return &Certificate{Raw: der, fields: r.fields, skip: s}, nil
	}
	return r.certificate(der), err
}

// concerns reports whether what was read of a certificate may match something.
func (f *filter) concerns(der []byte, r *reader) bool {
	if f.everyone {
		return true
	}
	for i := range r.names.n {
		if n := r.names.at(i); n.kind == IP && f.ips || f.words.in(n.value) {
			return true
		}
	}
	for i := range r.values.n {
		if v := r.values.at(i); slices.Contains(f.searched, v.n) && f.words.in(v.value) {
			return true
		}
	}
	return len(f.hashes) > 0 && (f.hashes[sha256.Sum256(r.spki)] || f.hashes[sha256.Sum256(der)])
}

// concern reports whether an entry may concern somebody in s.
func (s *Set) concern(e *Entry) bool {
	for i := range e.Signers {
		if c := e.Signers[i].Certificate; c != nil && c.skip != s || c == nil && (s.audit != nil || s.filter.hashes[e.Signers[i].KeyHash]) {
			return true
		}
	}
	return false
}

// An automaton finds any of some words in text, in time that does not depend on how many there are
// (Aho and Corasick, 1975), without regard to the case of ASCII letters. A byte that is not ASCII, or
// a percent sign, behind which one of the letters may be, it takes for a find.
type automaton struct {
	class [256]uint8 // of a byte: bytes of a class are the same to all words
	width int        // number of classes
	next  []int32    // by state and class; negative: found
}

const found = -1

func newAutomaton(words []string) automaton {
	a := automaton{width: 2}
	for c := 0x80; c < 0x100; c++ {
		a.class[c] = 1
	}
	a.class['%'] = 1
	for _, word := range words {
		for _, c := range []byte(word) {
			if a.class[c] == 0 {
				a.class[c] = uint8(a.width)
				a.width++
			}
		}
	}
	for c := byte('a'); c <= 'z'; c++ {
		a.class[c-'a'+'A'] = a.class[c]
	}
	a.grow()
	for _, word := range words {
		a.insert(word)
	}
	a.link()
	return a
}

// grow adds a state, from which nothing leads anywhere yet, and returns it.
func (a *automaton) grow() int32 {
	a.next = append(a.next, make([]int32, a.width)...)
	return int32(len(a.next)/a.width - 1)
}

// insert adds a word to the trie, in which 0, the root, also stands for no edge.
func (a *automaton) insert(word string) {
	at := int32(0)
	for i, c := range []byte(word) {
		edge := int(at)*a.width + int(a.class[c])
		switch {
		case a.next[edge] == found: // a shorter word is a prefix of this one
			return
		case i == len(word)-1:
			a.next[edge] = found
		case a.next[edge] == 0:
			to := a.grow()
			a.next[edge] = to
		}
		at = a.next[edge]
	}
}

// link makes a transition of every missing edge: where the longest suffix of what was read, which is
// also the beginning of a word, would go.
func (a *automaton) link() {
	a.next[1] = found
	fail := make([]int32, len(a.next)/a.width)
	var queue []int32
	for _, to := range a.next[:a.width] {
		if to > 0 {
			queue = append(queue, to)
		}
	}
	for len(queue) > 0 {
		at := queue[0]
		queue = queue[1:]
		row, back := a.next[int(at)*a.width:][:a.width], a.next[int(fail[at])*a.width:][:a.width]
		for c := range row {
			switch {
			case row[c] == found || back[c] == found:
				row[c] = found
			case row[c] == 0:
				row[c] = back[c]
			default:
				fail[row[c]] = back[c]
				queue = append(queue, row[c])
			}
		}
	}
}

// in reports whether one of the words is in text.
func (a *automaton) in(text []byte) bool {
	at := int32(0)
	for _, c := range text {
		if at = a.next[int(at)*a.width+int(a.class[c])]; at == found {
			return true
		}
	}
	return false
}

// word returns the longest run of ASCII in text, in lower case: what is in all that text is in,
// without regard to case.
func word(text string) string {
	best, run := "", ""
	for _, r := range text {
		if r >= 0x80 {
			run = ""
			continue
		}
		if run += strings.ToLower(string(r)); len(run) > len(best) {
			best = run
		}
	}
	return best
}

// required returns words of which one is in every text that re matches, none if it knows none.
func required(re *syntax.Regexp) []string {
	switch re.Op {
	case syntax.OpLiteral:
		if w := word(string(re.Rune)); w != "" {
			return []string{w}
		}
	case syntax.OpCapture, syntax.OpPlus:
		return required(re.Sub[0])
	case syntax.OpRepeat:
		if re.Min > 0 {
			return required(re.Sub[0])
		}
	case syntax.OpConcat:
		var best []string
		for _, sub := range re.Sub {
			if words := required(sub); shortest(words) > shortest(best) {
				best = words
			}
		}
		return best
	case syntax.OpAlternate:
		var all []string
		for _, sub := range re.Sub {
			words := required(sub)
			if len(words) == 0 {
				return nil
			}
			all = append(all, words...)
		}
		return all
	}
	return nil
}

// shortest returns the length of the shortest of some words, 0 if there are none.
func shortest(words []string) int {
	if len(words) == 0 {
		return 0
	}
	return len(slices.MinFunc(words, func(a, b string) int { return len(a) - len(b) }))
}
