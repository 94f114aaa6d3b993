package log

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/storage"
)

// A store keeps the duplicate index: where the entry of each key is. It is a cache of the log, and
// may be lost.
type store interface {
	get(key [32]byte) (Position, bool, error)
	// put adds records, which are sorted by key; of two with one key the first counts.
	put(records []record, p progress) error
	// state is the progress last put, of an empty store noProgress.
	state() progress
	// reset empties the store.
	reset() error
	close() error
}

// A record is one entry of the index.
type record struct {
	key       [32]byte
	index     int64
	timestamp uint64
}

// A tree is a state of the log.
type tree struct {
	size int64
	root [32]byte
}

// A progress says what a store holds: all entries of one tree, and none but those of another,
// larger one. The two differ only within a long read of the log.
type progress struct{ all, within tree }

var (
	emptyTree  = tree{root: sha256.Sum256(nil)}
	noProgress = progress{emptyTree, emptyTree}

	// errDamaged reports a store that cannot be believed.
	errDamaged = errors.New("duplicate index is damaged")
)

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
	// readBatch is how many entries read from the log are one write to the store.
	readBatch = 1 << 16
)

// openIndex opens the store and empties it unless the log has grown out of the tree it holds.
func (l *Log) openIndex(ctx context.Context) error {
	if l.o.CacheDir == "" {
		l.index = newMemStore()
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
	b, err := openBolt(path, boltIdentity{LogUUID: uuid, Kind: l.o.Kind.String()})
	if err != nil {
		return err
	}
	if err := l.keepGrown(ctx, b, false); err != nil {
		return errors.Join(err, b.close())
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

// grownFrom reports whether the log's tree is an extension of s.
func (l *Log) grownFrom(ctx context.Context, s tree) (bool, error) {
	size, root := l.driver.Head()
	switch {
	case s.size == 0:
		return s == emptyTree, nil
	case s.size > size:
		return false, nil
	case s.size == size:
		return s.root == root, nil
	}
	hashes, err := l.driver.ConsistencyProof(ctx, s.size, size)
	if err != nil {
		return false, fmt.Errorf("comparing sizes %d and %d: %w", s.size, size, err)
	}
	proof := make(tlog.TreeProof, len(hashes))
	for i, h := range hashes {
		copy(proof[i][:], h)
	}
	return tlog.CheckTree(proof, size, tlog.Hash(root), s.size, tlog.Hash(s.root)) == nil, nil
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
		if errors.Is(err, errDamaged) {
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
	if err := l.flush(ctx, tree{size, root}); err != nil {
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
		if err := l.index.reset(); err != nil {
			return fmt.Errorf("%w: emptying it: %w", errDamaged, err)
		}
	}
	if err := l.keepGrown(ctx, l.index, leading); err != nil {
		return err
	}
	start := time.Now()
	from := l.index.state().all.size
	for {
		size, root := l.driver.Head()
		if l.index.state().all.size >= size { // more in a standby that led: the bucket shows less yet
			break
		}
		if err := l.readLog(ctx, tree{size, root}); err != nil {
			return err
		}
	}
	if to := l.index.state().all.size; to > from {
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
	p := s.state()
	size, _ := l.driver.Head()
	for _, at := range []tree{p.all, p.within} {
		if at.size > size && !leading {
			continue
		}
		ok, err := l.grownFrom(ctx, at)
		if err != nil {
			return err
		}
		if !ok {
			l.o.Log.Warn("discarding duplicate index of another tree", "origin", l.o.Origin, "size", at.size)
			if err := s.reset(); err != nil {
				return fmt.Errorf("%w: emptying it: %w", errDamaged, err)
			}
			return nil
		}
	}
	return nil
}

// put writes records and ends the flights of their keys.
func (l *Log) put(records []record, p progress) error {
	slices.SortFunc(records, byKey)
	if err := l.index.put(records, p); err != nil {
		return fmt.Errorf("writing duplicate index: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, r := range records {
		if f, ok := l.flights[r.key]; ok && f.landed() {
			delete(l.flights, r.key)
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
		if err := l.flush(ctx, tree{size, root}); err != nil {
			return err
		}
	}
	return nil
}

// flush brings the store to head with what has landed, or from the log if something did not land
// here: an add that ended in an error may have been committed.
func (l *Log) flush(ctx context.Context, head tree) error {
	from := l.index.state().all.size
	l.mu.Lock()
	err := l.broken
	records := l.takeLocked(from, head.size)
	l.mu.Unlock()
	switch {
	case err != nil:
		return err
	case head.size <= from:
		return nil
	case int64(len(records)) == head.size-from:
		return l.put(records, progress{head, head})
	}
	return l.readLog(ctx, head)
}

// takeLocked removes the landed records below size and returns those from index from on.
func (l *Log) takeLocked(from, size int64) []record {
	var taken, left []record
	for _, r := range l.landed {
		switch {
		case r.index >= size:
			left = append(left, r)
		case r.index >= from:
			taken = append(taken, r)
		default: // read from the log before it landed here
			delete(l.flights, r.key)
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
