package witness

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"sync/atomic"
	"time"

	"tallywood/storage"
)

const (
	leaseKey      = "lease.json"    // beside the exported checkpoints
	leaseInterval = 5 * time.Second // between two renewals
	leaseHold     = 2 * leaseInterval
	leaseTimeout  = 10 * time.Second // of one renewal
)

// TakeOverTime is how long after [Witness.TakeOver] the witness signs, at the latest.
const TakeOverTime = leaseHold + leaseInterval

// A leaseRecord is one link of the chain that a witness writes beside its exported checkpoints. Each
// is made by one process, is written into the state first, and replaces the one before it only.
type leaseRecord struct {
	Witness  string   `json:"witness"`   // the name
	Keys     []string `json:"keys"`      // IDs of the keys
	Counter  int64    `json:"counter"`   // of the chain
	Instance string   `json:"instance"`  // random, of the process
	Time     string   `json:"time"`      // for people: nothing is decided by it
	TakeOver bool     `json:"take_over"` // of a chain with another state, on an operator's word
}

// same reports whether two records are the same link.
func (r *leaseRecord) same(other *leaseRecord) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.Counter == other.Counter && r.Instance == other.Instance
}

// A leaseState is what the state bucket has of the chain. Beside the exported checkpoints stands
// Last, or, until that is written, Before: anything else was written from another state.
type leaseState struct {
	Last   leaseRecord  `json:"last"`
	Before *leaseRecord `json:"before"` // null: there was none
}

// A lease keeps two states from being used with one name: the chain of renewals is in the state and
// beside the exported checkpoints, where a state that was copied or restored is seen to be behind.
type lease struct {
	epoch  atomic.Int64  // grows when it is gained; not 0
	gained chan struct{} // has an element when it was
	mu     sync.Mutex    // guards the field below
	err    error         // why nothing may be signed; nil: the lease is held

	// Owned by the goroutine that renews.
	hold  *leaseRecord // a take-over that was seen
	since time.Time    // when
	shown *leaseRecord // the last link that we wrote beside the checkpoints; it is durable
}

// ErrLeaseHeld reports that there is nothing to take over.
var ErrLeaseHeld = errors.New("this state holds the lease already")

// A LeaseError reports that another instance has written the lease from other state.
type LeaseError struct {
	Witness  string // the name of that instance
	Instance string // random, of its process
	Time     string // when it wrote it, by its clock
	Other    bool   // it is another witness, with its name in the same place
}

func (e *LeaseError) Error() string {
	if e.Other {
		return fmt.Sprintf("the export is that of the witness %q: give this one another place", shorten(e.Witness))
	}
	return fmt.Sprintf("%s beside the exported checkpoints was written by instance %s at %s, from other state than this: "+
		"either another instance runs with the same keys, or this state is an old copy or a new one. "+
		"Stop that instance; if it is this one that is to go on, run: tallywood-witness take-over", leaseKey, shorten(e.Instance), shorten(e.Time))
}

var errLeaseUnknown = errors.New("the lease has not been looked at yet")

// check returns an error unless the record can be a link of a chain.
func (r *leaseRecord) check() error {
	if r.Counter < 1 || r.Counter > 1<<53 || r.Instance == "" || r.Witness == "" {
		return fmt.Errorf("decoding lease: it has counter %d, instance %q and witness %q", r.Counter, shorten(r.Instance), shorten(r.Witness))
	}
	return nil
}

func (s *leaseState) check() error {
	if s.Before != nil {
		if err := s.Before.check(); err != nil {
			return err
		}
	}
	return s.Last.check()
}

// decodeLease decodes a lease record or state strictly.
func decodeLease(data []byte, v interface{ check() error }) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("decoding lease: %w", err)
	}
	if len(bytes.TrimSpace(data[dec.InputOffset():])) > 0 {
		return errors.New("decoding lease: something follows it")
	}
	return v.check()
}

// readLease reads an object of the chain into v. An absent one has no version.
func readLease(ctx context.Context, b storage.Bucket, key string, v interface{ check() error }) (storage.Version, error) {
	data, version, err := b.Get(ctx, key, storage.Range{})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case err != nil:
		return "", fmt.Errorf("reading %s: %w", key, err)
	}
	if err := decodeLease(data, v); err != nil {
		return "", fmt.Errorf("reading %s: %w", key, err)
	}
	return version, nil
}

// writeLease replaces an object of the chain whose version is given; "" means none.
func writeLease(ctx context.Context, b storage.Bucket, key string, v any, version storage.Version) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding lease: %w", err)
	}
	o := storage.PutOptions{If: storage.Absent(), ContentType: "application/json", CacheControl: "no-store", Unversioned: true}
	if version != "" {
		o.If = storage.Match(version)
	}
	if _, err := b.Put(ctx, key, append(data, '\n'), o); err != nil {
		return fmt.Errorf("writing %s: %w", key, err)
	}
	return nil
}

