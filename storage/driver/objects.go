package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/transparency-dev/tessera/api/layout"

	"tallywood/storage"
)

// How the objects of each kind are stored, storage-protocol section 2.
var (
	private   = storage.PutOptions{ContentType: "application/octet-stream", CacheControl: "private, no-store"}
	immutable = storage.PutOptions{ContentType: "application/octet-stream", CacheControl: "public, max-age=604800, immutable"}
	current   = storage.PutOptions{ContentType: "text/plain; charset=utf-8", CacheControl: "no-cache"}
)

// putTimeout and what putRate allows for the data bound one attempt of a Put, so that a lost request
// is repeated. A store that turns out to be slow gets more, up to putLimit.
const (
	putTimeout = 3 * time.Second
	putLimit   = 12 * time.Second
	putRate    = 1 << 20 // bytes per second
)

func (l *Log) slotKey(n int64) string      { return fmt.Sprintf("state/%s/log/%020d", l.o.Name, n) }
func (l *Log) stateKey(name string) string { return "state/" + l.o.Name + "/" + name }
func (l *Log) publicKey(p string) string   { return "logs/" + l.o.Name + "/" + p }

func (l *Log) tileKey(t tileID, width int) string {
	return l.publicKey(layout.TilePath(uint64(t.level), uint64(t.index), uint8(width)))
}

func (l *Log) bundleKey(n int64, width int) string {
	return l.publicKey(l.o.Layout.EntriesPath(uint64(n), uint8(width)))
}

// create puts data at key unless an object is there, and asks until the answer is definite. It
// returns the object that is there then, which the bucket holds durably: data, or another. For a
// record the beginning of the object is enough, so at most limit bytes are read, 0 meaning all.
// Any error means undecided: the write may have been applied, or may yet be.
func (l *Log) create(ctx context.Context, key string, data []byte, o storage.PutOptions, limit ...int64) ([]byte, error) {
	o.If, o.Unversioned = storage.Absent(), true
	r := storage.Range{}
	if len(limit) > 0 {
		r.Length = limit[0]
	}
	var wait backoff
	repeated := false
	for {
		_, err := l.put(ctx, key, data, o)
		if err == nil {
			return data, nil
		}
		if errors.Is(err, storage.ErrPrecondition) {
			var stored []byte
			if stored, _, err = l.o.Bucket.Get(ctx, key, r); err == nil {
				return stored, nil
			}
			if errors.Is(err, fs.ErrNotExist) && ctx.Err() == nil && !repeated {
				repeated = true
				continue // collected meanwhile: the same bytes may have the place again
			}
		}
		l.o.Log.WarnContext(ctx, "repeating an undecided write", "key", key, "err", err)
		if unusable(err) || !wait.sleep(ctx) {
			return nil, fmt.Errorf("creating %s, undecided: %w", key, err)
		}
	}
}

func (l *Log) put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	patience := max(putTimeout, time.Duration(l.patience.Load()))
	pctx, cancel := context.WithTimeout(ctx, patience+time.Duration(len(data))*time.Second/putRate)
	defer cancel()
	begun := time.Now()
	v, err := l.o.Bucket.Put(pctx, key, data, o)
	switch {
	case pctx.Err() == nil:
		patience = 4 * time.Since(begun)
	case ctx.Err() == nil:
		patience = 2 * max(patience, time.Since(begun))
	}
	l.patience.Store(int64(min(patience, putLimit)))
	return v, err
}

// sync makes durable what other processes linked below the prefixes, where a bucket knows that.
func (l *Log) sync(ctx context.Context, prefixes ...string) error {
	s, ok := l.o.Bucket.(interface {
		Sync(ctx context.Context, prefixes ...string) error
	})
	if !ok {
		return nil
	}
	if err := s.Sync(ctx, prefixes...); err != nil {
		return fmt.Errorf("syncing: %w", err)
	}
	return nil
}

// An object is a tile or an entry bundle, a function of the committed log.
type object struct {
	key  string
	full string // of a partial: the key of what replaces it once it is full
	data []byte
}

// materialize creates o and returns once it is durable. An object that is there already must be
// equal; a partial may have been collected after its full successor was written.
func (l *Log) materialize(ctx context.Context, o object) error {
	opts := immutable
	opts.If, opts.Unversioned = storage.Absent(), true
	var wait backoff
	for {
		_, err := l.put(ctx, o.key, o.data, opts)
		if err == nil {
			return nil
		}
		if errors.Is(err, storage.ErrPrecondition) {
			if err = l.compare(ctx, o); err == nil {
				return nil
			}
			var damage *DamageError
			if errors.As(err, &damage) {
				return err
			}
		}
		l.o.Log.WarnContext(ctx, "repeating a tile write", "key", o.key, "err", err)
		if unusable(err) || !wait.sleep(ctx) {
			return fmt.Errorf("writing %s: %w", o.key, err)
		}
	}
}

// compare returns nil if o is stored as it should be, or replaced by its full successor.
func (l *Log) compare(ctx context.Context, o object) error {
	stored, _, err := l.o.Bucket.Get(ctx, o.key, storage.Range{})
	switch {
	case err == nil && bytes.Equal(stored, o.data):
		return nil
	case err == nil:
		return damagef("%s is not what the committed entries make it", o.key)
	case errors.Is(err, fs.ErrNotExist) && o.full != "":
		stored, _, err = l.o.Bucket.Get(ctx, o.full, storage.Range{})
		if err == nil && !bytes.HasPrefix(stored, o.data) {
			return damagef("%s is not what the committed entries make it", o.full)
		}
	}
	return err
}

// unusable reports whether err says that the bucket takes no writes any more, as after a failed
// sync of a disk: trying again is pointless then, and the process should exit.
func unusable(err error) bool {
	var u interface {
		error
		Unusable() bool
	}
	return errors.As(err, &u) && u.Unusable()
}

// backoff is the pause between attempts: 50 ms, doubling up to 2 s, with jitter.
type backoff struct{ next time.Duration }

// sleep pauses and reports whether ctx still goes on.
func (b *backoff) sleep(ctx context.Context) bool {
	b.next = min(max(2*b.next, 50*time.Millisecond), 2*time.Second)
	return pause(ctx, b.next/2+jitter(b.next/2))
}

// jitter draws a duration below d. The simulator, which must be able to repeat a run, has its own.
var jitter = rand.N[time.Duration]

// pause waits for d and reports whether ctx still goes on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
