package duplicates

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// A merge makes one run of several, which stay in use until it is done.
type merge struct {
	from    []*run
	readers []*reader // of those that have records left
	to      *writer
	last    [32]byte // key written last
}

// newMerge begins to merge runs of one tier, the oldest first, to one of the next.
func newMerge(dir, name string, from []*run) (_ *merge, err error) {
	m := &merge{from: from}
	var total int64
	for _, r := range from {
		total += r.records
		rd := &reader{run: r}
		if _, err := rd.advance(); err != nil { // no run is empty
			return nil, err
		}
		m.readers = append(m.readers, rd)
	}
	m.to, err = newWriter(filepath.Join(dir, name), name, from[0].tier+1, total)
	return m, err
}

// step merges at most n records and returns how many are left to do of them. When all runs have been
// read, some are.
func (m *merge) step(n int) (left int, err error) {
	for ; n > 0 && len(m.readers) > 0; n-- {
		least := 0
		for i := range m.readers {
			if byKey(m.readers[i].head, m.readers[least].head) < 0 {
				least = i
			}
		}
		r := m.readers[least]
		if m.to.run.records == 0 || r.head.Key != m.last { // of one key the least index counts
			if err := m.to.add(r.head); err != nil {
				return n, err
			}
			m.last = r.head.Key
		}
		more, err := r.advance()
		if err != nil {
			return n, err
		}
		if !more {
			m.readers = slices.Delete(m.readers, least, least+1)
		}
	}
	return n, nil
}

// abandon removes what m has written.
func (m *merge) abandon() error {
	if m.to == nil {
		return nil
	}
	f := m.to.run.file
	if err := errors.Join(f.Close(), os.Remove(f.Name())); err != nil {
		return fmt.Errorf("giving up a merge: %w", err)
	}
	return nil
}

// merge goes on with the merges that are due, those of the smallest runs first, for about n records in
// all. Each record is merged once in each tier, so an n of some times the records that were put keeps up.
func (x *Index) merge(n int) error {
	for tier := 0; tier <= x.runs[0].tier && n > 0; tier++ {
		m := x.merges[tier]
		if m == nil {
			due := x.due(tier)
			if due == nil {
				continue
			}
			var err error
			if m, err = newMerge(x.dir, x.newName("run"), due); err != nil {
				return err
			}
			x.merges[tier] = m
		}
		left, err := m.step(n)
		if err == nil && len(m.readers) == 0 {
			err = x.finish(m)
			delete(x.merges, tier)
		}
		if err != nil {
			delete(x.merges, tier)
			return errors.Join(fmt.Errorf("merging runs: %w", err), m.abandon())
		}
		n = left
	}
	return nil
}

// due returns the oldest runs of the tier if they are enough to be merged.
func (x *Index) due(tier int) []*run {
	var runs []*run
	for _, r := range x.runs {
		if r.tier == tier {
			runs = append(runs, r)
		}
	}
	if len(runs) < fan {
		return nil
	}
	return runs[:fan]
}

// finish puts what m has made in the place of what it was made from.
func (x *Index) finish(m *merge) error {
	r, err := m.to.finish()
	if err != nil {
		return err
	}
	at := slices.Index(x.runs, m.from[0])
	runs := slices.Concat(x.runs[:at], []*run{r}, x.runs[at+len(m.from):])
	if err := x.commit(runs, x.journal, x.base); err != nil {
		return err
	}
	m.to = nil
	x.mu.Lock()
	x.runs = runs
	x.mu.Unlock()
	for _, r := range m.from { // nobody reads them any more
		err = errors.Join(err, r.drop())
	}
	return err
}
