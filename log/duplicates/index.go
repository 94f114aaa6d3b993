package duplicates

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

var (
	// runRecords is how many records, or a few more, are in memory before they are written as a run:
	// about 6 MB of them. Tests make it smaller.
	runRecords = 1 << 16
	// fan is how many runs of one tier are merged to one of the next.
	fan = 8
)

// mergeRate is how many records are merged for each that is put.
const mergeRate = 8

const lockName = "lock"

// errLocked reports that another process has an index open.
var errLocked = errors.New("another process has it open")

// An Index is a duplicate index in the files of a directory, which nobody else has open. All methods
// may be called concurrently.
type Index struct {
	dir string
	id  Identity

	// Held by Put, Reset and Close, and guards what follows. Whoever holds it may read what mu guards.
	writing sync.Mutex
	lock    *os.File
	next    int // number of the next file
	journal *journal
	base    Progress // of the journal's beginning
	merges  map[int]*merge

	mu     sync.RWMutex // guards what follows; held to look and to exchange, not to write files
	open   bool
	runs   []*run // the oldest first, hence the largest
	recent table  // what is in no run
	at     Progress
}

// Open opens the index in dir, or makes it. One of another log, another format or one that is damaged
// is replaced by an empty one; one that another process has open is an error.
func Open(dir string, id Identity) (*Index, error) {
	x := &Index{dir: dir, id: id, recent: make(table)}
	if err := x.take(); err != nil {
		return nil, fmt.Errorf("opening duplicate index %s: %w", dir, err)
	}
	if x.load() != nil {
		x.forget()
		if err := x.create(); err != nil {
			return nil, errors.Join(err, x.lock.Close())
		}
	}
	return x, nil
}

