//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"context"
	"fmt"
	"os"
	"time"
)

// View opens the bucket in the directory dir to be looked at: it makes and removes nothing, and
// every write fails with ErrReadOnly. Modes are not checked.
func View(dir string) (*Bucket, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", dir, err)
	}
	return &Bucket{name: dir, root: root, failed: ErrReadOnly}, nil
}

// Modified returns when the object at key was written.
func (b *Bucket) Modified(ctx context.Context, key string) (time.Time, error) {
	if err := check(ctx, key); err != nil {
		return time.Time{}, fmt.Errorf("looking at %q: %w", key, err)
	}
	info, err := b.root.Stat(key)
	if err != nil {
		return time.Time{}, fmt.Errorf("looking at %q: %w", key, err)
	}
	return info.ModTime(), nil
}

// Network returns the kind of network or user-space file system that the directory is on, or "" if
// it is on none that is known. On such a file system a lost reply looks like an object that exists,
// and locks and syncs may not be what they are on a disk.
func (b *Bucket) Network() (string, error) {
	f, err := b.root.Open(".")
	if err != nil {
		return "", fmt.Errorf("looking at the file system: %w", err)
	}
	defer f.Close()
	kind, err := fileSystem(f)
	if err != nil {
		return "", fmt.Errorf("looking at the file system of %s: %w", b.name, err)
	}
	return kind, nil
}
