package posix

import "errors"

// ErrSync is wrapped by every write after the file system has refused to make something durable.
// It is final: the process should exit, and its successor look at what is there.
var ErrSync = errors.New("syncing to disk")

// ErrLocked is wrapped by the error of a Lock that another process, or this one, holds, and of a
// write that has waited in vain for the lock on its key. Such a write was not applied.
var ErrLocked = errors.New("another process holds the lock")
