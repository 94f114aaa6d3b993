package httpx

import (
	"syscall"
	"time"
	"unsafe"
)

// monotonic returns the time of the clock that sd_notify(3) calls CLOCK_MONOTONIC, 0 if it cannot be
// read. Package time has it too, but from the start of the process on only.
func monotonic() time.Duration {
	const clockMonotonic = 1
	var t syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0
	}
	return time.Duration(t.Nano())
}
