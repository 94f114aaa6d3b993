//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"os"
	"syscall"
)

// canExchange says that spares are used at all.
const canExchange = false

func isOpenHereOnly(*os.File) bool { return false }

func (b *Bucket) exchange(_, _ string) error { return syscall.ENOSYS }
