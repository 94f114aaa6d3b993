package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
)

// StorageOptions say how to load a log through its storage driver, without HTTP and witnesses.
type StorageOptions struct {
	Bucket     storage.Bucket
	PutLatency time.Duration // added to every Put, as a far store has it; default 0
	Batch      int           // entries per batch at most; default 4,096
	InFlight   int           // adds under way at most; default twice Batch
	Commit     time.Duration // from one commit to the next, but for a full batch; default 0
	Publish    time.Duration // from one publication to the next; default 0: as soon as that is done
	Rate       float64       // adds per second, evenly spaced; default 0: as fast as they end
	Size       int           // bytes of an entry; default 1,024
	Duration   time.Duration // of a run, after Warmup; default 10 s
	Warmup     time.Duration // default 1 s
	Idle       time.Duration // how long to count the requests of an idle log afterwards; default 0: not

	PeerDir string // a directory for logs of Tessera's own POSIX driver, to measure in turns; optional
	Pairs   int    // runs of each, with PeerDir; default and least 5
}

func (o *StorageOptions) init() error {
	or(&o.Batch, 4096)
	or(&o.InFlight, 2*o.Batch)
	or(&o.Size, 1024)
	or(&o.Duration, 10*time.Second)
	or(&o.Warmup, time.Second)
	or(&o.Pairs, minPairs)
	var errs []error
	if o.Bucket == nil {
		errs = append(errs, errors.New("no bucket"))
	}
	if o.Batch < 1 || o.InFlight < 1 || o.Rate < 0 || o.PutLatency < 0 || o.Commit < 0 || o.Publish < 0 || o.Size < 16 || o.Size > 65_000 {
		errs = append(errs, errors.New("batch and adds in flight are at least 1, entries 16 to 65,000 bytes long, rate and times not negative"))
	}
	if o.PeerDir != "" && o.Pairs < minPairs {
		errs = append(errs, fmt.Errorf("%d pairs, and fewer than %d say nothing", o.Pairs, minPairs))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w: %w", ErrOptions, err)
	}
	return nil
}

// An engine is a log under load.
type engine interface {
	// add returns the future of an entry's durable index.
	add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture
	// published returns the size of the newest checkpoint that receipts may carry.
	published(ctx context.Context) (int64, error)
	// close ends the log and removes it.
	close(ctx context.Context) error
}

// A StorageResult is one run. Times are in milliseconds.
type StorageResult struct {
	Name      string   `json:"name"`
	Entries   int      `json:"entries"`
	Seconds   float64  `json:"seconds"`
	PerSecond float64  `json:"per_second"`
	Durable   Latency  `json:"durable"`   // from Add to the durable index
	Published Latency  `json:"published"` // from Add to a checkpoint that covers the entry
	CPU       float64  `json:"cpu_ms_per_entry"`
	Written   int64    `json:"written_bytes_per_entry"` // to this machine's disks, the entry included
	Requests  Requests `json:"requests"`
	Idle      Requests `json:"idle"` // in IdleTime
	IdleTime  float64  `json:"idle_seconds"`
	Errors    int      `json:"errors"` // adds that failed
}

// Storage measures one driver, or with PeerDir two in turns.
func Storage(ctx context.Context, o StorageOptions) ([]StorageResult, error) {
	if err := o.init(); err != nil {
		return nil, err
	}
	var out []StorageResult
	runs := 1
	if o.PeerDir != "" {
		runs = o.Pairs
	}
	for range runs {
		r, err := measure(ctx, o, "tallywood", newSlotLog)
		if err != nil {
			return nil, fmt.Errorf("measuring tallywood: %w", err)
		}
		out = append(out, r)
		if o.PeerDir == "" {
			continue
		}
		if r, err = measure(ctx, o, "tessera posix", newTesseraPOSIX); err != nil {
			return nil, fmt.Errorf("measuring Tessera's POSIX driver: %w", err)
		}
		out = append(out, r)
	}
	return out, nil
}

// measure makes a new log, loads it and removes it.
func measure(ctx context.Context, o StorageOptions, name string, open func(context.Context, StorageOptions, *counter64) (engine, error)) (_ StorageResult, err error) {
	count := new(counter64)
	e, err := open(ctx, o, count)
	if err != nil {
		return StorageResult{}, err
	}
	closed := false
	defer func() {
		if !closed {
			err = errors.Join(err, e.close(context.WithoutCancel(ctx)))
		}
	}()
	l := newStorageLoad(o, e)
	l.run(ctx, o.Warmup)
	l.reset()
	requests := count.read()
	before, err := readProcess(os.Getpid())
	if err != nil {
		return StorageResult{}, err
	}
	elapsed := l.run(ctx, o.Duration)
	after, err := readProcess(os.Getpid())
	if err != nil {
		return StorageResult{}, err
	}
	if ctx.Err() != nil {
		return StorageResult{}, context.Cause(ctx) // what was measured is no measurement
	}
	r := l.result(name, elapsed)
	if r.Entries == 0 {
		return r, errors.Join(errors.New("no entry was added"), l.lastError())
	}
	r.CPU = milliseconds(after.cpu-before.cpu) / float64(r.Entries)
	r.Written = (after.written - before.written) / int64(r.Entries)
	r.Requests = count.read().minus(requests)
	if o.Idle > 0 {
		requests = count.read()
		if !wait(ctx, o.Idle) {
			return StorageResult{}, context.Cause(ctx)
		}
		r.Idle, r.IdleTime = count.read().minus(requests), o.Idle.Seconds()
	}
	closed = true
	return r, e.close(context.WithoutCancel(ctx))
}

