//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"tallywood/storage"
)

const (
	tmpDir   = ".tmp"  // content that has no key yet
	lockDir  = ".lock" // files that carry locks; never removed, for a lock is on a file, not a name
	stateDir = "state" // private objects
)

const (
	lockWait  = 5 * time.Second // how long a write waits for the lock on its key
	staleAge  = time.Hour       // older temporary files belong to dead processes
	maxWrites = 256             // temporary files written at once: each holds a thread in its sync
)

var _ storage.Bucket = (*Bucket)(nil)

// A Bucket keeps objects in a directory. Make one with Open.
type Bucket struct {
	name     string // of the directory, for errors
	root     *os.Root
	tmp      *os.File // the directory .tmp
	lockWait time.Duration
	writes   chan struct{}            // a token for each temporary file being written
	turns    [lockCount]chan struct{} // a token in each, for the goroutine that may lock a key
	locks    [lockCount]*os.File      // the files of these locks, opened when needed; whose turn it is uses them

	// around, if not nil, runs each effect on the file system in place of the Bucket. Tests record
	// and refuse effects with it.
	around func(e effect, run func() error) error

	mu     sync.Mutex            // guards the fields below
	dirs   map[string]*directory // what is known of directories, by path
	held   map[*os.File]struct{} // the locks of Lock: a file that nothing refers to gets closed
	spares []*spare              // at most maxSpares
	failed error                 // the first failed sync; wraps ErrSync
}

// An effect is one step that changes the file system or makes a change durable.
type effect struct {
	op   string // mkdir, write, datasync, link, rename, exchange, remove, syncdir
	name string // what it is done to
	to   string // link, rename, exchange: the new name
}

// do runs one effect.
func (b *Bucket) do(op, name, to string, run func() error) error {
	if b.around != nil {
		return b.around(effect{op, name, to}, run)
	}
	return run()
}

// Open opens the bucket in the directory dir, and creates dir (not its parents) if it is missing.
// It refuses a directory whose private parts others may enter, and removes temporary files that a
// dead process left more than an hour ago. The Bucket holds two file descriptors for as long as it
// is reachable, and up to 256 for locks on keys and as many for private objects that were swapped.
func Open(dir string) (*Bucket, error) {
	b, err := open(dir)
	if err != nil {
		return nil, fmt.Errorf("opening bucket %s: %w", dir, err)
	}
	return b, nil
}

func open(dir string) (*Bucket, error) {
	if err := makeRoot(dir); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	b := &Bucket{
		name:     dir,
		root:     root,
		lockWait: lockWait,
		writes:   make(chan struct{}, maxWrites),
		dirs:     make(map[string]*directory),
		held:     make(map[*os.File]struct{}),
	}
	for i := range b.turns {
		b.turns[i] = make(chan struct{}, 1)
	}
	for _, private := range []string{tmpDir, lockDir} {
		if err := root.Mkdir(private, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, errors.Join(err, root.Close())
		}
	}
	if err := errors.Join(b.checkModes(), b.removeStale(time.Now())); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if b.tmp, err = root.Open(tmpDir); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return b, nil
}

// checkModes refuses private directories that are open to others: a restored backup or a copy
// made under a lax umask.
func (b *Bucket) checkModes() error {
	for _, private := range []string{tmpDir, lockDir, stateDir} {
		info, err := b.root.Lstat(private)
		switch {
		case private == stateDir && errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return err
		case !info.IsDir():
			return fmt.Errorf("%s is not a directory", private)
		case info.Mode().Perm()&0o077 != 0:
			return fmt.Errorf("%s has mode %04o and %w: chmod 0700 %s",
				private, info.Mode().Perm(), ErrOpenToOthers, path.Join(b.name, private))
		}
	}
	return nil
}

// removeStale removes the temporary files of processes that are dead. That of a process which only
// slept for an hour goes, too: its Put then fails, and nothing is applied.
func (b *Bucket) removeStale(now time.Time) error {
	entries, err := fs.ReadDir(b.root.FS(), tmpDir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // its owner lives
		}
		if err != nil {
			return err
		}
		if now.Sub(info.ModTime()) < staleAge {
			continue
		}
		if err := b.root.Remove(path.Join(tmpDir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// Get implements storage.Bucket. It reads the whole object whatever r says, for its version.
func (b *Bucket) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	data, v, err := b.get(ctx, key, r)
	if err != nil {
		return nil, "", fmt.Errorf("getting %q: %w", key, err)
	}
	return data, v, nil
}

func (b *Bucket) get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if err := check(ctx, key); err != nil {
		return nil, "", err
	}
	if r.Offset < 0 || r.Length < 0 {
		return nil, "", fmt.Errorf("negative range %+v", r)
	}
	f, err := b.root.Open(key)
	if errors.Is(err, syscall.ENOTDIR) { // an object lies where the key has a directory
		err = fs.ErrNotExist
	}
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, "", err
	}
	if info.IsDir() {
		return nil, "", fs.ErrNotExist
	}
	// A file that has a key never changes any more, so its size holds, too.
	size := info.Size()
	from := min(r.Offset, size)
	n := size - from
	if r.Length > 0 {
		n = min(n, r.Length)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, from, n), data); err != nil {
		return nil, "", fmt.Errorf("reading %d bytes at %d: %w", n, from, err)
	}
	if n == size {
		return data, version(data), nil
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return nil, "", err
	}
	return data, storage.Version(hex.EncodeToString(h.Sum(nil))), nil
}

// List implements storage.Bucket. It reads one directory at a time: what changes meanwhile may
// show or not.
func (b *Bucket) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		dir := path.Dir(prefix + "x") // the x keeps a trailing slash's directory
		if dir != "." && storage.CheckKey(dir) != nil {
			return // no key begins like that
		}
		if err := ctx.Err(); err != nil {
			yield("", fmt.Errorf("listing %q: %w", prefix, err))
			return
		}
		if _, err := b.walk(ctx, dir, prefix, yield); err != nil {
			yield("", fmt.Errorf("listing %q: %w", prefix, err))
		}
	}
}

// walk yields the keys below dir that begin with prefix, in order, and reports whether to go on.
func (b *Bucket) walk(ctx context.Context, dir, prefix string, yield func(string, error) bool) (bool, error) {
	names, err := b.names(dir)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return false, err
		}
		key := path.Join(dir, name) // without the slash of a directory
		if !strings.HasPrefix(key, prefix) || reserved(key) {
			continue
		}
		if !strings.HasSuffix(name, "/") {
			if !yield(key, nil) {
				return false, nil
			}
		} else if more, err := b.walk(ctx, key, prefix, yield); !more || err != nil {
			return false, err
		}
	}
	return true, nil
}

// names returns the names of the objects and, with a slash at the end, of the directories in dir.
// With their slashes they sort as the keys below them do; a missing directory has none.
func (b *Bucket) names(dir string) ([]string, error) {
	f, err := b.root.Open(dir)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return nil, err
	}
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		switch {
		case e.IsDir():
			names = append(names, e.Name()+"/")
		case e.Type().IsRegular():
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// check refuses a cancelled context and a key the bucket does not accept.
func check(ctx context.Context, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	if reserved(key) {
		return fmt.Errorf("key %q lies in a directory the bucket keeps for itself", key)
	}
	return nil
}

// reserved reports whether the bucket keeps key, or the directory key, for itself.
func reserved(key string) bool {
	first, _, _ := strings.Cut(key, "/")
	return first == tmpDir || first == lockDir
}

// version returns the version of an object with content data.
func version(data []byte) storage.Version {
	sum := sha256.Sum256(data)
	return storage.Version(hex.EncodeToString(sum[:]))
}
