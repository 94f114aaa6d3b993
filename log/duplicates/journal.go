package duplicates

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
)

// A journal has what is in memory only, in frames, one for each Put:
//
//	frame  CRC-32C (4) | records (4) | sizes and roots of the progress (2 * 40) | records
//
// The checksum goes on from that of the frame before, the first from the journal's seed. So what is
// left of another journal, or comes after a frame that was lost, is never taken for a part of this one.
const frameHeader = 4 + 4 + 2*40

type journal struct {
	file *os.File
	name string
	seed uint32
	sum  uint32 // of the last frame
	end  int64  // of the last frame
	buf  []byte
}

func createJournal(path, name string, seed uint32) (*journal, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("creating journal: %w", err)
	}
	return &journal{file: f, name: name, seed: seed, sum: seed}, nil
}

// openJournal gives each whole frame to f, and drops what follows.
func openJournal(path, name string, seed uint32, f func(records []Record, p Progress)) (*journal, error) {
	file, err := os.OpenFile(path, os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: opening journal: %w", ErrDamaged, err)
	}
	j := &journal{file: file, name: name, seed: seed, sum: seed}
	for {
		records, p, err := j.read()
		if errors.Is(err, io.EOF) {
			return j, nil
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("reading journal: %w", err), file.Close())
		}
		f(records, p)
	}
}

// read returns what the next frame has, or io.EOF if there is none that is whole.
func (j *journal) read() (records []Record, p Progress, err error) {
	var header [frameHeader]byte
	if _, err := j.file.ReadAt(header[:], j.end); err != nil {
		return nil, p, err
	}
	n := int64(binary.BigEndian.Uint32(header[4:]))
	info, err := j.file.Stat()
	if err != nil {
		return nil, p, err
	}
	if info.Size() < j.end+frameHeader+n*recordBytes {
		return nil, p, io.EOF
	}
	body := make([]byte, n*recordBytes)
	if _, err := j.file.ReadAt(body, j.end+frameHeader); err != nil {
		return nil, p, err
	}
	sum := crc32.Update(crc32.Update(j.sum, castagnoli, header[4:]), castagnoli, body)
	if sum != binary.BigEndian.Uint32(header[:]) {
		return nil, p, io.EOF
	}
	j.sum, j.end = sum, j.end+frameHeader+int64(len(body))
	records = make([]Record, n)
	for i := range records {
		records[i] = decodeRecord(body[i*recordBytes:])
	}
	return records, Progress{decodeTree(header[8:]), decodeTree(header[48:])}, nil
}

// write appends a frame. It is not synced: a crash of the machine may lose it, and what comes after it.
// After an error the next frame takes its place.
func (j *journal) write(records []Record, p Progress) error {
	b := binary.BigEndian.AppendUint32(append(j.buf[:0], 0, 0, 0, 0), uint32(len(records)))
	b = p.Within.append(p.All.append(b))
	for i := range records {
		b = records[i].append(b)
	}
	sum := crc32.Update(j.sum, castagnoli, b[4:])
	binary.BigEndian.PutUint32(b, sum)
	j.buf = b
	if _, err := j.file.WriteAt(b, j.end); err != nil {
		return fmt.Errorf("writing journal: %w", err)
	}
	j.sum, j.end = sum, j.end+int64(len(b))
	return nil
}

func (t Tree) append(b []byte) []byte {
	return append(binary.BigEndian.AppendUint64(b, uint64(t.Size)), t.Root[:]...)
}

func decodeTree(b []byte) Tree {
	return Tree{int64(binary.BigEndian.Uint64(b)), [32]byte(b[8:])}
}
