package httpx_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/httpx"
)

func do(ctx context.Context, turns *httpx.Turns, client netip.Prefix, f func()) error {
	if err := turns.Take(ctx, client); err != nil {
		return err
	}
	defer turns.Give()
	f()
	return nil
}

func TestTurnsAreBounded(t *testing.T) {
	turns := httpx.NewTurns(3)
	var now, most atomic.Int64
	var all sync.WaitGroup
	for i := range 200 {
		all.Go(func() {
			client := httpx.Sender([]string{"192.0.2.1", "192.0.2.2", ""}[i%3])
			if err := do(t.Context(), turns, client, func() {
				if n := now.Add(1); n > most.Load() {
					most.Store(n)
				}
				time.Sleep(100 * time.Microsecond)
				now.Add(-1)
			}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if most.Load() > 3 {
		t.Errorf("%d at a time; want 3", most.Load())
	}
}

// TestClientsTakeTurns: whoever has one request waits for one of each of the others, not for all.
func TestClientsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := httpx.NewTurns(2)
		const each = 10 * time.Millisecond
		work := func() { time.Sleep(each) }
		var flood sync.WaitGroup
		for range 1000 {
			for _, client := range []string{"192.0.2.1", "192.0.2.2"} {
				flood.Go(func() { _ = do(t.Context(), turns, httpx.Sender(client), work) })
			}
		}
		synctest.Wait()
		for range 20 {
			began := time.Now()
			if err := do(t.Context(), turns, httpx.Sender("198.51.100.1"), work); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > 4*each {
				t.Fatalf("one request beside two floods took %v; alone it takes %v", took, each)
			}
			time.Sleep(each / 3)
		}
		flood.Wait()
	})
}

func TestTurnsOfThoseWhoLeaveAreGivenOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		turns := httpx.NewTurns(1)
		client := httpx.Sender("192.0.2.1")
		hold := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { _ = do(t.Context(), turns, client, func() { <-hold }) })
		synctest.Wait()
		ctx, cancel := context.WithCancelCause(t.Context())
		gone := errors.New("gone")
		for range 100 {
			all.Go(func() {
				if err := do(ctx, turns, client, func() { t.Error("it was served") }); !errors.Is(err, gone) {
					t.Errorf("got %v", err)
				}
			})
		}
		served := 0
		for _, address := range []string{"192.0.2.1", "192.0.2.2"} {
			all.Go(func() { _ = do(t.Context(), turns, httpx.Sender(address), func() { served++ }) })
		}
		synctest.Wait()
		cancel(gone)
		synctest.Wait()
		close(hold)
		all.Wait()
		if served != 2 {
			t.Errorf("%d of those who stayed were served; want 2", served)
		}
		if err := do(t.Context(), turns, client, func() { served++ }); err != nil || served != 3 {
			t.Errorf("afterwards: %v", err)
		}
	})
}
