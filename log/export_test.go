package log

import (
	"context"
	"crypto/sha256"
	"fmt"
)

// ValidTile is validTile.
func ValidTile(path string) bool { return validTile(path) }

// Indexed returns the size of the tree whose entries the duplicate index holds.
func Indexed(l *Log) int64 { return l.index.state().all.size }

// Flights returns how many adds are not in the duplicate index yet.
func Flights(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights)
}

// Corrupt makes the duplicate index say that the entry of key is at index.
func Corrupt(l *Log, key [32]byte, index int64) error {
	if err := l.index.reset(); err != nil {
		return err
	}
	size, root := l.driver.Head()
	return l.index.put([]record{{key: key, index: index}}, progress{tree{size, root}, tree{size, root}})
}

// Break makes the duplicate index fail until it has been rebuilt.
func Break(l *Log) {
	b := l.index.(*boltStore)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db != nil {
		_ = b.db.Close()
	}
	b.db = nil
}

// Interrupt leaves the duplicate index as a crash within a long read of the log does: it holds
// entries above the size it claims.
func Interrupt(l *Log, size int64, root [32]byte) error {
	at := l.index.state()
	return l.index.put(nil, progress{all: at.all, within: tree{size, root}})
}

// ReadLog rebuilds the duplicate index from the log.
func ReadLog(ctx context.Context, l *Log) error {
	if err := l.index.reset(); err != nil {
		return err
	}
	size, root := l.driver.Head()
	return l.readLog(ctx, tree{size, root})
}

// Abandon closes the files of the duplicate index as a killed process does.
func Abandon(l *Log) error {
	if b, ok := l.index.(*boltStore); ok {
		defer func() { b.db = nil }()
		return b.db.Close()
	}
	return nil
}

// indexRecord is the nth record that WriteIndexForever writes.
func indexRecord(n int64) record {
	return record{key: sha256.Sum256(fmt.Appendf(nil, "%d", n)), index: n}
}

// WriteIndexForever fills the index file at path, batch by batch, until the process is killed.
func WriteIndexForever(path string) {
	b, err := openBolt(path, boltIdentity{LogUUID: "test", Kind: "rekor"})
	if err != nil {
		panic(err)
	}
	for n := b.at.all.size; ; n += 100 {
		var records []record
		for i := range int64(100) {
			records = append(records, indexRecord(n+i))
		}
		s := tree{size: n + 100}
		if err := b.put(records, progress{s, s}); err != nil {
			panic(err)
		}
	}
}

// CheckIndex returns the size that the index file at path claims, and an error unless it holds
// all entries of that size.
func CheckIndex(path string) (size int64, err error) {
	b, err := openBolt(path, boltIdentity{LogUUID: "test", Kind: "rekor"})
	if err != nil {
		return 0, err
	}
	defer b.close()
	for n := range b.at.all.size {
		pos, found, err := b.get(indexRecord(n).key)
		if err != nil || !found || pos.Index != n {
			return 0, fmt.Errorf("entry %d: %+v, %v, %w", n, pos, found, err)
		}
	}
	return b.at.all.size, nil
}

// SetSpoolRun makes n how many records are sorted in memory, until restore.
func SetSpoolRun(n int) (restore func()) {
	old := spoolRun
	spoolRun = n
	return func() { spoolRun = old }
}

// Sort sorts records of the given keys, whose indexes and timestamps count up, some at a time. It
// returns them in order, and how many runs there were in the file.
func Sort(path string, keys [][32]byte, some int) (sorted []Position, runs int, err error) {
	s := &spool{path: path}
	for first := 0; first < len(keys); first += some {
		var records []record
		for i := first; i < min(first+some, len(keys)); i++ {
			records = append(records, record{keys[i], int64(i), uint64(i) << 40})
		}
		if err := s.add(records); err != nil {
			return nil, 0, err
		}
	}
	for records, err := range s.sorted() {
		if err != nil {
			return nil, 0, err
		}
		for _, r := range records {
			if r.key != keys[r.index] {
				return nil, 0, fmt.Errorf("record %d has another key", r.index)
			}
			sorted = append(sorted, Position{Index: r.index, Timestamp: r.timestamp})
		}
	}
	return sorted, len(s.runs), s.close()
}
