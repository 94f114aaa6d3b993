// Package disk writes files that are there after a power failure, each whole or not at all.
//
// Secrets are for package keys, which never replaces a file.
package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
)

// TempPrefix begins the names of files that Replace writes before they get their own. One that is left
// after its process has ended is of no use.
const TempPrefix = ".tmp-"

// Replace puts data at path in one step, so that a reader sees the old content or the new one, and
// returns once it is durable. A file that is there keeps its mode, a new one gets 0644. Where a symbolic
// link is, the link is replaced.
func Replace(path string, data []byte) error {
	mode := fs.FileMode(0o644)
	if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() {
		mode = info.Mode().Perm()
	}
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, TempPrefix+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Chmod(mode), f.Sync(), f.Close()); err == nil { // the umask must not decide
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("writing %s: %w", path, err), os.Remove(f.Name()))
	}
	if err := SyncDir(dir); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return nil
}

// MakeDir makes a directory, and those above it, with a mode before the umask, and returns once they are
// durable. One that is there stays as it is.
func MakeDir(dir string, mode fs.FileMode) error {
	switch info, err := os.Stat(dir); {
	case err == nil && !info.IsDir():
		return fmt.Errorf("making directory: %s is a file", dir)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("making directory: %w", err)
	}
	above := filepath.Dir(dir)
	if err := MakeDir(above, mode); err != nil {
		return err
	}
	if err := os.Mkdir(dir, mode); err != nil && !errors.Is(err, fs.ErrExist) { // another process was faster
		return fmt.Errorf("making directory: %w", err)
	}
	if err := SyncDir(above); err != nil {
		return fmt.Errorf("making directory %s durable: %w", dir, err)
	}
	return nil
}

// SyncDir makes the entries of a directory durable. Windows cannot sync directories.
func SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
