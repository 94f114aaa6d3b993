package posix

import (
	"os"
	"path"
	"runtime"

	"golang.org/x/sys/unix"
)

// canExchange says that spares are used at all.
const canExchange = true

// isOpenHereOnly reports whether no other descriptor for f is open anywhere: then, and only then, it
// can have a lease for writing. Some file systems have none, and the answer is no.
func isOpenHereOnly(f *os.File) bool {
	fd := f.Fd()
	if _, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_WRLCK); err != nil {
		return false
	}
	_, err := unix.FcntlInt(fd, unix.F_SETLEASE, unix.F_UNLCK)
	runtime.KeepAlive(f)
	return err == nil
}

// exchange lets two files have each other's name, the first of them in .tmp.
func (b *Bucket) exchange(tmp, key string) error {
	dir, err := b.root.Open(path.Dir(key))
	if err != nil {
		return err
	}
	defer dir.Close()
	err = unix.Renameat2(int(b.tmp.Fd()), path.Base(tmp), int(dir.Fd()), path.Base(key), unix.RENAME_EXCHANGE)
	runtime.KeepAlive(b.tmp)
	if err != nil {
		return &os.LinkError{Op: "exchange", Old: tmp, New: key, Err: err}
	}
	return nil
}
