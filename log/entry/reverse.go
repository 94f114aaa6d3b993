package entry

import (
	"bytes"
	"encoding/base64"
)

// ParseCanonical reads what Canonical renders: if ok, canonical are the bytes that Canonical makes of the
// result, and Parse would return the same. It does so in a fraction of Parse's time; bytes that it does
// not take may still be an entry.
func ParseCanonical(canonical []byte) (b Body, ok bool) {
	r := reverse{rest: canonical}
	// One buffer holds all that is decoded: base64 is longer than what it stands for.
	r.buf = make([]byte, 0, base64.StdEncoding.DecodedLen(len(canonical)))
	r.literal(`{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`)
	algorithm := r.text()
	r.literal(`,"digest":"`)
	b.Digest = r.base64()
	r.literal(`},"signature":{"content":"`)
	s := Signature{Content: r.base64()}
	r.literal(`,"verifier":{"keyDetails":"`)
	s.KeyDetails = detailsByName[string(r.text())]
	r.literal(`,"`)
	arm := r.text()
	r.literal(`:{"rawBytes":"`)
	raw := r.base64()
	r.literal(`}}}}}}`)
	h := s.KeyDetails.Hash()
	switch {
	case r.bad || len(r.rest) > 0 || len(s.Content) == 0 || len(raw) == 0:
		return Body{}, false
	case h == 0 || len(b.Digest) != h.Size() || string(algorithm) != hashName(h):
		return Body{}, false
	case string(arm) == "x509Certificate":
		s.Certificate = raw
	case string(arm) == "publicKey":
		s.PublicKey = raw
	default:
		return Body{}, false
	}
	b.Kind, b.Version, b.HashAlg, b.Signatures = Kind, Version, h, []Signature{s}
	return b, true
}

// A reverse goes over canonical bytes. When something is not as it must be, it is bad and stays so.
type reverse struct {
	rest []byte
	buf  []byte // what was decoded so far
	bad  bool
}

// literal skips text that must be next.
func (r *reverse) literal(text string) {
	if r.bad = r.bad || !bytes.HasPrefix(r.rest, []byte(text)); !r.bad {
		r.rest = r.rest[len(text):]
	}
}

// text returns what is left of the string that has begun, and skips its end. Escapes are not for it:
// nothing that is canonical has one.
func (r *reverse) text() []byte {
	end := bytes.IndexByte(r.rest, '"')
	if r.bad = r.bad || end < 0; r.bad {
		return nil
	}
	text := r.rest[:end]
	r.rest = r.rest[end+1:]
	return text
}

var strict = base64.StdEncoding.Strict()

// base64 is text decoded.
func (r *reverse) base64() []byte {
	text := r.text()
	from := len(r.buf)
	buf, err := strict.AppendDecode(r.buf, text)
	// The decoder skips line ends, which make the text longer.
	if r.bad = r.bad || err != nil || base64.StdEncoding.EncodedLen(len(buf)-from) != len(text); r.bad {
		return nil
	}
	r.buf = buf
	return buf[from:len(buf):len(buf)]
}
