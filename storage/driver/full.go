package driver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"

	"tallywood/storage"
)

// fullName is the object beside the checkpoint that has cosignatures which came after the quorum.
const fullName = "checkpoint.full"

// keepFull brings the bucket what Options.Full gives, until ctx ends. Nothing depends on that object:
// what goes wrong is tried again.
func (l *Log) keepFull(ctx context.Context) error {
	if l.o.Full == nil {
		return nil
	}
	var last []byte
	for pause(ctx, l.o.FullInterval) {
		note := l.o.Full()
		if note == nil || bytes.Equal(note, last) {
			continue
		}
		wrote, err := l.storeFull(ctx, note)
		var damage *DamageError
		switch {
		case wrote:
			last = note
		case errors.As(err, &damage), unusable(err):
			return err
		case err != nil && ctx.Err() == nil:
			l.o.Log.WarnContext(ctx, "keeping the full checkpoint", "origin", l.o.Origin, "err", err)
		}
	}
	return nil
}

// storeFull makes note the bucket's full checkpoint, unless it is larger than the bucket's checkpoint,
// which comes first, or smaller than the full one that is there. It reports whether there is nothing
// left to do for note.
func (l *Log) storeFull(ctx context.Context, note []byte) (bool, error) {
	p, err := l.openCheckpoint(note)
	if err != nil {
		return false, err
	}
	l.mu.Lock()
	ahead := p.Size > l.storedSize
	l.mu.Unlock()
	if ahead {
		return false, nil
	}
	o := current
	raw, v, err := l.o.Bucket.Get(ctx, l.publicKey(fullName), storage.Range{Length: checkpointLimit})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.If = storage.Absent()
	case err != nil:
		return false, fmt.Errorf("reading the full checkpoint: %w", err)
	default:
		o.If = storage.Match(v)
		old, err := l.openCheckpoint(raw)
		if err != nil {
			break // it is no checkpoint of ours, and is replaced
		}
		if old.Size == p.Size && old.Root != p.Root {
			return false, damagef("the stored full checkpoint has another root at size %d", p.Size)
		}
		if old.Size > p.Size || bytes.Equal(raw, note) {
			return true, nil
		}
	}
	if _, err := l.put(ctx, l.publicKey(fullName), note, o); err != nil {
		return false, fmt.Errorf("writing the full checkpoint of size %d: %w", p.Size, err)
	}
	return true, nil
}
