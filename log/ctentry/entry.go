package ctentry

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"math"

	"golang.org/x/crypto/cryptobyte"
)

// Numbers of the wire format.
const (
	entryX509    = 0 // TimestampedEntry.entry_type x509_entry
	entryPrecert = 1 // TimestampedEntry.entry_type precert_entry

	extensionLeafIndex = 0 // CtExtensions extension_type leaf_index

	bundleWidth = 256 // entries of a full data tile

	// MaxIndex is the largest leaf index the 40 bits of a leaf_index extension hold.
	MaxIndex = 1<<40 - 1
)

// Entry is one TileLeaf: a TimestampedEntry, which the leaf hash covers, and the precertificate
// and fingerprints beside it, which it does not.
type Entry struct {
	Timestamp int64 // milliseconds since the Unix epoch, not negative
	Precert   bool  // entry_type precert_entry

	// IssuerKeyHash is the SHA-256 of the SubjectPublicKeyInfo of the final certificate's
	// issuer. Precert entries only.
	IssuerKeyHash [32]byte
	// Certificate is a DER certificate, or in a precert entry the DER TBSCertificate that the
	// precertificate and the final certificate share.
	Certificate []byte
	// Extensions is the CtExtensions vector without its outer length, as read. It holds exactly
	// one leaf_index; types unknown to us are kept.
	Extensions []byte

	// UnverifiedPrecertificate is the DER precertificate of a precert entry.
	UnverifiedPrecertificate []byte
	// UnverifiedFingerprints are the SHA-256 of the DER certificates above the leaf.
	UnverifiedFingerprints [][32]byte
}

// Index returns the entry's leaf index as its leaf_index extension has it.
func (e Entry) Index() (int64, error) { return ParseExtensions(e.Extensions) }

// Parse decodes one TileLeaf and refuses whatever follows it.
func Parse(tileLeaf []byte) (Entry, error) {
	s := cryptobyte.String(tileLeaf)
	e, err := readTileLeaf(&s)
	if err != nil {
		return Entry{}, err
	}
	if !s.Empty() {
		return Entry{}, fmt.Errorf("parsing tile leaf: %d trailing bytes", len(s))
	}
	return e, nil
}

// Split returns the encoded TileLeafs of a data tile, at most 256, in order. They share the
// tile's memory.
func Split(bundle []byte) ([][]byte, error) {
	var leaves [][]byte
	for s := cryptobyte.String(bundle); !s.Empty(); {
		if len(leaves) == bundleWidth {
			return nil, fmt.Errorf("splitting data tile: more than %d entries", bundleWidth)
		}
		rest := []byte(s)
		if _, err := readTileLeaf(&s); err != nil {
			return nil, fmt.Errorf("splitting data tile at entry %d: %w", len(leaves), err)
		}
		leaves = append(leaves, rest[:len(rest)-len(s):len(rest)-len(s)])
	}
	return leaves, nil
}

// TileLeaf encodes e as static-ct-api's TileLeaf.
func (e Entry) TileLeaf() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 60+len(e.Certificate)+len(e.Extensions)+
		len(e.UnverifiedPrecertificate)+32*len(e.UnverifiedFingerprints)))
	e.addTimestamped(b)
	if e.Precert {
		addVector24(b, e.UnverifiedPrecertificate)
	}
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, f := range e.UnverifiedFingerprints {
			b.AddBytes(f[:])
		}
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding tile leaf: %w", err)
	}
	return out, nil
}

// MerkleTreeLeaf encodes what e's leaf hash covers (RFC 6962 section 3.4). The same bytes are
// what an SCT of e signs (section 3.2), since both begin with version v1 and type 0.
func (e Entry) MerkleTreeLeaf() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 57+len(e.Certificate)+len(e.Extensions)))
	b.AddUint8(0) // version v1
	b.AddUint8(0) // leaf_type timestamped_entry, or signature_type certificate_timestamp
	e.addTimestamped(b)
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding Merkle tree leaf: %w", err)
	}
	return out, nil
}

// ParseMerkleTreeLeaf decodes a MerkleTreeLeaf. The fields it does not carry stay empty.
func ParseMerkleTreeLeaf(leaf []byte) (Entry, error) {
	s := cryptobyte.String(leaf)
	var version, leafType uint8
	if !s.ReadUint8(&version) || !s.ReadUint8(&leafType) {
		return Entry{}, errors.New("parsing Merkle tree leaf: truncated header")
	}
	if version != 0 || leafType != 0 {
		return Entry{}, fmt.Errorf("parsing Merkle tree leaf: version %d, leaf type %d", version, leafType)
	}
	e, err := readTimestamped(&s)
	if err != nil {
		return Entry{}, err
	}
	if !s.Empty() {
		return Entry{}, fmt.Errorf("parsing Merkle tree leaf: %d trailing bytes", len(s))
	}
	return e, nil
}

