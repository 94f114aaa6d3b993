package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/sumdb/note"

	"tallywood/storage"
	"tallywood/witness/policy"
)

// An ObjectError names an object of a log that is damaged or missing.
type ObjectError struct {
	Key string
	err error
}

func (e *ObjectError) Error() string { return e.Key + " " + e.err.Error() }
func (e *ObjectError) Unwrap() error { return e.err }

func objectf(key, format string, args ...any) error {
	return &ObjectError{key, fmt.Errorf(format, args...)}
}

var errMissing = errors.New("is missing")

// ErrNoLog reports that a bucket has no log of the name.
var ErrNoLog = errors.New("no log is stored here")

// inspectAttempts bounds how often a log is looked at anew because its leader changed it meanwhile.
const inspectAttempts = 5

// Names returns the names of the logs that b holds, found by listing state/. Witnesses keep their
// objects there as well; those are no logs.
func Names(ctx context.Context, b storage.Bucket) ([]string, error) {
	var names []string
	for key, err := range b.List(ctx, "state/") {
		if err != nil {
			return nil, fmt.Errorf("listing state/: %w", err)
		}
		name, object, _ := strings.Cut(strings.TrimPrefix(key, "state/"), "/")
		if _, isSlot := slotOf(object); !isSlot && object != "identity" && object != "floor" {
			continue
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// slotOf returns the number of the slot at log/NUMBER.
func slotOf(object string) (int64, bool) {
	digits, ok := strings.CutPrefix(object, "log/")
	n, err := strconv.ParseInt(digits, 10, 64)
	return n, ok && err == nil && n >= 0 && digits == fmt.Sprintf("%020d", n)
}

// A Status is what a bucket tells of a log.
type Status struct {
	Name     string `json:"name"`
	Origin   string `json:"origin"`
	UUID     string `json:"log_uuid"`
	Layout   string `json:"layout"`
	HeadSlot int64  `json:"head_slot"` // of the newest record; -1 without
	HeadSize int64  `json:"head_size"` // committed entries
	Epoch    int64  `json:"epoch"`     // leaderships so far

	Leader   string `json:"leader_url"`  // "" if it recorded none
	Since    int64  `json:"leader_slot"` // of its LEADER record; -1 without
	Released bool   `json:"released"`    // the newest record says that the leadership has ended

	Floor int64 `json:"floor"` // BATCH records below this slot may be deleted
	Swept int64 `json:"swept"` // and below this one they are

	Checkpoint *CheckpointStatus `json:"checkpoint,omitempty"` // nil if nothing was published yet
	Lag        int64             `json:"lag"`                  // committed entries that the checkpoint does not cover

	Freezing bool          `json:"freezing,omitempty"` // it is asked to take no more entries, and has not come to its end
	Frozen   *FrozenStatus `json:"frozen,omitempty"`   // its end; nil while it may grow
}

// A FrozenStatus describes the end of a log.
type FrozenStatus struct {
	Time time.Time `json:"time"`
	Size int64     `json:"size"`
	Next Successor `json:"successor"`
}

// A CheckpointStatus describes the bucket's checkpoint.
type CheckpointStatus struct {
	Size    int64      `json:"size"`
	Written *time.Time `json:"written,omitempty"` // when the store got it; nil if it does not say
}

// dated is a bucket that knows when its objects were written.
type dated interface {
	Modified(ctx context.Context, key string) (time.Time, error)
}

// Inspect returns the status of the log of that name. It only reads. What does not verify, of the
// few objects it reads, gives an *ObjectError or a *DamageError; Verify reads all.
func Inspect(ctx context.Context, b storage.Bucket, name string) (Status, error) {
	l, ident, _, err := view(ctx, b, name)
	if err != nil {
		return Status{}, fmt.Errorf("log %q: %w", name, err)
	}
	last := ""
	for range inspectAttempts {
		var s Status
		s, err = l.inspect(ctx, ident)
		var damage *DamageError
		if err == nil {
			return s, nil
		}
		// A leader that collects records makes a reader see odd things, but not the same ones twice.
		if !errors.Is(err, errOvertaken) && (!errors.As(err, &damage) || err.Error() == last) {
			return Status{}, fmt.Errorf("log %q: %w", name, err)
		}
		last = err.Error()
	}
	return Status{}, fmt.Errorf("log %q: %w: %w", name, errUnsteady, err)
}

// errUnsteady ends an inspection that met another log at each look.
var errUnsteady = errors.New("it changes faster than it can be read")

// view returns a Log that reads the log of that name, its identity and the hash of that object.
func view(ctx context.Context, b storage.Bucket, name string) (*Log, identity, hash, error) {
	l := &Log{o: Options{Bucket: b, Name: name, Layout: TlogTiles()}}
	key := l.stateKey("identity")
	if err := storage.CheckKey(key); err != nil {
		return nil, identity{}, hash{}, fmt.Errorf("%w: %w", ErrNoLog, err)
	}
	raw, _, err := b.Get(ctx, key, storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		for _, other := range []string{l.stateKey("floor"), l.slotKey(0), l.publicKey("checkpoint")} {
			if ok, err := l.exists(ctx, other); err != nil || ok {
				return nil, identity{}, hash{}, errors.Join(&ObjectError{key, errMissing}, err)
			}
		}
		return nil, identity{}, hash{}, ErrNoLog
	}
	if err != nil {
		return nil, identity{}, hash{}, fmt.Errorf("reading identity: %w", err)
	}
	ident, err := parseIdentity(raw)
	if errors.Is(err, ErrFormat) {
		return nil, identity{}, hash{}, err
	}
	if err == nil {
		err = l.adopt(ident)
	}
	if err != nil {
		return nil, identity{}, hash{}, &ObjectError{key, fmt.Errorf("is damaged: %w", err)}
	}
	return l, ident, sum(raw), nil
}

// adopt makes l one that reads a log with the given identity.
func (l *Log) adopt(i identity) error {
	l.o.Origin, l.o.VKeys = i.Origin, i.VKeys
	if len(i.VKeys) == 0 {
		return errors.New("no vkey")
	}
	for _, vkey := range i.VKeys {
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			return err
		}
		if k.Name() != i.Origin {
			return fmt.Errorf("a vkey is named %q, not %q", k.Name(), i.Origin)
		}
		if k.Alg() == policy.AlgRFC6962 {
			l.o.Layout = StaticCT()
		}
	}
	var err error
	l.verifier, err = note.NewVerifier(i.VKeys[0])
	return err
}

// inspect looks once.
func (l *Log) inspect(ctx context.Context, ident identity) (Status, error) {
	s := Status{Name: l.o.Name, Origin: ident.Origin, UUID: ident.UUID.String(), Layout: l.o.Layout.Name, HeadSlot: -1, Since: -1}
	// The checkpoint first: what is read after it covers it.
	pub, found, err := l.readCheckpoint(ctx)
	if err != nil {
		return s, err
	}
	f, err := l.floorIfAny(ctx)
	if err != nil || f.Seq == 0 {
		return s, err
	}
	at, err := l.tail(ctx, f, -1, ident.UUID)
	if err != nil {
		return s, err
	}
	again, err := l.readFloor(ctx)
	if err != nil {
		return s, err
	}
	if again.N > at.n {
		return s, errOvertaken // what was read is below the floor by now
	}
	s.Floor, s.Swept = f.N, f.Swept
	s.HeadSlot, s.HeadSize, s.Epoch, s.Since = at.n-1, at.size, at.epoch, at.leader
	if err := l.inspectHead(ctx, &s); err != nil {
		return s, err
	}
	s.Lag = at.size
	if found {
		s.Lag -= pub.Size
		s.Checkpoint = l.dateCheckpoint(ctx, pub.Size)
	}
	if s.Lag < 0 {
		return s, damagef("the checkpoint has size %d, but only %d entries are committed", pub.Size, at.size)
	}
	return s, l.inspectEnd(ctx, ident, &s)
}

// inspectEnd adds whether the log is frozen, or to be.
func (l *Log) inspectEnd(ctx context.Context, ident identity, s *Status) error {
	f, err := l.readFrozen(ctx, ident.UUID)
	if err != nil {
		return err
	}
	if f != nil {
		s.Frozen = &FrozenStatus{f.Time, f.Size, f.Next}
		return nil
	}
	asked, err := l.readFreeze(ctx, ident.UUID)
	s.Freezing = asked != nil
	return err
}

// floorIfAny returns the floor, or the zero floor of a log whose creation was cut short.
func (l *Log) floorIfAny(ctx context.Context) (floor, error) {
	slot0, err := l.exists(ctx, l.slotKey(0))
	if err != nil {
		return floor{}, fmt.Errorf("looking for slot 0: %w", err)
	}
	ok, err := l.exists(ctx, l.stateKey("floor"))
	if err != nil || !ok && !slot0 {
		return floor{}, err
	}
	return l.readFloor(ctx)
}

// inspectHead adds what the newest record and its leader's say.
func (l *Log) inspectHead(ctx context.Context, s *Status) error {
	if s.HeadSlot < 0 {
		return nil
	}
	h, _, err := l.readHeader(ctx, s.HeadSlot)
	if err != nil {
		return l.missing(s.HeadSlot, err)
	}
	s.Released = h.Released
	if s.Since != s.HeadSlot {
		if h, _, err = l.readHeader(ctx, s.Since); err != nil {
			return l.missing(s.Since, err)
		}
	}
	s.Leader = h.URL
	return nil
}

func (l *Log) dateCheckpoint(ctx context.Context, size int64) *CheckpointStatus {
	c := &CheckpointStatus{Size: size}
	if d, ok := l.o.Bucket.(dated); ok {
		// A store that does not say leaves the age unknown.
		if at, err := d.Modified(ctx, l.publicKey("checkpoint")); err == nil {
			c.Written = &at
		}
	}
	return c
}
