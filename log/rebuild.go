package log

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/log/duplicates"
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
// from the log, all of them if the index was lost, and written to the index some at a time.
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
}

func (r *rebuild) now() Rebuild {
	s := Rebuild{Total: r.total, Read: r.read.Load(), Written: r.written.Load()}
	if s.Read > 0 {
		s.Left = time.Duration(float64(time.Since(r.began)) * float64(s.Total-s.Read) / float64(s.Read))
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
func (l *Log) readLog(ctx context.Context, head duplicates.Tree) error {
	at := l.index.State()
	from := at.All.Size
	at.Within = head
	r, end := l.beginRebuild(head.Size - from)
	defer end()
	batches := driver.Visit(ctx, l.driver, from, head.Size, func(first int64, entries [][]byte) ([]duplicates.Record, error) {
		defer r.read.Add(int64(len(entries)))
		return l.o.Kind.records(first, entries)
	})
	var records []duplicates.Record
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
	return l.put(records, duplicates.Progress{All: head, Within: head})
}

// records returns what the duplicate index holds of the entries from index first on.
func (k Kind) records(first int64, entries [][]byte) ([]duplicates.Record, error) {
	records := make([]duplicates.Record, len(entries))
	for i, e := range entries {
		key, timestamp, err := k.identify(e)
		if err != nil {
			return nil, fmt.Errorf("reading entry %d: %w", first+int64(i), err)
		}
		records[i] = duplicates.Record{Key: key, Index: first + int64(i), Timestamp: timestamp}
	}
	return records, nil
}
