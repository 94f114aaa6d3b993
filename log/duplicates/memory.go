package duplicates

import "sync"

// A Memory is an index that is lost at the end. Its methods are those of Index, and do not fail.
type Memory struct {
	mu sync.RWMutex // guards what follows
	table
	at Progress
}

// NewMemory returns an empty index.
func NewMemory() *Memory { return &Memory{table: make(table), at: NoProgress} }

// Get is Index.Get.
func (m *Memory) Get(key [32]byte) (Record, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	r, ok := m.get(key)
	return r, ok, nil
}

// Put is Index.Put.
func (m *Memory) Put(records []Record, p Progress) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.put(records)
	m.at = p
	return nil
}

// State is Index.State.
func (m *Memory) State() Progress {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.at
}

// Reset is Index.Reset.
func (m *Memory) Reset() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.table)
	m.at = NoProgress
	return nil
}

// Close does nothing.
func (m *Memory) Close() error { return nil }

// A table has the records of keys.
type table map[[32]byte]place

type place struct {
	index     int64
	timestamp uint64
}

func (t table) get(key [32]byte) (Record, bool) {
	p, ok := t[key]
	return Record{key, p.index, p.timestamp}, ok
}

// put adds those records whose keys t has not got.
func (t table) put(records []Record) {
	for _, r := range records {
		if _, ok := t[r.Key]; !ok {
			t[r.Key] = place{r.Index, r.Timestamp}
		}
	}
}
