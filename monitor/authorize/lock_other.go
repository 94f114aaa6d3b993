//go:build !(linux || darwin || freebsd || netbsd || openbsd || dragonfly)

package authorize

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// lockTimeout is how long another process may change manifests.
const lockTimeout = 30 * time.Second

// lock keeps other processes from changing manifests in dir until unlock is called. What a process
// that was killed leaves has to be removed by hand.
func lock(dir string) (unlock func(), err error) {
	path := filepath.Join(dir, ".tallywood-authorize.lock")
	for end := time.Now().Add(lockTimeout); ; time.Sleep(50 * time.Millisecond) {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		switch {
		case err == nil:
			return func() { _, _ = f.Close(), os.Remove(path) }, nil
		case !errors.Is(err, fs.ErrExist):
			return nil, err
		case time.Now().After(end):
			return nil, fmt.Errorf("another process changes manifests in %s; if none does, remove %s", dir, path)
		}
	}
}
