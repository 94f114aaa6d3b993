package witness

import (
	"context"
	"io"
)

// Internals under test.
var CheckConsistency = checkConsistency

// ParseAdd and ParseSubtree report whether a body parses.
func ParseAdd(body []byte) error { _, err := parseAdd(body); return err }

// ParseSubtree is like ParseAdd.
func ParseSubtree(body []byte) error { _, err := parseSubtree(body); return err }

// DecodeState reports whether a stored state is taken.
func DecodeState(data []byte, origin string) error { _, err := decodeState(data, origin); return err }

// WriteMetrics writes what [Witness.Metrics] serves.
func WriteMetrics(w *Witness, out io.Writer) { w.writeMetrics(context.Background(), out) }

// DecodeRecord reports whether what is remembered of a list is taken, and writes it once more.
func DecodeRecord(data []byte, source string) ([]byte, error) {
	r, err := decodeRecord(data, source)
	if err != nil {
		return nil, err
	}
	return r.encode()
}
