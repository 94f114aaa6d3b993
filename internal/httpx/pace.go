package httpx

import (
	"io"
	"math/rand/v2"
	"net/http"
	"time"
)

// A request's body must come at bodyRate on average once bodyGrace and up to half of it more is over,
// and never stand still for bodyStall. So a sender of a byte now and then is cut off at once, and the slowest honest one takes
// its time.
const (
	bodyGrace = 5 * time.Second
	bodyStall = 10 * time.Second
	bodyRate  = 16 << 10 // bytes per second
)

// Paced lets the bodies of h's requests take no longer than Serve says, also where another server
// serves them. When one has come, its answer has writeTimeout.
func Paced(h http.Handler, writeTimeout time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body == nil || r.Body == http.NoBody {
			h.ServeHTTP(w, r)
			return
		}
		now := time.Now()
		p := &pacedRequest{Request: *r, body: pacedBody{
			ReadCloser: r.Body, conn: *http.NewResponseController(w), answer: writeTimeout,
			begun: now, moved: now,
			// Those who come all at once are not to be cut off all at once.
			average: now.Add(bodyGrace + rand.N(bodyGrace/2)),
		}}
		p.body.extend()
		p.Body = &p.body
		h.ServeHTTP(w, &p.Request)
	})
}

// A pacedRequest is a request whose body is paced.
type pacedRequest struct {
	http.Request
	body pacedBody
}

// A pacedBody sets its connection a deadline with each read.
type pacedBody struct {
	io.ReadCloser
	conn    http.ResponseController
	answer  time.Duration
	begun   time.Time
	average time.Time // by when the next byte must come for the average
	moved   time.Time // when the last one came
	ended   bool
	bytes   int64 // that have come
}

// BodyRead returns how many bytes have come of the body of a request that Serve has passed on.
func BodyRead(r *http.Request) int64 {
	if b, ok := r.Body.(*pacedBody); ok {
		return b.bytes
	}
	return 0
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.ended {
		return n, err
	}
	if n > 0 {
		b.bytes += int64(n)
		b.moved = time.Now()
		b.average = b.average.Add(time.Duration(n) * time.Second / bodyRate)
	}
	switch {
	case err == io.EOF:
		// The server goes on reading, to notice when the client leaves: without a deadline.
		b.ended = true
		b.set(time.Time{}, time.Now())
	case err == nil:
		b.extend()
	}
	return n, err
}

// excuse gives the sender back the time for which we did not read.
func (b *pacedBody) excuse(d time.Duration) {
	b.average, b.moved = b.average.Add(d), time.Now()
	if !b.ended {
		b.extend()
	}
}

// extend gives the next byte its time, and after that an answer.
func (b *pacedBody) extend() {
	deadline := b.moved.Add(bodyStall)
	if b.average.Before(deadline) {
		deadline = b.average
	}
	b.set(deadline, deadline)
}

// set sets the deadline for the next byte, and that of an answer which begins at end.
func (b *pacedBody) set(next, end time.Time) {
	// A connection without deadlines has other bounds, or is a test's.
	_ = b.conn.SetReadDeadline(next)
	if b.moved.Sub(b.begun) > b.answer/4 { // before, the server's own leaves enough
		_ = b.conn.SetWriteDeadline(end.Add(b.answer))
	}
}

// Unhurried gives the writer of a large answer the time that the slowest reader may take for it.
func Unhurried(w http.ResponseWriter, size int) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(bodyStall + time.Duration(size)*time.Second/bodyRate))
}
