package log

import "sync"

// A memStore is a store that is rebuilt at each start.
type memStore struct {
	mu        sync.RWMutex
	positions map[[32]byte]Position
	at        progress
}

func newMemStore() *memStore {
	return &memStore{positions: make(map[[32]byte]Position), at: noProgress}
}

func (m *memStore) get(key [32]byte) (Position, bool, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	pos, ok := m.positions[key]
	return pos, ok, nil
}

func (m *memStore) put(records []record, p progress) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range records {
		if _, ok := m.positions[r.key]; !ok {
			m.positions[r.key] = Position{Index: r.index, Timestamp: r.timestamp}
		}
	}
	m.at = p
	return nil
}

func (m *memStore) state() progress {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.at
}

func (m *memStore) reset() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.positions)
	m.at = noProgress
	return nil
}

func (m *memStore) close() error { return nil }