// A leaseView is what both buckets say of the chain.
type leaseView struct {
	state   *leaseState // nil: none
	at      storage.Version
	shown   *leaseRecord // beside the checkpoints; nil: none
	shownAt storage.Version
}

// viewLease returns a view in which what is shown was there when the state was read, unless it is ours:
// other processes of this witness may move both meanwhile.
func (w *Witness) viewLease(ctx context.Context) (leaseView, error) {
	v, err := w.glanceLease(ctx)
	for range maxSwaps {
		if err != nil || v.settled() {
			return v, err
		}
		before := v
		if v, err = w.glanceLease(ctx); err == nil && before.shown.same(v.shown) {
			return before, nil // of v the state may be newer
		}
	}
	if err == nil {
		err = errors.New("the lease changes faster than it can be read")
	}
	return v, err
}

// glanceLease reads both objects, first what is shown.
func (w *Witness) glanceLease(ctx context.Context) (v leaseView, err error) {
	var shown leaseRecord
	if v.shownAt, err = readLease(ctx, w.exporter.bucket, leaseKey, &shown); err != nil {
		return v, err
	}
	if v.shownAt != "" {
		v.shown = &shown
	}
	var state leaseState
	if v.at, err = readLease(ctx, w.bucket, w.stateKey("lease"), &state); err != nil {
		return v, err
	}
	if v.at != "" {
		v.state = &state
	}
	return v, nil
}

// ours reports whether what is shown is of our chain. What is not there is nobody's.
func (v leaseView) ours() bool {
	switch {
	case v.shown == nil:
		return true
	case v.state == nil:
		return false
	}
	return v.shown.same(&v.state.Last) || v.shown.same(v.state.Before)
}

// settled reports whether it does not matter what others did between the two reads. Where nothing is shown
// although something was before the last link, that was removed, or was not there yet when it was looked for.
func (v leaseView) settled() bool {
	if v.shown == nil && v.state != nil && v.state.Before != nil {
		return false
	}
	return v.ours()
}

// next returns the record that follows what is known.
func (w *Witness) nextLease(v leaseView, takeOver bool) leaseRecord {
	r := leaseRecord{Witness: w.signer.name, Instance: w.instance, Time: w.now().UTC().Format(time.RFC3339), TakeOver: takeOver}
	for _, k := range w.signer.keys {
		r.Keys = append(r.Keys, k.idText)
	}
	if v.shown != nil {
		r.Counter = v.shown.Counter
	}
	if v.state != nil {
		r.Counter = max(r.Counter, v.state.Last.Counter)
	}
	r.Counter++
	return r
}

// renewLease writes the next link of the chain, and returns nil when it stands. An error that wraps
// a LeaseError says that another state is in use; others, that one of the buckets cannot be asked.
func (w *Witness) renewLease(ctx context.Context) error {
	for range maxSwaps {
		v, err := w.viewLease(ctx)
		if err != nil {
			return err
		}
		if v.shown != nil && v.shown.Witness != w.signer.name {
			return &LeaseError{Witness: v.shown.Witness, Instance: v.shown.Instance, Time: v.shown.Time, Other: true}
		}
		if !v.ours() {
			return &LeaseError{Witness: v.shown.Witness, Instance: v.shown.Instance, Time: v.shown.Time}
		}
		// Our last link is not out yet: it has to be before another one follows.
		if v.state != nil && !v.shown.same(&v.state.Last) && v.shown.same(v.state.Before) {
			err := w.syncState(ctx, w.stateKey("lease")) // a process may have died while it wrote that
			if err == nil {
				err = writeLease(ctx, w.exporter.bucket, leaseKey, v.state.Last, v.shownAt)
			}
			if err == nil || errors.Is(err, storage.ErrPrecondition) {
				continue
			}
			return err
		}
		if err := w.lease.held(v.shown); err != nil {
			return err
		}
		next := w.nextLease(v, false)
		err = w.linkLease(ctx, v, next)
		if err == nil {
			w.lease.shown = &next
		}
		if !errors.Is(err, storage.ErrPrecondition) {
			return err
		}
	}
	return errors.New("other processes of this witness are busy with the lease")
}

