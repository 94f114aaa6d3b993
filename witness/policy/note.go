package policy

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxSignatures bounds the signature lines of one note. Sixteen witnesses with two keys each
// need 33; a note with more than a hundred is an attempt to have us verify all day.
const maxSignatures = 100

// signaturePrefix begins every signature line: an em dash and a space.
const signaturePrefix = "\u2014 "

// ErrNoSignatures reports a text that is a note but for its signature lines, of which it has none.
var ErrNoSignatures = errors.New("note has no signature lines")

// A Note is a parsed signed note (c2sp.org/signed-note). Nothing in it is verified.
type Note struct {
	Text       string // what the signatures are over, including its last LF
	Signatures []Signature
}

// A Signature is one signature line of a note: a claim, until [Key.Verify] has agreed.
type Signature struct {
	Name  string // of the key
	KeyID uint32 // of the key; only both together name a key
	Sig   []byte // what follows the four bytes of the key ID; at least one byte
	Line  string // the line as it came, without its LF
}

// ParseNote parses a signed note strictly: valid UTF-8, no control character but LF, a text, an
// empty line, then 1 to 100 signature lines, each of canonical form and ended by LF.
// A note without any signature line is an error that wraps [ErrNoSignatures].
func ParseNote(msg []byte) (Note, error) {
	s := string(msg)
	if err := checkText(s); err != nil {
		return Note{}, err
	}
	// The signatures follow the last empty line: a text may have empty lines of its own.
	split := strings.LastIndex(s, "\n\n")
	if split < 0 {
		if strings.Contains("\n"+s, "\n"+signaturePrefix) {
			return Note{}, errors.New("no empty line before the signature lines")
		}
		return Note{}, ErrNoSignatures
	}
	text, block := s[:split+1], s[split+2:]
	if block == "" {
		return Note{}, ErrNoSignatures
	}
	lines := strings.Split(strings.TrimSuffix(block, "\n"), "\n")
	if len(lines) > maxSignatures {
		return Note{}, fmt.Errorf("note has %d signature lines, more than %d", len(lines), maxSignatures)
	}
	n := Note{Text: text, Signatures: make([]Signature, 0, len(lines))}
	for i, line := range lines {
		sig, err := parseSignature(line)
		if err != nil {
			return Note{}, fmt.Errorf("signature line %d: %w", i+1, err)
		}
		n.Signatures = append(n.Signatures, sig)
	}
	return n, nil
}

// checkText refuses what no line of a note may contain.
func checkText(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("note is not valid UTF-8")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return r < 0x20 && r != '\n' }) {
		return errors.New("note contains a control character")
	}
	if !strings.HasSuffix(s, "\n") {
		return errors.New("note does not end in a line feed")
	}
	return nil
}

func parseSignature(line string) (Signature, error) {
	rest, ok := strings.CutPrefix(line, signaturePrefix)
	if !ok {
		return Signature{}, errors.New("does not begin with an em dash and a space")
	}
	name, b64, ok := strings.Cut(rest, " ")
	if !ok {
		return Signature{}, errors.New("has no space after the key name")
	}
	if !ValidName(name) {
		return Signature{}, errors.New("has an invalid key name")
	}
	blob, err := decodeBase64(b64)
	if err != nil {
		return Signature{}, err
	}
	if len(blob) < 5 {
		return Signature{}, errors.New("is shorter than a key ID and one byte")
	}
	return Signature{Name: name, KeyID: binary.BigEndian.Uint32(blob), Sig: blob[4:], Line: line}, nil
}

// FormatSignature returns the signature line, with its LF, that carries sig (without key ID)
// of the key (name, keyID).
func FormatSignature(name string, keyID uint32, sig []byte) string {
	var b strings.Builder
	b.Grow(len(signaturePrefix) + len(name) + 2 + base64.StdEncoding.EncodedLen(4+len(sig)))
	b.WriteString(signaturePrefix)
	b.WriteString(name)
	b.WriteByte(' ')
	// In pieces that become whole groups of base64: a line of ML-DSA is long, and made once.
	var piece [768]byte
	var text [1024]byte
	binary.BigEndian.PutUint32(piece[:], keyID)
	for n := 4; n > 0 || len(sig) > 0; n = 0 {
		m := copy(piece[n:], sig)
		sig = sig[m:]
		b.Write(base64.StdEncoding.AppendEncode(text[:0], piece[:n+m]))
	}
	b.WriteByte('\n')
	return b.String()
}

// ValidName reports whether name can be a key name: not empty, valid UTF-8, no plus, no Unicode
// space, no control character.
func ValidName(name string) bool {
	return name != "" && utf8.ValidString(name) && !strings.ContainsFunc(name, func(r rune) bool {
		return r == '+' || r < 0x20 || unicode.IsSpace(r)
	})
}

// decodeBase64 decodes s, which must be the one canonical encoding of its bytes. The Strict
// decoder alone does not do: it skips CR and LF.
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || base64.StdEncoding.EncodedLen(len(b)) != len(s) {
		return nil, errors.New("is not canonical base64")
	}
	return b, nil
}
