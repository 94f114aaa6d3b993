package witness

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/storage"
)

const (
	exportDelay   = 500 * time.Millisecond // an update waits so long for others of the same log
	exportWorkers = 8
	exportNotes   = 1000 // notes that wait in memory; of more logs the state is read again
	exportRetry   = time.Second
	exportRetries = 30 * time.Second // longest time between two tries
	exportTimeout = 10 * time.Second // of one log, and of all when the process ends
)

// An exporter copies the monitoring prefix into a bucket, log by log, as soon as it is durable.
// Whoever signs only marks the log, and goes on: a bucket that is away holds nobody up.
type exporter struct {
	bucket storage.Bucket // nil: nothing is exported
	done   atomic.Int64   // objects written
	failed atomic.Int64   // tries in vain

	mu    sync.Mutex // guards the fields below
	of    map[*entry]*pendingExport
	queue exportQueue // those that no worker has, the next one first
	notes int         // that are in memory
	err   error       // of the last try, nil if it went well
	wake  chan struct{}
}

// A pendingExport is a log whose exported note is behind.
type pendingExport struct {
	entry    *entry
	note     string    // the newest one; "": it is to be read
	since    time.Time // when the oldest update came that is not exported
	due      time.Time
	running  bool // a worker has it
	again    bool // an update came meanwhile
	failures int
}

// exportQueue is a heap by due.
type exportQueue []*pendingExport

func (q exportQueue) Len() int           { return len(q) }
func (q exportQueue) Less(i, j int) bool { return q[i].due.Before(q[j].due) }
func (q exportQueue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *exportQueue) Push(x any)        { *q = append(*q, x.(*pendingExport)) }
func (q *exportQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	old[len(old)-1] = nil
	*q = old[:len(old)-1]
	return x
}

func newExporter(b storage.Bucket) *exporter {
	return &exporter{bucket: b, of: map[*entry]*pendingExport{}, wake: make(chan struct{}, 1)}
}

// mark notes that a log's durable note is this one, or, if note is empty, that it is to be read.
func (x *exporter) mark(e *entry, note string) {
	if x.bucket == nil || e.temporary {
		return
	}
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	p := x.of[e]
	if p == nil {
		p = &pendingExport{entry: e, since: now, due: now.Add(exportDelay)}
		x.of[e] = p
		x.push(p)
	} else if p.running && !p.again {
		p.again, p.since = true, now
	}
	x.hold(p, note)
}

// push queues p. The caller holds x.mu.
func (x *exporter) push(p *pendingExport) {
	heap.Push(&x.queue, p)
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// hold keeps a note for p in memory, unless there are too many. The caller holds x.mu.
func (x *exporter) hold(p *pendingExport, note string) {
	if p.note != "" {
		x.notes--
	}
	p.note = ""
	if x.notes < exportNotes && note != "" {
		p.note = note
		x.notes++
	}
}

// next returns a log that is due, or how long until one is. With all, each is due.
func (x *exporter) next(all bool) (p *pendingExport, note string, wait time.Duration) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.queue) == 0 {
		return nil, "", time.Hour
	}
	if wait := time.Until(x.queue[0].due); wait > 0 && !all {
		return nil, "", wait
	}
	p = heap.Pop(&x.queue).(*pendingExport)
	p.running, note = true, p.note
	x.hold(p, "")
	return p, note, 0
}

// settle ends a worker's turn with p, and reports whether the export fails or works as it did not before.
func (x *exporter) settle(p *pendingExport, err error) (changed bool) {
	now := time.Now()
	x.mu.Lock()
	defer x.mu.Unlock()
	changed = (err == nil) != (x.err == nil)
	x.err, p.running = err, false
	switch {
	case err != nil:
		x.failed.Add(1)
		p.again = false
		x.hold(p, "")
		p.due = now.Add(min(exportRetries, exportRetry<<min(p.failures, 5)))
		p.failures++
	case p.again:
		p.again, p.failures = false, 0
		p.due = now.Add(exportDelay)
	default:
		x.hold(p, "")
		delete(x.of, p.entry)
		return changed
	}
	x.push(p)
	return changed
}

// putBack ends a worker's turn with p that came to nothing because the process ends: it is exported with
// what is left.
func (x *exporter) putBack(p *pendingExport) {
	x.mu.Lock()
	defer x.mu.Unlock()
	p.running, p.again = false, false
	x.hold(p, "")
	x.push(p)
}

