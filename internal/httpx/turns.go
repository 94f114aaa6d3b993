package httpx

import (
	"context"
	"net/netip"
	"slices"
	"sync"
)

// Turns lets so many do something at a time. Clients whose requests wait take turns, however many of
// them each one has. It may be used concurrently.
type Turns struct {
	mu    sync.Mutex
	free  int
	queue []*client // who waits, each once, the next one first
	known map[netip.Prefix]*client
}

// A client waits for its turns. The mutex of Turns guards it.
type client struct {
	key     netip.Prefix
	waiting []chan struct{} // closed when it is their turn
}

// NewTurns returns Turns for n at a time.
func NewTurns(n int) *Turns {
	return &Turns{free: max(n, 1), known: map[netip.Prefix]*client{}}
}

// Take waits until it is the client's turn, or returns the cause of ctx's end. Without an error, Give
// must be called once.
func (t *Turns) Take(ctx context.Context, key netip.Prefix) error {
	turn := t.enter(key)
	if turn == nil {
		return nil
	}
	select {
	case <-turn:
		return nil
	case <-ctx.Done():
		if !t.withdraw(key, turn) {
			t.Give() // it was its turn at the same moment
		}
		return context.Cause(ctx)
	}
}

// enter takes a place and returns nil, or what is closed when there is one.
func (t *Turns) enter(key netip.Prefix) chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free > 0 {
		t.free--
		return nil
	}
	c, ok := t.known[key]
	if !ok {
		c = &client{key: key}
		t.known[key] = c
		t.queue = append(t.queue, c)
	}
	turn := make(chan struct{})
	c.waiting = append(c.waiting, turn)
	return turn
}

// Give ends a turn, and begins that of whoever waits next.
func (t *Turns) Give() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.queue) > 0 {
		c := t.queue[0]
		t.queue[0] = nil
		t.queue = t.queue[1:]
		if len(c.waiting) == 0 { // they have withdrawn
			delete(t.known, c.key)
			continue
		}
		close(c.waiting[0])
		c.waiting[0] = nil
		if c.waiting = c.waiting[1:]; len(c.waiting) > 0 {
			t.queue = append(t.queue, c)
		} else {
			delete(t.known, c.key)
		}
		return
	}
	t.free++
}

// withdraw gives up waiting, and reports whether it was not its turn yet.
func (t *Turns) withdraw(key netip.Prefix, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.known[key]
	if c == nil {
		return false
	}
	i := slices.Index(c.waiting, turn)
	if i < 0 {
		return false
	}
	c.waiting = slices.Delete(c.waiting, i, i+1)
	return true
}
