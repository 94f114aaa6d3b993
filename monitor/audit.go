package monitor

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/monitor/rule"
)

const (
	maxAuditLine = 64 << 10 // bytes of a line of a CA's record
	maxAudit     = 1 << 20  // certificates in it, of each of which 16 bytes are in memory
	mergeAudit   = 1 << 12  // new ones that are sorted in at once, at least
)

// audits are the CAs' records of what they issued, which x.ca-issued-not-in-ca-audit compares with.
// They are safe for concurrent use.
type audits struct {
	mu    sync.Mutex
	files map[string]*audit // by identity
}

// An audit is one record, a file that only grows.
type audit struct {
	path   string
	read   int64      // bytes of whole lines that are in known
	first  [32]byte   // hash of the beginning: if it is another, the file is
	lines  int        // read
	known  [][16]byte // sorted
	recent map[[16]byte]bool
	at     time.Time // when all that was there was read
	err    error     // why the file cannot be used now
}

// newAudits returns the records that the rules name.
func newAudits(rules *rule.Set) *audits {
	a := &audits{files: map[string]*audit{}}
	byPath := map[string]*audit{}
	for identity, p := range rules.Opted(rule.XIssuedUnexplained) {
		if byPath[p.File] == nil {
			byPath[p.File] = &audit{path: p.File, recent: map[[16]byte]bool{}}
		}
		a.files[identity] = byPath[p.File]
	}
	return a
}

// refresh reads what is new in the records. Its error says which of them cannot be used.
func (a *audits) refresh() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	var errs []error
	done := map[*audit]bool{}
	for _, identity := range slices.Sorted(maps.Keys(a.files)) {
		f := a.files[identity]
		if done[f] {
			continue
		}
		done[f] = true
		if f.err = f.refresh(); f.err != nil {
			f.err = fmt.Errorf("reading the CA's record of what it issued: %w", f.err)
			errs = append(errs, f.err)
		}
	}
	return errors.Join(errs...)
}

// explain says whether the CA of the identity has a record of the certificate. While the record
// cannot be read that is not known.
func (a *audits) explain(w waiting) answer {
	a.mu.Lock()
	defer a.mu.Unlock()
	f, ok := a.files[w.Event.Identity]
	switch {
	case !ok: // the rule is off by now
		return explained
	case f.err != nil:
		return undecided
	}
	sum, err := hex.DecodeString(strings.TrimPrefix(w.Facts.Certificate, "sha256:"))
	if err == nil && len(sum) == sha256.Size && f.has([16]byte(sum)) || f.has(serialKey(w.Facts.Serial)) {
		return explained
	}
	if !f.at.After(w.Due) {
		return undecided
	}
	return unexplained
}

func (f *audit) has(key [16]byte) bool {
	_, ok := slices.BinarySearchFunc(f.known, key, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	return ok || f.recent[key]
}

// refresh reads the lines that were added, or all if the file is another one.
func (f *audit) refresh() error {
	now := time.Now()
	info, err := os.Stat(f.path)
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.path)
	}
	if err != nil {
		return err
	}
	in, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer in.Close()
	first, err := beginning(in, min(f.read, maxAuditLine))
	if err != nil {
		return err
	}
	if info.Size() < f.read || first != f.first {
		*f = audit{path: f.path, recent: map[[16]byte]bool{}}
	}
	r := bufio.NewReaderSize(io.NewSectionReader(in, f.read, info.Size()-f.read), maxAuditLine)
	for {
		line, err := r.ReadSlice('\n')
		switch {
		case err == io.EOF: // what is there of the last line is still being written
			f.at = now
			f.first, err = beginning(in, min(f.read, maxAuditLine))
			return err
		case err == bufio.ErrBufferFull:
			return fmt.Errorf("%s: line %d has more than %d bytes", f.path, f.lines+1, maxAuditLine)
		case err != nil:
			return err
		}
		if err := f.add(line); err != nil {
			return fmt.Errorf("%s: line %d: %w", f.path, f.lines+1, err)
		}
		f.read += int64(len(line))
		f.lines++
	}
}

// beginning returns the hash of the first n bytes of a file.
func beginning(in io.ReaderAt, n int64) ([32]byte, error) {
	h := sha256.New()
	_, err := io.Copy(h, io.NewSectionReader(in, 0, n))
	return [32]byte(h.Sum(nil)), err
}

// add takes in one line.
func (f *audit) add(line []byte) error {
	key, err := parseAuditLine(line)
	if err != nil || key == ([16]byte{}) {
		return err
	}
	if len(f.known)+len(f.recent) >= maxAudit {
		return fmt.Errorf("more than %d certificates: begin another file", maxAudit)
	}
	if f.recent[key] = true; len(f.recent) < mergeAudit+len(f.known)/8 {
		return nil
	}
	f.known = slices.AppendSeq(f.known, maps.Keys(f.recent))
	slices.SortFunc(f.known, func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
	f.known = slices.Compact(f.known)
	clear(f.recent)
	return nil
}

// parseAuditLine returns what a line of a CA's record is looked up by, zero for an empty line: of a
// line that the CA's audit_file has, the hash of its certificate; of other JSON objects their serial
// number if there is no hash; of other lines a hash or a serial number in hexadecimal. A JSON object
// that is cut off explains nothing: its CA stopped while it wrote it, and issued nothing.
func parseAuditLine(line []byte) ([16]byte, error) {
	text := strings.TrimSpace(string(line))
	var record struct {
		Certificate string `json:"certificate"`
		Serial      string `json:"serial"`
	}
	switch {
	case text == "":
		return [16]byte{}, nil
	case text[0] != '{':
		record.Serial = text
		if hash := strings.TrimPrefix(text, "sha256:"); len(hash) == 2*sha256.Size {
			record.Certificate = hash
		}
	default:
		dec := json.NewDecoder(strings.NewReader(text))
		switch err := dec.Decode(&record); {
		case err == io.ErrUnexpectedEOF:
			return [16]byte{}, nil
		case err != nil:
			return [16]byte{}, err
		case dec.More():
			return [16]byte{}, errors.New("data after the JSON object")
		}
	}
	if record.Certificate != "" {
		sum, err := hex.DecodeString(strings.TrimPrefix(record.Certificate, "sha256:"))
		if err != nil || len(sum) != sha256.Size {
			return [16]byte{}, fmt.Errorf("certificate %q is not a SHA-256 in hex", rule.Clip(record.Certificate))
		}
		return [16]byte(sum), nil
	}
	serial := strings.ToLower(strings.ReplaceAll(record.Serial, ":", ""))
	if raw, err := hex.DecodeString(pad(serial)); err != nil || len(raw) == 0 || len(raw) > 20 {
		return [16]byte{}, fmt.Errorf("%q is neither a JSON object with certificate or serial, nor the hash or serial number of a certificate in hexadecimal", rule.Clip(text))
	}
	return serialKey(serial), nil
}

// pad makes the number of hexadecimal digits even.
func pad(digits string) string {
	if len(digits)%2 == 1 {
		return "0" + digits
	}
	return digits
}

// serialKey returns what a serial number in hexadecimal is looked up by.
func serialKey(serial string) [16]byte {
	serial = strings.TrimLeft(strings.ToLower(strings.ReplaceAll(serial, ":", "")), "0")
	sum := sha256.Sum256([]byte("serial number " + serial))
	return [16]byte(sum[:16])
}
