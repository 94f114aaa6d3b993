package driver

import (
	"context"
	"fmt"
	"iter"
	"sync"

	"github.com/transparency-dev/merkle/compact"
	"github.com/transparency-dev/tessera/api/layout"
)

// How many entry bundles Visit has under way: as many as maxAheadBytes hold, if each is as large as
// the one before.
const (
	minAhead      = 4
	maxAhead      = 64
	maxAheadBytes = 16 << 20
)

// A Source is what Visit reads: a Log or a Replica.
type Source interface{ current() *Log }

func (l *Log) current() *Log { return l }

// A visited bundle is what became of it.
type visited[T any] struct {
	value T
	bytes int
	err   error
}

// Visit yields in order what f makes of the committed entries from index from up to but not including
// to: f gets those of one entry bundle at a time, verified as by Entry, and the index of the first. It
// runs ahead for many bundles in parallel, and may keep the entries but not change them. After an
// error Visit ends.
func Visit[T any](ctx context.Context, s Source, from, to int64, f func(first int64, entries [][]byte) (T, error)) iter.Seq2[T, error] {
	l := s.current()
	return func(yield func(T, error) bool) {
		var none T
		if size, _ := l.Head(); from < 0 || to > size {
			yield(none, fmt.Errorf("reading entries %d to %d: the log has %d", from, to, size))
			return
		}
		for v, err := range readAhead(ctx, l, from, to, f) {
			if err != nil {
				yield(none, fmt.Errorf("reading entries %d to %d: %w", from, to, err))
				return
			}
			if !yield(v, nil) {
				return
			}
		}
	}
}

func readAhead[T any](ctx context.Context, l *Log, from, to int64, f func(first int64, entries [][]byte) (T, error)) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var reading sync.WaitGroup
		defer reading.Wait()
		defer cancel()
		next, limit := from/bundleWidth, minAhead
		var ahead []chan visited[T]
		for n := next; n*bundleWidth < to; n++ {
			for ; len(ahead) < limit && next*bundleWidth < to; next++ {
				if err := l.readParent(ctx, next); err != nil {
					yield(visited[T]{}.value, err)
					return
				}
				c, index := make(chan visited[T], 1), next
				reading.Go(func() { c <- visitBundle(ctx, l, index, from, to, f) })
				ahead = append(ahead, c)
			}
			v := <-ahead[0]
			ahead = ahead[1:]
			if !yield(v.value, v.err) || v.err != nil {
				return
			}
			limit = min(max(maxAheadBytes/max(v.bytes, 1), minAhead), maxAhead)
		}
	}
}

// readParent reads what the bundles beside bundle n are checked against, so that not each of them does.
func (l *Log) readParent(ctx context.Context, n int64) error {
	if _, ok := l.bundles.get(n); ok {
		return nil
	}
	_, err := l.tree.node(ctx, compact.NewNodeID(layout.TileHeight, uint64(n)))
	return err
}

// visitBundle calls f for those entries of bundle n that are from from on and below to.
func visitBundle[T any](ctx context.Context, l *Log, n, from, to int64, f func(first int64, entries [][]byte) (T, error)) visited[T] {
	b, err := l.bundle(ctx, n)
	if err != nil {
		return visited[T]{err: err}
	}
	begin := n * bundleWidth
	first := max(from, begin)
	entries := make([][]byte, 0, bundleWidth)
	for i := first; i < min(to, begin+bundleWidth); i++ {
		entries = append(entries, b.entry(int(i-begin)))
	}
	v, err := f(first, entries)
	return visited[T]{v, len(b.data), err}
}