// exportStatus is what the status says of the export.
type exportStatus struct {
	Behind  int     `json:"behind"`         // logs whose update is not exported yet
	Oldest  float64 `json:"oldest_seconds"` // how long the oldest such update waits
	Failing bool    `json:"failing"`        // the last try was in vain; why is in the log
}

func (x *exporter) status() exportStatus {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := exportStatus{Behind: len(x.of), Failing: x.err != nil}
	for _, p := range x.of {
		s.Oldest = max(s.Oldest, time.Since(p.since).Seconds())
	}
	return s
}

// runExport exports what is marked until ctx ends, and then what is left.
func (w *Witness) runExport(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(exportWorkers)
	for ctx.Err() == nil {
		p, note, wait := w.exporter.next(false)
		if p != nil {
			g.Go(func() error { w.exportOne(ctx, p, note); return nil })
			continue
		}
		select {
		case <-ctx.Done():
		case <-w.exporter.wake:
		case <-time.After(wait):
		}
	}
	_ = g.Wait() // no error
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), exportTimeout)
	defer cancel()
	for n := w.exporter.pending(); n > 0 && ctx.Err() == nil; n-- {
		if p, note, _ := w.exporter.next(true); p != nil {
			g.Go(func() error { w.exportOne(ctx, p, note); return nil })
		}
	}
	return g.Wait()
}

func (x *exporter) pending() int {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.queue)
}

// exportOne exports a log once.
func (w *Witness) exportOne(ctx context.Context, p *pendingExport, note string) {
	running, cancel := context.WithTimeout(ctx, exportTimeout)
	defer cancel()
	err := w.export(running, p.entry, note)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) { // which says nothing about the bucket
		w.exporter.putBack(p)
		return
	}
	switch changed := w.exporter.settle(p, err); {
	case changed && err != nil:
		w.log.Error("exporting checkpoints; signing goes on, and all of them are tried again", "origin", p.entry.origin, "err", err)
	case changed:
		w.log.Info("checkpoints can be exported again", "origin", p.entry.origin)
	}
}

// exportOptions are those of an exported note: a cache has to ask whether it is still the newest.
func exportOptions(c storage.Condition) storage.PutOptions {
	return storage.PutOptions{If: c, ContentType: "text/plain; charset=utf-8", CacheControl: "no-cache"}
}

func exportKey(hash string) string { return hash + "/checkpoint" }

// export writes a log's newest durable note, which is note if that is given. It never replaces a
// newer one, of another process: as long as nobody else has written, our notes come in their order;
// else the state is read after what is exported, and written over that only.
func (w *Witness) export(ctx context.Context, e *entry, note string) error {
	if version := e.exportedVersion(); note != "" && version != "" {
		err := w.putExport(ctx, e, note, storage.Match(version))
		if !errors.Is(err, storage.ErrPrecondition) {
			return err
		}
	}
	for range maxSwaps {
		data, version, err := w.exporter.bucket.Get(ctx, exportKey(e.hash), storage.Range{})
		condition := storage.Match(version)
		if errors.Is(err, fs.ErrNotExist) {
			condition, err = storage.Absent(), nil
		}
		if err != nil {
			return fmt.Errorf("reading what is exported: %w", err)
		}
		s, stateVersion, err := w.read(ctx, e)
		if err != nil {
			return err
		}
		note, err := w.render(e, s, stateVersion)
		if err != nil {
			return err
		}
		if s.Note == "" && len(data) == 0 || note == string(data) {
			e.setExported(version)
			return nil
		}
		ahead, err := w.checkPublished(e, s.Size, s.Root, data)
		switch {
		case err != nil:
			return err
		case ahead != nil: // whatever an earlier comparison came to
			e.setCompared(0)
			return w.compareAgain(ctx, e)
		}
		if err := w.putExport(ctx, e, note, condition); !errors.Is(err, storage.ErrPrecondition) {
			return err
		}
	}
	return errors.New("another process of this witness is busy with this log")
}

func (w *Witness) putExport(ctx context.Context, e *entry, note string, c storage.Condition) error {
	e.setExported("")
	version, err := w.exporter.bucket.Put(ctx, exportKey(e.hash), []byte(note), exportOptions(c))
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	e.setExported(version)
	w.exporter.done.Add(1)
	return nil
}

func (e *entry) exportedVersion() storage.Version {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.exported
}

func (e *entry) setExported(v storage.Version) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.exported = v
}
