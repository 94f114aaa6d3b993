//go:build linux || darwin || freebsd || netbsd || openbsd || dragonfly

package posix

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// lockCount is the number of files whose locks all keys share: enough that two keys rarely meet,
// few enough to lie around for ever.
const lockCount = 256

// lockKey locks key against every other write that depends on what is there, in any process. It
// waits at most b.lockWait: who holds the lock only compares and renames, or has been stopped.
func (b *Bucket) lockKey(ctx context.Context, key string) (unlock func(), err error) {
	n := sha256.Sum256([]byte(key))[0]
	ctx, cancel := context.WithTimeoutCause(ctx, b.lockWait,
		fmt.Errorf("waiting %v for the lock on the key: %w", b.lockWait, ErrLocked))
	defer cancel()

	// One goroutine of this process at a time, so that only other processes are polled for.
	turn := b.turns[n]
	select {
	case turn <- struct{}{}:
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := b.tryLockKeys(n)
		if err == nil {
			return func() { b.unlockKeys(n); <-turn }, nil
		}
		if !errors.Is(err, ErrLocked) {
			<-turn
			return nil, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			<-turn
			return nil, context.Cause(ctx)
		}
	}
}

// tryLockKeys takes lock n of those that keys share. Its file stays open for the next time: to open it
// takes longer than all else that is done with the lock held. The caller has the turn.
func (b *Bucket) tryLockKeys(n byte) error {
	name := path.Join(lockDir, fmt.Sprintf("keys-%02x", n))
	if f := b.locks[n]; f != nil {
		err := flock(f)
		if err == nil {
			err = b.checkName(f, name)
		}
		if err == nil || errors.Is(err, ErrLocked) {
			return err
		}
		b.locks[n] = nil
		_ = f.Close() // it was removed, and another has its name now or gets it
	}
	f, err := b.tryLock(name)
	if err == nil {
		b.locks[n] = f
	}
	return err
}

// unlockKeys releases lock n. The caller has the turn, still.
func (b *Bucket) unlockKeys(n byte) {
	f := b.locks[n]
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_UN); err != nil {
		b.locks[n] = nil
		_ = f.Close() // which releases it as well
	}
}

// Lock takes the lock named key, a key that no object needs to have, for this process alone, and
// keeps it until unlock is called or the process is gone, however it went. It does not wait: its
// error wraps ErrLocked if the lock is held, and names the process that does.
func (b *Bucket) Lock(key string) (unlock func() error, err error) {
	if err := b.checkWrite(context.Background(), key); err != nil {
		return nil, fmt.Errorf("locking: %w", err)
	}
	sum := sha256.Sum256([]byte(key))
	name := path.Join(lockDir, fmt.Sprintf("held-%x", sum[:16]))
	f, err := b.tryLock(name)
	if err != nil {
		if holder, _ := b.root.ReadFile(name); errors.Is(err, ErrLocked) && len(holder) > 0 {
			err = fmt.Errorf("%w (process %s)", err, strings.TrimSpace(string(holder)))
		}
		return nil, fmt.Errorf("locking %q in %s: %w", key, b.name, err)
	}
	// The process id is for people only; without it the lock holds as well.
	if f.Truncate(0) == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.held[f] = struct{}{}
	return sync.OnceValue(func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.held, f)
		return f.Close()
	}), nil
}

// tryLock opens the file name, makes it if it is missing, and locks it until it is closed.
func (b *Bucket) tryLock(name string) (*os.File, error) {
	f, err := b.root.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = flock(f)
	if err == nil {
		err = b.checkName(f, name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// flock locks f, or returns ErrLocked.
func flock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}

// checkName returns an error if f is no longer what name stands for: somebody has removed lock
// files, and another process may hold the lock on a newer one.
func (b *Bucket) checkName(f *os.File, name string) error {
	mine, err := f.Stat()
	if err != nil {
		return err
	}
	named, err := b.root.Lstat(name)
	if err != nil {
		return err
	}
	if !os.SameFile(mine, named) {
		return fmt.Errorf("%s was replaced while it was being locked", name)
	}
	return nil
}
