package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

// Bounds of the back-off. The upper one is low: a witness that comes back is wanted at once, and
// an attempt costs next to nothing.
const (
	minBackoff    = 50 * time.Millisecond
	maxBackoff    = 2 * time.Second
	neededBackoff = 500 * time.Millisecond // instead, when a round has waited for a while
	maxRetryAfter = time.Minute            // beyond it a witness is asked all the same
	trip          = 3                      // failures in a row by which a witness counts as failing
)

// Bounds of when an answer is overdue, and of when it is not waited for any more.
const (
	firstPatience = time.Second // before there was one
	minPatience   = 250 * time.Millisecond
	maxPatience   = 5 * time.Second
	giveUp        = 2 // times as long: that answer, and that of the hedge
)

// A health is how the requests to a witness have gone. It is a circuit breaker that time alone
// half-opens: after a failure the next request has to wait, longer after each, and one that is
// answered ends that.
type health struct {
	mu       sync.Mutex
	failures int // in a row
	failedAt time.Time
	nextTry  time.Time // not before
	strict   bool      // not before indeed: the witness has said so
	last     error     // of the last exchange
	alarm    string    // the refusal that was logged last, until it cosigns again

	// How long cosignatures take, smoothed as TCP does round trips (RFC 6298); 0 before the first. The
	// requests since then that timed out are counted.
	usual, spread time.Duration
	timeouts      int
}

// failed notes a failure and sets the time of the next attempt. It reports whether the witness counts
// as failing since this one.
func (h *health) failed(err error) (tripped bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	wait := minBackoff
	for range min(h.failures, 10) {
		wait = min(2*wait, maxBackoff)
	}
	wait = wait/2 + rand.N(wait/2) // jitter, or all logs would return to a witness at once
	var later *laterError
	h.strict = errors.As(err, &later) && later.after > 0
	if h.strict {
		wait = min(later.after, maxRetryAfter)
	}
	h.failures++
	h.last, h.failedAt, h.nextTry = err, time.Now(), time.Now().Add(wait)
	return h.failures == trip
}

// refused is failed for what the witness will hardly do better soon; it reports whether it is news.
func (h *health) refused(err error) (news bool) {
	h.failed(err)
	h.mu.Lock()
	defer h.mu.Unlock()
	news = h.alarm != err.Error()
	h.alarm = err.Error()
	return news
}

// succeeded notes a cosignature. It reports whether the witness counted as failing.
func (h *health) succeeded() (recovered bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	recovered = h.failures >= trip
	h.failures, h.last, h.nextTry, h.strict, h.alarm = 0, nil, time.Time{}, false, ""
	return recovered
}

// took notes how long a cosignature took.
func (h *health) took(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timeouts = 0
	if h.usual == 0 {
		h.usual, h.spread = max(d, 1), d/2
		return
	}
	h.spread += ((d - h.usual).Abs() - h.spread) / 4
	h.usual += (d - h.usual) / 8
}

// patience is how long an answer may take until it is overdue.
func (h *health) patience() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.patienceLocked()
}

func (h *health) patienceLocked() time.Duration {
	if h.usual == 0 {
		return firstPatience
	}
	return min(max(h.usual+4*h.spread, minPatience), maxPatience)
}

// timeout is how long an answer may take until the request is given up. Where answers get lost, the next
// one is more likely to come than that one. Twice as long each time, or a witness that has become slow
// would never be heard again.
func (h *health) timeout() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.usual == 0 {
		return requestTimeout
	}
	return min(giveUp*h.patienceLocked()<<min(h.timeouts, 10), requestTimeout)
}

// timedOut notes a request that was given up.
func (h *health) timedOut() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.timeouts++
}

// failing reports whether the breaker is open.
func (h *health) failing() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failures >= trip
}

// due returns when the witness may be asked again, for a round that waits or for one that does not. One
// that has waited for longer than rounds do that are met without it needs the witness.
func (h *health) due(waiting bool) (at time.Time, last error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	at = h.nextTry
	if needed := latest(h.failedAt.Add(neededBackoff), time.Now().Add(minPatience)); waiting && !h.strict && needed.Before(at) {
		at = needed
	}
	return at, h.last
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// pause waits until the witness may be asked again, which gone ends early. It fails, at once if it can,
// when ctx ends before that.
func (h *health) pause(ctx context.Context, waiting bool, gone <-chan struct{}) error {
	at, last := h.due(waiting)
	wait := time.Until(at)
	if wait <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && at.After(deadline) {
		return fmt.Errorf("not asked again yet: %w", last)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-gone:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not asked again yet: %w", last)
	}
}

// state says why there is no answer.
func (h *health) state() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.last != nil {
		return fmt.Errorf("no answer; before that: %w", h.last)
	}
	return errors.New("no answer")
}

// Failing returns, of each witness that has a URL, whether it keeps failing and is asked at intervals
// only, by its name in the policy.
func (c *Client) Failing() map[string]bool {
	out := map[string]bool{}
	for _, e := range c.endpoints {
		for _, w := range e.witnesses {
			out[w.Name] = e.failing()
		}
	}
	return out
}
