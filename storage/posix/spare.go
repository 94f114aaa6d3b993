//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"errors"
	"io"
	"os"
	"syscall"

	"tallywood/storage"
)

// maxSpares bounds the spares that a Bucket keeps, each with a descriptor. More are of no use: so
// many writes run at once.
const maxSpares = maxWrites

// A spare is a file in .tmp that was a private object until a compare-and-swap took its name. The
// next one overwrites it instead of making a file and freeing another, which costs some file systems
// many times as much. Nobody must notice that, so that
//
//   - it becomes a spare when the directory of its old name was synced: no loss of power brings it
//     back as that object;
//   - it is overwritten only if no process has it open any more and if it has no other name;
//   - its content is synced before it gets a name, as that of every file.
type spare struct {
	file *os.File // open for reading and writing
	name string   // in .tmp
	size int64    // of its content
}

// takeSpare returns a spare that may be overwritten, or nil.
func (b *Bucket) takeSpare() *spare {
	for {
		b.mu.Lock()
		n := len(b.spares) - 1
		if n < 0 {
			b.mu.Unlock()
			return nil
		}
		s := b.spares[n]
		b.spares = b.spares[:n]
		b.mu.Unlock()
		if b.isUnused(s) {
			return s
		}
		b.dropSpare(s)
	}
}

// isUnused reports whether the file of s has no name but its own, and nobody else has it open. It finds
// out its size.
func (b *Bucket) isUnused(s *spare) bool {
	mine, err := s.file.Stat()
	if err != nil || !mine.Mode().IsRegular() || mine.Mode().Perm() != 0o600 {
		return false
	}
	if stat, ok := mine.Sys().(*syscall.Stat_t); !ok || stat.Nlink != 1 {
		return false // a backup of hard links, for example
	}
	s.size = mine.Size()
	named, err := b.root.Lstat(s.name)
	return err == nil && os.SameFile(mine, named) && isOpenHereOnly(s.file)
}

// keepSpare keeps a file whose name as an object is lost durably.
func (b *Bucket) keepSpare(s *spare) {
	b.mu.Lock()
	keep := len(b.spares) < maxSpares
	if keep {
		b.spares = append(b.spares, s)
	}
	b.mu.Unlock()
	if !keep {
		b.dropSpare(s)
	}
}

// dropSpare frees a file.
func (b *Bucket) dropSpare(s *spare) {
	_ = s.file.Close() // nothing was written that anybody needs
	b.removeTemp(s.name)
}

// refill overwrites the file of s. Where the size stays, as it nearly always does, so does all that a
// sync would have to write besides the content.
func (s *spare) refill(data []byte) error {
	if _, err := s.file.WriteAt(data, 0); err != nil || int64(len(data)) >= s.size {
		return err
	}
	return s.file.Truncate(int64(len(data)))
}

// swap gives the file tmp the name key if that has the version want, and returns the file that had
// it as a spare to be, or nil if it was freed. The caller holds the lock on key.
func (b *Bucket) swap(tmp, key string, want storage.Version) (*spare, error) {
	old, err := b.root.OpenFile(key, os.O_RDWR, 0)
	if err != nil {
		return nil, b.replace(tmp, key, want) // it is absent, or we may only read it
	}
	have, err := versionOf(old)
	if err == nil && have != want {
		err = storage.ErrPrecondition
	}
	if err == nil {
		err = b.do("exchange", tmp, key, func() error { return b.exchange(tmp, key) })
	}
	switch {
	case err == nil:
		return &spare{file: old, name: tmp}, nil
	case errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOSYS): // not on this file system
		return nil, errors.Join(b.replace(tmp, key, want), old.Close())
	}
	_ = old.Close() // it was only read
	return nil, b.checkVanished(err)
}

// versionOf returns the version of the object that f is.
func versionOf(f *os.File) (storage.Version, error) {
	info, err := f.Stat()
	if err != nil {
		return "", err
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(io.NewSectionReader(f, 0, info.Size()), data); err != nil {
		return "", err
	}
	return version(data), nil
}
