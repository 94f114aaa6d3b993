package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tallywood/storage"
)

// A log is frozen by two objects below its state. "freeze" asks for it: whoever leads, or leads next,
// refuses adds from then on, publishes what is committed and leaves with a last record. Then it
// creates "frozen", which says where the log ends, and while that is there nobody leads. Neither is
// signed, and the last checkpoint stays as it was cosigned. Both are created and never changed;
// Unfreeze alone deletes them.
//
// Nothing is added once a leader has left: whoever leads after that has looked for the request with
// its own LEADER record in place, so later than the request was made. So all processes that come to
// create "frozen" mean the same tree.
const (
	freezeKey = "freeze"
	frozenKey = "frozen"
)

// freezeInterval is how often a leader looks whether it is asked to freeze the log.
const freezeInterval = 10 * time.Second

// frozenInterval is how often a standby looks whether its log is frozen still.
const frozenInterval = 5 * time.Second

// ErrFrozen reports that a log takes no adds any more.
var ErrFrozen = errors.New("log is frozen")

// A Frozen is the end of a log that takes no adds any more.
type Frozen struct {
	Time time.Time // when it was reached
	Size int64     // entries of the log, all under its checkpoint
	Root [32]byte
	Next Successor // as the request named it; zero: none
}

// A Successor is the log that takes the entries of a frozen one.
type Successor struct {
	Origin string `json:"origin"`
	URL    string `json:"url"`
}

// freezeObject is the object that asks for a freeze.
type freezeObject struct {
	V    int       `json:"v"`   // 1
	Log  id        `json:"log"` // log_uuid of the identity
	Time string    `json:"time"`
	Next Successor `json:"successor"`
}

// frozenObject is the object that ends it.
type frozenObject struct {
	V    int       `json:"v"`
	Log  id        `json:"log"`
	Time string    `json:"time"`
	Size int64     `json:"size"`
	Root hash      `json:"root"`
	Next Successor `json:"successor"`
}

// parseLine decodes an object that is one line of JSON in canonical form.
func parseLine(b []byte, v any) error {
	line, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found || len(rest) > 0 {
		return errors.New("not one line")
	}
	return decodeExactly(line, v)
}

func parseFreeze(b []byte, log id) (freezeObject, error) {
	var o freezeObject
	if err := parseLine(b, &o); err != nil {
		return o, fmt.Errorf("parsing freeze: %w", err)
	}
	if _, err := checkFreeze(o.V, o.Log, log, o.Time); err != nil {
		return o, fmt.Errorf("parsing freeze: %w", err)
	}
	return o, nil
}

func parseFrozen(b []byte, log id) (Frozen, error) {
	var o frozenObject
	if err := parseLine(b, &o); err != nil {
		return Frozen{}, fmt.Errorf("parsing frozen: %w", err)
	}
	at, err := checkFreeze(o.V, o.Log, log, o.Time)
	if err == nil && o.Size < 0 {
		err = fmt.Errorf("size %d cannot be", o.Size)
	}
	if err != nil {
		return Frozen{}, fmt.Errorf("parsing frozen: %w", err)
	}
	return Frozen{Time: at, Size: o.Size, Root: o.Root, Next: o.Next}, nil
}

func checkFreeze(v int, of, log id, at string) (time.Time, error) {
	if v != 1 {
		return time.Time{}, fmt.Errorf("version %d is not 1", v)
	}
	if of != log {
		return time.Time{}, fmt.Errorf("it is of log %v, not of %v", of, log)
	}
	t, err := time.Parse(time.RFC3339, at)
	if err == nil && t.UTC().Format(time.RFC3339) != at {
		err = fmt.Errorf("time %q is not one in UTC, to the second", at)
	}
	return t, err
}

// Freeze asks that the log of the given name in b be frozen, unless that was asked before. Whoever
// leads it does so within seconds, else whoever leads it next; ReadFrozen tells when it is done.
func Freeze(ctx context.Context, b storage.Bucket, name string, next Successor) error {
	l, ident, _, err := view(ctx, b, name)
	if err != nil {
		return fmt.Errorf("freezing log %q: %w", name, err)
	}
	return l.askToFreeze(ctx, ident.UUID, next)
}

