package entry

import (
	"bytes"
	"encoding/base64"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// A scanner walks JSON text (RFC 8259) once, without building values of it, under the rules
// that ParseRequest documents. Each method reads one value at pos and leaves pos behind it.
type scanner struct {
	data []byte
	pos  int

	// lenient makes an enum name nobody told us about the zero value instead of an error.
	lenient bool
}

// A member is a field of a message in its two spellings.
type member struct{ json, proto string }

// maxDepth bounds how deep a value that is only skipped may nest.
const maxDepth = 100

func (s *scanner) syntaxError() error {
	return invalid("request", "is not valid JSON at byte %d", s.pos)
}

// next returns the byte at pos behind white space, or 0 at the end of the text.
func (s *scanner) next() byte {
	for ; s.pos < len(s.data); s.pos++ {
		switch c := s.data[s.pos]; c {
		case ' ', '\t', '\r', '\n':
		default:
			return c
		}
	}
	return 0
}

// accept skips white space and the byte c, and reports whether c was there.
func (s *scanner) accept(c byte) bool {
	if s.next() != c || s.pos == len(s.data) {
		return false
	}
	s.pos++
	return true
}

// end returns an error unless only white space is left.
func (s *scanner) end() error {
	if s.next(); s.pos < len(s.data) {
		return invalid("request", "has data after its JSON object, at byte %d", s.pos)
	}
	return nil
}

// literal skips word if it is next.
func (s *scanner) literal(word string) bool {
	s.next()
	if !bytes.HasPrefix(s.data[s.pos:], []byte(word)) {
		return false
	}
	s.pos += len(word)
	return true
}

// object reads an object with no names but those of members, each at most once in either
// spelling, and calls value with the number of the member at pos; null counts as not there.
func (s *scanner) object(path string, members []member, value func(i int) error) error {
	if !s.accept('{') {
		return s.typeError(path, "an object")
	}
	var seen uint64
	for first := true; !s.accept('}'); first = false {
		if !first && !s.accept(',') {
			return s.syntaxError()
		}
		name, err := s.text()
		if err != nil {
			return err
		}
		if !s.accept(':') {
			return s.syntaxError()
		}
		i := lookup(members, name)
		switch {
		case i < 0:
			return invalid(path, "has the unknown field %s", quote(name))
		case seen&(1<<i) != 0:
			return invalid(path, "has the field %s twice", members[i].json)
		}
		seen |= 1 << i
		if s.literal("null") {
			continue
		}
		if err := value(i); err != nil {
			return err
		}
	}
	return nil
}

func lookup(members []member, name []byte) int {
	for i, m := range members {
		if string(name) == m.json || string(name) == m.proto {
			return i
		}
	}
	return -1
}

// quote returns at most 40 bytes of a name in printable ASCII.
func quote(name []byte) string {
	if len(name) > 40 {
		name = name[:40]
	}
	return strconv.QuoteToASCII(string(name))
}

// array reads an array of at most limit values, calling element at each.
func (s *scanner) array(path string, limit int, element func(i int) error) error {
	if !s.accept('[') {
		return s.typeError(path, "an array")
	}
	for i := 0; !s.accept(']'); i++ {
		if i > 0 && !s.accept(',') {
			return s.syntaxError()
		}
		if i == limit {
			return invalid(path, "has more than %d elements", limit)
		}
		if err := element(i); err != nil {
			return err
		}
	}
	return nil
}

// typeError reports that the value at pos is not of the kind path wants.
func (s *scanner) typeError(path, want string) error {
	switch c := s.next(); {
	case c == '{', c == '[', c == '"', c == '-', '0' <= c && c <= '9', c == 't', c == 'f', c == 'n':
		return invalid(path, "is not %s", want)
	}
	return s.syntaxError()
}

// str reads a string. The result may be part of the text scanned.
func (s *scanner) str(path string) ([]byte, error) {
	if s.next() != '"' {
		return nil, s.typeError(path, "a string")
	}
	return s.text()
}

// base64 reads bytes: a string of standard or URL-safe base64, padded or not.
func (s *scanner) base64(path string) ([]byte, error) {
	text, err := s.str(path)
	if err != nil {
		return nil, err
	}
	enc := base64.StdEncoding
	if bytes.IndexByte(text, '-') >= 0 || bytes.IndexByte(text, '_') >= 0 {
		enc = base64.URLEncoding
	}
	if len(text)%4 != 0 {
		enc = enc.WithPadding(base64.NoPadding)
	}
	out := make([]byte, enc.DecodedLen(len(text)))
	n, err := enc.Decode(out, text)
	if err != nil {
		return nil, invalid(path, "is not base64")
	}
	return out[:n], nil
}

// keyDetails reads the enum by name or number.
func (s *scanner) keyDetails(path string) (KeyDetails, error) {
	if s.next() == '"' {
		name, err := s.text()
		if err != nil {
			return 0, err
		}
		k, ok := detailsByName[string(name)]
		if !ok && !s.lenient {
			return 0, invalid(path, "is the unknown value %s", quote(name))
		}
		return k, nil
	}
	number := s.number()
	if number == nil {
		return 0, s.typeError(path, "the name or number of an enum value")
	}
	k, err := strconv.ParseInt(string(number), 10, 32)
	if err != nil {
		return 0, invalid(path, "is not a 32-bit integer")
	}
	return KeyDetails(k), nil
}

// number reads a number and returns its text, or nil if there is none.
func (s *scanner) number() []byte {
	s.next()
	i := s.pos
	digits := func() bool {
		from := i
		for i < len(s.data) && '0' <= s.data[i] && s.data[i] <= '9' {
			i++
		}
		return i > from
	}
	at := func(set string) bool {
		if i < len(s.data) && strings.IndexByte(set, s.data[i]) >= 0 {
			i++
			return true
		}
		return false
	}
	at("-")
	if !at("0") && !digits() {
		return nil
	}
	if at(".") && !digits() {
		return nil
	}
	if at("eE") {
		at("+-")
		if !digits() {
			return nil
		}
	}
	text := s.data[s.pos:i]
	s.pos = i
	return text
}

// text reads a string token. It copies only if there are escapes to undo.
func (s *scanner) text() ([]byte, error) {
	if !s.accept('"') {
		return nil, s.syntaxError()
	}
	start := s.pos
	rest := s.data[start:]
	end := bytes.IndexByte(rest, '"')
	if end < 0 {
		end = len(rest)
	}
	for i, c := range rest[:end] {
		switch {
		case c == '\\':
			s.pos += i
			return s.escaped(start)
		case c < ' ':
			s.pos += i
			return nil, s.syntaxError()
		}
	}
	if s.pos += end; end == len(rest) || !utf8.Valid(rest[:end]) {
		return nil, s.syntaxError()
	}
	s.pos++
	return rest[:end], nil
}

// escaped is text from the first backslash on, for a string that begins at start.
func (s *scanner) escaped(start int) ([]byte, error) {
	out := bytes.Clone(s.data[start:s.pos])
	for s.pos < len(s.data) {
		c := s.data[s.pos]
		s.pos++
		switch {
		case c == '"':
			if !utf8.Valid(out) {
				return nil, s.syntaxError()
			}
			return out, nil
		case c == '\\':
			r, ok := s.escape()
			if !ok {
				return nil, s.syntaxError()
			}
			out = utf8.AppendRune(out, r)
		case c < ' ':
			return nil, s.syntaxError()
		default:
			out = append(out, c)
		}
	}
	return nil, s.syntaxError()
}

// escape reads what follows a backslash. Half a surrogate pair is an error: replacing it would
// change what was signed.
func (s *scanner) escape() (rune, bool) {
	if s.pos == len(s.data) {
		return 0, false
	}
	c := s.data[s.pos]
	s.pos++
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return 0, false
		}
		return rune("\"\\/\b\f\n\r\t"[i]), true
	}
	r, ok := s.hex4()
	if !ok || !utf16.IsSurrogate(r) {
		return r, ok
	}
	if !bytes.HasPrefix(s.data[s.pos:], []byte(`\u`)) {
		return 0, false
	}
	s.pos += 2
	low, ok := s.hex4()
	r = utf16.DecodeRune(r, low)
	return r, ok && r != utf8.RuneError
}

