package log

import (
	"crypto/sha256"
	"errors"
	"fmt"

	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/storage/driver"
)

// A Kind says what a log's entries are.
type Kind int

// The kinds.
const (
	KindRekor Kind = iota + 1 // hashedrekord 0.0.2, as log/entry renders it
	KindCT                    // certificates, as c2sp.org/static-ct-api lays them out
	KindTlog                  // bytes of any meaning
)

// String returns the kind's name in a configuration.
func (k Kind) String() string {
	switch k {
	case KindRekor:
		return "rekor"
	case KindCT:
		return "ct"
	case KindTlog:
		return "tlog"
	}
	return fmt.Sprintf("kind %d", int(k))
}

func (k Kind) layout() driver.Layout {
	if k == KindCT {
		return driver.StaticCT()
	}
	return driver.TlogTiles()
}

// identify returns what the duplicate index holds of an entry as it stands in a bundle.
func (k Kind) identify(encoded []byte) (key [32]byte, timestamp uint64, err error) {
	if k != KindCT {
		data, err := unframe(encoded)
		if k == KindRekor {
			return entry.DuplicateKey(data), 0, err
		}
		return sha256.Sum256(data), 0, err
	}
	e, err := ctentry.Parse(encoded)
	if err != nil {
		return key, 0, fmt.Errorf("parsing certificate entry: %w", err)
	}
	if e.Precert {
		return sha256.Sum256(e.UnverifiedPrecertificate), uint64(e.Timestamp), nil
	}
	return sha256.Sum256(e.Certificate), uint64(e.Timestamp), nil
}

// unframe returns an entry without the length that stands before it in a tlog-tiles bundle.
func unframe(encoded []byte) ([]byte, error) {
	if len(encoded) < 2 || int(encoded[0])<<8|int(encoded[1]) != len(encoded)-2 {
		return nil, errors.New("entry length does not match its prefix")
	}
	return encoded[2:], nil
}