// adderCount is how many goroutines keep adds under way, each of them many.
const adderCount = 64

// A storageLoad adds entries and takes the times.
type storageLoad struct {
	o      StorageOptions
	engine engine

	mu        sync.Mutex
	durable   []time.Duration
	pending   []addedEntry // durable, not published; by index only roughly
	published []time.Duration
	errors    int
	err       error
}

type addedEntry struct {
	index int64
	began time.Time
}

func newStorageLoad(o StorageOptions, e engine) *storageLoad { return &storageLoad{o: o, engine: e} }

func (l *storageLoad) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.durable, l.published, l.pending, l.errors = nil, nil, nil, 0
}

// run adds for d and waits until all of it is published, within a bound. It returns how long the
// adding took, up to the last durable index.
func (l *storageLoad) run(ctx context.Context, d time.Duration) time.Duration {
	began := time.Now()
	end := began.Add(d)
	watching, stop := context.WithCancel(ctx)
	var watcher, adders sync.WaitGroup
	watcher.Go(func() { l.watch(watching) })
	if l.o.Rate > 0 {
		l.addEvenly(ctx, began, end, &adders)
	} else {
		for i := range adderCount {
			adders.Go(func() { l.addAlways(ctx, end, (l.o.InFlight+i)/adderCount) })
		}
	}
	adders.Wait()
	elapsed := time.Since(began)
	for bound := time.Now().Add(10 * time.Second); l.unpublished() > 0 && time.Now().Before(bound) && ctx.Err() == nil; {
		wait(ctx, 5*time.Millisecond)
	}
	stop()
	watcher.Wait()
	return elapsed
}

// addEvenly adds entries at the rate, whether or not those before have ended, up to InFlight.
func (l *storageLoad) addEvenly(ctx context.Context, began, end time.Time, adders *sync.WaitGroup) {
	free := make(chan struct{}, l.o.InFlight)
	for n := 0; ; n++ {
		at := began.Add(time.Duration(float64(n) / l.o.Rate * float64(time.Second)))
		if at.After(end) || !wait(ctx, time.Until(at)) {
			return
		}
		select {
		case free <- struct{}{}:
		case <-ctx.Done():
			return
		}
		added := l.add(ctx)
		adders.Go(func() {
			l.await(ctx, added)
			<-free
		})
	}
}

// addAlways keeps n adds under way. One goroutine does so for many, whose stacks would otherwise cost
// more than the log: entries become durable in the order in which they were added. There are n at
// least, however late they begin.
func (l *storageLoad) addAlways(ctx context.Context, end time.Time, n int) {
	var under []adding
	for once := true; ctx.Err() == nil && n > 0; once = false {
		now := time.Now()
		for len(under) < n && (once || now.Before(end)) {
			under = append(under, l.add(ctx))
		}
		if len(under) == 0 {
			return
		}
		l.await(ctx, under[0])
		under = under[1:]
	}
}

// An adding is an add under way.
type adding struct {
	future tessera.IndexFuture
	began  time.Time
}

// add adds an entry that is like no other.
func (l *storageLoad) add(ctx context.Context) adding {
	data := make([]byte, l.o.Size)
	for i := 0; i+8 <= len(data); i += 8 {
		binary.LittleEndian.PutUint64(data[i:], rand.Uint64())
	}
	began := time.Now()
	return adding{l.engine.add(ctx, tessera.NewEntry(data)), began}
}

// await takes the time at which an add ended.
func (l *storageLoad) await(ctx context.Context, a adding) {
	index, err := a.future()
	took := time.Since(a.began)
	l.mu.Lock()
	if err != nil {
		l.errors++
		l.err = err
	} else {
		l.durable = append(l.durable, took)
		l.pending = append(l.pending, addedEntry{int64(index.Index), a.began})
	}
	l.mu.Unlock()
	if err != nil { // it asks for a pause
		wait(ctx, 10*time.Millisecond)
	}
}

// watch takes the times of publication.
func (l *storageLoad) watch(ctx context.Context) {
	for wait(ctx, time.Millisecond) {
		size, err := l.engine.published(ctx)
		if err != nil {
			continue
		}
		now := time.Now()
		l.mu.Lock()
		l.pending = slices.DeleteFunc(l.pending, func(a addedEntry) bool {
			if a.index < size {
				l.published = append(l.published, now.Sub(a.began))
			}
			return a.index < size
		})
		l.mu.Unlock()
	}
}

func (l *storageLoad) unpublished() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending)
}

func (l *storageLoad) lastError() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *storageLoad) result(name string, elapsed time.Duration) StorageResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	slices.Sort(l.durable)
	slices.Sort(l.published)
	return StorageResult{
		Name: name, Entries: len(l.durable), Seconds: elapsed.Seconds(),
		PerSecond: float64(len(l.durable)) / elapsed.Seconds(),
		Durable:   latency(l.durable), Published: latency(l.published), Errors: l.errors,
	}
}

func latency(sorted []time.Duration) Latency {
	return Latency{
		P50: percentile(sorted, 50), P95: percentile(sorted, 95),
		P99: percentile(sorted, 99), Max: percentile(sorted, 100),
	}
}

// wait waits for d and reports whether ctx still goes on.
func wait(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
