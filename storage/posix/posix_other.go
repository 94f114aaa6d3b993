//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package posix

import (
	"errors"
	"fmt"

	"tallywood/storage"
)

// A Bucket does not exist on this system: Open makes none.
type Bucket struct{ storage.Bucket }

// Open returns an error: the durability and the locks the package promises need a Unix file system.
func Open(dir string) (*Bucket, error) {
	return nil, fmt.Errorf("opening bucket %s: directories as buckets need a Unix file system: %w", dir, errors.ErrUnsupported)
}

// View returns an error, as Open does.
func View(dir string) (*Bucket, error) { return Open(dir) }

// Lock takes no lock here: there is no Bucket to call it on.
func (b *Bucket) Lock(key string) (unlock func() error, err error) {
	return nil, fmt.Errorf("locking %q: %w", key, errors.ErrUnsupported)
}
