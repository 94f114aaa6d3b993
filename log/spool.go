package log

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
)

// spoolRun is how many records a spool has in memory, 12 MB of them. A test makes it smaller.
var spoolRun = 1 << 18

const (
	spooledRecord = 32 + 8 + 8
	spoolBuffer   = 16 << 10 // bytes of each run in memory while they are merged
)

// A spool sorts records by key, and those of one key by index, however many they are: in memory, and
// beyond spoolRun in runs in a file. Written to a B+tree in that order they fill one page after the
// other; in any other order each touches a page of its own, of a tree that soon does not fit into
// memory.
type spool struct {
	path string
	file *os.File // nil while all is in memory
	runs []int64  // how many records each run has
	buf  []record
}

// add takes records in.
func (s *spool) add(records []record) error {
	s.buf = append(s.buf, records...)
	if len(s.buf) < spoolRun {
		return nil
	}
	return s.write()
}

// write makes the records in memory a run.
func (s *spool) write() (err error) {
	if s.file == nil {
		if s.file, err = os.OpenFile(s.path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600); err != nil {
			return fmt.Errorf("creating file to sort in: %w", err)
		}
	}
	slices.SortFunc(s.buf, byKey)
	w := bufio.NewWriterSize(s.file, 1<<20)
	var b [spooledRecord]byte
	for i := range s.buf {
		r := &s.buf[i]
		copy(b[:], r.key[:])
		binary.BigEndian.PutUint64(b[32:], uint64(r.index))
		binary.BigEndian.PutUint64(b[40:], r.timestamp)
		if _, err := w.Write(b[:]); err != nil {
			return fmt.Errorf("writing file to sort in: %w", err)
		}
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("writing file to sort in: %w", err)
	}
	s.runs = append(s.runs, int64(len(s.buf)))
	s.buf = s.buf[:0]
	return nil
}

// sorted yields all records in order, some at a time, in memory that is used again.
func (s *spool) sorted() iter.Seq2[[]record, error] {
	return func(yield func([]record, error) bool) {
		m, err := s.open()
		if err != nil {
			yield(nil, err)
			return
		}
		var some [1024]record
		n := 0
		for len(m) > 0 {
			some[n] = m[0].head
			n++
			more, err := m[0].next()
			switch {
			case err != nil:
				yield(nil, err)
				return
			case more:
				heap.Fix(&m, 0)
			default:
				heap.Pop(&m)
			}
			if n == len(some) || len(m) == 0 {
				if !yield(some[:n], nil) {
					return
				}
				n = 0
			}
		}
	}
}

// open returns the runs that have a record, each at its first.
func (s *spool) open() (merge, error) {
	slices.SortFunc(s.buf, byKey)
	runs := []run{{rest: s.buf}}
	begin := int64(0)
	for _, n := range s.runs {
		part := io.NewSectionReader(s.file, begin*spooledRecord, n*spooledRecord)
		runs = append(runs, run{file: bufio.NewReaderSize(part, spoolBuffer)})
		begin += n
	}
	var m merge
	for _, r := range runs {
		more, err := r.next()
		if err != nil {
			return nil, err
		}
		if more {
			m = append(m, r)
		}
	}
	heap.Init(&m)
	return m, nil
}

// close forgets all records.
func (s *spool) close() error {
	if s.file == nil {
		return nil
	}
	return errors.Join(s.file.Close(), os.Remove(s.path))
}

// A run is sorted: in a file, or in memory.
type run struct {
	head record
	file *bufio.Reader
	rest []record
}

// next makes head the next record and reports whether there is one.
func (r *run) next() (bool, error) {
	if r.file == nil {
		if len(r.rest) == 0 {
			return false, nil
		}
		r.head, r.rest = r.rest[0], r.rest[1:]
		return true, nil
	}
	var b [spooledRecord]byte
	if _, err := io.ReadFull(r.file, b[:]); errors.Is(err, io.EOF) {
		return false, nil
	} else if err != nil {
		return false, fmt.Errorf("reading file to sort in: %w", err)
	}
	r.head = record{
		key: [32]byte(b[:32]), index: int64(binary.BigEndian.Uint64(b[32:])), timestamp: binary.BigEndian.Uint64(b[40:]),
	}
	return true, nil
}

// merge is the heap.Interface of runs by their heads.
type merge []run

func (m merge) Len() int           { return len(m) }
func (m merge) Less(i, j int) bool { return byKey(m[i].head, m[j].head) < 0 }
func (m merge) Swap(i, j int)      { m[i], m[j] = m[j], m[i] }
func (m *merge) Push(x any)        { *m = append(*m, x.(run)) }
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}

func byKey(a, b record) int {
	if c := bytes.Compare(a.key[:], b.key[:]); c != 0 {
		return c
	}
	return cmp.Compare(a.index, b.index)
}
