package witness

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"time"

	"tallywood/storage"
	"tallywood/witness/policy"
)

// writeTimeout bounds one write of the state, which goes on when its client has hung up.
const writeTimeout = 10 * time.Second

// A state is what the witness remembers of a log: the one object that decides what it may sign.
type state struct {
	Counter   uint64 // grows with every write, so that no two contents are equal
	Instance  string // of the process that wrote it
	Origin    string
	Size      int64
	Root      [32]byte
	Timestamp int64    // of the last cosignature, Unix seconds; 0: never cosigned
	Keys      []string // IDs of our keys that cosigned then; what the note lacks of them is derived
	Note      string   // the checkpoint with the log's lines and those of ours that are not derived
	Frozen    string   // not empty: the note with our cosignature ahead of this state
}

// stateJSON is how a state is stored.
type stateJSON struct {
	Counter   uint64   `json:"counter"`
	Instance  string   `json:"instance"`
	Origin    string   `json:"origin"`
	Size      int64    `json:"size"`
	Root      string   `json:"root"`
	Timestamp int64    `json:"timestamp"`
	Keys      []string `json:"keys,omitempty"`
	Note      string   `json:"note"`
	Frozen    string   `json:"frozen,omitempty"`
}

// emptyRoot is the root hash of the tree of size 0: SHA-256 of nothing.
var emptyRoot = [32]byte{
	0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
	0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
}

func (s state) encode() ([]byte, error) {
	data, err := json.MarshalIndent(stateJSON{
		Counter: s.Counter, Instance: s.Instance, Origin: s.Origin, Size: s.Size,
		Root: base64.StdEncoding.EncodeToString(s.Root[:]), Timestamp: s.Timestamp, Keys: s.Keys, Note: s.Note, Frozen: s.Frozen,
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encoding state: %w", err)
	}
	return append(data, '\n'), nil
}

// decodeState decodes the state of a log and checks that it is coherent: a witness that misreads
// its state signs what it must not.
func decodeState(data []byte, origin string) (state, error) {
	var j stateJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return state{}, fmt.Errorf("decoding state: %w", err)
	}
	root, err := policy.ParseHash(j.Root)
	if err != nil {
		return state{}, fmt.Errorf("decoding state: root hash %w", err)
	}
	s := state{
		Counter: j.Counter, Instance: j.Instance, Origin: j.Origin, Size: j.Size, Root: root,
		Timestamp: j.Timestamp, Keys: j.Keys, Note: j.Note, Frozen: j.Frozen,
	}
	// Unknown, repeated and differently spelled members have no place to hide.
	if again, err := s.encode(); err != nil || !bytes.Equal(again, data) {
		return state{}, errors.Join(errors.New("decoding state: it is not as this witness writes it"), err)
	}
	if s.Origin != origin || s.Size < 0 || s.Counter == 0 {
		return state{}, fmt.Errorf("state is of origin %q, size %d, counter %d", s.Origin, s.Size, s.Counter)
	}
	if s.Note == "" {
		if s.Size != 0 || s.Root != emptyRoot || s.Timestamp != 0 || len(s.Keys) > 0 {
			return state{}, errors.New("state of a cosigned tree has no note")
		}
		return s, nil
	}
	n, err := policy.ParseNote([]byte(s.Note))
	if err != nil {
		return state{}, fmt.Errorf("decoding state: note: %w", err)
	}
	tree, err := policy.ParseTree(n.Text)
	if err != nil {
		return state{}, fmt.Errorf("decoding state: note: %w", err)
	}
	if tree.Origin != s.Origin || tree.Size != s.Size || tree.Root != s.Root || s.Timestamp <= 0 {
		return state{}, errors.New("state does not match its note")
	}
	return s, nil
}

func (w *Witness) stateKey(hash string) string { return "state/" + w.signer.name + "/" + hash }

// stateOf returns where the state of a log is.
func (w *Witness) stateOf(e *entry) string {
	if e.temporary {
		return w.temporaryKey(e.hash)
	}
	return w.stateKey(e.hash)
}

// putOptions are those of everything a witness stores: no cache may keep what decides what is signed.
func putOptions(c storage.Condition) storage.PutOptions {
	return storage.PutOptions{If: c, ContentType: "application/json", CacheControl: "private, no-store"}
}

// read returns the stored state of a log, with its note, and its version; the zero version if the
// log was never cosigned. What it returns is durable.
func (w *Witness) read(ctx context.Context, e *entry) (state, storage.Version, error) {
	data, version, err := w.bucket.Get(ctx, w.stateOf(e), storage.Range{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return state{Origin: e.origin, Root: emptyRoot}, "", nil
	case err != nil:
		return state{}, "", fmt.Errorf("reading state of %q: %w", e.origin, err)
	}
	s, err := decodeState(data, e.origin)
	if err == nil {
		err = w.makeDurable(ctx, e, version)
	}
	if err != nil {
		return state{}, "", fmt.Errorf("reading state of %q: %w", e.origin, err)
	}
	return s, version, nil
}

// makeDurable makes sure that a state that was read does not go with the power. A directory shows
// what another writer, dead or alive, has not synced yet, and it has cosignatures in it.
func (w *Witness) makeDurable(ctx context.Context, e *entry, version storage.Version) error {
	if e.isDurable(version) {
		return nil
	}
	if err := w.syncState(ctx, w.stateOf(e)); err != nil {
		return err
	}
	e.setDurable(version)
	return nil
}

// syncState makes all of our state durable that can be read beside key.
func (w *Witness) syncState(ctx context.Context, key string) error {
	err := syncBucket(ctx, w.bucket, path.Dir(key))
	w.endIfUnusable(err)
	return err
}

// syncBucket makes what can be read directly below a prefix durable, if that is not so anyway.
func syncBucket(ctx context.Context, b storage.Bucket, prefix string) error {
	s, ok := b.(interface {
		Sync(ctx context.Context, prefixes ...string) error
	})
	if !ok {
		return nil
	}
	return s.Sync(ctx, prefix)
}

func (e *entry) isDurable(version storage.Version) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.durable == version
}

