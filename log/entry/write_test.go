package entry_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf16"
)

// A writer writes a request in one of the many ways in which protojson reads it.
type writer struct {
	c choices
	b []byte
}

// fixed are the choices of a plain writer: the first of all, which is what common clients send.
type fixed struct{}

func (fixed) IntN(int) int { return 0 }

// write returns the request that says a. A DSSE request is one of that arm.
func (a artifact) write(c choices) []byte {
	w := &writer{c: c}
	w.space()
	if a.payload == nil {
		w.object(w.withNull(w.field("hashedRekordRequestV002", "hashed_rekord_request_v002", func() { w.hashed(a) }),
			"dsseRequestV002", "dsse_request_v002")...)
	} else {
		w.object(w.withNull(w.field("dsseRequestV002", "dsse_request_v002", func() { w.dsse(a) }),
			"hashedRekordRequestV002", "hashed_rekord_request_v002")...)
	}
	w.space()
	return w.b
}

// hashedrekord returns the plain hashedrekord request for what a has signed.
func (a artifact) hashedrekord() []byte {
	a.payload = nil
	return a.write(fixed{})
}

func (w *writer) hashed(a artifact) {
	w.object(
		w.field("digest", "digest", func() { w.bytes(a.digest) }),
		w.field("signature", "signature", func() {
			w.object(
				w.field("content", "content", func() { w.bytes(a.sig) }),
				w.field("verifier", "verifier", func() { w.verifier(a) }),
			)
		}),
	)
}

func (w *writer) dsse(a artifact) {
	signature := []member{w.field("sig", "sig", func() { w.bytes(a.sig) })}
	if w.c.IntN(2) == 1 {
		signature = append(signature, w.field("keyid", "keyid", func() { w.text("a/key\x7fë") }))
	}
	w.object(
		w.field("envelope", "envelope", func() {
			w.object(
				w.field("payload", "payload", func() { w.bytes(a.payload) }),
				w.field("payloadType", "payloadType", func() { w.text(a.payloadType) }),
				w.field("signatures", "signatures", func() { w.array(func() { w.object(signature...) }) }),
			)
		}),
		w.field("verifiers", "verifiers", func() { w.array(func() { w.verifier(a) }) }),
	)
}

func (w *writer) verifier(a artifact) {
	arm, other := [2]string{"publicKey", "public_key"}, [2]string{"x509Certificate", "x509_certificate"}
	if a.form.certificate {
		arm, other = other, arm
	}
	key := w.withNull(w.field(arm[0], arm[1], func() {
		w.object(w.field("rawBytes", "raw_bytes", func() { w.bytes(a.form.raw) }))
	}), other[0], other[1])
	w.object(append(key, w.field("keyDetails", "key_details", func() {
		if w.c.IntN(3) == 1 {
			w.b = fmt.Append(w.b, a.number)
		} else {
			w.text(a.details)
		}
	}))...)
}

// A member is a name, in one of its two spellings, and what writes its value.
type member struct {
	name  string
	value func()
}

func (w *writer) field(json, proto string, value func()) member {
	return member{[]string{json, proto}[w.c.IntN(2)], value}
}

// withNull adds, now and then, a field that is not set.
func (w *writer) withNull(m member, json, proto string) []member {
	if w.c.IntN(8) != 1 {
		return []member{m}
	}
	return []member{m, w.field(json, proto, func() { w.b = append(w.b, "null"...) })}
}

// object writes members in any order.
func (w *writer) object(members ...member) {
	w.b = append(w.b, '{')
	for n := len(members); n > 0; n-- {
		w.space()
		i := w.c.IntN(n)
		m := members[i]
		members = append(append([]member(nil), members[:i]...), members[i+1:]...)
		w.text(m.name)
		w.space()
		w.b = append(w.b, ':')
		w.space()
		m.value()
		w.space()
		if n > 1 {
			w.b = append(w.b, ',')
		}
	}
	w.b = append(w.b, '}')
}

func (w *writer) array(element func()) {
	w.b = append(w.b, '[')
	w.space()
	element()
	w.space()
	w.b = append(w.b, ']')
}

func (w *writer) space() {
	for w.c.IntN(8) == 7 {
		w.b = append(w.b, " \t\r\n"[w.c.IntN(4)])
	}
}

// bytes writes base64, standard or URL-safe, padded or not.
func (w *writer) bytes(b []byte) {
	enc := []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding}
	w.text(enc[w.c.IntN(4)].EncodeToString(b))
}

// text writes a string, with escapes where there must be some, and in some strings where there need
// be none.
func (w *writer) text(s string) {
	eager := w.c.IntN(8) == 5
	w.b = append(w.b, '"')
	for _, r := range s {
		short := strings.IndexRune("\"\\/\b\f\n\r\t", r)
		switch {
		case short >= 0 && short != 2 && (!eager || w.c.IntN(2) == 0), short == 2 && eager && w.c.IntN(2) == 0:
			w.b = append(w.b, '\\', `"\/bfnrt`[short])
		case r < ' ' || r == '"' || r == '\\' || eager && w.c.IntN(4) == 3:
			format := []string{`\u%04x`, `\u%04X`}[w.c.IntN(2)]
			for _, half := range utf16.Encode([]rune{r}) {
				w.b = fmt.Appendf(w.b, format, half)
			}
		default:
			w.b = append(w.b, string(r)...)
		}
	}
	w.b = append(w.b, '"')
}
