package log

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A boltStore keeps the duplicate index in one bbolt file. Nothing is synced while it is in use:
// a killed process leaves the file as bbolt wrote it, consistent, but a crash of the machine may
// not. So the file says which boot of the machine wrote it, and whether it was closed in order;
// with neither, and with anything in it that bbolt trips over, it starts empty again.
type boltStore struct {
	path string
	id   boltIdentity

	mu sync.RWMutex // guards what follows; writers hold it to exchange them only
	db *bbolt.DB
	at progress
}

// A boltIdentity says which log a file belongs to.
type boltIdentity struct {
	LogUUID string `json:"log_uuid"`
	Kind    string `json:"kind"`
}

// boltMeta is the JSON value at metaKey.
type boltMeta struct {
	Format int `json:"format"`
	boltIdentity
	All    boltTree `json:"all"`
	Within boltTree `json:"within"`
	Boot   string   `json:"boot"`   // the boot that last wrote
	Closed bool     `json:"closed"` // everything is on disk
}

type boltTree struct {
	Size int64  `json:"size"`
	Root string `json:"root"` // hexadecimal
}

func (t tree) encode() boltTree { return boltTree{t.size, hex.EncodeToString(t.root[:])} }

func (t boltTree) decode() (tree, error) {
	root, err := hex.DecodeString(t.Root)
	if err != nil || len(root) != 32 || t.Size < 0 {
		return tree{}, errDamaged
	}
	return tree{t.Size, [32]byte(root)}, nil
}

const boltFormat = 1

// rebuiltFill is how full the pages of a rebuilt index are. Keys that come later are spread over all
// of them, and should not split each at once.
const rebuiltFill = 0.9

var (
	metaBucket = []byte("meta")
	metaKey    = []byte("meta")
	keysBucket = []byte("keys") // duplicate key: index, and with kind ct timestamp, both uint64
)

// openBolt opens or creates the file at path. A file of another log, damaged or possibly torn is
// replaced; one that another process has open is an error.
func openBolt(path string, id boltIdentity) (*boltStore, error) {
	b := &boltStore{path: path, id: id, at: noProgress}
	err := guard(b.open)
	switch {
	case err == nil:
		return b, nil
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("opening %s: another process has it open", path)
	}
	if err := b.reset(); err != nil {
		return nil, err
	}
	return b, nil
}

// guard runs f and turns what bbolt does on damaged pages, panics and faults of its memory map,
// into errDamaged.
func guard(f func() error) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("%w: %.200s", errDamaged, fmt.Sprint(p))
		}
	}()
	return f()
}

// open opens the file and marks it as in use. On an error nothing is left open.
func (b *boltStore) open() (err error) {
	db, err := bbolt.Open(b.path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return fmt.Errorf("opening %s: %w", b.path, err)
	}
	done := false
	defer func() {
		if !done {
			b.db = nil
			err = errors.Join(err, db.Close())
		}
	}()
	p, err := b.readMeta(db)
	if err != nil {
		return fmt.Errorf("reading %s: %w", b.path, err)
	}
	b.db, b.at = db, p
	if err := b.mark(false); err != nil {
		return err
	}
	done = true
	return nil
}

// readMeta returns the progress of a file that is this log's and can be believed.
func (b *boltStore) readMeta(db *bbolt.DB) (progress, error) {
	var m boltMeta
	err := db.View(func(tx *bbolt.Tx) error {
		meta := tx.Bucket(metaBucket)
		if meta == nil || tx.Bucket(keysBucket) == nil {
			return errDamaged
		}
		return json.Unmarshal(meta.Get(metaKey), &m)
	})
	switch boot := bootID(); {
	case err != nil:
		return progress{}, err
	case m.Format != boltFormat || m.boltIdentity != b.id:
		return progress{}, errors.New("it belongs to another log or format")
	case !m.Closed && (boot == "" || m.Boot != boot):
		return progress{}, errors.New("it was not closed before the machine stopped")
	}
	all, err := m.All.decode()
	within, err2 := m.Within.decode()
	return progress{all, within}, errors.Join(err, err2)
}

