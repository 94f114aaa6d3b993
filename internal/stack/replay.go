package stack

import (
	"errors"
	"io"
	"net/http"
	"sync"
)

// maxReplay is how many bytes of a request are kept to be sent to another replica.
const maxReplay = 8 << 20

// A replay is a request body that can be sent again, even while an attempt that was given up still
// reads it.
type replay struct {
	body io.Reader

	mu     sync.Mutex // guards what follows, and reads of body
	seen   []byte     // what has been read, unless it is too much
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

// close ends the attempts that still read.
func (b *replay) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// request returns r with the body from the start. To close that closes nothing.
func (b *replay) request(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
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
	if len(a.b.seen) == a.b.read && a.b.read+n <= maxReplay {
		a.b.seen = append(a.b.seen, p[:n]...)
	}
	a.b.read += n
	a.at, a.b.err = a.b.read, err
	return n, err
}