// LeafHash returns the RFC 6962 leaf hash of an encoded TileLeaf.
func LeafHash(tileLeaf []byte) ([]byte, error) {
	e, err := Parse(tileLeaf)
	if err != nil {
		return nil, err
	}
	// A TileLeaf begins with the TimestampedEntry, which is all that the two header bytes of a
	// MerkleTreeLeaf precede.
	n := 8 + 2 + 3 + len(e.Certificate) + 2 + len(e.Extensions)
	if e.Precert {
		n += len(e.IssuerKeyHash)
	}
	h := sha256.New()
	h.Write([]byte{0, 0, 0}) // leaf prefix, version v1, timestamped_entry
	h.Write(tileLeaf[:n])
	return h.Sum(nil), nil
}

// MarshalExtensions returns the CtExtensions of an entry at index: 8 bytes, no outer length.
func MarshalExtensions(index int64) ([]byte, error) {
	if index < 0 || index > MaxIndex {
		return nil, fmt.Errorf("encoding leaf_index: %d is not in [0, 2^40)", index)
	}
	return []byte{extensionLeafIndex, 0, 5,
		byte(index >> 32), byte(index >> 24), byte(index >> 16), byte(index >> 8), byte(index)}, nil
}

// ParseExtensions returns the leaf index in a CtExtensions vector (without its outer length).
//
// Extensions come in any order and unknown types are skipped, but none may be repeated, and
// leaf_index must be there. The empty vector of an RFC 6962 log is therefore refused.
func ParseExtensions(extensions []byte) (int64, error) {
	index := int64(-1)
	var seen [256]bool
	for s := cryptobyte.String(extensions); !s.Empty(); {
		var kind uint8
		var data cryptobyte.String
		if !s.ReadUint8(&kind) || !s.ReadUint16LengthPrefixed(&data) {
			return 0, errors.New("parsing CT extensions: truncated")
		}
		if seen[kind] {
			return 0, fmt.Errorf("parsing CT extensions: type %d is repeated", kind)
		}
		seen[kind] = true
		if kind != extensionLeafIndex {
			continue
		}
		if len(data) != 5 {
			return 0, fmt.Errorf("parsing CT extensions: leaf_index of %d bytes", len(data))
		}
		index = 0
		for _, b := range data {
			index = index<<8 | int64(b)
		}
	}
	if index < 0 {
		return 0, errors.New("parsing CT extensions: no leaf_index")
	}
	return index, nil
}

func (e Entry) addTimestamped(b *cryptobyte.Builder) {
	if e.Timestamp < 0 {
		b.SetError(fmt.Errorf("timestamp %d is negative", e.Timestamp))
		return
	}
	if _, err := e.Index(); err != nil {
		b.SetError(err)
		return
	}
	b.AddUint64(uint64(e.Timestamp))
	if e.Precert {
		b.AddUint16(entryPrecert)
		b.AddBytes(e.IssuerKeyHash[:])
	} else {
		b.AddUint16(entryX509)
	}
	addVector24(b, e.Certificate)
	addVector16(b, e.Extensions)
}

func readTileLeaf(s *cryptobyte.String) (Entry, error) {
	e, err := readTimestamped(s)
	if err != nil {
		return Entry{}, err
	}
	if e.Precert && !s.ReadUint24LengthPrefixed((*cryptobyte.String)(&e.UnverifiedPrecertificate)) {
		return Entry{}, errors.New("parsing tile leaf: truncated precertificate")
	}
	var prints cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&prints) {
		return Entry{}, errors.New("parsing tile leaf: truncated fingerprints")
	}
	if len(prints)%32 != 0 {
		return Entry{}, fmt.Errorf("parsing tile leaf: %d bytes of fingerprints is no multiple of 32", len(prints))
	}
	if len(prints) > 0 {
		e.UnverifiedFingerprints = make([][32]byte, len(prints)/32)
		for i := range e.UnverifiedFingerprints {
			prints.CopyBytes(e.UnverifiedFingerprints[i][:])
		}
	}
	return e, nil
}

func readTimestamped(s *cryptobyte.String) (Entry, error) {
	var e Entry
	var ms uint64
	var kind uint16
	if !s.ReadUint64(&ms) || !s.ReadUint16(&kind) {
		return e, errors.New("parsing timestamped entry: truncated header")
	}
	if ms > math.MaxInt64 {
		return e, fmt.Errorf("parsing timestamped entry: timestamp %d is above 2^63-1", ms)
	}
	e.Timestamp = int64(ms)
	switch kind {
	case entryX509:
	case entryPrecert:
		e.Precert = true
		if !s.CopyBytes(e.IssuerKeyHash[:]) {
			return e, errors.New("parsing timestamped entry: truncated issuer key hash")
		}
	default:
		return e, fmt.Errorf("parsing timestamped entry: unknown entry type %d", kind)
	}
	if !s.ReadUint24LengthPrefixed((*cryptobyte.String)(&e.Certificate)) {
		return e, errors.New("parsing timestamped entry: truncated certificate")
	}
	if !s.ReadUint16LengthPrefixed((*cryptobyte.String)(&e.Extensions)) {
		return e, errors.New("parsing timestamped entry: truncated extensions")
	}
	if _, err := ParseExtensions(e.Extensions); err != nil {
		return e, err
	}
	return e, nil
}

func addVector16(b *cryptobyte.Builder, v []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(v) })
}

func addVector24(b *cryptobyte.Builder, v []byte) {
	b.AddUint24LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(v) })
}
