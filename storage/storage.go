// Package storage defines Bucket, the object store that holds all state of every part.
//
// Keys are slash-separated UTF-8 paths without empty, "." or ".." segments; values are opaque
// bytes. A bucket has no transactions and needs none: every protocol above it commits with one
// conditional Put. Implementations are in the packages below this one, and
// [tallywood/storage/storagetest] holds the conformance suite each of them passes.
package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"strings"
)

// A Version names one content of one key. It is opaque, never empty for an object that exists,
// and two contents of a key that differ have different versions. Equal contents may share one:
// whoever compares and swaps keeps a growing counter inside the object.
type Version string

// A Range selects bytes of an object. The zero Range is the whole object.
type Range struct {
	Offset int64 // first byte, from 0
	Length int64 // number of bytes at most; 0 means up to the end
}

// ErrPrecondition reports that a conditional Put was not applied because its condition did not
// hold. It is the only error of Put that says so: after any other one the write may have been
// applied, or may yet be.
var ErrPrecondition = errors.New("precondition failed")

// A Condition limits when a Put is applied. The zero Condition is Always.
type Condition struct {
	absent bool
	match  Version
}

// Absent is the condition that the key holds no object: a create-only Put.
func Absent() Condition { return Condition{absent: true} }

// Match is the condition that the key holds the object of version v: a compare-and-swap.
// On a key without object it does not hold.
func Match(v Version) Condition { return Condition{match: v} }

// IsAbsent reports whether c is the create-only condition.
func (c Condition) IsAbsent() bool { return c.absent }

// Version returns the version c demands, and whether it demands one.
func (c Condition) Version() (Version, bool) { return c.match, c.match != "" }

// PutOptions say when a Put applies and what a web server says about the object.
type PutOptions struct {
	If           Condition // zero: always
	ContentType  string    // optional
	CacheControl string    // optional
	Unversioned  bool      // the caller has no use for the version, and Put may leave it empty
}

// A Bucket is an object store. All methods may be called concurrently.
type Bucket interface {
	// Get returns the object at key (the part r names; zero Range: all of it) and its version.
	// An absent key wraps fs.ErrNotExist. A range past the end returns what there is.
	Get(ctx context.Context, key string, r Range) ([]byte, Version, error)

	// Put returns once the object is durable. With opts.If it is create-only or a
	// compare-and-swap and fails with ErrPrecondition (wrapped); any other error means:
	// unknown whether applied.
	Put(ctx context.Context, key string, data []byte, opts PutOptions) (Version, error)

	// Delete removes the objects at keys. An absent key is no error; no keys is no request.
	Delete(ctx context.Context, keys ...string) error

	// List yields the keys that begin with prefix, in lexical order. Safety never rests on it.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

// CheckKey returns an error unless key is one a Bucket accepts: relative, slash-separated, at
// most 512 bytes, no empty, "." or ".." segment, no control character and no backslash.
func CheckKey(key string) error {
	switch {
	case key == "":
		return errors.New("empty key")
	case len(key) > 512:
		return fmt.Errorf("key of %d bytes is longer than 512", len(key))
	case strings.ContainsFunc(key, func(r rune) bool { return r < 0x20 || r == 0x7f || r == '\\' }):
		return fmt.Errorf("key %q has a control character or backslash", key)
	case !fs.ValidPath(key) || key == ".":
		return fmt.Errorf("key %q is not a clean relative path", key)
	}
	return nil
}
