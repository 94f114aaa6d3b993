package bench

import (
	"bytes"
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"
	"golang.org/x/sync/errgroup"

	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/driver"
)

// fillBatch is how many entries are a record, of 7 MB: most of what one may have. A test makes it smaller.
var fillBatch int64 = 1 << 14

const (
	// fillAhead is how many batches may wait for publication beside the two that are being committed.
	// The driver refuses more than 65,536 entries.
	fillAhead = 1
	// fillPublish spaces publications: each writes the right edge anew.
	fillPublish = 200 * time.Millisecond
	fillSwap    = 1100 * time.Millisecond // what GCS takes of one object
)

// ErrOtherEntries reports a log that has entries of another origin than Fill.
var ErrOtherEntries = errors.New("the log has entries that were not made here")

// FillOptions say what log to make.
type FillOptions struct {
	Bucket  storage.Bucket
	Name    string // the log's objects are below logs/<Name>/ and state/<Name>/
	Origin  string
	Key     ed25519.PrivateKey
	Entries int64  // the size it is to have
	Seed    uint64 // picks the entries; equal seeds make equal entries

	Progress func(done, size int64) // optional
}

// A FillResult is the log as it is published at the end.
type FillResult struct {
	Origin  string  `json:"origin"`
	VKey    string  `json:"vkey"`
	Size    int64   `json:"size"`
	Root    string  `json:"root"` // hexadecimal
	Added   int64   `json:"added"`
	Seconds float64 `json:"seconds"`
}

// Fill makes a log of valid, different signature entries, without the server that checks them, and
// leaves it as the driver does when it hands over: whoever has the key goes on with it. A log that
// an earlier Fill of the same seed left shorter is gone on with; any other is left alone.
func Fill(ctx context.Context, o FillOptions) (_ FillResult, err error) {
	f, err := newFill(ctx, o)
	if err != nil {
		return FillResult{}, fmt.Errorf("filling log %q: %w", o.Name, err)
	}
	began := time.Now()
	from, err := f.run(ctx)
	if err != nil {
		return FillResult{}, fmt.Errorf("filling log %q: %w", o.Name, err)
	}
	p, _ := f.replica.Published()
	if p.Size < o.Entries {
		return FillResult{}, fmt.Errorf("filling log %q: only %d of its %d entries are published yet", o.Name, p.Size, o.Entries)
	}
	return FillResult{
		Origin: o.Origin, VKey: f.vkey, Size: p.Size, Root: fmt.Sprintf("%x", p.Root),
		Added: p.Size - from, Seconds: time.Since(began).Seconds(),
	}, nil
}

// A fill is one call of Fill.
type fill struct {
	o       FillOptions
	corpus  *corpus
	vkey    string
	replica *driver.Replica
}

func newFill(ctx context.Context, o FillOptions) (*fill, error) {
	if o.Bucket == nil || o.Entries < 1 || len(o.Key) != ed25519.PrivateKeySize {
		return nil, errors.New("no bucket, no key or no entries")
	}
	if o.Progress == nil {
		o.Progress = func(int64, int64) {}
	}
	c, err := newCorpus(o.Seed, Keys)
	if err != nil {
		return nil, err
	}
	signer, err := keys.NoteSigner(o.Origin, o.Key)
	if err != nil {
		return nil, err
	}
	f := &fill{o: o, corpus: c, vkey: keys.VKey(o.Origin, keys.AlgEd25519, o.Key.Public().(ed25519.PublicKey))}
	f.replica, err = driver.OpenReplica(ctx, driver.Options{
		Bucket: o.Bucket, Name: o.Name, Origin: o.Origin, Layout: driver.TlogTiles(),
		Signers: []note.Signer{signer}, VKeys: []string{f.vkey},
		BatchMaxSize: int(fillBatch), MaxOutstanding: 4 * int(fillBatch), MaxUnpublished: time.Hour,
		PublishInterval: fillPublish, SwapInterval: fillSwap,
	})
	if err != nil {
		return nil, err
	}
	return f, f.check(ctx) // before anything is written to a log that is none of ours
}

