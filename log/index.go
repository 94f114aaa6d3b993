package log

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/duplicates"
	"tallywood/storage"
)

// A store keeps the duplicate index: where the entry of each key is. It is a cache of the log, and
// may be lost. *duplicates.Index and *duplicates.Memory are stores.
type store interface {
	Get(key [32]byte) (duplicates.Record, bool, error)
	// Put adds records; of two with one key the first counts. After duplicates.ErrUntidy they are in.
	Put(records []duplicates.Record, p duplicates.Progress) error
	// State is the progress last put, of an empty store duplicates.NoProgress.
	State() duplicates.Progress
	// Reset empties the store.
	Reset() error
	Close() error
}

const (
	// flushInterval is how long sequenced entries gather before they go into the store. It also
	// lets the futures of a commit resolve before somebody misses them.
	flushInterval = 500 * time.Millisecond
	// lookInterval is how often the index of a standby follows the bucket's checkpoint.
	lookInterval = time.Second
	// retryInterval spaces attempts after errors.
	retryInterval = time.Second
	// lastFlush bounds what is done for the index at the end: the next start can do the rest.
	lastFlush = 3 * time.Second
)

// readBatch is how many entries read from the log, or a few more, are one write to the store. A test
// makes it smaller.
var readBatch = 1 << 14

// openIndex opens the store and empties it unless the log has grown out of the tree it holds.
func (l *Log) openIndex(ctx context.Context) error {
	if l.o.CacheDir == "" {
		l.index = duplicates.NewMemory()
		if size, _ := l.driver.Head(); size > longRead && l.driver.Frozen() == nil {
			l.o.Log.Warn("duplicate index is in memory and read from the log at each start: set a cache directory",
				"origin", l.o.Origin, "size", size)
		}
		return nil
	}
	if err := os.MkdirAll(l.o.CacheDir, 0o700); err != nil {
		return fmt.Errorf("creating cache directory: %w", err)
	}
	uuid, err := l.uuid(ctx)
	if err != nil {
		return err
	}
	path := filepath.Join(l.o.CacheDir, l.o.Name+".duplicates")
	b, err := duplicates.Open(path, duplicates.Identity{LogUUID: uuid, Kind: l.o.Kind.String()})
	if err != nil {
		return err
	}
	if err := l.keepGrown(ctx, b, false); err != nil {
		return errors.Join(err, b.Close())
	}
	l.index = b
	return nil
}

// uuid returns the log_uuid that the log got when it was created (storage protocol, section 2).
func (l *Log) uuid(ctx context.Context) (string, error) {
	data, _, err := l.o.Bucket.Get(ctx, "state/"+l.o.Name+"/identity", storage.Range{})
	if err != nil {
		return "", fmt.Errorf("reading identity: %w", err)
	}
	var identity struct {
		UUID string `json:"log_uuid"`
	}
	if err := json.Unmarshal(data, &identity); err != nil || identity.UUID == "" {
		return "", errors.New("reading identity: no log_uuid in it")
	}
	return identity.UUID, nil
}

// grownFrom reports whether the log's duplicates.Tree is an extension of s.
func (l *Log) grownFrom(ctx context.Context, s duplicates.Tree) (bool, error) {
	size, root := l.driver.Head()
	switch {
	case s.Size == 0:
		return s == duplicates.EmptyTree, nil
	case s.Size > size:
		return false, nil
	case s.Size == size:
		return s.Root == root, nil
	}
	hashes, err := l.driver.ConsistencyProof(ctx, s.Size, size)
	if err != nil {
		return false, fmt.Errorf("comparing sizes %d and %d: %w", s.Size, size, err)
	}
	proof := make(tlog.TreeProof, len(hashes))
	for i, h := range hashes {
		copy(proof[i][:], h)
	}
	return tlog.CheckTree(proof, size, tlog.Hash(root), s.Size, tlog.Hash(s.Root)) == nil, nil
}

// distrust stops adds until the store has been rebuilt from the log.
func (l *Log) distrust(err error) {
	l.mu.Lock()
	l.broken = err
	l.caughtUp = 0
	l.epoch++
	l.mu.Unlock()
	l.signal()
}

