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
