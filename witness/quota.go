package witness

import (
	"sync"
	"time"
)

// A quota is a token bucket that holds a day's requests: a log may spend its day as unevenly as it
// likes, and is never refused while it stays within its number.
type quota struct {
	perDay float64 // 0: no limit

	mu     sync.Mutex // guards the fields below
	tokens float64
	last   time.Time
}

func newQuota(perDay int64) quota { return quota{perDay: float64(perDay), tokens: float64(perDay)} }

// take spends a token. Without one it returns how long the next takes.
func (q *quota) take(now time.Time) (wait time.Duration, ok bool) {
	if q.perDay == 0 {
		return 0, true
	}
	const day = float64(24 * time.Hour)
	q.mu.Lock()
	defer q.mu.Unlock()
	if !q.last.IsZero() && now.After(q.last) {
		q.tokens = min(q.perDay, q.tokens+q.perDay*float64(now.Sub(q.last))/day)
	}
	q.last = now
	if q.tokens < 1 {
		return time.Duration((1 - q.tokens) / q.perDay * day), false
	}
	q.tokens--
	return 0, true
}

// left returns the tokens left at the last take, and whether there is a limit.
func (q *quota) left() (float64, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.tokens, q.perDay != 0
}
