package monitor_test

import (
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
)

// slowBucket takes its time for every write.
type slowBucket struct {
	storage.Bucket
	pause time.Duration
}

func (b slowBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	select {
	case <-time.After(b.pause):
		return b.Bucket.Put(ctx, key, data, o)
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// TestDeliveryIsNotedInSlowStorage has each write take longer than the end of a process waits for one:
// while nobody ends it, it waits, and nothing is sent twice.
func TestDeliveryIsNotedInSlowStorage(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	bubble.Test(t, func(t *testing.T) {
		log := l.config(monitor.KindRekor)
		log.End = time.Now().Add(-time.Hour) // it need not be fresh
		s := newStation(t, log)
		s.options.HTTP = &http.Client{Transport: direct{l}}
		s.options.State = slowBucket{s.options.State, 15 * time.Second}
		l.add(ca.entry(alice, goodIssuer))
		if r := s.expect(rule.Clean, rule.IDSeen); r.Undelivered != 0 {
			t.Errorf("%d undelivered", r.Undelivered)
		}
		s.expect(rule.Clean)
		if got := s.sink.all(); len(got) != 1 {
			t.Errorf("the sink got %d events", len(got))
		}
	})
}

// sharedBucket has another monitor write the state just before the write that follows each delivery.
type sharedBucket struct {
	storage.Bucket
	sent atomic.Bool
}

func (b *sharedBucket) Put(ctx context.Context, key string, data []byte, o storage.PutOptions) (storage.Version, error) {
	if b.sent.CompareAndSwap(true, false) {
		now, _, err := b.Get(ctx, key, storage.Range{})
		if err == nil {
			_, err = b.Bucket.Put(ctx, key, now, storage.PutOptions{})
		}
		if err != nil {
			return "", err
		}
	}
	return b.Bucket.Put(ctx, key, data, o)
}

// Send is of the sink.
func (b *sharedBucket) Send(context.Context, monitor.Event) error {
	b.sent.Store(true)
	return nil
}

// TestDeliveryIsNotedBesideAnotherMonitor, which has moved the state in between.
func TestDeliveryIsNotedBesideAnotherMonitor(t *testing.T) {
	t.Parallel()
	ca, l := newTestCA(t), newTestLog(t, "log.localhost")
	s := newStation(t, l.config(monitor.KindRekor))
	b := &sharedBucket{Bucket: s.options.State}
	s.options.State, s.options.Routes = b, map[string]monitor.Route{"all": {Sink: b}}
	l.add(ca.entry(alice, goodIssuer))
	if r := s.expect(rule.Clean, rule.IDSeen); r.Undelivered != 0 {
		t.Errorf("%d undelivered", r.Undelivered)
	}
	if b.sent.Load() {
		t.Error("nothing was written after the delivery")
	}
	s.expect(rule.Clean)
}
