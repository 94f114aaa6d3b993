package driver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/transparency-dev/tessera"

	"tallywood/internal/bubble"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/mem"
	"tallywood/witness/policy"
)

// TestOvertakenLeaderWithoutQuorumStepsDown has a process take over from one whose entries no witness
// cosigns any more, and that nobody adds to: it must notice all the same.
func TestOvertakenLeaderWithoutQuorumStepsDown(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b, first, stop := witnessed(t, q)
		add(t, first, 0, 5)
		q.set(func(q *quorum) { q.hang = true })
		if _, err := first.Add(t.Context(), tessera.NewEntry(data(5)))(); err != nil {
			t.Fatal(err)
		}
		second := open(t, options(t, b))
		stopSecond := lead(t, second)
		time.Sleep(10 * time.Second)
		if driver.Leading(first) {
			t.Error("the overtaken process still leads")
		}
		if err := stop(); !errors.Is(err, driver.ErrNotLeading) {
			t.Errorf("Run of the overtaken process: %v", err)
		}
		quit(t, second, stopSecond)
		checkLog(t, options(t, b), 6)
	})
}

// unreadable is a bucket that fails to return one object in full.
type unreadable struct {
	storage.Bucket
	key string
}

func (u *unreadable) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	if key == u.key && r.Length != 1 {
		return nil, "", io.ErrUnexpectedEOF
	}
	return u.Bucket.Get(ctx, key, r)
}

// TestNoRefusalWithoutSecondLook has the bucket fail right when a process that sees damage looks
// whether it was overtaken: that is no damage yet.
func TestNoRefusalWithoutSecondLook(t *testing.T) {
	b := mem.New()
	l := open(t, options(t, b))
	stop := lead(t, l)
	add(t, l, 0, 5)
	quit(t, l, stop)
	o := options(t, b)
	o.Cosign = new(quorum).cosign
	o.Satisfied = func(has func(string) bool) bool { return has("w") }
	o.Sizes = func(context.Context, []byte) ([]policy.WitnessSize, error) {
		return []policy.WitnessSize{{Name: "w", Size: 6, Root: new([32]byte)}}, nil
	}
	var damage *driver.DamageError
	u := &unreadable{b, slotKey(newest(t, b) + 1)}
	o.Bucket = u
	if _, err := driver.Open(t.Context(), o); !errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &damage) {
		t.Errorf("Open with no answer: %v", err)
	}
	u.key = ""
	if _, err := driver.Open(t.Context(), o); !errors.As(err, &damage) {
		t.Errorf("Open of a log that was rolled back: %v", err)
	}
}

// TestReplicaNeverShowsLess has the leader publish while a replica that took it for dead is about to
// lead: what the replica shows by then it shows as the leader too.
func TestReplicaNeverShowsLess(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b, q := mem.New(), new(quorum)
		o := options(t, b)
		o.Cosign = q.cosign
		first := open(t, o)
		stop := lead(t, first)
		add(t, first, 0, 5)
		time.Sleep(time.Second)
		q.set(func(q *quorum) { q.hang = true })
		for i := int64(5); i < 8; i++ {
			if _, err := first.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
				t.Fatal(err)
			}
		}
		var second *driver.Replica
		o = options(t, &hooked{b, once("put", slotKey(newest(t, b)+1), func() {
			q.set(func(q *quorum) { q.hang = false })
			time.Sleep(10 * time.Second)
			if p, _ := second.Published(); p.Size != 8 {
				t.Errorf("the standby shows size %d", p.Size)
			}
		})})
		slow := &quorum{delay: time.Second}
		o.Cosign = slow.cosign
		second, err := driver.OpenReplica(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- second.Run(ctx) }()
		for !driver.Takes(second) {
			time.Sleep(time.Millisecond)
		}
		if p, _ := second.Published(); p.Size < 8 {
			t.Errorf("showed size 8, and then size %d", p.Size)
		}
		if index, err := second.Add(t.Context(), tessera.NewEntry(data(8)))(); err != nil || index.Index != 8 {
			t.Errorf("index %d, %v", index.Index, err)
		}
		stop()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		checkLog(t, options(t, b), 9)
	})
}

// TestCollectedWhileAskingWitnesses has the log published and collected while a candidate asks the
// witnesses, so that the record of what they cosigned is gone.
func TestCollectedWhileAskingWitnesses(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		q := new(quorum)
		b, leader, stop := witnessed(t, q)
		add(t, leader, 0, 5)
		settle(t, b, 5)
		q.set(func(q *quorum) { q.hang = true })
		for i := int64(5); i < 12; i++ {
			if _, err := leader.Add(t.Context(), tessera.NewEntry(data(i)))(); err != nil {
				t.Fatal(err)
			}
		}
		o := options(t, b)
		o.Cosign = new(quorum).cosign
		o.Satisfied = func(has func(string) bool) bool { return has("w") }
		collect := sync.OnceFunc(func() {
			q.set(func(q *quorum) { q.hang = false })
			settle(t, b, 12)
			raise(t, b, newest(t, b))
		})
		o.Sizes = func(context.Context, []byte) ([]policy.WitnessSize, error) {
			collect()
			return []policy.WitnessSize{{Name: "w", Size: 8}}, nil
		}
		second := open(t, o)
		stopSecond := lead(t, second)
		add(t, second, 12, 20)
		quit(t, second, stopSecond)
		stop()
		checkLog(t, options(t, b), 20)
	})
}

// lateLook is a bucket in which the first record takes two seconds, and what was read of the checkpoint
// meanwhile comes five seconds later.
type lateLook struct {
	storage.Bucket
	putting atomic.Bool
}

func (b *lateLook) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if key == slot0 {
		b.putting.Store(true)
		defer b.putting.Store(false)
		time.Sleep(2 * time.Second)
	}
	return b.Bucket.Put(ctx, key, data, o)
}

func (b *lateLook) Get(ctx context.Context, key string, r storage.Range) ([]byte, storage.Version, error) {
	late := b.putting.Load() && key == "logs/test/checkpoint"
	data, v, err := b.Bucket.Get(ctx, key, r)
	if late {
		time.Sleep(5 * time.Second)
	}
	return data, v, err
}

// TestReplicaRaisesNoAlarmAboutItself has a standby look for the checkpoint before there is one, and
// hear of it when it has led and published itself.
func TestReplicaRaisesNoAlarmAboutItself(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		b := &lateLook{Bucket: mem.New()}
		var said bytes.Buffer
		o := options(t, b)
		o.Log = slog.New(slog.NewTextHandler(&said, nil))
		r, err := driver.OpenReplica(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- r.Run(ctx) }()
		time.Sleep(20 * time.Second)
		if index, err := r.Add(t.Context(), tessera.NewEntry(data(0)))(); err != nil || index.Index != 0 {
			t.Errorf("index %d, %v", index.Index, err)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if strings.Contains(said.String(), "damaged") {
			t.Error(said.String())
		}
	})
}
