package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"tallywood/storage"
	"tallywood/witness/policy"
)

// maxLogs bounds the logs of a witness that come from lists: one that names others every hour must
// not fill the memory. It is six times the largest public list.
const maxLogs = 1 << 18

// recordEvery is how often the time of the last read is noted durably for a list that does not change.
const recordEvery = 6 * time.Hour

// A record is what the witness remembers of a list: every log that it has ever named, with the keys
// with which it was taken.
type record struct {
	Source  string
	ETag    string
	Hash    [32]byte // SHA-256 of its text
	Read    time.Time
	Changed time.Time
	Known   []Log
	Gone    []string // origins in Known that it names no more, sorted
}

// recordJSON is how a record is stored.
type recordJSON struct {
	Source  string    `json:"source"`
	ETag    string    `json:"etag,omitempty"`
	Hash    string    `json:"hash"`
	Read    time.Time `json:"read"`
	Changed time.Time `json:"changed"`
	Known   string    `json:"known"` // as a list
	Gone    []string  `json:"gone,omitempty"`
}

func (w *Witness) recordKey(source string) string {
	sum := sha256.Sum256([]byte(source))
	return "lists/" + w.signer.name + "/" + hex.EncodeToString(sum[:])
}

// readRecord returns what is remembered of a list, and the version of that; the zero version if
// nothing is.
func (w *Witness) readRecord(ctx context.Context, source string) (record, storage.Version, error) {
	key := w.recordKey(source)
	data, version, err := w.bucket.Get(ctx, key, storage.Range{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return record{Source: source}, "", nil
	case err != nil:
		return record{}, "", fmt.Errorf("reading what is remembered of list %s: %w", source, err)
	}
	r, err := decodeRecord(data, source)
	if err != nil {
		return record{}, "", fmt.Errorf("reading what is remembered of list %s: object %s: %w", source, key, err)
	}
	return r, version, nil
}

func decodeRecord(data []byte, source string) (record, error) {
	var j recordJSON
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&j); err != nil {
		return record{}, fmt.Errorf("decoding: %w", err)
	}
	hash, err := hex.DecodeString(j.Hash)
	if err != nil || len(hash) != sha256.Size {
		return record{}, errors.New("decoding: the hash is not one")
	}
	if j.Source != source {
		return record{}, fmt.Errorf("it is of list %q", shorten(j.Source))
	}
	known, err := ParseLogs([]byte(j.Known))
	if err != nil {
		return record{}, err
	}
	return record{Source: j.Source, ETag: j.ETag, Hash: [32]byte(hash), Read: j.Read, Changed: j.Changed, Known: known, Gone: j.Gone}, nil
}

func (r record) encode() ([]byte, error) {
	data, err := json.Marshal(recordJSON{ // not indented: that would take its size once more
		Source: r.Source, ETag: r.ETag, Hash: hex.EncodeToString(r.Hash[:]), Read: r.Read, Changed: r.Changed,
		Known: string(FormatList(r.Known)), Gone: r.Gone,
	})
	if err != nil {
		return nil, fmt.Errorf("encoding what is remembered of a list: %w", err)
	}
	return append(data, '\n'), nil
}

// writeRecord replaces a record. Of two processes on one bucket that read a list at the same time,
// one writes first; what the other has taken it finds again at its next read.
func (w *Witness) writeRecord(ctx context.Context, source string, r record, version storage.Version) error {
	data, err := r.encode()
	if err != nil {
		return err
	}
	condition := storage.Absent()
	if version != "" {
		condition = storage.Match(version)
	}
	_, err = w.bucket.Put(ctx, w.recordKey(source), data, putOptions(condition))
	if err != nil && !errors.Is(err, storage.ErrPrecondition) {
		w.endIfUnusable(err)
		return fmt.Errorf("remembering list %s: %w", source, err)
	}
	return nil
}

// take adds logs of a list to the witness and to the record. What is known of an origin stays: of
// the list, the record gets only keys that the witness takes too.
func (r *record) take(w *Witness, logs []Log) error {
	named := make(map[string]bool, len(logs))
	at := make(map[string]int, len(r.Known))
	for i, l := range r.Known {
		at[l.Origin] = i
	}
	for _, l := range logs {
		named[l.Origin] = true
		l.Source = r.Source
		_, err := w.AddLog(l)
		var other *KeyError
		switch i, before := at[l.Origin]; {
		case errors.As(err, &other): // an alarm was raised
		case err != nil:
			return err
		case !before:
			r.Known = append(r.Known, l)
		case isFile(r.Source): // the operator's word
			r.Known[i] = l
		default:
			r.Known[i].Keys = union(r.Known[i].Keys, l.Keys)
		}
	}
	r.Gone = nil
	for _, l := range r.Known {
		if !named[l.Origin] {
			r.Gone = append(r.Gone, l.Origin)
		}
	}
	slices.Sort(r.Gone)
	return nil
}

// union returns the keys that are in a or in b.
func union(a, b []policy.Key) []policy.Key {
	for _, k := range b {
		if !slices.ContainsFunc(a, k.Equal) {
			a = append(a, k)
		}
	}
	return a
}

