package monitor

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"

	"tallywood/storage"
)

// A StateError reports a state that cannot be read, that belongs to another log or monitor, or that
// should be there and is not. It is never answered by starting over: that would skip what happened
// since.
type StateError struct {
	Origin string // the log
	Key    string // the object; empty if there is none
	Err    error
}

func (e *StateError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("log %q has no state yet: %v", e.Origin, e.Err)
	}
	return fmt.Sprintf("monitor state of %q at %q: %v", e.Origin, e.Key, e.Err)
}

// Unwrap returns the reason.
func (e *StateError) Unwrap() error { return e.Err }

// A journal holds the state of one log and writes it. Safe for concurrent use.
type journal struct {
	bucket storage.Bucket
	key    string
	writer string
	fresh  *state // what a log begins with
	seal   *seal  // nil: states are not signed
	limit  int    // bytes that may be written: no more can be read back

	mu      sync.Mutex
	current *state          // as in the bucket; nil: not known, read it first
	version storage.Version // of current; empty if the bucket has no object

	latest atomic.Pointer[state] // last known, for looking at
}

func newJournal(b storage.Bucket, key string, fresh *state, seal *seal) *journal {
	return &journal{bucket: b, key: key, writer: rand.Text(), fresh: fresh, seal: seal, limit: maxStateSize}
}

// load returns the state, which the caller must not change.
func (j *journal) load(ctx context.Context) (*state, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.loadLocked(ctx)
}

// reload returns the state as the bucket has it now, which another monitor may have written.
func (j *journal) reload(ctx context.Context) (*state, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.current = nil
	return j.loadLocked(ctx)
}

func (j *journal) loadLocked(ctx context.Context) (*state, error) {
	if j.current != nil {
		return j.current, nil
	}
	data, version, err := j.bucket.Get(ctx, j.key, storage.Range{Length: maxStateSize + 1})
	if errors.Is(err, fs.ErrNotExist) {
		j.current, j.version = j.fresh, ""
		return j.current, nil
	}
	if err != nil {
		return nil, &StateError{j.fresh.Origin, j.key, err}
	}
	s, err := j.decode(data)
	if err == nil && (s.Origin != j.fresh.Origin || s.VKey != j.fresh.VKey || s.Kind != j.fresh.Kind) {
		err = fmt.Errorf("it is of %s log %q with key %s, configured is %s log %q with key %s",
			s.Kind, s.Origin, s.VKey, j.fresh.Kind, j.fresh.Origin, j.fresh.VKey)
	}
	if err != nil {
		return nil, &StateError{j.fresh.Origin, j.key, err}
	}
	j.current, j.version = s, version
	j.latest.Store(s)
	return s, nil
}

// decode reads a state object, whose signature must be by our own key.
func (j *journal) decode(object []byte) (*state, error) {
	data, err := j.seal.open(object)
	if err != nil {
		return nil, err
	}
	s, err := decodeState(data)
	if err != nil {
		return nil, err
	}
	s.bytes = len(object)
	return s, nil
}

// encode renders and signs a state object.
func (j *journal) encode(s *state) ([]byte, error) {
	data, err := s.encode()
	if err != nil {
		return nil, fmt.Errorf("encoding state: %w", err)
	}
	return j.seal.close(data)
}

// peek returns the state as last known, or nil, without waiting for anything.
func (j *journal) peek() *state { return j.latest.Load() }

// update applies change to a copy of the state and swaps it in. If base is not nil, checkpoint and
// position must still be those of base; deliveries may have moved on. After an error, change has
// not happened; one with errBacklog is a state that would be too large.
func (j *journal) update(ctx context.Context, base *state, change func(*state)) (*state, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	old, err := j.loadLocked(ctx)
	if err != nil {
		return nil, err
	}
	if base != nil && (old.Checkpoint != base.Checkpoint || old.Next != base.Next) {
		return nil, errMoved
	}
	s := old.clone()
	change(s)
	s.Seq, s.Writer = old.Seq+1, j.writer
	data, err := j.encode(s)
	if err != nil {
		return nil, err
	}
	if len(data) > j.limit {
		return nil, fmt.Errorf("%w: state would be of %d bytes, more than the %d that can be read back", errBacklog, len(data), j.limit)
	}
	cond := storage.Match(j.version)
	if j.version == "" {
		cond = storage.Absent()
	}
	s.bytes = len(data)
	j.current = nil // until the outcome is known
	version, err := j.bucket.Put(ctx, j.key, data, storage.PutOptions{
		If: cond, ContentType: "application/json", CacheControl: "private, no-store"})
	if err != nil {
		if version, err = j.outcome(ctx, data, err); err != nil {
			return nil, err
		}
	}
	j.current, j.version = s, version
	j.latest.Store(s)
	return s, nil
}

var errMoved = errors.New("monitor state was moved by another monitor")

// movedTries is how often apply tries while other monitors move the state.
const movedTries = 8

// apply is update of whatever the state is, also when another monitor has just written it: change may
// be called several times, each time with another state, and counts once.
func (j *journal) apply(ctx context.Context, change func(*state)) error {
	for tries := 1; ; tries++ {
		_, err := j.update(ctx, nil, change)
		if !errors.Is(err, errMoved) || tries == movedTries {
			return err
		}
	}
}

// outcome finds out whether a Put that failed was applied after all, by what the bucket holds now.
func (j *journal) outcome(ctx context.Context, data []byte, err error) (storage.Version, error) {
	// Also after ErrPrecondition: a request that was sent twice meets its own first copy.
	now, version, getErr := j.bucket.Get(ctx, j.key, storage.Range{})
	switch {
	case getErr == nil && bytes.Equal(now, data):
		return version, nil
	case errors.Is(err, storage.ErrPrecondition):
		return "", fmt.Errorf("%w: %w", errMoved, err)
	}
	return "", fmt.Errorf("writing monitor state: %w", err)
}
