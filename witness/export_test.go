package witness

import (
	"context"
	"errors"
	"io"
	"strings"
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

// DecodeLease reports whether a lease beside the exported checkpoints, and one in the state, is taken.
func DecodeLease(data []byte) (record, state error) {
	return decodeLease(data, &leaseRecord{}), decodeLease(data, &leaseState{})
}

// RenewLease renews the lease once, and notes how that went.
func (w *Witness) RenewLease(ctx context.Context) error {
	err := w.renewLease(ctx)
	w.noteLease(err)
	return err
}

// Ready returns what NotSigning does, as an error.
func (w *Witness) Ready() error {
	if why := w.NotSigning(); len(why) > 0 {
		return errors.New(strings.Join(why, "; "))
	}
	return nil
}
