package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"tallywood/storage"
)

// hint is the head object: where the newest record was once. It only shortens the search.
type hint struct {
	N   int64 `json:"n"`   // a slot that exists
	Seq int64 `json:"seq"` // grows with each write
}

// hintInterval is the least time between two writes of the hint.
const hintInterval = 10 * time.Second

// tail finds the first missing slot at or after the floor and returns the state before it. Slots
// are dense, so it gallops from the floor, from slot at or from the hint, whichever is furthest and
// exists, and then bisects. It does not list: a listing may lag.
func (l *Log) tail(ctx context.Context, f floor, at int64, log id) (state, error) {
	low := f.N - 1
	if at > low {
		if ok, err := l.exists(ctx, l.slotKey(at)); err == nil && ok {
			low = at
		}
	}
	if low < f.N {
		low = l.fromHint(ctx, low)
	}
	s, _, err := l.newest(ctx, f, low, log)
	return s, err
}

// fromHint returns the slot that the hint names if it exists and is beyond low, else low.
func (l *Log) fromHint(ctx context.Context, low int64) int64 {
	if h, err := l.readHint(ctx); err == nil && h.N > low {
		if ok, err := l.exists(ctx, l.slotKey(h.N)); err == nil && ok {
			return h.N
		}
	}
	return low
}

// newest is tail from low on, the newest slot known to exist or the one before the floor. It returns
// the newest record's header too, zero if there is none.
func (l *Log) newest(ctx context.Context, f floor, low int64, log id) (state, header, error) {
	high, err := l.gallop(ctx, &low)
	if err != nil {
		return state{}, header{}, err
	}
	for high-low > 1 {
		mid := low + (high-low)/2
		ok, err := l.exists(ctx, l.slotKey(mid))
		if err != nil {
			return state{}, header{}, fmt.Errorf("searching the newest slot: %w", err)
		}
		if ok {
			low = mid
		} else {
			high = mid
		}
	}
	if high == f.N {
		if f.N > 0 {
			return state{}, header{}, damagef("slot %d, at the floor, is missing", f.N)
		}
		return f.state(log), header{}, nil
	}
	h, line, err := l.readHeader(ctx, low)
	if err != nil {
		return state{}, header{}, l.missing(low, err)
	}
	if h.Log != log {
		return state{}, header{}, damagef("slot %d belongs to another log", low)
	}
	return after(h, line), h, nil
}

// gallop returns a missing slot above low, and moves low to the last existing one it met.
func (l *Log) gallop(ctx context.Context, low *int64) (int64, error) {
	for step := int64(1); ; step *= 2 {
		n := *low + step
		ok, err := l.exists(ctx, l.slotKey(n))
		if err != nil {
			return 0, fmt.Errorf("searching the newest slot: %w", err)
		}
		if !ok {
			return n, nil
		}
		*low = n
	}
}

func (l *Log) readHint(ctx context.Context) (hint, error) {
	h, _, err := l.readHintVersion(ctx)
	return h, err
}

func (l *Log) readHintVersion(ctx context.Context) (hint, storage.Version, error) {
	b, v, err := l.o.Bucket.Get(ctx, l.stateKey("head"), storage.Range{})
	if err != nil {
		return hint{}, "", fmt.Errorf("reading head hint: %w", err)
	}
	var h hint
	if err := json.Unmarshal(b, &h); err != nil {
		return hint{}, v, fmt.Errorf("parsing head hint: %w", err)
	}
	return h, v, nil
}

// writeHint notes that slot n exists. Whether that succeeds is of no consequence.
func (l *Log) writeHint(ctx context.Context, n int64) {
	old, v, err := l.readHintVersion(ctx)
	o := private
	switch {
	case errors.Is(err, fs.ErrNotExist):
		o.If = storage.Absent()
	case v == "":
		return
	default:
		o.If = storage.Match(v)
	}
	data, err := json.Marshal(hint{N: n, Seq: old.Seq + 1})
	if err != nil {
		return
	}
	if _, err := l.put(ctx, l.stateKey("head"), append(data, '\n'), o); err != nil {
		l.o.Log.DebugContext(ctx, "writing head hint", "err", err)
	}
}
