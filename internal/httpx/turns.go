package httpx

import (
	"container/heap"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// maxIdle bounds whose use of turns is remembered while they have none.
	maxIdle = 4096
	// turnCredit is how much of the time that a client did not use is kept for it: whoever wants less
	// than its part does not wait for those who want more.
	turnCredit = 100 * time.Millisecond
)

// Turns lets so many do something at a time. When more want to, the client comes first that has had
// the least time: one with many requests, or with requests that take long, waits for its own, and
// others hardly notice. It may be used concurrently.
type Turns struct {
	mu      sync.Mutex // guards what follows, and the clients
	free    int
	clock   time.Duration // what whoever had the last turn had had before
	waiting clients
	known   map[netip.Prefix]*client
}

// A client is one who has turns, waits for some or has had some.
type client struct {
	key     netip.Prefix
	had     time.Duration // time in turns, and what others had while it had none
	turns   int           // under way
	waiting []chan struct{}
	at      int // in the heap, if any wait
}

// NewTurns returns Turns for n at a time.
func NewTurns(n int) *Turns {
	return &Turns{free: max(n, 1), known: map[netip.Prefix]*client{}}
}

// A Turn is one under way. Give must be called once.
type Turn struct {
	turns  *Turns
	client *client
	began  time.Time
}

// Take waits until it is the client's turn, or returns the cause of ctx's end.
func (t *Turns) Take(ctx context.Context, key netip.Prefix) (Turn, error) {
	c, turn := t.enter(key)
	if turn != nil {
		select {
		case <-turn:
		case <-ctx.Done():
			if !t.withdraw(c, turn) {
				Turn{t, c, time.Now()}.Give() // it was its turn at the same moment
			}
			return Turn{}, context.Cause(ctx)
		}
	}
	return Turn{t, c, time.Now()}, nil
}

// enter takes a place, or returns what is closed when there is one.
func (t *Turns) enter(key netip.Prefix) (*client, chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c, ok := t.known[key]
	if !ok {
		if len(t.known) >= maxIdle {
			t.forgetLocked()
		}
		c = &client{key: key}
		t.known[key] = c
	}
	if c.turns == 0 && len(c.waiting) == 0 {
		c.had = max(c.had, t.clock-turnCredit)
	}
	if t.free > 0 {
		t.free--
		t.beginLocked(c)
		return c, nil
	}
	turn := make(chan struct{})
	if c.waiting = append(c.waiting, turn); len(c.waiting) == 1 {
		heap.Push(&t.waiting, c)
	} else {
		heap.Fix(&t.waiting, c.at)
	}
	return c, turn
}

func (t *Turns) beginLocked(c *client) {
	t.clock = max(t.clock, c.had)
	c.turns++
}

// forgetLocked drops the clients who neither have a turn nor wait.
func (t *Turns) forgetLocked() {
	for key, c := range t.known {
		if c.turns == 0 && len(c.waiting) == 0 {
			delete(t.known, key)
		}
	}
}

// Give ends a turn, and begins that of whoever comes next.
func (turn Turn) Give() {
	t, c := turn.turns, turn.client
	t.mu.Lock()
	defer t.mu.Unlock()
	c.turns--
	c.had += time.Since(turn.began)
	if len(c.waiting) > 0 {
		heap.Fix(&t.waiting, c.at)
	}
	if len(t.waiting) == 0 {
		t.free++
		return
	}
	next := t.waiting[0]
	t.beginLocked(next)
	close(next.waiting[0])
	next.waiting[0] = nil
	if next.waiting = next.waiting[1:]; len(next.waiting) == 0 {
		heap.Remove(&t.waiting, next.at)
	} else {
		heap.Fix(&t.waiting, next.at)
	}
}

// withdraw gives up waiting, and reports whether it was not its turn yet.
func (t *Turns) withdraw(c *client, turn chan struct{}) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	i := slices.Index(c.waiting, turn)
	if i < 0 {
		return false
	}
	if c.waiting = slices.Delete(c.waiting, i, i+1); len(c.waiting) == 0 {
		heap.Remove(&t.waiting, c.at)
	} else {
		heap.Fix(&t.waiting, c.at)
	}
	return true
}

// clients are those who wait, as a heap: who has had the least is first.
type clients []*client

// Len implements heap.Interface.
func (c clients) Len() int { return len(c) }

// Less implements heap.Interface.
func (c clients) Less(i, j int) bool {
	if c[i].had != c[j].had {
		return c[i].had < c[j].had
	}
	return len(c[i].waiting) < len(c[j].waiting)
}

// Swap implements heap.Interface.
func (c clients) Swap(i, j int) {
	c[i], c[j] = c[j], c[i]
	c[i].at, c[j].at = i, j
}

// Push implements heap.Interface.
func (c *clients) Push(x any) {
	added := x.(*client)
	added.at = len(*c)
	*c = append(*c, added)
}

// Pop implements heap.Interface.
func (c *clients) Pop() any {
	last := len(*c) - 1
	removed := (*c)[last]
	(*c)[last] = nil
	*c = (*c)[:last]
	return removed
}
