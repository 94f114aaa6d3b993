package driver

// A payload is the entries of a record. Its zero value has none.
type payload struct {
	entries, leaves [][]byte // encoded entries, sharing the memory of joined, and their leaf hashes
	sum             hash     // of joined

	memory []byte // room for a header, then the entries concatenated
}

// joined is the entries concatenated. It does not change any more: bundles share it.
func (p payload) joined() []byte {
	if p.memory == nil {
		return nil
	}
	return p.memory[maxHeader:]
}

// after returns the record that the header line, of at most maxHeader bytes, begins. It is written
// into the room before the entries, so that megabytes need not be copied.
func (p payload) after(line []byte) []byte {
	if p.memory == nil {
		return line
	}
	start := maxHeader - len(line)
	copy(p.memory[start:], line)
	return p.memory[start:]
}

// encodedBatch returns the payload of b from index first on.
func (l *Log) encodedBatch(b *batch, first int64) payload {
	if b.encoding == nil {
		return l.encodeBatch(b, first)
	}
	return <-b.encoding
}

// encodeAhead encodes a full batch while the one before it is committed, where the encoding does not
// depend on indexes. The mutex is held.
func (l *Log) encodeAhead(b *batch) {
	if b.encoding != nil || l.o.Layout.indexed || len(l.queue) < 2 && l.committing.IsZero() {
		return
	}
	b.encoding = make(chan payload, 1)
	go func() { b.encoding <- l.encodeBatch(b, 0) }()
}

func (l *Log) encodeBatch(b *batch, first int64) payload {
	p := payload{
		entries: make([][]byte, len(b.entries)), leaves: make([][]byte, len(b.entries)),
		memory: make([]byte, maxHeader, maxHeader+b.bytes),
	}
	for i, q := range b.entries {
		encoded := q.encoded
		if l.o.Layout.indexed {
			encoded = q.entry.MarshalBundleData(uint64(first) + uint64(i))
		}
		p.leaves[i] = q.entry.LeafHash()
		start := len(p.memory)
		p.memory = append(p.memory, encoded...)
		p.entries[i] = p.memory[start:len(p.memory):len(p.memory)]
	}
	p.sum = sum(p.joined())
	return p
}
