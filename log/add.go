package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/transparency-dev/tessera"
	"github.com/transparency-dev/tessera/ctonly"
	"golang.org/x/mod/sumdb/tlog"

	"tallywood/internal/span"
	"tallywood/log/duplicates"
	"tallywood/log/entry"
	"tallywood/storage/driver"
	"tallywood/witness/policy"
)

const (
	// maxFlights bounds the adds that are not in the index yet, sequenced or not.
	maxFlights = 1 << 16
	// sequenceTimeout is how long an add waits for its index, or Options.QuorumTimeout if that is longer,
	// beyond Options.CommitInterval. Clients do not wait longer.
	sequenceTimeout = 10 * time.Second
	// maxUnpublishedCT is the age of a certificate log's oldest unpublished entry from which on
	// it makes no promises about unpublished ones, not even repeated promises.
	maxUnpublishedCT = 60 * time.Second
)

// An Entry is what is added to a log.
type Entry struct {
	// Key is equal for entries that are duplicates: entry.DuplicateKey (kind rekor), the
	// SHA-256 of Data (tlog), or the identity hash of CT (ct).
	Key  [32]byte
	Data []byte        // rekor, tlog: the entry's bytes, at most 65,535
	CT   *ctonly.Entry // ct: the certificate entry; must not change any more
}

// A Position is where an entry is, durably.
type Position struct {
	Index     int64
	Timestamp uint64 // ct: milliseconds since 1970, of the entry first logged
	Duplicate bool   // the entry was there before, or is being added by another call
}

// A Receipt proves that the log holds an entry.
type Receipt struct {
	Index      int64
	Duplicate  bool
	Body       []byte            // the entry as first logged; not to be changed
	Checkpoint policy.Checkpoint // covers Index and satisfies the policy
	Hashes     [][]byte          // inclusion proof of Body at Index in Checkpoint
}

// Proof returns the receipt as a tlog-proof. There is no extra data in it: whoever adds an entry knows
// all that its leaf hash is made of.
func (r Receipt) Proof() policy.Proof {
	p := policy.Proof{Index: r.Index, Checkpoint: r.Checkpoint.Note()}
	for _, hash := range r.Hashes {
		p.Hashes = append(p.Hashes, [32]byte(hash)) // its length was checked before the receipt left
	}
	return p
}

// A flight is an add from its first sight until the index holds it.
type flight struct {
	epoch int           // of the index when the flight began
	done  chan struct{} // closed when what follows is set
	pos   Position      // Duplicate: found in the index
	data  []byte        // what is being logged; nil if found in the index
	err   error
}

// Sequence returns the durable index of e, which may not be published yet. Equal entries get the
// index of the first, whatever happens in between. Errors wrap ErrUnavailable when a later attempt
// may succeed, and ErrFrozen when none will.
func (l *Log) Sequence(ctx context.Context, e Entry) (Position, error) {
	pos, _, err := l.sequence(ctx, e)
	leave(ctx, pos.Duplicate, err)
	return pos, err
}

// sequence is Sequence, and returns the bytes logged unless only the log itself has them.
func (l *Log) sequence(ctx context.Context, e Entry) (pos Position, data []byte, err error) {
	ctx, sp := span.Start(ctx, "sequence")
	defer func() {
		sp.Int("index", pos.Index)
		sp.End(err)
	}()
	switch {
	case (l.o.Kind == KindCT) != (e.CT != nil):
		return Position{}, nil, errors.New("entry is of another kind than the log")
	case len(e.Data) > entry.MaxSize:
		return Position{}, nil, &TooLargeError{Size: len(e.Data), Limit: entry.MaxSize}
	case l.driver.Frozen() != nil:
		return Position{}, nil, ErrFrozen
	}
	f, first, err := l.board(e)
	if err != nil {
		return Position{}, nil, err
	}
	if first {
		l.launch(ctx, e, f)
	}
	if err := l.awaitIndex(ctx, f); err != nil {
		return Position{}, nil, err
	}
	pos = f.pos
	pos.Duplicate = pos.Duplicate || !first
	if pos.Duplicate && l.overdue(pos.Index) {
		return Position{}, nil, fmt.Errorf("%w: %w: nothing for %s", ErrUnavailable, ErrUnpublished, maxUnpublishedCT)
	}
	return pos, f.data, nil
}

