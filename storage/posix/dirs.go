//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
)

// maxDirs bounds how many directories a Bucket remembers. A log has one for each tile it wrote
// partially; forgetting them costs some syncs more.
const maxDirs = 1 << 14

// A directory is what the Bucket knows of a directory, and the syncs of it. Bucket.mu guards it.
type directory struct {
	durable bool     // its name, and those of the directories above it, are known to be on disk
	running *dirSync // the newest sync that has begun, maybe ended
	next    *dirSync // a sync that has not begun: it serves whoever comes before it does
}

// A dirSync is one sync of a directory, shared by the Puts that wait for it.
type dirSync struct {
	done chan struct{} // closed at the end
	err  error         // valid then
}

// directory returns what is known of the directory name. The caller holds b.mu.
func (b *Bucket) directory(name string) *directory {
	d := b.dirs[name]
	if d == nil {
		if len(b.dirs) >= maxDirs {
			// Syncs under way on a forgotten directory end as they would have: they only share
			// nothing with new ones.
			clear(b.dirs)
		}
		d = new(directory)
		b.dirs[name] = d
	}
	return d
}

// makeRoot makes the directory dir if it is missing, and its name durable.
func makeRoot(dir string) error {
	err := os.Mkdir(dir, 0o755)
	made := err == nil
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	dir, err = filepath.EvalSymlinks(dir)
	if err != nil {
		return err
	}
	dir, err = filepath.Abs(dir)
	if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if !made && errors.Is(err, fs.ErrPermission) {
		return nil // then it is for whoever made dir there to have its name on disk
	}
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// makeDir makes the directory dir and those above it, unless they are known to be there. That they
// are on disk is a matter of commit.
func (b *Bucket) makeDir(dir string) error {
	if len(b.uncertain(dir)) == 0 {
		return nil
	}
	mode := fs.FileMode(0o755)
	if private(dir) {
		mode = 0o700
	}
	return b.do("mkdir", dir, "", func() error { return b.root.MkdirAll(dir, mode) })
}

// uncertain returns dir and the directories above it whose names are not known to be on disk.
func (b *Bucket) uncertain(dir string) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var names []string
	for ; dir != "." && (b.dirs[dir] == nil || !b.dirs[dir].durable); dir = path.Dir(dir) {
		names = append(names, dir)
	}
	return names
}

// commit makes the entries of dir durable, and the names of dir and of all directories above it.
func (b *Bucket) commit(dir string) error {
	uncertain := b.uncertain(dir)
	// The order of these syncs means nothing: the caller succeeds after all of them, and at the
	// same time they often take one journal commit together.
	errs := make([]error, 1+len(uncertain))
	var wg sync.WaitGroup
	for i, name := range uncertain {
		wg.Go(func() { errs[1+i] = b.syncDir(path.Dir(name)) })
	}
	errs[0] = b.syncDir(dir)
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, name := range uncertain {
		b.directory(name).durable = true
	}
	return nil
}

// syncDir returns after a sync of the directory name that began after the call. All calls that wait
// for one to begin share it.
func (b *Bucket) syncDir(name string) error {
	b.mu.Lock()
	d := b.directory(name)
	if s := d.next; s != nil {
		b.mu.Unlock()
		<-s.done
		return s.err
	}
	s := &dirSync{done: make(chan struct{})}
	previous := d.running
	d.next = s
	b.mu.Unlock()

	if previous != nil {
		<-previous.done
	}
	// Where a sync is short the scheduler keeps a processor for it, and Puts that are about to be
	// done would come after it one by one. Let those that can run join this sync.
	runtime.Gosched()

	b.mu.Lock()
	d.next, d.running = nil, s
	s.err = b.failed // what failed before this sync may be what it cannot see
	b.mu.Unlock()
	if s.err == nil {
		s.err = b.fsync(name)
	}
	close(s.done)
	return s.err
}

// fsync syncs the directory name.
func (b *Bucket) fsync(name string) error {
	f, err := b.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := b.do("syncdir", name, "", f.Sync); err != nil {
		return b.fail(name, err)
	}
	return nil
}

// Sync makes durable what any process has put directly into the directories at prefixes, with or
// without a slash at the end: not what lies in directories below them. A missing directory is no
// error. It is how a new leader takes over what a dead one may have left unsynced.
func (b *Bucket) Sync(ctx context.Context, prefixes ...string) error {
	for _, prefix := range prefixes {
		if err := errors.Join(ctx.Err(), b.syncPrefix(ctx, prefix)); err != nil {
			return fmt.Errorf("syncing %q: %w", prefix, err)
		}
	}
	return nil
}

func (b *Bucket) syncPrefix(ctx context.Context, prefix string) error {
	dir := "."
	if prefix != "" {
		dir = strings.TrimSuffix(prefix, "/")
		if err := check(ctx, dir); err != nil {
			return err
		}
	}
	info, err := b.root.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return errors.New("an object has no entries to sync")
	}
	return b.commit(dir)
}
