package gcs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	gcs "cloud.google.com/go/storage"
)

// Modified returns when the object at key was written.
func (b *Bucket) Modified(ctx context.Context, key string) (time.Time, error) {
	if err := check(ctx, key); err != nil {
		return time.Time{}, fmt.Errorf("looking at %q: %w", key, err)
	}
	attrs, err := b.reading(key).Attrs(ctx)
	if errors.Is(err, gcs.ErrObjectNotExist) {
		err = fs.ErrNotExist
	}
	if err != nil {
		return time.Time{}, fmt.Errorf("looking at %q in %s: %w", key, b.name, err)
	}
	return attrs.Updated, nil
}
