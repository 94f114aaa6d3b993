package driver

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// hash is a SHA-256 value, in JSON lower-case hex.
type hash [sha256.Size]byte

// id is 128 random bits, in JSON lower-case hex.
type id [16]byte

var emptyHash = hash(sha256.Sum256(nil))

func sum(b []byte) hash { return sha256.Sum256(b) }

func newID() id {
	var i id
	rand.Read(i[:]) // never fails
	return i
}

func (h hash) MarshalText() ([]byte, error)  { return hex.AppendEncode(nil, h[:]), nil }
func (h *hash) UnmarshalText(b []byte) error { return decodeHex(h[:], b) }
func (i id) MarshalText() ([]byte, error)    { return hex.AppendEncode(nil, i[:]), nil }
func (i *id) UnmarshalText(b []byte) error   { return decodeHex(i[:], b) }

func (i id) String() string { return hex.EncodeToString(i[:]) }

func decodeHex(dst, src []byte) error {
	if len(src) != hex.EncodedLen(len(dst)) {
		return fmt.Errorf("%d hex digits where %d are due", len(src), hex.EncodedLen(len(dst)))
	}
	_, err := hex.Decode(dst, src)
	return err
}

// hashChildren is the RFC 6962 hash of an interior node.
func hashChildren(left, right []byte) []byte {
	var b [1 + 2*sha256.Size]byte
	b[0] = 1
	copy(b[1:], left)
	copy(b[1+sha256.Size:], right)
	h := sha256.Sum256(b[:])
	return h[:]
}

// rangeRoot returns the root of the tree whose compact range is the given hashes.
func rangeRoot(hashes []hash) hash {
	if len(hashes) == 0 {
		return emptyHash
	}
	root := hashes[len(hashes)-1]
	for i := len(hashes) - 2; i >= 0; i-- {
		root = hash(hashChildren(hashes[i][:], root[:]))
	}
	return root
}
