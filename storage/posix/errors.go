package posix

import "errors"

// ErrSync is wrapped by every write after the file system has refused to make something durable.
// It is final: the process should exit, and its successor look at what is there.
var ErrSync error = syncError{}

// syncError is the type of ErrSync. Unusable tells the layers above, which do not import this
// package, that retrying is in vain.
type syncError struct{}

// Error names what failed.
func (syncError) Error() string { return "syncing to disk" }

// Unusable reports that nothing can be written any more by this process.
func (syncError) Unusable() bool { return true }

// ErrLocked is wrapped by the error of a Lock that another process, or this one, holds, and of a
// write that has waited in vain for the lock on its key. Such a write was not applied.
var ErrLocked = errors.New("another process holds the lock")

// ErrReadOnly is wrapped by every write to a bucket that View opened.
var ErrReadOnly = errors.New("the bucket is open for reading only")

// ErrOpenToOthers is wrapped by the error of an Open that found a private directory others may enter.
var ErrOpenToOthers = errors.New("must be closed to others")
