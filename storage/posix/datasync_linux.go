package posix

import (
	"errors"
	"os"
	"syscall"
)

// datasync makes the content of f durable, and of its attributes only those needed to read it.
func datasync(f *os.File) error {
	for {
		// An interrupted call has not failed, so repeating it hides nothing.
		if err := syscall.Fdatasync(int(f.Fd())); !errors.Is(err, syscall.EINTR) {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