// awaitIndex waits for the end of f, within a bound, and returns how it ended. If it has ended, nobody
// gave up in time.
func (l *Log) awaitIndex(ctx context.Context, f *flight) error {
	patience := max(sequenceTimeout, l.o.QuorumTimeout) + l.o.CommitInterval
	t := time.NewTimer(patience)
	defer t.Stop()
	var err error
	select {
	case <-f.done:
	case <-ctx.Done():
		err = fmt.Errorf("waiting for an index: %w", context.Cause(ctx))
	case <-t.C:
		err = fmt.Errorf("%w: no index after %s", ErrUnavailable, patience)
	}
	if f.landed() {
		return f.err
	}
	return err
}

// board returns the flight of e, and whether it is a new one that the caller must launch.
func (l *Log) board(e Entry) (f *flight, first bool, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.acceptingLocked(); err != nil {
		return nil, false, err
	}
	if f, ok := l.flights[e.Key]; ok {
		return f, false, nil
	}
	f = &flight{epoch: l.epoch, done: make(chan struct{}), data: e.Data}
	l.flights[e.Key] = f
	l.futures.Add(1)
	return f, true, nil
}

func (l *Log) acceptingLocked() error {
	switch term, leading, _ := l.driver.Term(); {
	case !leading:
		return fmt.Errorf("%w: %w", ErrUnavailable, driver.ErrNotLeading)
	case l.caughtUp != term && l.rebuild != nil:
		return &RebuildError{l.rebuild.now()}
	case l.caughtUp != term:
		return fmt.Errorf("%w: the duplicate index is behind the log", ErrUnavailable)
	case len(l.flights) >= maxFlights:
		return fmt.Errorf("%w: %w", ErrUnavailable, errFlights)
	}
	return nil
}

var errFlights = errors.New("too many entries await the duplicate index")

// launch looks f's entry up and hands it to the driver if it is new. The key is among the flights
// since before the lookup, and a key leaves them only once the index has it, so no second add of
// it can have been missed, unless the index was emptied in between.
func (l *Log) launch(ctx context.Context, e Entry, f *flight) {
	r, found, err := l.index.Get(e.Key)
	l.lookups.count(found)
	switch {
	case err != nil:
		l.distrust(err)
		l.land(e.Key, f, fmt.Errorf("%w: %w", ErrUnavailable, err))
		return
	case found:
		f.pos, f.data = Position{Index: r.Index, Timestamp: r.Timestamp, Duplicate: true}, nil
		l.land(e.Key, f, nil)
		return
	case l.emptiedSince(f):
		l.land(e.Key, f, fmt.Errorf("%w: the duplicate index is being rebuilt", ErrUnavailable))
		return
	}
	// Others may wait for this add, so it outlives the request that began it.
	ctx = context.WithoutCancel(ctx)
	var future tessera.IndexFuture
	if l.o.Kind == KindCT {
		f.pos.Timestamp = e.CT.Timestamp
		future = l.driver.AddCT(ctx, e.CT)
	} else {
		future = l.driver.Add(ctx, tessera.NewEntry(e.Data))
	}
	go func() {
		i, err := future()
		if err != nil {
			l.land(e.Key, f, fmt.Errorf("sequencing entry: %w", unavailable(err)))
			return
		}
		f.pos.Index = int64(i.Index)
		l.land(e.Key, f, nil)
	}()
}

// emptiedSince reports whether the index may have lost keys since f began.
func (l *Log) emptiedSince(f *flight) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch != f.epoch
}

// land ends a flight. One with a new index stays among the flights until the index has it.
func (l *Log) land(key [32]byte, f *flight, err error) {
	l.mu.Lock()
	f.err = err
	if err != nil || f.pos.Duplicate {
		delete(l.flights, key)
	} else {
		l.landed = append(l.landed, duplicates.Record{Key: key, Index: f.pos.Index, Timestamp: f.pos.Timestamp})
	}
	l.mu.Unlock()
	close(f.done)
	l.futures.Done()
	l.signal()
}

