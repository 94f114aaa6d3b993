package trial

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tallywood/storage"
)

// A Store is an object store in memory whose changes a Referee sees at the moment they happen. What
// it is asked takes it one to four milliseconds.
type Store struct {
	Referee   *Referee
	ByContent bool // versions are hashes of contents, as on S3 and in directories

	mu      sync.Mutex // guards the fields below
	objects map[string]object
	writes  int
	asked   int
}

// An object is never changed.
type object struct {
	data    []byte
	version storage.Version
}

// NewStore returns an empty Store.
func NewStore(f *Referee) *Store { return &Store{Referee: f, objects: map[string]object{}} }

// As returns the store as the process named who sees it.
func (s *Store) As(who string) storage.Bucket { return view{s, who} }

type view struct {
	*Store
	who string
}

// travel is the way of a request.
func (s *Store) travel() {
	s.mu.Lock()
	s.asked++
	n := s.asked
	s.mu.Unlock()
	time.Sleep(time.Millisecond + time.Duration(n*7919%3001)*time.Microsecond)
}

// Get implements storage.Bucket.
func (v view) Get(_ context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	v.travel()
	v.mu.Lock()
	o, ok := v.objects[key]
	v.mu.Unlock()
	if !ok {
		return nil, "", fmt.Errorf("getting %q: %w", key, fs.ErrNotExist)
	}
	data := o.data[min(r.Offset, int64(len(o.data))):]
	if r.Length > 0 {
		data = data[:min(r.Length, int64(len(data)))]
	}
	return bytes.Clone(data), o.version, nil
}

// Put implements storage.Bucket.
func (v view) Put(_ context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	v.travel()
	v.mu.Lock()
	defer v.mu.Unlock()
	old, exists := v.objects[key]
	want, conditional := o.If.Version()
	if o.If.IsAbsent() && exists || conditional && old.version != want {
		return "", fmt.Errorf("putting %q: %w", key, storage.ErrPrecondition)
	}
	v.writes++
	fresh := object{bytes.Clone(data), storage.Version(strconv.Itoa(v.writes))}
	if v.ByContent {
		fresh.version = storage.Version(fmt.Sprintf("%x", sha256.Sum256(data)))
	}
	v.objects[key] = fresh
	v.Referee.Put(v.who, key, fresh.data)
	return fresh.version, nil
}

// Delete implements storage.Bucket.
func (v view) Delete(_ context.Context, keys ...string) error {
	v.travel()
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, key := range keys {
		delete(v.objects, key)
		v.Referee.Removed(v.who, key)
	}
	return nil
}

// List implements storage.Bucket.
func (v view) List(_ context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		v.travel()
		v.mu.Lock()
		keys := slices.Sorted(maps.Keys(v.objects))
		v.mu.Unlock()
		for _, key := range keys {
			if strings.HasPrefix(key, prefix) && !yield(key, nil) {
				return
			}
		}
	}
}