// take makes the directory and locks it.
func (x *Index) take() error {
	if info, err := os.Lstat(x.dir); err == nil && !info.IsDir() { // format 1
		if err := os.Remove(x.dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(x.dir, 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(filepath.Join(x.dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := lockFile(f); err != nil {
		return errors.Join(err, f.Close())
	}
	x.lock = f
	return nil
}

// load opens what the manifest names.
func (x *Index) load() error {
	m, p, err := readManifest(x.dir, x.id)
	if err != nil {
		return err
	}
	x.next, x.base, x.at = m.Next, p, p
	for _, f := range m.Runs {
		r, err := openRun(filepath.Join(x.dir, filepath.Base(f.Name)), f.Name, f.Tier)
		if err != nil {
			return err
		}
		x.runs = append(x.runs, r)
		if r.records != f.Records {
			return fmt.Errorf("%w: run %s has %d records, not %d", ErrDamaged, f.Name, r.records, f.Records)
		}
	}
	path := filepath.Join(x.dir, filepath.Base(m.Journal.Name))
	x.journal, err = openJournal(path, m.Journal.Name, m.Journal.Seed, func(records []Record, p Progress) {
		x.recent.put(records)
		x.at = p
	})
	if err != nil {
		return err
	}
	x.merges, x.open = make(map[int]*merge), true
	return m.sweep(x.dir)
}

// create makes an empty index.
func (x *Index) create() error {
	if err := os.Remove(filepath.Join(x.dir, manifestName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("emptying duplicate index: %w", err)
	}
	if err := (&manifest{}).sweep(x.dir); err != nil {
		return err
	}
	j, err := x.newJournal()
	if err != nil {
		return err
	}
	if err := x.commit(nil, j, NoProgress); err != nil {
		return errors.Join(err, j.file.Close())
	}
	x.journal, x.base, x.merges = j, NoProgress, make(map[int]*merge)
	x.mu.Lock()
	defer x.mu.Unlock()
	x.at, x.open = NoProgress, true
	return nil
}

func (x *Index) newName(kind string) string {
	x.next++
	return fmt.Sprintf("%s-%d", kind, x.next)
}

func (x *Index) newJournal() (*journal, error) {
	name := x.newName("journal")
	return createJournal(filepath.Join(x.dir, name), name, rand.Uint32())
}

// commit makes the index, on disk, one of the given runs and what is in j, which begins at p.
func (x *Index) commit(runs []*run, j *journal, p Progress) error {
	m := manifest{
		Format: format, Identity: x.id, Next: x.next, Journal: journalFile{j.name, j.seed},
		At: manifestTrees{p.All.manifest(), p.Within.manifest()},
	}
	for _, r := range runs {
		m.Runs = append(m.Runs, runFile{r.name, r.tier, r.records})
	}
	return m.write(x.dir)
}

// Get returns the record of key, the one with the least index if there were several. Errors wrap
// ErrDamaged.
func (x *Index) Get(key [32]byte) (r Record, found bool, err error) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if !x.open {
		return r, false, fmt.Errorf("%w: it is closed", ErrDamaged)
	}
	for _, run := range x.runs {
		if r, found, err = run.get(&key); found || err != nil {
			return r, found, err
		}
	}
	r, found = x.recent.get(key)
	return r, found, nil
}

// Put adds records and makes p the index's progress. It keeps none of the slice. After an error the
// progress is what it was, and the same may be put again; one that wraps ErrDamaged is for good. After
// one that wraps ErrUntidy it is p.
func (x *Index) Put(records []Record, p Progress) error {
	x.writing.Lock()
	defer x.writing.Unlock()
	if !x.open {
		return fmt.Errorf("%w: it is closed", ErrDamaged)
	}
	x.mu.Lock()
	x.recent.put(records)
	x.mu.Unlock()
	if len(x.recent) < runRecords {
		if err := x.journal.write(records, p); err != nil {
			return err
		}
		x.mu.Lock()
		x.at = p
		x.mu.Unlock()
	} else if err := x.flush(p); err != nil {
		return err
	}
	if len(x.runs) == 0 {
		return nil
	}
	err := x.merge(mergeRate * len(records))
	if err != nil && !errors.Is(err, ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrUntidy, err)
	}
	return err
}

// flush makes a run of what is in memory and begins a new journal.
func (x *Index) flush(p Progress) error {
	r, err := x.writeRecent()
	if err != nil {
		return err
	}
	runs, old := append(slices.Clip(x.runs), r), x.journal
	j, err := x.newJournal()
	if err != nil {
		return errors.Join(err, r.drop())
	}
	if err := x.commit(runs, j, p); err != nil {
		// The manifest may be there all the same, so the files stay until the next start.
		return errors.Join(err, j.file.Close(), r.file.Close())
	}
	x.journal, x.base = j, p
	x.mu.Lock()
	x.runs, x.at = runs, p
	clear(x.recent)
	x.mu.Unlock()
	if err := errors.Join(old.file.Close(), os.Remove(old.file.Name())); err != nil {
		return fmt.Errorf("%w: removing journal: %w", ErrUntidy, err)
	}
	return nil
}

// writeRecent makes a run of what is in memory.
func (x *Index) writeRecent() (*run, error) {
	name := x.newName("run")
	w, err := newWriter(filepath.Join(x.dir, name), name, 0, int64(len(x.recent)))
	if err != nil {
		return nil, err
	}
	for _, key := range slices.SortedFunc(maps.Keys(x.recent), compareKeys) {
		record, _ := x.recent.get(key)
		if err := w.add(record); err != nil {
			return nil, errors.Join(err, w.run.drop())
		}
	}
	r, err := w.finish()
	if err != nil {
		return nil, errors.Join(err, w.run.drop())
	}
	return r, nil
}

// State returns the progress last put, of an empty index NoProgress.
func (x *Index) State() Progress {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.at
}

// Reset makes the index an empty one, also after ErrDamaged and Close.
func (x *Index) Reset() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	x.forget()
	if x.lock == nil {
		if err := x.take(); err != nil {
			return fmt.Errorf("emptying duplicate index: %w", err)
		}
	}
	return x.create()
}

// Close lets go of the files, once they are on disk. What is not was lost in no case: the index is one
// of an earlier state then.
func (x *Index) Close() error {
	x.writing.Lock()
	defer x.writing.Unlock()
	if x.lock == nil {
		return nil
	}
	var err error
	if x.open {
		err = x.journal.file.Sync()
	}
	x.forget()
	err = errors.Join(err, x.lock.Close())
	x.lock = nil
	if err != nil {
		return fmt.Errorf("closing duplicate index: %w", err)
	}
	return nil
}

// forget closes the files of the index, whose content nobody relies on afterwards but the next start.
func (x *Index) forget() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, m := range x.merges {
		_ = m.abandon() // what stays is swept up
	}
	for _, r := range x.runs {
		_ = r.file.Close() // was only read
	}
	if x.journal != nil {
		_ = x.journal.file.Close() // synced, or to be forgotten
	}
	x.open, x.journal, x.merges, x.runs, x.at = false, nil, nil, nil, NoProgress
	clear(x.recent)
}
