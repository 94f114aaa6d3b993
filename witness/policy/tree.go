package policy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Tree is the statement of a checkpoint's text (c2sp.org/tlog-checkpoint).
type Tree struct {
	Origin     string
	Size       int64
	Root       [32]byte // root hash, RFC 6962
	Extensions []string // extension lines without their LF, none of them empty
}

// ParseTree parses a checkpoint's text strictly: an origin that is not empty, a canonical decimal
// size below 2^63, the canonical base64 of a root hash of exactly 32 bytes, then extension lines
// that are not empty; each ended by LF.
func ParseTree(text string) (Tree, error) {
	if err := checkText(text); err != nil {
		return Tree{}, err
	}
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 {
		return Tree{}, errors.New("checkpoint has fewer than three lines")
	}
	t := Tree{Origin: lines[0], Extensions: lines[3:]}
	if t.Origin == "" {
		return Tree{}, errors.New("checkpoint has an empty origin line")
	}
	var err error
	if t.Size, err = ParseSize(lines[1]); err != nil {
		return Tree{}, fmt.Errorf("checkpoint size: %w", err)
	}
	if t.Root, err = ParseHash(lines[2]); err != nil {
		return Tree{}, fmt.Errorf("checkpoint root hash: %w", err)
	}
	for i, line := range t.Extensions {
		if line == "" {
			return Tree{}, fmt.Errorf("checkpoint extension line %d is empty", i+1)
		}
	}
	return t, nil
}

// Text returns the checkpoint text that [ParseTree] parses back into t.
func (t Tree) Text() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%d\n%s\n", t.Origin, t.Size, base64.StdEncoding.EncodeToString(t.Root[:]))
	for _, line := range t.Extensions {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// ParseSize parses a tree size or an index: "0", or digits without leading zero, below 2^63.
func ParseSize(s string) (int64, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || strconv.FormatInt(n, 10) != s {
		return 0, errors.New("not a canonical decimal number below 2^63")
	}
	return n, nil
}

// ParseHash parses the canonical base64 of a SHA-256 hash.
func ParseHash(s string) ([32]byte, error) {
	b, err := decodeBase64(s)
	switch {
	case err != nil:
		return [32]byte{}, err
	case len(b) != 32:
		return [32]byte{}, fmt.Errorf("has %d bytes instead of 32", len(b))
	}
	return [32]byte(b), nil
}
