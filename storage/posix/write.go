//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"tallywood/storage"
)

// Put implements storage.Bucket. It keeps neither content type nor cache control. Cancelling ctx
// stops a Put that has not given the object its name yet, and no later one.
func (b *Bucket) Put(ctx context.Context, key string, data []byte, opts storage.PutOptions) (storage.Version, error) {
	if err := b.put(ctx, key, data, opts.If); err != nil {
		return "", fmt.Errorf("putting %q: %w", key, err)
	}
	if opts.Unversioned {
		return "", nil
	}
	return version(data), nil
}

// put goes through the states of an object: content on disk without name, with its name, with its
// name on disk.
func (b *Bucket) put(ctx context.Context, key string, data []byte, c storage.Condition) error {
	if err := b.checkWrite(ctx, key); err != nil {
		return err
	}
	dir := path.Dir(key)
	if err := b.makeDir(dir); err != nil {
		return err
	}
	tmp, err := b.writeTemp(ctx, key, data)
	if err != nil {
		return err
	}
	old, err := b.place(ctx, tmp, key, c)
	if err != nil || c.IsAbsent() { // a rename leaves no temporary file
		defer b.removeTemp(tmp)
	}
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		return err
	}
	// Also what made the condition fail may be an object of another process without sync, and a
	// caller that finds its own bytes there takes them for durable.
	if syncErr := b.commit(dir); syncErr != nil {
		return syncErr // and what was replaced stays in .tmp: it may be the object again
	}
	if old != nil {
		b.keepSpare(old)
	}
	return err
}

// writeTemp writes data to a temporary file, with the mode the object at key is to have, and syncs it.
func (b *Bucket) writeTemp(ctx context.Context, key string, data []byte) (string, error) {
	select {
	case b.writes <- struct{}{}:
		defer func() { <-b.writes }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	mode := fs.FileMode(0o644)
	if private(key) {
		mode = 0o600
		if s := b.takeSpare(); s != nil {
			return s.name, b.fill(s.file, s.name, func() error { return s.refill(data) })
		}
	}
	tmp := path.Join(tmpDir, rand.Text())
	f, err := b.root.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return "", err
	}
	return tmp, b.fill(f, tmp, func() error {
		_, err := f.Write(data)
		return err
	})
}

// fill has a temporary file written, syncs and closes it. It removes the file if that fails.
func (b *Bucket) fill(f *os.File, tmp string, write func() error) error {
	err := b.do("write", tmp, "", write)
	if err == nil {
		err = b.do("datasync", tmp, "", func() error { return datasync(f) })
		// Where blocks are allocated late, this is the place a full disk shows. The file is
		// dropped and nothing else is in doubt.
		if err != nil && !errors.Is(err, syscall.ENOSPC) && !errors.Is(err, syscall.EDQUOT) {
			err = b.fail(tmp, err)
		}
	}
	if err = errors.Join(err, f.Close()); err != nil {
		b.removeTemp(tmp)
		return err
	}
	return nil
}

// place gives the file tmp the name key, if c holds. If it returns a spare, that is the file that
// had the name, which may come back until the directory is synced.
func (b *Bucket) place(ctx context.Context, tmp, key string, c storage.Condition) (*spare, error) {
	if c.IsAbsent() {
		return nil, b.create(tmp, key)
	}
	unlock, err := b.lockKey(ctx, key)
	if err != nil {
		return nil, err
	}
	defer unlock()
	want, ok := c.Version()
	switch {
	case !ok:
		return nil, b.rename(tmp, key)
	case canExchange && private(key):
		return b.swap(tmp, key, want)
	}
	return nil, b.replace(tmp, key, want)
}

// create gives the file tmp the name key as well, if nothing has it.
func (b *Bucket) create(tmp, key string) error {
	err := b.do("link", tmp, key, func() error { return b.root.Link(tmp, key) })
	if !errors.Is(err, fs.ErrExist) {
		return b.checkVanished(err)
	}
	if info, err := b.root.Lstat(key); err == nil && info.IsDir() {
		return fmt.Errorf("the key is the directory of others: %w", syscall.EISDIR)
	}
	return storage.ErrPrecondition
}

// replace gives the file tmp the name key, if that has the version want. The caller holds the lock
// on key, as of rename.
func (b *Bucket) replace(tmp, key string, want storage.Version) error {
	_, have, err := b.get(context.Background(), key, storage.Range{})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if have != want {
		return storage.ErrPrecondition
	}
	return b.rename(tmp, key)
}

// rename gives the file tmp the name key.
func (b *Bucket) rename(tmp, key string) error {
	return b.checkVanished(b.do("rename", tmp, key, func() error { return b.root.Rename(tmp, key) }))
}

// checkVanished passes err on. If it tells that someone has removed a directory, the Bucket
// forgets what it knows of them, so that the next Put makes it again.
func (b *Bucket) checkVanished(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		b.mu.Lock()
		defer b.mu.Unlock()
		clear(b.dirs)
	}
	return err
}

// removeTemp removes a temporary file. One that stays is removed by a later Open.
func (b *Bucket) removeTemp(tmp string) {
	_ = b.do("remove", tmp, "", func() error { return b.root.Remove(tmp) })
}

// Delete implements storage.Bucket. When it returns nil the deletions are durable, also those of an
// earlier call that failed or of another process.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	dirs := make(map[string]struct{})
	for _, key := range keys {
		if err := b.remove(ctx, key); err != nil {
			return fmt.Errorf("deleting %q: %w", key, err)
		}
		dirs[path.Dir(key)] = struct{}{}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		if info, err := b.root.Stat(dir); errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && !info.IsDir() {
			continue // nothing was ever there
		}
		if err := b.syncDir(dir); err != nil {
			return fmt.Errorf("deleting from %q: %w", dir, err)
		}
	}
	return nil
}

// remove removes the object at key if there is one.
func (b *Bucket) remove(ctx context.Context, key string) error {
	if err := b.checkWrite(ctx, key); err != nil {
		return err
	}
	info, err := b.root.Lstat(key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || err == nil && info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	unlock, err := b.lockKey(ctx, key)
	if err != nil {
		return err
	}
	defer unlock()
	err = b.do("remove", key, "", func() error { return b.root.Remove(key) })
	if errors.Is(err, fs.ErrNotExist) {
		return nil // someone else was faster
	}
	return err
}

// checkWrite is check, and refuses every write after a failed sync.
func (b *Bucket) checkWrite(ctx context.Context, key string) error {
	if err := check(ctx, key); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failed
}

// fail makes err, which the sync of name returned, the end of all writes, and returns what they
// get from now on.
func (b *Bucket) fail(name string, err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed == nil {
		b.failed = fmt.Errorf("%w: %s: %w", ErrSync, path.Join(b.name, name), err)
	}
	return b.failed
}

// private reports whether the object or directory name is for the eyes of this user alone.
func private(name string) bool {
	return name == stateDir || strings.HasPrefix(name, stateDir+"/")
}
