package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"
	"time"

	"golang.org/x/mod/sumdb/tlog"
	"golang.org/x/sync/errgroup"

	"tallywood/monitor/rule"
)

// readAhead is how many entry bundles are fetched, hashed and matched at once.
const readAhead = 8

// A scanned entry bundle. Nothing in it is bound to a root yet.
type scanned struct {
	n         int64 // number of the bundle
	leaves    []tlog.Hash
	hits      []hit // entries that somebody may want to hear of, in order
	malformed []hit // entries that cannot be parsed and concern nobody, in order
	raw       file  // as received
	err       error // why the bytes cannot be what was asked for
	width     int   // entries asked for
}

// A hit is an entry worth reporting.
type hit struct {
	index    int64
	entry    []byte
	leaf     tlog.Hash
	decoded  decoded
	matches  []rule.Match   // identities that it concerns, judged when it is bound to the root
	findings []rule.Finding // what is to be reported
	waits    []deferred     // what is to be reported if nothing explains it in time
	err      error          // why it could not be parsed, if so
}

// scan fetches entry bundle n with its first width entries and judges those from index from on.
// Its error says that nothing was fetched; bytes that make no sense are the result's err.
func (t *tail) scan(ctx context.Context, n int64, width int, from int64, fresh bool) (*scanned, error) {
	raw, entries, wrong, err := t.source.bundle(ctx, t.layout, n, width, fresh)
	if err != nil {
		return nil, err
	}
	s := &scanned{n: n, width: width, raw: raw, err: wrong}
	if wrong != nil {
		return s, nil
	}
	for i, e := range entries {
		leaf, err := t.layout.leafHash(e)
		if err != nil {
			s.err = fmt.Errorf("hashing entry %d: %w", n*bundleWidth+int64(i), err)
			return s, nil
		}
		s.leaves = append(s.leaves, leaf)
		if index := n*bundleWidth + int64(i); index >= from {
			s.judge(t, index, e, leaf)
		}
	}
	return s, nil
}

// bundle fetches entry bundle n and returns its first width entries, which are in the memory of raw:
// whoever needs neither any more may give that to s.buffers. err says that nothing was fetched; wrong
// says why the bytes cannot be what was asked for.
func (s *source) bundle(ctx context.Context, l layout, n int64, width int, fresh bool) (raw file, entries [][]byte, wrong, err error) {
	path := tilePath(l.dir, n, width)
	buf := s.buffers.take()
	data, err := s.getInto(ctx, buf, path, l.limit, fresh)
	whole := false
	if errors.Is(err, fs.ErrNotExist) && width < bundleWidth {
		full := tilePath(l.dir, n, bundleWidth)
		if all, fullErr := s.getInto(ctx, buf, full, l.limit, fresh); fullErr == nil {
			path, data, whole, err = full, all, true, nil
		}
	}
	if err != nil {
		s.buffers.give(buf)
		return raw, nil, nil, err
	}
	raw = file{name: evidenceName(path), data: data, url: path, at: time.Now()}
	entries, wrong = l.split(data)
	switch {
	case wrong != nil:
		return raw, nil, wrong, nil
	case len(entries) < width || len(entries) > width && !whole:
		return raw, nil, fmt.Errorf("entry bundle of %d entries, %d were asked for", len(entries), width), nil
	}
	return raw, entries[:width], nil, nil
}

// judge matches one entry. What is kept of it is copied and read again: the bundle's memory is for the
// next one, and it is far larger than an entry.
func (s *scanned) judge(t *tail, index int64, e []byte, leaf tlog.Hash) {
	d, err := t.layout.decode(t.certificate, index, e)
	matches := t.rules.Match(&d.entry)
	if err == nil && len(matches) == 0 {
		return
	}
	e = bytes.Clone(e)
	d, err = t.layout.decode(t.certificate, index, e)
	h := hit{index: index, leaf: leaf, decoded: d, matches: matches, err: err}
	if err != nil {
		for _, f := range t.rules.MatchBytes(e) {
			if !slices.ContainsFunc(h.matches, func(m rule.Match) bool { return m.Identity == f.Identity && len(m.Reasons) > 0 }) {
				h.findings = append(h.findings, f)
			}
		}
	}
	switch {
	case len(h.matches)+len(h.findings) > 0:
		h.entry = e
		s.hits = append(s.hits, h)
	case !t.limits.on(rule.LogMalformedEntry):
	case err != nil && len(s.malformed) == 0:
		h.entry = e
		s.malformed = append(s.malformed, h)
	case err != nil: // the first stands for all of the bundle
		s.malformed = append(s.malformed, hit{index: index})
	}
}

// buffers are the memory of entry bundles that were taken, for the next ones. The zero value has none.
type buffers struct {
	mu   sync.Mutex
	free [][]byte
}

// maxBuffer is the size of a buffer that is kept: bundles of certificates are smaller.
const maxBuffer = 2 << 20

// take returns a buffer, nil if there is none.
func (b *buffers) take() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.free)
	if n == 0 {
		return nil
	}
	buf := b.free[n-1]
	b.free = b.free[:n-1]
	return buf
}

// give takes a buffer back, which nobody looks at any more.
func (b *buffers) give(buf []byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if cap(buf) > 0 && cap(buf) <= maxBuffer && len(b.free) < readAhead {
		b.free = append(b.free, buf)
	}
}

// drop forgets all buffers.
func (b *buffers) drop() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.free = nil
}

// inOrder calls produce for from..to-1, up to ahead at once, and consume with the results in
// order. It returns the first error of either, once nothing it started runs any more.
//
//	produce(from) ─┐
//	produce(… )   ─┼─> queue of result channels, in order ─> consume
//	produce(to-1) ─┘
func inOrder[T any](ctx context.Context, from, to int64, ahead int,
	produce func(context.Context, int64) (T, error), consume func(T) error) error {
	type result struct {
		value T
		err   error
	}
	g, ctx := errgroup.WithContext(ctx)
	queue := make(chan chan result, ahead)
	slots := make(chan struct{}, ahead) // held from the start of a produce to the end of its consume
	g.Go(func() error {
		defer close(queue)
		for n := from; n < to; n++ {
			select {
			case slots <- struct{}{}:
			case <-ctx.Done():
				return ctx.Err()
			}
			c := make(chan result, 1)
			queue <- c // never blocks: it is as long as there are slots
			g.Go(func() error {
				v, err := produce(ctx, n)
				c <- result{v, err}
				return nil
			})
		}
		return nil
	})
	g.Go(func() error {
		for c := range queue {
			r := <-c
			if r.err != nil {
				return r.err
			}
			if err := consume(r.value); err != nil {
				return err
			}
			<-slots
		}
		return nil
	})
	return g.Wait()
}
