package httpx_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/httpx"
)

func do(ctx context.Context, turns *httpx.Turns, client netip.Prefix, f func()) error {
	turn, err := turns.Take(ctx, client)
	if err != nil {
		return err
	}
	defer turn.Give()
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

// TestClientsTakeTurns: whoever has few and short requests hardly waits for those of others.
func TestClientsTakeTurns(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := httpx.NewTurns(2)
		const long, short = 10 * time.Millisecond, time.Millisecond
		var flood sync.WaitGroup
		for range 200 {
			for n := range 10 {
				client := httpx.Sender(fmt.Sprintf("192.0.2.%d", n))
				flood.Go(func() { _ = do(t.Context(), turns, client, func() { time.Sleep(long) }) })
			}
		}
		time.Sleep(time.Second) // they are all known
		for range 100 {
			began := time.Now()
			if err := do(t.Context(), turns, httpx.Sender("198.51.100.1"), func() { time.Sleep(short) }); err != nil {
				t.Fatal(err)
			}
			if took := time.Since(began); took > long+short { // it waits for the end of one, at most
				t.Fatalf("a request beside ten floods took %v; alone it takes %v", took, short)
			}
			time.Sleep(long)
		}
		flood.Wait()
	})
}

// TestTurnsAreNotSavedUp: whoever had none for long has hardly more right to them than others.
func TestTurnsAreNotSavedUp(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		turns := httpx.NewTurns(1)
		const each = time.Millisecond
		count := map[string]int{}
		request := func(client string) {
			_ = do(t.Context(), turns, httpx.Sender(client), func() { time.Sleep(each); count[client]++ })
		}
		for range 1000 {
			request("192.0.2.1")
		}
		count["192.0.2.1"] = 0
		var all sync.WaitGroup
		for range 300 {
			for _, client := range []string{"192.0.2.1", "192.0.2.2"} {
				all.Go(func() { request(client) })
			}
		}
		time.Sleep(300*each + each/2)
		_ = do(t.Context(), turns, httpx.Sender("192.0.2.3"), func() { // nobody else counts meanwhile
			if a, b := count["192.0.2.1"], count["192.0.2.2"]; a < 95 || b < 95 {
				t.Errorf("two who want the same had %d and %d turns", a, b)
			}
		})
		all.Wait()
	})
}

func TestTurnsOfThoseWhoLeaveAreGivenOn(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
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