// signal makes keepUp look.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// follow keeps the index up with the log until ctx ends, and once more then. A standby's log is what
// the bucket's checkpoint shows, so that a takeover adds only the tail.
func (l *Log) follow(ctx context.Context) {
	for ctx.Err() == nil {
		if l.driver.Frozen() != nil { // nothing is looked up any more
			sleep(ctx, lookInterval)
			continue
		}
		term, leading, changed := l.driver.Term()
		err := l.catchUp(ctx, term, leading)
		if err == nil {
			err = l.keepUp(ctx, changed)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		l.o.Log.Error("duplicate index fell behind", "origin", l.o.Origin, "err", err)
		if errors.Is(err, duplicates.ErrDamaged) {
			l.distrust(err)
		}
		l.mu.Lock()
		l.caughtUp = 0
		l.mu.Unlock()
		sleep(ctx, retryInterval)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
	defer cancel()
	size, root := l.driver.Head()
	if err := l.flush(ctx, duplicates.Tree{Size: size, Root: root}); err != nil {
		l.o.Log.Warn("duplicate index is left behind", "origin", l.o.Origin, "err", err)
	}
}

// catchUp brings the store to the head by reading the log, from the start if it is not to be
// trusted. Whatever is added meanwhile was accepted before and lands in any case. Afterwards adds
// are accepted in the given leadership.
func (l *Log) catchUp(ctx context.Context, term int64, leading bool) error {
	l.mu.Lock()
	broken := l.broken
	l.broken = nil
	l.mu.Unlock()
	if broken != nil {
		if err := l.index.Reset(); err != nil {
			return fmt.Errorf("%w: emptying it: %w", duplicates.ErrDamaged, err)
		}
	}
	if err := l.keepGrown(ctx, l.index, leading); err != nil {
		return err
	}
	start := time.Now()
	from := l.index.State().All.Size
	for {
		size, root := l.driver.Head()
		if l.index.State().All.Size >= size { // more in a standby that led: the bucket shows less yet
			break
		}
		if err := l.readLog(ctx, duplicates.Tree{Size: size, Root: root}); err != nil {
			return err
		}
	}
	if to := l.index.State().All.Size; to > from {
		l.o.Log.Info("duplicate index caught up", "origin", l.o.Origin, "size", to, "dur", time.Since(start))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.caughtUp = term
	}
	return nil
}

// keepGrown empties the store unless the log has grown out of the tree it holds. A standby cannot
// judge a tree larger than what is published; it may have led when the store got it.
func (l *Log) keepGrown(ctx context.Context, s store, leading bool) error {
	p := s.State()
	size, _ := l.driver.Head()
	for _, at := range []duplicates.Tree{p.All, p.Within} {
		if at.Size > size && !leading {
			continue
		}
		ok, err := l.grownFrom(ctx, at)
		if err != nil {
			return err
		}
		if !ok {
			l.o.Log.Warn("discarding duplicate index of another tree", "origin", l.o.Origin, "size", at.Size)
			if err := s.Reset(); err != nil {
				return fmt.Errorf("%w: emptying it: %w", duplicates.ErrDamaged, err)
			}
			return nil
		}
	}
	return nil
}

// put writes records and ends the flights of their keys.
func (l *Log) put(records []duplicates.Record, p duplicates.Progress) error {
	err := l.index.Put(records, p)
	if errors.Is(err, duplicates.ErrUntidy) {
		l.o.Log.Warn("keeping the duplicate index small", "origin", l.o.Origin, "err", err)
		err = nil
	}
	if err != nil {
		return fmt.Errorf("writing duplicate index: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if f, ok := l.flights[r.Key]; ok && f.landed() {
			delete(l.flights, r.Key)
		}
	}
	return nil
}

// landed reports whether f has ended.
func (f *flight) landed() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// keepUp moves landed entries into the store, and what else the log shows, until ctx ends or the
// role changes. It returns an error if the store fails or is not to be
// trusted any more.
func (l *Log) keepUp(ctx context.Context, changed <-chan struct{}) error {
	look := time.NewTicker(lookInterval)
	defer look.Stop()
	for ctx.Err() == nil {
		select {
		case <-l.wake:
		case <-look.C:
		case <-changed:
			return nil
		case <-ctx.Done():
			return nil
		}
		size, root := l.driver.Head()
		select {
		case <-time.After(flushInterval):
		case <-changed: // adds wait for a leader that has caught up
			return nil
		case <-ctx.Done():
			return nil
		}
		if err := l.flush(ctx, duplicates.Tree{Size: size, Root: root}); err != nil {
			return err
		}
	}
	return nil
}

// flush brings the store to head with what has landed, or from the log if something did not land
// here: an add that ended in an error may have been committed.
func (l *Log) flush(ctx context.Context, head duplicates.Tree) error {
	from := l.index.State().All.Size
	l.mu.Lock()
	err := l.broken
	records := l.takeLocked(from, head.Size)
	l.mu.Unlock()
	switch {
	case err != nil:
		return err
	case head.Size <= from:
		return nil
	case int64(len(records)) == head.Size-from:
		return l.put(records, duplicates.Progress{All: head, Within: head})
	}
	return l.readLog(ctx, head)
}

// takeLocked removes the landed records below size and returns those from index from on.
func (l *Log) takeLocked(from, size int64) []duplicates.Record {
	var taken, left []duplicates.Record
	for _, r := range l.landed {
		switch {
		case r.Index >= size:
			left = append(left, r)
		case r.Index >= from:
			taken = append(taken, r)
		default: // read from the log before it landed here
			delete(l.flights, r.Key)
		}
	}
	l.landed = left
	return taken
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
