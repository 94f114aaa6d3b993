package driver

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/transparency-dev/tessera/api/layout"
)

// A Layout says how a log lays out its entries: where entry bundles are, and what is in them.
type Layout struct {
	Name string // "tlog-tiles" or "static-ct"

	// EntriesPath returns the path of entry bundle n, partial of width p unless p is 0, below
	// the log's prefix.
	EntriesPath func(n uint64, p uint8) string
	// Split cuts a bundle, or any concatenation of encoded entries, into the encoded entries.
	// They share its memory.
	Split func(bundle []byte) ([][]byte, error)
	// LeafHash returns the Merkle leaf hash of an encoded entry.
	LeafHash func(encoded []byte) ([]byte, error)

	maxEntry int  // bytes an encoded entry may have
	indexed  bool // the encoding depends on the index
}

// TlogTiles is the layout of c2sp.org/tlog-tiles: big-endian uint16 lengths before the entries,
// the leaf hash over the entry alone.
func TlogTiles() Layout {
	return Layout{
		Name:        "tlog-tiles",
		EntriesPath: layout.EntriesPath,
		Split:       func(b []byte) ([][]byte, error) { return split(b, tlogEntryLen) },
		LeafHash:    tlogLeafHash,
		maxEntry:    2 + 1<<16 - 1,
	}
}

// StaticCT is the layout of c2sp.org/static-ct-api: TileLeaf structures in tile/data, the leaf
// hash over the MerkleTreeLeaf each of them holds.
func StaticCT() Layout {
	return Layout{
		Name: "static-ct",
		EntriesPath: func(n uint64, p uint8) string {
			return "tile/data/" + layout.NWithSuffix(0, n, p)
		},
		Split: func(b []byte) ([][]byte, error) {
			return split(b, func(b []byte) (int, error) {
				_, size, err := tileLeaf(b)
				return size, err
			})
		},
		LeafHash: ctLeafHash,
		maxEntry: 256 << 10,
		indexed:  true,
	}
}

var errShortEntry = errors.New("entry is cut short")

// split cuts b into entries, each as long as size says its beginning is.
func split(b []byte, size func([]byte) (int, error)) ([][]byte, error) {
	var entries [][]byte
	for len(b) > 0 {
		n, err := size(b)
		if err != nil {
			return nil, fmt.Errorf("splitting entry %d: %w", len(entries), err)
		}
		entries = append(entries, b[:n:n])
		b = b[n:]
	}
	return entries, nil
}

func tlogEntryLen(b []byte) (int, error) {
	if len(b) < 2 {
		return 0, errShortEntry
	}
	n := 2 + int(binary.BigEndian.Uint16(b))
	if len(b) < n {
		return 0, errShortEntry
	}
	return n, nil
}

func tlogLeafHash(encoded []byte) ([]byte, error) {
	if n, err := tlogEntryLen(encoded); err != nil || n != len(encoded) {
		return nil, errors.New("entry length does not match its prefix")
	}
	return leafHash(nil, encoded[2:]), nil
}

// ctLeafHash hashes the MerkleTreeLeaf of an encoded TileLeaf:
// version v1, leaf type timestamped_entry, then the TimestampedEntry the TileLeaf begins with.
func ctLeafHash(encoded []byte) ([]byte, error) {
	timestamped, size, err := tileLeaf(encoded)
	if err != nil {
		return nil, err
	}
	if size != len(encoded) {
		return nil, errors.New("bytes follow the entry")
	}
	return leafHash([]byte{0, 0}, encoded[:timestamped]), nil
}

// tileLeaf returns the lengths of the TimestampedEntry and of the whole TileLeaf at the beginning
// of b.
func tileLeaf(b []byte) (timestamped, size int, err error) {
	c := cursor{b: b}
	c.skip(8) // timestamp
	entryType := c.uint(2)
	switch {
	case c.short:
	case entryType == 0: // x509_entry
		c.skip(c.uint(3))
	case entryType == 1: // precert_entry
		c.skip(sha256.Size) // issuer_key_hash
		c.skip(c.uint(3))   // TBSCertificate
	default:
		return 0, 0, fmt.Errorf("entry type %d is unknown", entryType)
	}
	c.skip(c.uint(2)) // CtExtensions
	timestamped = c.pos
	if entryType == 1 {
		c.skip(c.uint(3)) // pre_certificate
	}
	c.skip(c.uint(2)) // fingerprints
	if c.short {
		return 0, 0, errShortEntry
	}
	return timestamped, c.pos, nil
}

// cursor walks over length-prefixed fields; once it met the end it stays short.
type cursor struct {
	b     []byte
	pos   int
	short bool
}

func (c *cursor) skip(n int) {
	if c.short = c.short || len(c.b)-c.pos < n; !c.short {
		c.pos += n
	}
}

func (c *cursor) uint(width int) int {
	start := c.pos
	if c.skip(width); c.short {
		return 0
	}
	n := 0
	for _, x := range c.b[start:c.pos] {
		n = n<<8 | int(x)
	}
	return n
}

// leafHash is SHA-256(0x00 || prefix || data), per RFC 6962 section 2.1.
func leafHash(prefix, data []byte) []byte {
	h := sha256.New()
	h.Write([]byte{0})
	h.Write(prefix)
	h.Write(data)
	return h.Sum(nil)
}
