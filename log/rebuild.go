package log

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/storage/driver"
)

const (
	// longRead is how many entries to read are worth a line in the log before it begins. On others
	// there is one after firstReport, and for all one every reportInterval.
	longRead       = 1 << 16
	firstReport    = time.Second
	reportInterval = 5 * time.Second
	// retryLimit bounds what a RebuildError tells clients to wait.
	retryLimit = 30 * time.Second
)

// A Rebuild is how far the duplicate index has come with the entries that it lacks: they are read
// from the log, all of them if the index was lost, and then written to the index.
type Rebuild struct {
	Total         int64 // entries that it lacked at the beginning
	Read, Written int64
	Left          time.Duration // at the present rate; 0: not known yet
}

// String says how far the rebuild is, for people.
func (r Rebuild) String() string {
	return fmt.Sprintf("%d of %d entries are read, %d indexed", r.Read, r.Total, r.Written)
}

// A RebuildError reports that the log takes no adds until its duplicate index has caught up. It wraps
// ErrUnavailable.
type RebuildError struct{ Rebuild }

func (e *RebuildError) Error() string {
	return fmt.Sprintf("%v: its duplicate index is being rebuilt: %v", ErrUnavailable, e.Rebuild)
}

// Unwrap makes a RebuildError an ErrUnavailable.
func (e *RebuildError) Unwrap() error { return ErrUnavailable }

// RetryAfter is when to try again.
func (e *RebuildError) RetryAfter() time.Duration { return min(max(e.Left, time.Second), retryLimit) }

// A rebuild is a Rebuild under way.
type rebuild struct {
	total         int64
	began         time.Time
	read, written atomic.Int64
	allRead       atomic.Pointer[time.Time] // when; nil: not yet
}

func (r *rebuild) hasRead(n int) {
	if r.read.Add(int64(n)) == r.total {
		now := time.Now()
		r.allRead.Store(&now)
	}
}

func (r *rebuild) now() Rebuild {
	s := Rebuild{Total: r.total, Read: r.read.Load(), Written: r.written.Load()}
	// What has been done takes nothing any more, and writing is quick.
	done, since := s.Read, r.began
	if t := r.allRead.Load(); t != nil {
		done, since = s.Written, *t
	}
	if done > 0 {
		s.Left = time.Duration(float64(time.Since(since)) * float64(s.Total-done) / float64(done))
	}
	return s
}

// Rebuilding returns how far the duplicate index has come, if it is reading the log at the moment.
func (l *Log) Rebuilding() (Rebuild, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.rebuild == nil {
		return Rebuild{}, false
	}
	return l.rebuild.now(), true
}

// beginRebuild makes the reading of n entries known, in the log too, until end.
func (l *Log) beginRebuild(n int64) (r *rebuild, end func()) {
	r = &rebuild{total: n, began: time.Now()}
	l.mu.Lock()
	l.rebuild = r
	l.mu.Unlock()
	stop := make(chan struct{})
	var reporting sync.WaitGroup
	reporting.Go(func() { l.report(r, stop) })
	return r, func() {
		close(stop)
		reporting.Wait()
		l.mu.Lock()
		l.rebuild = nil
		l.mu.Unlock()
	}
}

// report logs the progress of r until stop.
func (l *Log) report(r *rebuild, stop <-chan struct{}) {
	next := firstReport
	if r.total > longRead {
		next = 0
	}
	for {
		select {
		case <-time.After(next):
		case <-stop:
			return
		}
		now, took := r.now(), time.Since(r.began)
		rate := int64(float64(now.Read) / max(took.Seconds(), 1e-3))
		l.o.Log.Info("rebuilding duplicate index", "origin", l.o.Origin, "total", now.Total, "read", now.Read,
			"indexed", now.Written, "rate", rate, "dur", took)
		next = reportInterval
	}
}

// readLog brings the store to head by reading the entries it lacks.
func (l *Log) readLog(ctx context.Context, head tree) (err error) {
	at := l.index.state()
	from := at.all.size
	at.within = head
	r, end := l.beginRebuild(head.size - from)
	defer end()
	batches := driver.Visit(ctx, l.driver, from, head.size, func(first int64, entries [][]byte) ([]record, error) {
		defer r.hasRead(len(entries))
		return l.o.Kind.records(first, entries)
	})
	if l.o.CacheDir != "" {
		s := &spool{path: filepath.Join(l.o.CacheDir, l.o.Name+".duplicates.sort")}
		defer func() { err = errors.Join(err, s.close()) }()
		for records, err := range batches {
			if err == nil {
				err = s.add(records)
			}
			if err != nil {
				return err
			}
		}
		batches = s.sorted()
	}
	var records []record
	for more, err := range batches {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if records = append(records, more...); len(records) >= readBatch {
			if err := l.put(records, at); err != nil {
				return err
			}
			r.written.Add(int64(len(records)))
			records = records[:0]
		}
	}
	if n := r.written.Load() + int64(len(records)); n != r.total {
		return fmt.Errorf("reading entries: there were %d of %d", n, r.total)
	}
	return l.put(records, progress{head, head})
}

// records returns what the duplicate index holds of the entries from index first on.
func (k Kind) records(first int64, entries [][]byte) ([]record, error) {
	records := make([]record, len(entries))
	for i, e := range entries {
		key, timestamp, err := k.identify(e)
		if err != nil {
			return nil, fmt.Errorf("reading entry %d: %w", first+int64(i), err)
		}
		records[i] = record{key, first + int64(i), timestamp}
	}
	return records, nil
}
