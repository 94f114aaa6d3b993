package driver_test

import (
	"bytes"
	"context"
	"errors"
	"testing"

	"github.com/transparency-dev/tessera"

	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
)

// dying is a bucket whose process dies while it puts an object at key.
type dying struct {
	storage.Bucket
	key  string
	die  func()
	data []byte // of the Put, which is still under way
}

func (d *dying) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if key != d.key {
		return d.Bucket.Put(ctx, key, data, o)
	}
	d.data = bytes.Clone(data)
	d.die()
	return "", errors.New("no answer")
}

// TestGhostWhileReading has a candidate read records while they are published and collected up to the
// floor, and a dead candidate's LEADER record lands in the last slot below it. The ghost follows what
// the candidate has read; the record after it, at the floor, does not follow the ghost. Found by the
// exhaustive model.
func TestGhostWhileReading(t *testing.T) {
	b := mem.New()
	quorum := make(chan struct{})
	o := options(t, b)
	o.Cosign = func(ctx context.Context, checkpoint []byte, _ driver.ProofFunc) ([]byte, error) {
		select {
		case <-quorum:
		case <-ctx.Done():
		}
		return checkpoint, ctx.Err()
	}
	leader := open(t, o)

	ctx, cancel := context.WithCancel(t.Context())
	dead := &dying{Bucket: b, key: slotKey(1), die: cancel}
	o = options(t, dead)
	if l, err := driver.Open(ctx, o); err == nil || dead.data == nil {
		t.Fatalf("Open of the process that died: %v, %v", l, err)
	}

	stop := lead(t, leader)
	for i := range int64(2) {
		if _, err := leader.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
			t.Fatal(err)
		}
	}
	o = options(t, b)
	o.Bucket = &hooked{b, once("get", slotKey(1), func() {
		if get(t, b, "logs/test/checkpoint") != nil {
			t.Fatal("the candidate may have read the checkpoint")
		}
		close(quorum)
		settle(t, b, 2)
		raise(t, b, 2)
		put(t, b, slotKey(1), dead.data)
	})}
	candidate := open(t, o)
	if size, _ := candidate.Head(); size != 2 {
		t.Fatalf("leads from size %d", size)
	}
	if err := stop(); !errors.Is(err, driver.ErrNotLeading) && err != nil {
		t.Errorf("the leader that was overtaken: %v", err)
	}
	stop = lead(t, candidate)
	add(t, candidate, 2, 3)
	quit(t, candidate, stop)
	checkLog(t, options(t, b), 3)
}
