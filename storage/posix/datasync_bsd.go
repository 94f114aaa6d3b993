//go:build darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import "os"

// datasync makes f durable. On darwin Sync is F_FULLFSYNC, without which data may stay in the
// cache of the drive.
func datasync(f *os.File) error { return f.Sync() }
