package stack

import (
	"errors"
	"io"
	"net/http"
	"sync"

	"golang.org/x/sync/semaphore"
)

const (
	// maxReplay is how many bytes of a request are kept to be sent to another replica.
	maxReplay = 8 << 20
	// maxReplays is how many of all requests under way are, without the first freeReplay of each. A
	// request for which there is no more room is served, but not sent again.
	maxReplays = 16 << 20
	freeReplay = 16 << 10
	// replayStep is how many are taken of the room at a time.
	replayStep = 64 << 10
)

// A replay is a request body that can be sent again, even while an attempt that was given up still
// reads it.
type replay struct {
	body io.Reader
	room *semaphore.Weighted // shared by all

	mu     sync.Mutex // guards what follows, and reads of body
	seen   []byte     // what has been read, unless it is too much
	held   int64      // of room
	read   int        // how much has been
	err    error      // of body, once it has one
	closed bool       // nobody may read body any more
}

// complete reports whether the body can be sent again from the start.
func (b *replay) complete() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.seen) == b.read
}

// broken reports whether the body cannot be read to its end.
func (b *replay) broken() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err != nil && b.err != io.EOF
}

// close ends the attempts that still read.
func (b *replay) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.forgetLocked()
}

// keepLocked adds p to what has been seen, or forgets all of that if there is no room.
func (b *replay) keepLocked(p []byte) {
	size := len(b.seen) + len(p)
	if more := int64(size-freeReplay) - b.held; more > 0 {
		more = (more + replayStep - 1) / replayStep * replayStep
		if size > maxReplay || !b.room.TryAcquire(more) {
			b.forgetLocked()
			return
		}
		b.held += more
	}
	b.seen = append(b.seen, p...)
}

func (b *replay) forgetLocked() {
	b.room.Release(b.held)
	b.seen, b.held = nil, 0
}

// request returns r with the body from the start. To close that closes nothing.
func (b *replay) request(r *http.Request) *http.Request {
	out := r.WithContext(r.Context()) // a shallow copy: nobody changes headers, and ReverseProxy has its own
	if r.Body != http.NoBody {
		out.Body = io.NopCloser(&attempt{b: b})
	}
	return out
}

// An attempt reads a replay from the start.
type attempt struct {
	b  *replay
	at int
}

// Read implements io.Reader.
func (a *attempt) Read(p []byte) (int, error) {
	a.b.mu.Lock()
	defer a.b.mu.Unlock()
	if a.at < len(a.b.seen) {
		n := copy(p, a.b.seen[a.at:])
		a.at += n
		return n, nil
	}
	switch {
	case a.b.closed:
		return 0, errors.New("reading request body: the request has ended")
	case a.at < a.b.read:
		return 0, errors.New("reading request body: it is too large to be sent again")
	case a.b.err != nil:
		return 0, a.b.err
	}
	n, err := a.b.body.Read(p)
	if len(a.b.seen) == a.b.read {
		a.b.keepLocked(p[:n])
	}
	a.b.read += n
	a.at, a.b.err = a.b.read, err
	return n, err
}