func (s *scanner) hex4() (rune, bool) {
	if len(s.data)-s.pos < 4 {
		return 0, false
	}
	v, err := strconv.ParseUint(string(s.data[s.pos:s.pos+4]), 16, 16)
	s.pos += 4
	return rune(v), err == nil
}

// skip reads any value.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return invalid("request", "nests deeper than %d values", maxDepth)
	}
	switch c := s.next(); {
	case c == '"':
		_, err := s.text()
		return err
	case c == '[':
		s.pos++
		for first := true; !s.accept(']'); first = false {
			if !first && !s.accept(',') {
				return s.syntaxError()
			}
			if err := s.skip(depth + 1); err != nil {
				return err
			}
		}
		return nil
	case c == '{':
		return s.skipObject(depth)
	case s.literal("true"), s.literal("false"), s.literal("null"), s.number() != nil:
		return nil
	}
	return s.syntaxError()
}

func (s *scanner) skipObject(depth int) error {
	s.pos++
	for first := true; !s.accept('}'); first = false {
		if !first && !s.accept(',') {
			return s.syntaxError()
		}
		if s.next() != '"' {
			return s.syntaxError()
		}
		if _, err := s.text(); err != nil {
			return err
		}
		if !s.accept(':') {
			return s.syntaxError()
		}
		if err := s.skip(depth + 1); err != nil {
			return err
		}
	}
	return nil
}
