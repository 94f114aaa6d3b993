package monitor

// DecodeState reads and writes again a state object.
func DecodeState(data []byte) ([]byte, error) {
	s, err := decodeState(data)
	if err != nil {
		return nil, err
	}
	return s.encode()
}

// SplitTlog is splitTlog.
var SplitTlog = splitTlog

// DecodeEntry decodes an entry of a kind, and returns whether it could be read.
func DecodeEntry(kind Kind, index int64, entry []byte) bool {
	_, err := layouts[kind].decode(index, entry)
	return err == nil
}

// SetMaxPending has following wait at n events in the outbox.
func (m *Monitor) SetMaxPending(n int) {
	for _, t := range m.tails {
		t.maxPending = n
	}
}

// SetMaxBytes has following wait at a state of outbox bytes, commits events by chunk bytes, and
// refuses to write a state of more than limit.
func (m *Monitor) SetMaxBytes(outbox, chunk, limit int) {
	for _, t := range m.tails {
		t.maxOutbox, t.chunkBytes, t.journal.limit = outbox, chunk, limit
	}
}

// Printable is printable.
var Printable = printable
