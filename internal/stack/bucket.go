package stack

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"tallywood/storage"
	"tallywood/storage/gcs"
	"tallywood/storage/posix"
	"tallywood/storage/s3"
)

// devLockAttempts is how often a process that is to share a directory looks whether it may.
const devLockAttempts = 10

// gcsSwapInterval spaces the writes of a checkpoint in GCS, which takes about one a second of one
// object name.
const gcsSwapInterval = 1100 * time.Millisecond

// OpenBucket opens the bucket at location: an s3:// or gs:// URL, or a directory with or without
// file: before it.
func OpenBucket(ctx context.Context, location string) (storage.Bucket, error) {
	return openAt(ctx, location, posix.Open)
}

// ViewBucket opens the bucket at location to be looked at: nothing is written, not even a missing
// directory.
func ViewBucket(ctx context.Context, location string) (storage.Bucket, error) {
	return openAt(ctx, location, posix.View)
}

func openAt(ctx context.Context, location string, openDir func(string) (*posix.Bucket, error)) (storage.Bucket, error) {
	switch scheme, _, _ := strings.Cut(location, "://"); scheme {
	case "s3":
		return s3.Open(ctx, location)
	case "gs":
		return gcs.Open(ctx, location)
	}
	dir := strings.TrimPrefix(location, "file:")
	if scheme, _, ok := strings.Cut(dir, "://"); ok {
		return nil, fmt.Errorf("storage %q: scheme %q is unknown; want s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or file:DIR", location, scheme)
	}
	if dir == "" {
		return nil, errors.New("storage file: names no directory")
	}
	return openDir(dir)
}

// ProbeBucket tries whether b gives the guarantees that logs and witnesses rest on, and is private
// where it must be. Of a directory it also says whether it is on a network.
func ProbeBucket(ctx context.Context, b storage.Bucket) ([]storage.Check, error) {
	checks, err := storage.Probe(ctx, b, "state/_check")
	if d, ok := b.(interface{ Network() (string, error) }); ok {
		checks = append(checks, networkCheck(d.Network()))
	}
	return checks, err
}

func networkCheck(kind string, err error) storage.Check {
	c := storage.Check{Guarantee: "the directory is on a local file system"}
	switch {
	case err != nil:
		c.Warning = err.Error()
	case kind != "":
		c.Warning = kind + " is none: a lost reply can look like an object that exists, and locks and syncs may not hold"
	}
	return c
}

// openBucket opens the configured bucket. One for production is probed first: a store that ignores
// conditions would let two processes write one log.
func (s *Stack) openBucket(ctx context.Context) error {
	b, err := OpenBucket(ctx, s.cfg.Storage)
	if err != nil {
		return err
	}
	s.bucket = s.metrics.metered(b)
	if s.dev {
		dir, ok := b.(*posix.Bucket)
		if !ok {
			return errors.New("a stack for development keeps its objects in a directory")
		}
		unlock, err := dir.Lock("state/" + devLock)
		if err != nil {
			return err
		}
		s.closers = append(s.closers, closerFunc(unlock))
		return nil
	}
	if dir, ok := b.(*posix.Bucket); ok {
		if err := undeveloped(dir); err != nil {
			return err
		}
	}
	checks, err := ProbeBucket(ctx, b)
	for _, c := range checks {
		if c.Warning != "" {
			s.log.WarnContext(ctx, "probing storage: "+c.Warning)
		}
	}
	return err
}

// undeveloped fails if a stack for development has the directory: that shares it with nobody.
func undeveloped(dir *posix.Bucket) error {
	for attempt := 1; ; attempt++ {
		unlock, err := dir.Lock("state/" + devLock)
		if err == nil {
			return unlock()
		}
		if attempt == devLockAttempts { // others look for a moment, as this does
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
