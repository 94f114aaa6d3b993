package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"strings"
	"sync/atomic"
	"time"

	"github.com/transparency-dev/tessera"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
	"tallywood/storage/driver"
)

const benchOrigin = "bench.localhost"

// Requests counts what was asked of a bucket.
type Requests struct {
	Puts    int64 `json:"puts"`
	Gets    int64 `json:"gets"`
	Lists   int64 `json:"lists"`
	Deletes int64 `json:"deletes"` // keys; stores do not charge for them
	Bytes   int64 `json:"bytes"`   // of the objects put
}

func (r Requests) minus(o Requests) Requests {
	return Requests{r.Puts - o.Puts, r.Gets - o.Gets, r.Lists - o.Lists, r.Deletes - o.Deletes, r.Bytes - o.Bytes}
}

type counter64 struct{ puts, gets, lists, deletes, bytes atomic.Int64 }

func (c *counter64) read() Requests {
	return Requests{c.puts.Load(), c.gets.Load(), c.lists.Load(), c.deletes.Load(), c.bytes.Load()}
}

// counted is a bucket whose requests are counted, and whose Puts may take longer.
type counted struct {
	storage.Bucket
	count *counter64
	delay time.Duration
}

func (c counted) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	c.count.gets.Add(1)
	return c.Bucket.Get(ctx, key, r)
}

func (c counted) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	c.count.puts.Add(1)
	c.count.bytes.Add(int64(len(data)))
	if !wait(ctx, c.delay) {
		return "", ctx.Err()
	}
	return c.Bucket.Put(ctx, key, data, o)
}

func (c counted) Delete(ctx context.Context, keys ...string) error {
	c.count.deletes.Add(int64(len(keys)))
	return c.Bucket.Delete(ctx, keys...)
}

func (c counted) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	c.count.lists.Add(1)
	return c.Bucket.List(ctx, prefix)
}

// A slotLog is a log of our driver.
type slotLog struct {
	replica *driver.Replica
	bucket  storage.Bucket
	name    string
	stop    context.CancelFunc
	done    chan error
}

func newSlotLog(ctx context.Context, o StorageOptions, count *counter64) (engine, error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, benchOrigin)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	l := &slotLog{bucket: o.Bucket, name: "bench-" + strings.ToLower(rand.Text()), done: make(chan error, 1)}
	l.replica, err = driver.OpenReplica(ctx, driver.Options{
		Bucket: counted{o.Bucket, count, o.PutLatency}, Name: l.name, Origin: benchOrigin, Layout: driver.TlogTiles(),
		Signers: []note.Signer{signer}, VKeys: []string{vkey}, BatchMaxSize: o.Batch, MaxOutstanding: max(4*o.InFlight, 1024), CommitInterval: o.Commit, PublishInterval: o.Publish,
	})
	if err != nil {
		return nil, errors.Join(err, l.remove(context.WithoutCancel(ctx)))
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stop = stop
	go func() { l.done <- l.replica.Run(running) }()
	for {
		_, leading, changed := l.replica.Term()
		if leading {
			return l, nil
		}
		select {
		case <-changed:
		case err := <-l.done:
			stop()
			return nil, errors.Join(err, errors.New("the log ended"), l.remove(context.WithoutCancel(ctx)))
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), l.close(context.WithoutCancel(ctx)))
		}
	}
}

func (l *slotLog) add(ctx context.Context, e *tessera.Entry) tessera.IndexFuture {
	return l.replica.Add(ctx, e)
}

func (l *slotLog) published(context.Context) (int64, error) {
	p, _ := l.replica.Published()
	return p.Size, nil
}

func (l *slotLog) close(ctx context.Context) error {
	l.stop()
	return errors.Join(<-l.done, l.remove(ctx))
}

// remove removes what is stored of the log.
func (l *slotLog) remove(ctx context.Context) error {
	var errs []error
	for _, prefix := range []string{"logs/" + l.name + "/", "state/" + l.name + "/"} {
		var keys []string
		for key, err := range l.bucket.List(ctx, prefix) {
			if err != nil {
				errs = append(errs, err)
				break
			}
			keys = append(keys, key)
		}
		errs = append(errs, l.bucket.Delete(ctx, keys...))
	}
	return errors.Join(errs...)
}