// linkLease writes a link that follows what is shown, into the state first.
func (w *Witness) linkLease(ctx context.Context, v leaseView, next leaseRecord) error {
	// What it follows must not go with the power, or the chain is broken.
	if v.shown != nil && !v.shown.same(w.lease.shown) {
		if err := syncBucket(ctx, w.exporter.bucket, ""); err != nil {
			return fmt.Errorf("syncing what is exported: %w", err)
		}
	}
	if err := writeLease(ctx, w.bucket, w.stateKey("lease"), leaseState{Last: next, Before: v.shown}, v.at); err != nil {
		w.endIfUnusable(err)
		return err
	}
	return writeLease(ctx, w.exporter.bucket, leaseKey, next, v.shownAt)
}

// held returns an error while a take-over is so young that the instance before it may not know yet.
func (l *lease) held(shown *leaseRecord) error {
	if shown == nil || !shown.TakeOver {
		l.hold = nil
		return nil
	}
	if !shown.same(l.hold) {
		l.hold, l.since = shown, time.Now()
	}
	if left := leaseHold - time.Since(l.since); left > 0 {
		return &holdError{left}
	}
	return nil
}

// A holdError reports that a take-over has to wait.
type holdError struct{ left time.Duration }

func (e *holdError) Error() string {
	return "the lease was taken over; the instance before this one gets time to notice"
}

// runLease renews the lease until ctx ends.
func (w *Witness) runLease(ctx context.Context) {
	for ctx.Err() == nil {
		renewing, cancel := context.WithTimeout(ctx, leaseTimeout)
		err := w.renewLease(renewing)
		cancel()
		wait := w.noteLease(err)
		select {
		case <-ctx.Done():
		case <-time.After(wait):
		}
	}
}

// noteLease notes how a renewal went, and returns when the next one is due. Once the lease is held,
// a bucket that cannot be asked takes it from nobody.
func (w *Witness) noteLease(err error) time.Duration {
	var foreign *LeaseError
	var hold *holdError
	l := &w.lease
	l.mu.Lock()
	before := l.err
	switch {
	case err == nil:
		l.err = nil
	case errors.As(err, &foreign), errors.As(err, &hold), before != nil:
		l.err = err
	}
	now := l.err
	if before != nil && now == nil {
		l.epoch.Add(1)
		select {
		case l.gained <- struct{}{}:
		default:
		}
	}
	l.mu.Unlock()
	switch {
	case now == nil && before != nil:
		w.log.Info("lease held: signing begins")
	case now != nil && (before == nil || before.Error() != now.Error()):
		w.log.Error("nothing is signed without the lease", "err", now)
	case now == nil && err != nil:
		w.metrics.leaseErrors.Add(1)
		w.log.Warn("renewing the lease; signing goes on", "err", err)
	}
	switch {
	case errors.As(err, &hold):
		return hold.left
	case err != nil && foreign == nil:
		return time.Second
	}
	return leaseInterval
}

// leaseError returns why nothing may be signed, or nil.
func (w *Witness) leaseError() error {
	if w.exporter.bucket == nil {
		return nil
	}
	w.lease.mu.Lock()
	defer w.lease.mu.Unlock()
	return w.lease.err
}

// mayWork returns the refusal of all that is signed while another instance may sign with our keys.
func (w *Witness) mayWork() error {
	err := w.leaseError()
	var foreign *LeaseError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &foreign):
		return &unavailableError{after: time.Minute, reason: "this instance of the witness signs nothing: another one has its keys and other state. Its operator must look"}
	}
	return &unavailableError{after: time.Second, reason: "this instance of the witness does not know yet that no other one signs"}
}

// TakeOver is the operator's word that this state goes on, whatever state the lease was written from:
// that other state is lost, or its instance was stopped, or is to stop. An instance that runs stops
// signing when it notices, and this one begins after the time that takes. Where the lease is this
// state's, it returns ErrLeaseHeld.
func (w *Witness) TakeOver(ctx context.Context) error {
	if w.exporter.bucket == nil {
		return errors.New("taking over: nothing is exported, and there is no lease")
	}
	for range maxSwaps {
		v, err := w.viewLease(ctx)
		switch {
		case err != nil:
			return fmt.Errorf("taking over: %w", err)
		case v.ours():
			return ErrLeaseHeld
		case v.shown.Witness != w.signer.name:
			return fmt.Errorf("taking over: %w", &LeaseError{Witness: v.shown.Witness, Other: true})
		}
		err = w.linkLease(ctx, v, w.nextLease(v, true))
		switch {
		case err == nil:
			w.log.Warn("lease taken over by the operator", "key", v.shown.Instance)
			return nil
		case !errors.Is(err, storage.ErrPrecondition):
			return fmt.Errorf("taking over: %w", err)
		}
	}
	return errors.New("taking over: the other instance is busy with the lease; try again")
}
