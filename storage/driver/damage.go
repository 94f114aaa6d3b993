package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"tallywood/storage"
)

// DamageError reports that what the bucket holds contradicts itself, the log's keys or what this
// process has committed, or that what memory holds contradicts itself. The log refuses to lead;
// nothing is signed over it.
type DamageError struct{ err error }

func (e *DamageError) Error() string { return "refusing damaged log: " + e.err.Error() }
func (e *DamageError) Unwrap() error { return e.err }

func damagef(format string, args ...any) error {
	return &DamageError{fmt.Errorf(format, args...)}
}

// errOvertaken means that another process has led since: what was read is out of date.
var errOvertaken = fmt.Errorf("another process has taken the log over: %w", ErrNotLeading)

// refuse is the refusal rule, storage-protocol section 4.2. An overtaken process sees odd things
// in a healthy store; before damage is believed, the slots from next, its own next slot, and the
// floor must show that it has not been overtaken. A next of -1 means that it is not known yet; odd
// is the slot that was missing or did not fit, if damage does not say, or -1. refuse returns errOvertaken, damage as it is,
// or, if the bucket does not say, an error that is not damage.
func (l *Log) refuse(ctx context.Context, damage error, next, odd int64) error {
	var d *DamageError
	if !errors.As(damage, &d) {
		return damage
	}
	if o := (*oddity)(nil); errors.As(damage, &o) {
		odd = max(odd, o.slot)
	}
	switch overtaken, err := l.overtaken(ctx, next, odd); {
	case errors.As(err, &d):
		return errors.Join(damage, err)
	case err != nil:
		return fmt.Errorf("finding out who leads, because of %q: %w", damage.Error(), err)
	case overtaken:
		return errOvertaken
	}
	return damage
}

// overtaken reports whether the slots from next or the floor show that another process has led
// since. next and odd are as in refuse.
func (l *Log) overtaken(ctx context.Context, next, odd int64) (bool, error) {
	for ; next >= 0; next++ { // past commits of our own that were in flight
		h, _, err := l.readHeader(ctx, next)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return false, err
		}
		if h.Writer != l.writer {
			return true, nil
		}
	}
	f, err := l.readFloor(ctx)
	if err != nil {
		return false, err
	}
	return next > 0 && f.N >= next || odd >= 0 && f.N > odd, nil
}

// readHeader returns the header of slot n and the hash of its line.
func (l *Log) readHeader(ctx context.Context, n int64) (header, hash, error) {
	b, _, err := l.o.Bucket.Get(ctx, l.slotKey(n), storage.Range{Length: maxHeader})
	if err != nil {
		return header{}, hash{}, fmt.Errorf("reading slot %d: %w", n, err)
	}
	h, size, err := parseHeader(b)
	if err != nil {
		return header{}, hash{}, damagef("slot %d: %w", n, err)
	}
	if h.N != n {
		return header{}, hash{}, damagef("slot %d holds the record of slot %d", n, h.N)
	}
	return h, sum(b[:size]), nil
}
