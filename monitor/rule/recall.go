package rule

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// maxRecall is the most that any recall holds.
const maxRecall = 1024

// A recall holds values by key, in the order in which they were last put. It is written as base64:
// it is many small things.
type recall []record

// A record of a recall. Keys are hashes cut to eight bytes, see [keyOf].
type record struct {
	key   uint64
	value string // at most 255 bytes
}

// keyOf returns the key of something that is made up of parts.
func keyOf(parts ...string) uint64 {
	h := sha256.New()
	var length [4]byte
	for _, p := range parts {
		binary.BigEndian.PutUint32(length[:], uint32(len(p)))
		h.Write(length[:])
		h.Write([]byte(p))
	}
	return binary.BigEndian.Uint64(h.Sum(nil))
}

// get returns the value of a key.
func (r recall) get(key uint64) (string, bool) {
	for i := len(r) - 1; i >= 0; i-- {
		if r[i].key == key {
			return r[i].value, true
		}
	}
	return "", false
}

// put sets the value of a key, of which the first 255 bytes are kept. If there are more than limit
// then, it returns the one that was put longest ago, and forgets it.
func (r *recall) put(key uint64, value string, limit int) (forgotten record, full bool) {
	r.drop(key)
	*r = append(*r, record{key, value[:min(len(value), 255)]})
	if len(*r) <= limit {
		return record{}, false
	}
	forgotten = (*r)[0]
	*r = slices.Delete(*r, 0, len(*r)-limit)
	return forgotten, true
}

// drop forgets a key.
func (r *recall) drop(key uint64) {
	*r = slices.DeleteFunc(*r, func(x record) bool { return x.key == key })
}

// IsZero reports whether nothing is in r: then it is not written.
func (r recall) IsZero() bool { return len(r) == 0 }

// MarshalText writes r: of each record the key, the length of the value and the value.
func (r recall) MarshalText() ([]byte, error) {
	var raw []byte
	for _, x := range r {
		raw = binary.BigEndian.AppendUint64(raw, x.key)
		raw = append(raw, byte(len(x.value)))
		raw = append(raw, x.value...)
	}
	return base64.RawStdEncoding.AppendEncode(nil, raw), nil
}

// UnmarshalText reads what MarshalText writes.
func (r *recall) UnmarshalText(text []byte) error {
	raw, err := base64.RawStdEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("decoding records: %w", err)
	}
	var out recall
	seen := map[uint64]bool{}
	for len(raw) > 0 {
		if len(raw) < 9 || len(raw) < 9+int(raw[8]) {
			return errors.New("decoding records: the last one is cut off")
		}
		x := record{binary.BigEndian.Uint64(raw), string(raw[9 : 9+int(raw[8])])}
		if seen[x.key] {
			return errors.New("decoding records: a key is there twice")
		}
		seen[x.key] = true
		out = append(out, x)
		raw = raw[9+len(x.value):]
	}
	if len(out) > maxRecall {
		return fmt.Errorf("decoding records: %d of them, at most %d are kept", len(out), maxRecall)
	}
	*r = out
	return nil
}
