package driver

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math/bits"
)

// Limits of a slot record, storage-protocol section 2.
const (
	maxHeader  = 8 << 10 // bytes of the header line, its LF included
	maxPayload = 8 << 20 // bytes of entries
	maxURL     = 1 << 10
)

const (
	typeLeader = "LEADER" // begins a leadership, carries no entries
	typeBatch  = "BATCH"  // carries entries; the last one of a handover none
)

// A header is the first line of a slot record. What follows it is the payload: Count entries,
// exactly as in entry bundles, concatenated.
type header struct {
	V       int    `json:"v"`      // 1
	Log     id     `json:"log"`    // log_uuid of the identity
	N       int64  `json:"n"`      // slot
	Type    string `json:"type"`   // LEADER or BATCH
	Epoch   int64  `json:"epoch"`  // leaderships so far, this one included
	Leader  int64  `json:"leader"` // slot of the governing LEADER; in a LEADER, of the previous one
	Writer  id     `json:"writer"` // drawn per leadership attempt
	Nonce   id     `json:"nonce"`  // drawn per record
	Prev    hash   `json:"prev"`   // of the previous header line; in slot 0, of the identity
	OldSize int64  `json:"old_size"`
	NewSize int64  `json:"new_size"`
	NewRoot hash   `json:"new_root"`
	Range   []hash `json:"range"` // compact range of the tree of NewSize
	Count   int64  `json:"count"`
	Payload hash   `json:"payload_sha256"`

	URL      string `json:"url,omitempty"`
	Released bool   `json:"released,omitempty"` // the leader is done: no need to wait for it
}

// encode returns the header line, LF included.
func (h header) encode() ([]byte, error) {
	line, err := json.Marshal(h)
	if err != nil {
		return nil, fmt.Errorf("encoding header of slot %d: %w", h.N, err)
	}
	if line = append(line, '\n'); len(line) > maxHeader {
		return nil, fmt.Errorf("encoding header of slot %d: %d bytes are more than %d", h.N, len(line), maxHeader)
	}
	return line, nil
}

// parseHeader parses the header line that b begins with and returns it with its length. What it
// accepts is consistent in itself and encodes to the same bytes again.
func parseHeader(b []byte) (header, int, error) {
	line, _, found := bytes.Cut(b[:min(len(b), maxHeader)], []byte{'\n'})
	if !found {
		return header{}, 0, fmt.Errorf("no header line within %d bytes", maxHeader)
	}
	var h header
	if err := decodeExactly(line, &h); err != nil {
		return header{}, 0, fmt.Errorf("parsing header: %w", err)
	}
	if err := h.check(); err != nil {
		return header{}, 0, fmt.Errorf("checking header of slot %d: %w", h.N, err)
	}
	return h, len(line) + 1, nil
}

// decodeExactly decodes JSON that is byte for byte what encoding the value gives, so that unknown,
// repeated and differently spelled members have no place to hide.
func decodeExactly(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return err
	}
	again, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, b) {
		return errors.New("not in canonical form")
	}
	return nil
}

func (h header) check() error {
	switch {
	case h.V != 1:
		return fmt.Errorf("version %d is not 1", h.V)
	case h.N < 0 || h.Epoch < 1 || h.Leader < -1 || h.Leader >= h.N:
		return fmt.Errorf("epoch %d under leader %d cannot be", h.Epoch, h.Leader)
	case h.Type == typeLeader && (h.Count != 0 || h.Released):
		return errors.New("LEADER with entries or released")
	case h.Type == typeBatch && (h.URL != "" || h.Leader < 0 || h.Count == 0 && !h.Released):
		return errors.New("BATCH with URL, without leader or without entries")
	case h.Type != typeLeader && h.Type != typeBatch:
		return fmt.Errorf("type %q is unknown", h.Type)
	case len(h.URL) > maxURL:
		return fmt.Errorf("URL of %d bytes is longer than %d", len(h.URL), maxURL)
	case h.OldSize < 0 || h.Count < 0 || h.NewSize < h.OldSize || h.NewSize-h.OldSize != h.Count:
		return fmt.Errorf("%d entries do not lead from size %d to %d", h.Count, h.OldSize, h.NewSize)
	case h.Count == 0 && h.Payload != emptyHash:
		return errors.New("payload hash without entries")
	}
	return checkRange(h.NewSize, h.Range, h.NewRoot)
}

// checkRange checks that hashes are the compact range of a tree with the given size and root.
func checkRange(size int64, hashes []hash, root hash) error {
	if want := bits.OnesCount64(uint64(size)); len(hashes) != want || hashes == nil {
		return fmt.Errorf("range of %d hashes where size %d has %d", len(hashes), size, want)
	}
	if rangeRoot(hashes) != root {
		return fmt.Errorf("range does not lead to the root of size %d", size)
	}
	return nil
}
