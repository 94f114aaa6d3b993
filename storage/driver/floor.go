package driver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"tallywood/storage"
)

// floor is the snapshot below which BATCH records may be gone: the log after slot N-1.
// Slot N exists, is committed, and is no later than the slot that the bucket's checkpoint covers
// (invariant F); only N = 0 need not exist.
type floor struct {
	Seq     int64  `json:"seq"` // grows with each write
	N       int64  `json:"n"`
	Size    int64  `json:"size"`
	Root    hash   `json:"root"`
	Range   []hash `json:"range"`
	Rec     hash   `json:"rec"` // of the header line in slot N-1; with N = 0, of the identity
	Epoch   int64  `json:"epoch"`
	Leader  int64  `json:"leader"`
	PubSize int64  `json:"pub_size"`
	Swept   int64  `json:"swept"` // BATCH records below are deleted
}

func (f floor) encode() ([]byte, error) {
	b, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("encoding floor: %w", err)
	}
	return append(b, '\n'), nil
}

func parseFloor(b []byte) (floor, error) {
	var f floor
	line, rest, found := bytes.Cut(b, []byte{'\n'})
	if !found || len(rest) > 0 {
		return floor{}, errors.New("parsing floor: not one line")
	}
	if err := decodeExactly(line, &f); err != nil {
		return floor{}, fmt.Errorf("parsing floor: %w", err)
	}
	if f.Seq < 1 || f.N < 0 || f.Size < 0 || f.Epoch < 0 || f.Leader < -1 || f.Leader >= f.N ||
		f.PubSize < f.Size || f.Swept < 0 || f.Swept > f.N {
		return floor{}, fmt.Errorf("parsing floor: slot %d, size %d, swept %d cannot be", f.N, f.Size, f.Swept)
	}
	if err := checkRange(f.Size, f.Range, f.Root); err != nil {
		return floor{}, fmt.Errorf("parsing floor: %w", err)
	}
	return f, nil
}

// state returns the state of the given log at the floor.
func (f floor) state(log id) state {
	return state{log: log, n: f.N, rec: f.Rec, size: f.Size, root: f.Root, rng: f.Range,
		epoch: f.Epoch, leader: f.Leader}
}

func (l *Log) createFloor(ctx context.Context, identity hash) error {
	data, err := floor{Seq: 1, Root: emptyHash, Range: []hash{}, Rec: identity, Leader: -1}.encode()
	if err != nil {
		return err
	}
	// A floor that is there already is as good: takeover reads and judges it.
	if _, err := l.create(ctx, l.stateKey("floor"), data, private); err != nil {
		return fmt.Errorf("creating floor: %w", err)
	}
	return nil
}

func (l *Log) readFloor(ctx context.Context) (floor, error) {
	f, _, err := l.readFloorVersion(ctx)
	return f, err
}

func (l *Log) readFloorVersion(ctx context.Context) (floor, storage.Version, error) {
	b, v, err := l.o.Bucket.Get(ctx, l.stateKey("floor"), storage.Range{})
	if errors.Is(err, fs.ErrNotExist) {
		return floor{}, "", damagef("the floor is gone")
	}
	if err != nil {
		return floor{}, "", fmt.Errorf("reading floor: %w", err)
	}
	f, err := parseFloor(b)
	if err != nil {
		return floor{}, "", &DamageError{err}
	}
	return f, v, nil
}
