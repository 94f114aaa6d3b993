package duplicates

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"sort"
	"sync"
)

// The file of a run is made of pages with its records, sorted by key and none twice, and an end:
//
//	page   CRC-32C of the rest of it | records, as many as fit | zeros up to pageBytes
//	record key (32) | index (8) | timestamp (8)
//	end    first 8 bytes of the first key of each page | filter, if there is one
//	trailer records (8) | bytes of the filter (8) | CRC-32C of the end and what is before here in the trailer
//
// Numbers are big-endian.
const (
	pageBytes   = 4096
	recordBytes = 32 + 8 + 8
	pageRecords = (pageBytes - 4) / recordBytes
	trailer     = 8 + 8 + 4

	// filterLimit is how many records a run with a filter may have. Larger ones would take too much
	// memory; so each key that an index of as many entries has not got costs one page for each of them.
	filterLimit = 1 << 23
	// syncBytes is how much is written to a file before it is synced, so that the last sync is short.
	syncBytes = 16 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// A run is a file of sorted records.
type run struct {
	name    string
	tier    int
	records int64
	file    *os.File
	fences  []uint64 // how the first key of each page begins
	filter  filter   // nil: there is none
}

// openRun opens the file at path and checks its end. Everything wrong with it wraps ErrDamaged.
func openRun(path, name string, tier int) (_ *run, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("%w: opening run: %w", ErrDamaged, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("%w: run %s: %w", ErrDamaged, name, err), f.Close())
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var t [trailer]byte
	if _, err := f.ReadAt(t[:], max(info.Size()-trailer, 0)); err != nil {
		return nil, err
	}
	records, filtered := binary.BigEndian.Uint64(t[:]), binary.BigEndian.Uint64(t[8:])
	// What follows keeps the sizes, which nothing vouches for yet, from being more than the file has.
	if records == 0 || records > uint64(info.Size()) || filtered > uint64(info.Size()) || filtered%blockBytes != 0 {
		return nil, errors.New("sizes at its end are impossible")
	}
	r := &run{name: name, tier: tier, records: int64(records), file: f}
	begin := r.pages() * pageBytes
	end := make([]byte, r.pages()*8+int64(filtered))
	if begin+int64(len(end))+trailer != info.Size() {
		return nil, errors.New("sizes at its end do not add up")
	}
	if _, err := f.ReadAt(end, begin); err != nil {
		return nil, err
	}
	if sum := crc32.Update(crc32.Checksum(end, castagnoli), castagnoli, t[:16]); sum != binary.BigEndian.Uint32(t[16:]) {
		return nil, errors.New("checksum of its end is wrong")
	}
	r.fences = make([]uint64, r.pages())
	for i := range r.fences {
		r.fences[i] = binary.BigEndian.Uint64(end[8*i:])
	}
	if filtered > 0 {
		r.filter = bytes.Clone(end[len(end)-int(filtered):])
	}
	return r, nil
}

func (r *run) pages() int64 { return (r.records + pageRecords - 1) / pageRecords }

// page reads the nth page into buf and returns its records.
func (r *run) page(n int64, buf *[pageBytes]byte) ([]byte, error) {
	if _, err := r.file.ReadAt(buf[:], n*pageBytes); err != nil {
		return nil, fmt.Errorf("%w: reading page %d of run %s: %w", ErrDamaged, n, r.name, err)
	}
	if crc32.Checksum(buf[4:], castagnoli) != binary.BigEndian.Uint32(buf[:]) {
		return nil, fmt.Errorf("%w: checksum of page %d of run %s is wrong", ErrDamaged, n, r.name)
	}
	return buf[4:][:recordBytes*min(pageRecords, r.records-n*pageRecords)], nil
}

var pageBuffers = sync.Pool{New: func() any { return new([pageBytes]byte) }}

// get returns the record of key.
func (r *run) get(key *[32]byte) (record Record, found bool, err error) {
	if r.filter != nil && !r.filter.mayHave(key) {
		return record, false, nil
	}
	prefix := binary.BigEndian.Uint64(key[:])
	// The key may be in the page before the first that begins with it, or in those that do.
	n := sort.Search(len(r.fences), func(i int) bool { return r.fences[i] >= prefix })
	buf := pageBuffers.Get().(*[pageBytes]byte)
	defer pageBuffers.Put(buf)
	for n = max(n-1, 0); n < len(r.fences) && r.fences[n] <= prefix; n++ {
		page, err := r.page(int64(n), buf)
		if err != nil {
			return record, false, err
		}
		i, found := sort.Find(len(page)/recordBytes, func(i int) int {
			return bytes.Compare(key[:], page[i*recordBytes:][:32])
		})
		if found {
			return decodeRecord(page[i*recordBytes:]), true, nil
		}
	}
	return record, false, nil
}

func (r *Record) append(b []byte) []byte {
	b = append(b, r.Key[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(r.Index))
	return binary.BigEndian.AppendUint64(b, r.Timestamp)
}

func decodeRecord(b []byte) Record {
	return Record{[32]byte(b), int64(binary.BigEndian.Uint64(b[32:])), binary.BigEndian.Uint64(b[40:])}
}

// A reader reads a run from its beginning.
type reader struct {
	run  *run
	next int64 // page
	buf  [pageBytes]byte
	page []byte // records that are left of it
	head Record
}

// advance makes head the next record and reports whether there is one.
func (r *reader) advance() (more bool, err error) {
	if len(r.page) == 0 {
		if r.next == r.run.pages() {
			return false, nil
		}
		if r.page, err = r.run.page(r.next, &r.buf); err != nil {
			return false, err
		}
		r.next++
	}
	r.head, r.page = decodeRecord(r.page), r.page[recordBytes:]
	return true, nil
}

// A writer makes a run of records that come sorted.
type writer struct {
	run      *run
	buf      []byte // the page that is being filled
	unsynced int
}

// newWriter begins a run of at most the given number of records.
func newWriter(path, name string, tier int, atMost int64) (*writer, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating run: %w", err)
	}
	w := &writer{run: &run{name: name, tier: tier, file: f}, buf: make([]byte, 4, pageBytes)}
	if atMost <= filterLimit {
		w.run.filter = newFilter(atMost)
	}
	return w, nil
}

func (w *writer) add(r Record) error {
	if len(w.buf) == 4 {
		w.run.fences = append(w.run.fences, binary.BigEndian.Uint64(r.Key[:]))
	}
	w.buf = r.append(w.buf)
	if w.run.filter != nil {
		w.run.filter.add(&r.Key)
	}
	w.run.records++
	if w.run.records%pageRecords != 0 {
		return nil
	}
	return w.writePage()
}

func (w *writer) writePage() error {
	used := len(w.buf)
	w.buf = w.buf[:pageBytes]
	clear(w.buf[used:])
	binary.BigEndian.PutUint32(w.buf, crc32.Checksum(w.buf[4:], castagnoli))
	err := w.write(w.buf)
	w.buf = w.buf[:4]
	return err
}

func (w *writer) write(b []byte) error {
	if _, err := w.run.file.Write(b); err != nil {
		return fmt.Errorf("writing run: %w", err)
	}
	if w.unsynced += len(b); w.unsynced < syncBytes {
		return nil
	}
	w.unsynced = 0
	if err := w.run.file.Sync(); err != nil {
		return fmt.Errorf("syncing run: %w", err)
	}
	return nil
}

// finish completes the file and returns the run.
func (w *writer) finish() (*run, error) {
	if len(w.buf) > 4 {
		if err := w.writePage(); err != nil {
			return nil, err
		}
	}
	var end []byte
	for _, f := range w.run.fences {
		end = binary.BigEndian.AppendUint64(end, f)
	}
	end = append(end, w.run.filter...)
	end = binary.BigEndian.AppendUint64(end, uint64(w.run.records))
	end = binary.BigEndian.AppendUint64(end, uint64(len(w.run.filter)))
	end = binary.BigEndian.AppendUint32(end, crc32.Checksum(end, castagnoli))
	if err := w.write(end); err != nil {
		return nil, err
	}
	if err := w.run.file.Sync(); err != nil {
		return nil, fmt.Errorf("syncing run: %w", err)
	}
	return w.run, nil
}

// drop closes and removes the file of a run that is not needed any more.
func (r *run) drop() error {
	err := errors.Join(r.file.Close(), os.Remove(r.file.Name()))
	if err != nil {
		return fmt.Errorf("removing run: %w", err)
	}
	return nil
}
