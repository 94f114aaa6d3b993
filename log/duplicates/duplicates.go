// Package duplicates keeps a duplicate index: at which index of a log the entry of each duplicate key
// is, and when it was given that index.
//
// Keys come out of SHA-256 and are new most of the time, so an index must tell quickly that it has not
// got a key, and must not touch a page of its own for each one it gets. An Index is therefore made of
// sorted runs in files (a log-structured merge tree). What is put goes into memory and a journal; when
// that has grown to a run, it is written as one; runs of about one size are merged to a larger one, a
// little at each Put, so that nothing waits for a long merge. A filter in memory tells of most runs
// that they have not got a key, and one page of a few kilobytes is read of one that may have it.
//
// An index is a cache of the log. Whatever a crash of the process or the machine leaves behind is
// either an index of an earlier state, which Progress names, or found out by its checksums; then it
// starts empty, or reports ErrDamaged and is to be emptied by Reset. It never forgets a key silently.
//
// The caller puts records in the order of their indexes, from those of State on.
package duplicates

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"errors"
)

// ErrDamaged reports an index that cannot be believed any more: the log is to be read again.
var ErrDamaged = errors.New("duplicate index is damaged")

// ErrUntidy reports that an index has what was put, but its files take more room or time than they
// should: runs could not be merged, or a file not be removed. The next Put tries again.
var ErrUntidy = errors.New("duplicate index is right, but not tidied up")

// A Record is one entry of an index.
type Record struct {
	Key       [32]byte
	Index     int64
	Timestamp uint64 // Unix time in milliseconds, of certificates only
}

func byKey(a, b Record) int {
	if c := compareKeys(a.Key, b.Key); c != 0 {
		return c
	}
	return cmp.Compare(a.Index, b.Index)
}

// A Tree is a state of the log.
type Tree struct {
	Size int64
	Root [32]byte
}

// A Progress says what an index holds: all entries of one tree, and none but those of another,
// larger one. The two differ only within a long read of the log.
type Progress struct{ All, Within Tree }

var (
	// EmptyTree is the tree of a log without entries.
	EmptyTree = Tree{Root: sha256.Sum256(nil)}
	// NoProgress is that of an empty index.
	NoProgress = Progress{EmptyTree, EmptyTree}
)

// An Identity says which log an index belongs to.
type Identity struct {
	LogUUID string `json:"log_uuid"`
	Kind    string `json:"kind"`
}

func compareKeys(a, b [32]byte) int { return bytes.Compare(a[:], b[:]) }
