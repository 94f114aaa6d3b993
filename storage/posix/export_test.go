//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"fmt"
	"time"
)

// MaxDirs is the number of directories a Bucket remembers.
const MaxDirs = maxDirs

// An Effect is one step on the file system: mkdir, write, datasync, link, rename, exchange, remove, syncdir.
type Effect struct{ Op, Name, To string }

// SetAround has f in place of every effect; run is the effect itself.
func (b *Bucket) SetAround(f func(e Effect, run func() error) error) {
	b.around = func(e effect, run func() error) error { return f(Effect{e.op, e.name, e.to}, run) }
}

// SetLockWait sets how long a write waits for the lock on its key.
func (b *Bucket) SetLockWait(d time.Duration) { b.lockWait = d }

// FillDirs has b remember as many directories as it ever does.
func (b *Bucket) FillDirs() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range maxDirs {
		b.directory(fmt.Sprintf("filler/%d", i))
	}
}

// KnownDirs returns the number of directories b remembers.
func (b *Bucket) KnownDirs() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.dirs)
}

// Spares returns the number of files that wait in .tmp to be overwritten.
func (b *Bucket) Spares() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.spares)
}