// check fails unless the log is empty or its first and last entries are those of the corpus.
func (f *fill) check(ctx context.Context) error {
	size, _ := f.replica.Head()
	for _, index := range []int64{0, size - 1} {
		if index < 0 || index >= size {
			continue
		}
		want, err := f.corpus.make(index).canonical()
		if err != nil {
			return err
		}
		encoded, err := f.replica.Entry(ctx, index)
		if err != nil {
			return err
		}
		if !bytes.HasSuffix(encoded, want) {
			return fmt.Errorf("%w: entry %d is another", ErrOtherEntries, index)
		}
	}
	return nil
}

// run leads the log until it has its entries, and returns the size it had.
func (f *fill) run(ctx context.Context) (from int64, err error) {
	running, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	go func() { done <- f.replica.Run(running) }()
	for !f.replica.Admits() {
		select {
		case <-time.After(time.Millisecond):
		case err := <-done:
			return 0, cmp.Or(err, context.Cause(ctx))
		}
	}
	err = f.check(ctx) // of what was committed, but not published
	from, _ = f.replica.Head()
	if err == nil {
		err = f.add(ctx, from)
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // of which "not leading" was only what the replica made
	}
	stop()
	return from, errors.Join(err, <-done)
}

// A chunk is a batch of entries that have been added.
type chunk struct {
	first   int64
	futures []tessera.IndexFuture
}

// add adds the entries from index from on, in order. While the next are signed, with all cores, the
// last are being committed.
func (f *fill) add(ctx context.Context, from int64) error {
	g, gctx := errgroup.WithContext(ctx)
	added := make(chan chunk)
	g.Go(func() error {
		defer close(added)
		signing := f.sign(gctx, from)
		for first := from; first < f.o.Entries; first += fillBatch {
			entries, err := signing()
			if err != nil {
				return err
			}
			signing = f.sign(gctx, first+fillBatch)
			c := chunk{first: first}
			for _, e := range entries {
				c.futures = append(c.futures, f.replica.Add(gctx, tessera.NewEntry(e)))
			}
			select {
			case added <- c:
			case <-gctx.Done():
				return nil
			}
		}
		return nil
	})
	g.Go(func() error {
		for c := range added {
			if err := f.settle(gctx, c); err != nil {
				return err
			}
		}
		return context.Cause(gctx)
	})
	return g.Wait()
}

// settle waits until c is committed, and until few enough entries wait for publication.
func (f *fill) settle(ctx context.Context, c chunk) error {
	for i, future := range c.futures {
		want := c.first + int64(i)
		index, err := future()
		if err != nil {
			return fmt.Errorf("adding entry %d: %w", want, err)
		}
		if int64(index.Index) != want {
			return fmt.Errorf("adding entry %d: it has index %d, so another process writes to this log", want, index.Index)
		}
	}
	size := c.first + int64(len(c.futures))
	f.o.Progress(size, f.o.Entries)
	for size > fillAhead*fillBatch {
		_, err := f.replica.Await(ctx, size-fillAhead*fillBatch)
		if !errors.Is(err, driver.ErrNoQuorum) { // late, of a slow store
			return err
		}
	}
	return nil
}

// sign renders the batch of entries from index first on, with all cores, and returns what waits for
// it. It leaves off when ctx ends.
func (f *fill) sign(ctx context.Context, first int64) func() ([][]byte, error) {
	n := max(min(fillBatch, f.o.Entries-first), 0)
	entries := make([][]byte, n)
	errs := make([]error, runtime.GOMAXPROCS(0))
	var signing sync.WaitGroup
	for w := range errs {
		signing.Go(func() {
			for i := int64(w); i < n && ctx.Err() == nil; i += int64(len(errs)) {
				var err error
				if entries[i], err = f.corpus.make(first + i).canonical(); err != nil {
					errs[w] = err
				}
			}
		})
	}
	return func() ([][]byte, error) {
		signing.Wait()
		return entries, errors.Join(append(errs, context.Cause(ctx))...)
	}
}