// unavailable wraps ErrUnavailable around errors of the driver that pass.
func unavailable(err error) error {
	if errors.Is(err, driver.ErrNotLeading) || errors.Is(err, tessera.ErrPushback) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// overdue reports whether a certificate log must make no promise about the entry at index: it is
// unpublished, and publication has been failing for too long.
func (l *Log) overdue(index int64) bool {
	if l.o.Kind != KindCT {
		return false
	}
	oldest, ok := l.driver.OldestUnpublished()
	if !ok || time.Since(oldest) < maxUnpublishedCT {
		return false
	}
	p, ok := l.driver.Published()
	return !ok || index >= p.Size
}

// Add logs e, or finds it logged, and returns its receipt once a checkpoint covering it is
// published. It is for the kinds whose entries are bytes. Errors that wrap ErrUnavailable or
// ErrNoQuorum may pass; after ErrNoQuorum the entry is logged all the same.
func (l *Log) Add(ctx context.Context, e Entry) (Receipt, error) {
	r, err := l.receipt(ctx, e)
	leave(ctx, r.Duplicate, err)
	return r, err
}

// receipt is Add.
func (l *Log) receipt(ctx context.Context, e Entry) (Receipt, error) {
	if l.o.Kind == KindCT {
		return Receipt{}, errors.New("a certificate log gives no receipts")
	}
	pos, data, err := l.sequence(ctx, e)
	if err != nil {
		return Receipt{}, err
	}
	if data == nil {
		encoded, err := l.Logged(ctx, pos.Index, e.Key)
		if err != nil {
			return Receipt{}, err
		}
		if data, err = unframe(encoded); err != nil {
			return Receipt{}, fmt.Errorf("reading entry %d: %w", pos.Index, err)
		}
	}
	actx, sp := span.Start(ctx, "await publication")
	p, err := l.driver.Await(actx, pos.Index+1)
	sp.End(err)
	if err != nil {
		return Receipt{}, fmt.Errorf("waiting for publication of index %d: %w", pos.Index, unavailable(err))
	}
	c, err := l.opened.open(p.Note)
	var quorum *policy.QuorumError
	switch {
	case errors.As(err, &quorum): // published under another policy, before this one
		return Receipt{}, fmt.Errorf("checking checkpoint of size %d: %w: %w", p.Size, ErrNoQuorum, err)
	case err != nil:
		return Receipt{}, fmt.Errorf("checking checkpoint of size %d: %w", p.Size, err)
	}
	hashes, err := l.driver.InclusionProof(ctx, pos.Index, c.Size())
	if err != nil {
		return Receipt{}, fmt.Errorf("proving inclusion of index %d: %w", pos.Index, err)
	}
	if err := checkInclusion(data, pos.Index, hashes, c); err != nil {
		return Receipt{}, fmt.Errorf("checking inclusion of index %d: %w", pos.Index, err)
	}
	return Receipt{Index: pos.Index, Duplicate: pos.Duplicate, Body: data, Checkpoint: c, Hashes: hashes}, nil
}

// Logged returns the entry that Sequence said is at index, as it stands in its entry bundle,
// verified against the tree and its key. It is not to be changed. Errors wrap ErrUnavailable when a
// later attempt may succeed.
func (l *Log) Logged(ctx context.Context, index int64, key [32]byte) ([]byte, error) {
	encoded, err := l.driver.Entry(ctx, index)
	var damage *driver.DamageError
	switch {
	case errors.As(err, &damage), errors.Is(err, fs.ErrNotExist):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if got, _, err := l.o.Kind.identify(encoded); err != nil || got != key {
		err := fmt.Errorf("duplicate index is wrong about entry %d", index)
		l.distrust(err)
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return encoded, nil
}

// checkInclusion verifies the proof that data is the entry at index in c's tree.
func checkInclusion(data []byte, index int64, hashes [][]byte, c policy.Checkpoint) error {
	proof := make(tlog.RecordProof, len(hashes))
	for i, h := range hashes {
		if copy(proof[i][:], h) != len(proof[i]) {
			return errors.New("proof has a hash of wrong length")
		}
	}
	return tlog.CheckRecord(proof, c.Size(), tlog.Hash(c.Root()), index, tlog.RecordHash(data))
}

// A verifiedNote evaluates the policy once for each published note: all receipts under one
// checkpoint carry the same bytes.
type verifiedNote struct {
	mu     sync.Mutex // guards what follows
	policy *policy.Policy
	note   []byte // the one seen last; nil without
	c      policy.Checkpoint
	err    error
}

// set makes p the policy, under which nothing is known yet.
func (v *verifiedNote) set(p *policy.Policy) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.policy, v.note = p, nil
}

func (v *verifiedNote) open(note []byte) (policy.Checkpoint, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.note == nil || !bytes.Equal(v.note, note) {
		v.note = bytes.Clone(note)
		v.c, v.err = v.policy.Open(note)
	}
	return v.c, v.err
}