func (l *Log) askToFreeze(ctx context.Context, log id, next Successor) error {
	data, err := json.Marshal(freezeObject{V: 1, Log: log, Time: time.Now().UTC().Format(time.RFC3339), Next: next})
	if err != nil {
		return fmt.Errorf("encoding freeze: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	if _, err := l.create(ctx, l.stateKey(freezeKey), append(data, '\n'), private); err != nil {
		return fmt.Errorf("asking to freeze log %q: %w", l.o.Name, err)
	}
	return nil
}

// A FreezeStatus is what a bucket says of the end of a log.
type FreezeStatus struct {
	Asked  bool    // somebody asked for it, and it may not have come yet
	Frozen *Frozen // nil while the log may grow
}

// ReadFrozen returns how far the freeze of the log of the given name in b is.
func ReadFrozen(ctx context.Context, b storage.Bucket, name string) (FreezeStatus, error) {
	l, ident, _, err := view(ctx, b, name)
	if err != nil {
		return FreezeStatus{}, fmt.Errorf("log %q: %w", name, err)
	}
	var s FreezeStatus
	if s.Frozen, err = l.readFrozen(ctx, ident.UUID); err != nil {
		return s, err
	}
	asked, err := l.readFreeze(ctx, ident.UUID)
	s.Asked = asked != nil
	return s, err
}

// Unfreeze takes a freeze back: the log may be led and grow again. It deletes the request first, so
// that a log which it leaves half done is frozen still.
func Unfreeze(ctx context.Context, b storage.Bucket, name string) error {
	l, _, _, err := view(ctx, b, name)
	if err != nil {
		return fmt.Errorf("unfreezing log %q: %w", name, err)
	}
	for _, key := range []string{freezeKey, frozenKey} {
		if err := b.Delete(ctx, l.stateKey(key)); err != nil {
			return fmt.Errorf("unfreezing log %q: %w", name, err)
		}
	}
	return nil
}

// readFreeze returns the request to freeze the log, nil if there is none.
func (l *Log) readFreeze(ctx context.Context, log id) (*freezeObject, error) {
	b, _, err := l.o.Bucket.Get(ctx, l.stateKey(freezeKey), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for a freeze: %w", err)
	}
	o, err := parseFreeze(b, log)
	if err != nil {
		return nil, &DamageError{err}
	}
	return &o, nil
}

// readFrozen returns the end of the log, nil if it has none.
func (l *Log) readFrozen(ctx context.Context, log id) (*Frozen, error) {
	b, _, err := l.o.Bucket.Get(ctx, l.stateKey(frozenKey), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for the end of the log: %w", err)
	}
	f, err := parseFrozen(b, log)
	if err != nil {
		return nil, &DamageError{err}
	}
	return &f, nil
}

// awaitFreeze looks at once, and then now and then, whether the log is to be frozen. When the first
// look has come out it closes looked. It ends when ctx does, or when it is so.
func (l *Log) awaitFreeze(ctx context.Context, log id, looked chan<- struct{}) error {
	var wait backoff
	for first := true; ; {
		next, err := l.toFreeze(ctx, log, first)
		var damage *DamageError
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.As(err, &damage):
			return err
		case err != nil:
			l.o.Log.WarnContext(ctx, "looking for a freeze", "origin", l.o.Origin, "err", err)
			if !wait.sleep(ctx) {
				return nil
			}
			continue
		case next != nil:
			l.refuseAdds(*next)
		}
		if first {
			close(looked)
		}
		if first = false; next != nil || !pauseOr(ctx, freezeInterval, l.nudged) {
			return nil
		}
		wait = backoff{}
	}
}

// toFreeze returns what to put into the end of the log if it is to have one, else nil.
func (l *Log) toFreeze(ctx context.Context, log id, first bool) (*Successor, error) {
	asked, err := l.readFreeze(ctx, log)
	if err != nil || asked == nil && !first {
		return nil, err
	}
	if asked != nil {
		return &asked.Next, nil
	}
	// An end without a request is one that is being taken back.
	frozen, err := l.readFrozen(ctx, log)
	if frozen == nil || err != nil {
		return nil, err
	}
	return &frozen.Next, nil
}

// pauseOr is pause that nudge cuts short.
func pauseOr(ctx context.Context, d time.Duration, nudge <-chan struct{}) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-nudge:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// refuseAdds makes this leadership the last of the log: what is admitted is committed and published,
// and nothing else is admitted.
func (l *Log) refuseAdds(next Successor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.last = &next
	close(l.freezing)
	l.wakeSequencer()
	l.notifyLocked()
}

// publishAll waits until all that was admitted is committed, published and in the bucket, and reports
// whether it is. Without witnesses that takes as long as they do: a log ends with all that it
// promised, or not yet.
func (l *Log) publishAll(ctx context.Context) bool {
	return l.await(ctx, l.allPublished)
}

func (l *Log) allPublished() bool {
	return l.queued == 0 && l.found && l.published.Size == l.head.size && l.storedSize >= l.published.Size
}

// end creates the end of the log. The record that ends this leadership is there.
func (l *Log) end(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), decideTimeout)
	defer cancel()
	data, err := json.Marshal(frozenObject{V: 1, Log: l.state.log, Time: time.Now().UTC().Format(time.RFC3339),
		Size: l.state.size, Root: l.state.root, Next: *l.last})
	if err != nil {
		return fmt.Errorf("encoding the end of the log: %w", err)
	}
	stored, err := l.create(ctx, l.stateKey(frozenKey), append(data, '\n'), private)
	if err != nil {
		return err
	}
	f, err := parseFrozen(stored, l.state.log)
	if err != nil {
		return &DamageError{err}
	}
	if f.Size != l.state.size || hash(f.Root) != l.state.root {
		return damagef("the log was frozen at size %d, and has %d entries", f.Size, l.state.size)
	}
	l.ended = &f
	return nil
}
