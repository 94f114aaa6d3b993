//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package duplicates

import (
	"errors"
	"os"
	"syscall"
)

// lockFile locks f until it is closed.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return errLocked
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}
