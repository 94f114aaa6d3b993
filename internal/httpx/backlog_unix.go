//go:build unix

package httpx

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// waits reports whether a connection waits at a listener to be taken. It takes no time.
func waits(ln syscall.Conn) bool {
	raw, err := ln.SyscallConn()
	if err != nil {
		return false
	}
	waiting := false
	err = raw.Control(func(fd uintptr) {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		waiting = n > 0 || errors.Is(err, unix.EINTR) // then it is looked once more
	})
	return waiting && err == nil
}
