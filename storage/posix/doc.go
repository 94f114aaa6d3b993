// Package posix is a storage.Bucket in a directory of a local file system, as section 6 of
// storage-protocol.md lays it out.
//
// An object is the regular file at its key. Beside the objects the directory holds .tmp, where
// content is written before it gets its name, and .lock, whose files carry flock(2) locks; keys
// below these two are refused. Everything in state/ and in those two is private to the user
// (directories 0700, files 0600), everything else readable by all (0755, 0644), less the umask.
// Content type and cache control are not kept.
//
// # Durability
//
// A Put returns nil only when the object survives a loss of power: the data was synced before the
// object got its name, then the directory of the name, and every directory above it that this
// process has not synced since it opened the bucket. Concurrent Puts share directory syncs; a Put
// uses only one that began after its own link or rename. ErrPrecondition is as durable: it returns
// after a sync of the directory that holds the object in the way. A Delete is durable, too. Get
// may return what another process has written and not synced yet; Sync makes that durable.
//
// When a sync fails, what is on the disk is unknown and a second try may lie: the bucket accepts no
// write any more (ErrSync), and the process should exit. A disk that turns out to be full while
// temporary content is written is an ordinary error.
//
// # Concurrency
//
// Any number of processes may use a directory at the same time. Create-only is link(2);
// compare-and-swap compares and renames under a lock, which plain Puts and Deletes take as well.
// The version of an object is the SHA-256 of its content in hexadecimal, so equal contents share
// one.
//
// On Linux a file in state/ that a compare-and-swap has replaced is overwritten by a later one, once
// no process has it open: where each swap made a file and freed another, file systems spent most of
// their time on that. Such files wait in .tmp.
//
// # Limits
//
// Local file systems only: over NFS a lost reply looks like an object that exists, and flock
// varies. A path segment has at most 255 bytes, and no key may be the directory of another one.
// A Delete leaves directories behind, for another process may be about to link into them. Get
// follows symbolic links that stay inside the directory, List does not; one that leaves it is an
// error (see os.Root). Object files must not be edited in place.
package posix