func (e *entry) setDurable(version storage.Version) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.durable = version
}

// load makes e.head and e.version what the bucket says, unless they are known and not to be
// read afresh. The caller holds e.lock.
func (w *Witness) load(ctx context.Context, e *entry, fresh bool) error {
	if e.known && !fresh {
		return nil
	}
	e.known = false
	s, version, err := w.read(ctx, e)
	switch {
	case err != nil:
		e.setUnreadable(ctx.Err() == nil) // else nobody waits for it any more
		return w.unreadable(e, err)
	case e.isAheadOf(s):
		e.setUnreadable(false)
		return w.goneBack(e, s)
	}
	w.adopt(e, s, version)
	return nil
}

// isAheadOf reports whether this process knows of a tree that it, or another process of this witness, has
// cosigned and that s lacks: only whoever replaces the state by an older one takes it back. The caller
// holds e.lock.
func (e *entry) isAheadOf(s state) bool {
	return e.head.Counter > 0 && (s.Size < e.head.Size || s.Size == e.head.Size && s.Root != e.head.Root)
}

// goneBack is the answer when the state of a log was restored from a backup under this process. What it
// knows, and another one would not, is not forgotten: the log counts as frozen until a floor is set.
func (w *Witness) goneBack(e *entry, s state) error {
	e.mu.Lock()
	said := e.snapshot.frozen
	e.snapshot.frozen = true
	e.mu.Unlock()
	if !said {
		w.metrics.stateErrors.Add(1)
		w.log.Error("log frozen: its state was replaced by an older one", "origin", e.origin, "size", s.Size, "err", &ConflictError{Size: e.head.Size})
	}
	return errFrozen
}

// setUnreadable notes whether the state could not be read the last time.
func (e *entry) setUnreadable(is bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.snapshot.unreadable = is
}

// unreadable is the answer when the state of a log cannot be read.
func (w *Witness) unreadable(e *entry, err error) error {
	w.metrics.stateErrors.Add(1)
	w.log.Error("reading witness state", "origin", e.origin, "err", err)
	return &unavailableError{after: time.Second, reason: "the witness cannot read its state of this log"}
}

// adopt remembers what the bucket holds durably, but of the note no more than the hash of its text.
func (w *Witness) adopt(e *entry, s state, version storage.Version) {
	e.signed = w.signer.set(s.Keys)
	e.text = sha256.Sum256([]byte(textOf(s.Note)))
	s.Note, s.Keys = "", nil
	e.head, e.version, e.known = s, version, true
	e.mu.Lock()
	defer e.mu.Unlock()
	e.durable = version
	e.snapshot.loaded, e.snapshot.unreadable = true, false
	e.snapshot.size, e.snapshot.root, e.snapshot.timestamp = s.Size, s.Root, s.Timestamp
	e.snapshot.frozen = s.Frozen != ""
}

// errLost reports that another process has swapped the state.
var errLost = errors.New("compare-and-swap of the state lost")

// commit replaces the state that e.head is by next, durably, or returns errLost, or an
// unavailableError when it cannot tell. The caller holds e.lock.
func (w *Witness) commit(ctx context.Context, e *entry, next state) error {
	if w.hasEnded() {
		return &unavailableError{after: time.Minute, reason: "the witness can keep no state any more"}
	}
	next.Counter = max(e.head.Counter, e.tried) + 1
	next.Instance, next.Origin = w.instance, e.origin
	e.tried = next.Counter
	data, err := next.encode()
	if err != nil {
		return err
	}
	condition := storage.Absent()
	if e.version != "" {
		condition = storage.Match(e.version)
	}
	// A client that hangs up must not leave us in doubt about the write.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), writeTimeout)
	defer cancel()
	start := time.Now()
	version, err := w.bucket.Put(ctx, w.stateOf(e), data, putOptions(condition))
	w.metrics.swaps.observe(time.Since(start))
	switch {
	case err == nil:
		w.adopt(e, next, version)
		return nil
	case errors.Is(err, storage.ErrPrecondition):
		w.metrics.swapsLost.Add(1)
		e.known = false
		return errLost
	}
	return w.settle(ctx, e, data, next, err)
}

// settle finds out whether a write whose outcome is unknown was applied, and makes it last. Equal
// bytes prove that it was applied, as the counter of an instance is never used twice, but not that
// it is durable: the write may have failed right before that. So they are written once more.
func (w *Witness) settle(ctx context.Context, e *entry, data []byte, next state, cause error) error {
	w.metrics.stateErrors.Add(1)
	e.known = false
	if !w.endIfUnusable(cause) {
		found, version, err := w.bucket.Get(ctx, w.stateOf(e), storage.Range{})
		if err == nil && bytes.Equal(found, data) {
			version, err = w.bucket.Put(ctx, w.stateOf(e), data, putOptions(storage.Match(version)))
			switch {
			case err == nil:
				w.adopt(e, next, version)
				return nil
			case errors.Is(err, storage.ErrPrecondition):
				w.metrics.swapsLost.Add(1)
				return errLost
			}
			w.endIfUnusable(err)
		}
	}
	w.log.Error("writing witness state", "origin", e.origin, "size", next.Size, "err", cause)
	return &unavailableError{after: time.Second, reason: "the witness could not persist its state of this log"}
}