// mark records durably whether the file is in use.
func (b *boltStore) mark(closed bool) error {
	err := b.db.Sync() // what was written before must not be younger than the mark
	if err == nil {
		err = b.db.Update(func(tx *bbolt.Tx) error { return b.writeMeta(tx, b.at, closed) })
	}
	if err == nil {
		err = b.db.Sync()
	}
	if err != nil {
		return fmt.Errorf("marking %s: %w", b.path, err)
	}
	return nil
}

func (b *boltStore) writeMeta(tx *bbolt.Tx, p progress, closed bool) error {
	value, err := json.Marshal(boltMeta{
		Format: boltFormat, boltIdentity: b.id, Boot: bootID(), Closed: closed,
		All: p.all.encode(), Within: p.within.encode(),
	})
	if err != nil {
		return fmt.Errorf("encoding progress: %w", err)
	}
	return tx.Bucket(metaBucket).Put(metaKey, value)
}

// bootID names the running boot of the machine, or is empty where that is not known.
func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

func (b *boltStore) get(key [32]byte) (pos Position, found bool, err error) {
	b.mu.RLock()
	defer b.mu.RUnlock()
	if b.db == nil {
		return pos, false, errDamaged
	}
	err = guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			value := tx.Bucket(keysBucket).Get(key[:])
			switch len(value) {
			case 0:
			case 8, 16:
				found = true
				pos.Index = int64(binary.BigEndian.Uint64(value))
				if len(value) == 16 {
					pos.Timestamp = binary.BigEndian.Uint64(value[8:])
				}
			default:
				return errDamaged
			}
			return nil
		})
	})
	return pos, found, err
}

func (b *boltStore) put(records []record, p progress) error {
	b.mu.RLock()
	db := b.db
	b.mu.RUnlock()
	if db == nil {
		return errDamaged
	}
	err := guard(func() error {
		return db.Update(func(tx *bbolt.Tx) error {
			keys := tx.Bucket(keysBucket)
			if b.at.all.size == 0 { // sorted from end to end, see spool
				keys.FillPercent = rebuiltFill
			}
			for i := range records {
				if err := b.putRecord(keys, &records[i]); err != nil {
					return err
				}
			}
			return b.writeMeta(tx, p, false)
		})
	})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.at = p
	return nil
}

func (b *boltStore) putRecord(keys *bbolt.Bucket, r *record) error {
	if keys.Get(r.key[:]) != nil {
		return nil
	}
	value := binary.BigEndian.AppendUint64(nil, uint64(r.index))
	if b.id.Kind == KindCT.String() {
		value = binary.BigEndian.AppendUint64(value, r.timestamp)
	}
	return keys.Put(r.key[:], value)
}

func (b *boltStore) state() progress {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.at
}

// reset replaces the file by an empty one.
func (b *boltStore) reset() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db != nil {
		// Whatever closing a damaged file says does not matter any more.
		_ = guard(b.db.Close)
		b.db = nil
	}
	if err := os.Remove(b.path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("removing duplicate index: %w", err)
	}
	db, err := bbolt.Open(b.path, 0o600, &bbolt.Options{Timeout: time.Second, NoSync: true})
	if err != nil {
		return fmt.Errorf("creating duplicate index: %w", err)
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		for _, name := range [][]byte{metaBucket, keysBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return b.writeMeta(tx, noProgress, false)
	})
	if err != nil {
		return errors.Join(fmt.Errorf("creating duplicate index: %w", err), db.Close())
	}
	b.db, b.at = db, noProgress
	return nil
}

func (b *boltStore) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.db == nil {
		return nil
	}
	err := guard(func() error { return b.mark(true) })
	err = errors.Join(err, guard(b.db.Close))
	b.db = nil
	return err
}
