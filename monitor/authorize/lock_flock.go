//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package authorize

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// lock keeps other processes from changing manifests in dir until unlock is called, or this one ends.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err := syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
		if err == nil {
			return func() { _ = d.Close() }, nil // which gives the lock back
		}
		if !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("locking %s: %w", dir, err), d.Close())
		}
	}
}
