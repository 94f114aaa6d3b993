package witness

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strings"

	"golang.org/x/mod/sumdb/tlog"
)

// Internals under test.
var CheckConsistency = checkConsistency

// ParseAdd reports whether a body parses.
func ParseAdd(body []byte) error { _, err := parseAdd(body); return err }

// SpellAdd parses an add-checkpoint request and writes what it found, the only way there is.
func SpellAdd(body []byte) (string, error) {
	r, err := parseAdd(body)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("old %d\n%s\n%s", r.old, spellHashes(r.proof...), r.note), nil
}

// SpellSubtree is like SpellAdd, for sign-subtree.
func SpellSubtree(body []byte) (string, error) {
	r, err := parseSubtree(body)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("subtree %d %d\n%s%s\n%s", r.start, r.end, spellHashes(r.hash), spellHashes(r.proof...), r.note), nil
}

func spellHashes(hashes ...tlog.Hash) string {
	var b strings.Builder
	for _, h := range hashes {
		b.WriteString(base64.StdEncoding.EncodeToString(h[:]) + "\n")
	}
	return b.String()
}

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

// DecodeAlarms reports whether stored alarms are taken, and writes them once more.
func DecodeAlarms(data []byte) ([]byte, error) {
	j, err := decodeAlarms(data)
	if err != nil {
		return nil, err
	}
	return j.encode()
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
