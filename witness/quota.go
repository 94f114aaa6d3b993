package witness

import (
	"net/netip"
	"sync"
	"time"
)

// Requests in vain that one address may make: those that are refused, and repetitions within a
// second. Beyond that it is told to wait before anything of it is looked at. An operator may have
// many logs at one address, and all of them are answered 409 once after its restart.
const (
	refusalRate  = 10 // per second
	refusalBurst = 500
)

// Requests of one log that may wait for each other. A log has one under way; others who replay its
// checkpoints must not crowd it out.
const (
	maxWaiting         = 128
	maxWaitingOfSender = 8 // unless they come from the local network
)

// A queue counts who waits for a log's lock.
type queue struct {
	mu      sync.Mutex // guards the fields below
	waiting int
	of      map[netip.Prefix]int // how many of them are of one sender; no zero entries
}

// enter returns an error if too many wait already; else leave must follow.
func (q *queue) enter(sender netip.Prefix) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case sender.IsValid() && q.of[sender] >= maxWaitingOfSender:
		return &unavailableError{after: time.Second, reason: "too many requests of this address for one log at once", limited: true}
	case q.waiting >= maxWaiting:
		return &unavailableError{after: time.Second, reason: "too many requests of this log at once"}
	}
	if q.of == nil {
		q.of = map[netip.Prefix]int{}
	}
	q.waiting++
	q.of[sender]++
	return nil
}

func (q *queue) leave(sender netip.Prefix) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting--
	if q.of[sender]--; q.of[sender] == 0 {
		delete(q.of, sender)
	}
}

// A quota is a token bucket that holds a day's requests: a log may spend its day as unevenly as it
// likes, and is never refused while it stays within its number.
type quota struct {
	mu     sync.Mutex // guards the fields below
	perDay float64    // 0: no limit
	tokens float64
	last   time.Time
}

func newQuota(perDay int64) quota { return quota{perDay: float64(perDay), tokens: float64(perDay)} }

// take spends a token. Without one it returns how long the next takes.
func (q *quota) take(now time.Time) (wait time.Duration, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.perDay == 0 {
		return 0, true
	}
	q.tokens = q.at(now)
	q.last = now
	if q.tokens < 1 {
		return time.Duration((1 - q.tokens) / q.perDay * day), false
	}
	q.tokens--
	return 0, true
}

// giveBack returns a token for a request that came to nothing.
func (q *quota) giveBack() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens = min(q.perDay, q.tokens+1)
}

// day is the time in which a quota is filled.
const day = float64(24 * time.Hour)

// at returns the tokens there are at a time. The caller holds q.mu.
func (q *quota) at(now time.Time) float64 {
	if q.last.IsZero() || !now.After(q.last) {
		return q.tokens
	}
	return min(q.perDay, q.tokens+q.perDay*float64(now.Sub(q.last))/day)
}

// left returns the requests that are left at a time, and how many there are a day; 0 is no limit.
func (q *quota) left(now time.Time) (left, perDay int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return int64(q.at(now)), int64(q.perDay)
}

// setRate gives the quota another number of requests per day. What was spent stays spent.
func (q *quota) setRate(perDay int64) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if next := float64(perDay); next != q.perDay {
		q.tokens = max(0, next-(q.perDay-q.tokens))
		q.perDay = next
	}
}