// isFile reports whether a list is a file of the operator's, by its name.
func isFile(source string) bool { return filepath.IsAbs(source) }

// Restore makes the logs known that the lists have named before: those at its URLs, and the files
// given. It reads the bucket alone. A log that is known by now keeps what is known of it.
func (l *Lists) Restore(ctx context.Context, files ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, source := range slices.Concat(l.urls, files) {
		r, version, err := l.witness.readRecord(ctx, source)
		if err != nil {
			return err
		}
		if version == "" {
			l.witness.lists.expect(source)
			continue
		}
		if err := l.restore(r); err != nil {
			return err
		}
		l.witness.lists.read(source, r, r.Read)
	}
	return nil
}

// restore makes the logs of a record known, once.
func (l *Lists) restore(r record) error {
	if l.restored[r.Source] {
		return nil
	}
	for _, log := range r.Known {
		log.Source = r.Source
		_, err := l.witness.AddLog(log)
		var other *KeyError
		switch {
		case errors.As(err, &other):
			l.witness.log.Warn("a log has another key than its list had before", "origin", log.Origin, "key", r.Source)
		case err != nil:
			return fmt.Errorf("restoring list %s: %w", r.Source, err)
		}
	}
	l.restored[r.Source] = true
	return nil
}

// FormatList renders logs as ParseLogs reads them.
func FormatList(logs []Log) []byte {
	const typical = 200 // bytes of a log
	b := append(make([]byte, 0, typical*(len(logs)+1)), "logs/v0\n"...)
	for _, l := range logs {
		for _, k := range l.Keys {
			b = fmt.Appendf(b, "\nvkey %s\n", k)
			if l.Origin != k.Name() {
				b = fmt.Appendf(b, "origin %s\n", l.Origin)
			}
			b = fmt.Appendf(b, "qpd %d\ncontact %s\n", l.QPD, l.Contact)
		}
	}
	return b
}

// A listStatus is what the status page and the metrics say of a list.
type listStatus struct {
	Source  string     `json:"source"`
	Logs    int        `json:"logs"`              // that it has ever named, and that are known
	Gone    int        `json:"gone"`              // of them, that it names no more
	Read    *time.Time `json:"read,omitempty"`    // when it was last read
	Changed *time.Time `json:"changed,omitempty"` // when it had last changed then
	Failing bool       `json:"failing"`           // the last attempt to read it failed
	failed  int64      // attempts since the start
	etag    string
	hash    [32]byte  // of the text that was taken last
	noted   time.Time // the time of reading that is in the record
}

// A listBook holds the status of each list.
type listBook struct {
	mu   sync.Mutex
	book map[string]*listStatus
}

func (b *listBook) of(source string) *listStatus {
	if b.book == nil {
		b.book = map[string]*listStatus{}
	}
	s := b.book[source]
	if s == nil {
		s = &listStatus{Source: source}
		b.book[source] = s
	}
	return s
}

// expect shows a list before it was read for the first time.
func (b *listBook) expect(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.of(source)
}

// read notes that a list was read at a time, and what is remembered of it.
func (b *listBook) read(source string, r record, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(source)
	changed := r.Changed
	s.Logs, s.Gone, s.Read, s.Changed, s.Failing = len(r.Known), len(r.Gone), &at, &changed, false
	s.etag, s.hash, s.noted = r.ETag, r.Hash, r.Read
}

// noted notes that a list was read at a time, unchanged, and returns the time that is in its record.
func (b *listBook) noted(source string, at time.Time) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(source)
	s.Read, s.Failing = &at, false
	return s.noted
}

// taken reports whether a list is what was taken last, and its record is as good as new.
func (b *listBook) taken(source string, hash [32]byte, etag string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(source)
	return s.Read != nil && s.hash == hash && s.etag == etag && now.Sub(s.noted) < recordEvery
}

func (b *listBook) failed(source string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.of(source)
	s.failed++
	s.Failing = true
}

func (b *listBook) etag(source string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.of(source).etag
}

// all returns the status of each list, in the order of their names.
func (b *listBook) all() []listStatus {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]listStatus, 0, len(b.book))
	for _, s := range b.book {
		out = append(out, *s)
	}
	slices.SortFunc(out, func(a, b listStatus) int { return strings.Compare(a.Source, b.Source) })
	return out
}

// publicSource is how a page for everyone names a list: of a file, it does not say where it lies.
func publicSource(source string) string {
	if isFile(source) {
		return "file " + filepath.Base(source)
	}
	return source
}

// count returns how many logs are known.
func (w *Witness) count() int {
	w.mu.RLock()
	defer w.mu.RUnlock()
	return len(w.logs)
}

// knownAs returns what is known of a log, and whether anything is.
func (w *Witness) knownAs(origin string) (Log, bool) {
	e := w.lookup(origin)
	if e == nil {
		return Log{}, false
	}
	return e.log(), true
}

// hasKey reports whether l has a key.
func (l Log) hasKey(k policy.Key) bool { return slices.ContainsFunc(l.Keys, k.Equal) }
