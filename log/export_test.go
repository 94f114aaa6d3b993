package log

import (
	"context"
	"errors"
	"sync/atomic"

	"tallywood/log/duplicates"
)

// ValidTile is validTile.
func ValidTile(path string) bool { return validTile(path) }

// Indexed returns the size of the tree whose entries the duplicate index holds.
func Indexed(l *Log) int64 { return l.index.State().All.Size }

// Flights returns how many adds are not in the duplicate index yet.
func Flights(l *Log) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.flights)
}

// Corrupt makes the duplicate index say that the entry of key is at index.
func Corrupt(l *Log, key [32]byte, index int64) error {
	if err := l.index.Reset(); err != nil {
		return err
	}
	size, root := l.driver.Head()
	at := duplicates.Tree{Size: size, Root: root}
	return l.index.Put([]duplicates.Record{{Key: key, Index: index}}, duplicates.Progress{All: at, Within: at})
}

// Break makes the duplicate index fail until it has been rebuilt.
func Break(l *Log) error { return l.index.Close() }

// A failing store takes no records while it fails.
type failing struct {
	store
	fails *atomic.Bool
}

var errFull = errors.New("no space left on device")

func (f failing) Put(records []duplicates.Record, p duplicates.Progress) error {
	if f.fails.Load() {
		return errFull
	}
	return f.store.Put(records, p)
}

// FailPuts makes the duplicate index of a log that does not run yet take no records until the result is
// false.
func FailPuts(l *Log) (fails *atomic.Bool) {
	fails = new(atomic.Bool)
	fails.Store(true)
	l.index = failing{l.index, fails}
	return fails
}

// An untidy store takes records, and complains.
type untidy struct{ store }

func (u untidy) Put(records []duplicates.Record, p duplicates.Progress) error {
	return errors.Join(u.store.Put(records, p), duplicates.ErrUntidy)
}

// Untidy makes the duplicate index of a log that does not run yet one that cannot tidy up.
func Untidy(l *Log) { l.index = untidy{l.index} }

// Interrupt leaves the duplicate index as a crash within a long read of the log does: it holds
// entries above the size it claims.
func Interrupt(l *Log, size int64, root [32]byte) error {
	at := l.index.State()
	at.Within = duplicates.Tree{Size: size, Root: root}
	return l.index.Put(nil, at)
}

// ReadLog rebuilds the duplicate index from the log.
func ReadLog(ctx context.Context, l *Log) error {
	if err := l.index.Reset(); err != nil {
		return err
	}
	size, root := l.driver.Head()
	return l.readLog(ctx, duplicates.Tree{Size: size, Root: root})
}

// SetReadBatch makes n how many entries that were read are one write to the duplicate index, until
// restore.
func SetReadBatch(n int) (restore func()) {
	old := readBatch
	readBatch = n
	return func() { readBatch = old }
}
