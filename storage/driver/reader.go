package driver

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
)

// reader is the tessera.LogReader. What Tessera polls comes from memory.
type reader struct{ l *Log }

var _ tessera.LogReader = reader{}

func (r reader) ReadCheckpoint(context.Context) ([]byte, error) {
	p, ok := r.l.Published()
	if !ok {
		return nil, os.ErrNotExist
	}
	return p.Note, nil
}

func (r reader) ReadTile(ctx context.Context, level, index uint64, p uint8) ([]byte, error) {
	t := tileID{int(level), int64(index)}
	return r.read(ctx, r.l.tileKey(t, int(p)), r.l.tileKey(t, 0))
}

func (r reader) ReadEntryBundle(ctx context.Context, index uint64, p uint8) ([]byte, error) {
	return r.read(ctx, r.l.bundleKey(int64(index), int(p)), r.l.bundleKey(int64(index), 0))
}

// read returns the object at key, or the full one that has replaced it.
func (r reader) read(ctx context.Context, key, full string) ([]byte, error) {
	b, _, err := r.l.o.Bucket.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) && key != full {
		b, _, err = r.l.o.Bucket.Get(ctx, full, storage.Range{})
	}
	return b, err
}

func (r reader) NextIndex(context.Context) (uint64, error) {
	size, _ := r.l.Head()
	return uint64(size), nil
}

func (r reader) IntegratedSize(context.Context) (uint64, error) {
	r.l.mu.Lock()
	defer r.l.mu.Unlock()
	return uint64(r.l.integrated), nil
}
