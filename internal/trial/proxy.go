package trial

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"time"
)

// A HTTPMode says what becomes of one request to an object store.
type HTTPMode int

// The modes. "After" says that the request is applied.
const (
	Pass              HTTPMode = iota // it goes through
	Unavailable                       // 503
	UnavailableAfter                  // 503
	TooMany                           // 429
	Conflict                          // 409, as S3 answers to conditional writes that meet
	BadRequest                        // 400, as S3 answers to a request that came too slowly
	Forbidden                         // 403
	PreconditionAfter                 // 412 to its own write
	Reset                             // the connection is closed before there is an answer
	ResetAfter                        // so
	Delayed                           // Reset, and the request is applied when Land is called
	Repeated                          // it goes through, and is applied once more when Land is called
	Truncated                         // the body of the answer ends in the middle
	Stalled                           // the body of the answer stands still in the middle
	NoAnswer                          // no answer until the client gives up
	NoAnswerAfter                     // so
)

var modeNames = [...]string{"pass", "503", "503 after", "429", "409", "400", "403", "412 after", "reset", "reset after",
	"delayed", "repeated", "truncated", "stalled", "no answer", "no answer after"}

// String is the mode in words.
func (m HTTPMode) String() string { return modeNames[m] }

// Lingers reports whether the request may be applied, or given up, so late that another process has
// led since.
func (m HTTPMode) Lingers() bool {
	switch m {
	case Delayed, Repeated, Stalled, NoAnswer, NoAnswerAfter:
		return true
	}
	return false
}

// HTTPModes returns the faults that make a difference to r.
func HTTPModes(r Request) []HTTPMode {
	modes := []HTTPMode{Unavailable, TooMany, BadRequest, Forbidden, Reset, Truncated, NoAnswer}
	switch r.Verb {
	case Put:
		return append(modes, UnavailableAfter, ResetAfter, Delayed, Repeated, NoAnswerAfter, Conflict, PreconditionAfter)
	case Delete:
		return append(modes, UnavailableAfter, ResetAfter, Delayed, Repeated, NoAnswerAfter)
	}
	return append(modes, Stalled)
}

// A Request is one that a Proxy has seen.
type Request struct {
	N    int // its number, from 0
	Verb Verb
	Key  string   // the object it is about; "" if it is about several
	Mode HTTPMode // the fault planned for it
}

// A Verb is what a request does, whatever its method.
type Verb string

// The verbs.
const (
	Get    Verb = "get"
	Put    Verb = "put"
	Delete Verb = "delete"
	List   Verb = "list"
)

// String describes the request and what became of it.
func (r Request) String() string { return fmt.Sprintf("%d %s %s: %v", r.N, r.Verb, r.Key, r.Mode) }

// A Dialect is the protocol of an object store, as far as a Proxy has to know it.
type Dialect struct {
	// What returns what r does, to objects of which keys, and of a Put what to write.
	What func(r *http.Request, body []byte) (verb Verb, keys []string, data []byte)
	// Refusal returns the body of an answer with that status.
	Refusal func(status int) (contentType, body string)
}

// A Proxy stands before an object store, shows a Referee what the store applies, and makes chosen
// requests fail.
type Proxy struct {
	Referee *Referee
	Dialect Dialect
	Store   http.Handler
	// Decide is called once for each request, one at a time.
	Decide func(Request) HTTPMode

	applying sync.Mutex // held while the store applies a request and the Referee is told

	mu       sync.Mutex // guards the fields below
	requests []Request
	healed   bool
	late     []func()
}

// Requests returns the requests seen until Heal.
func (p *Proxy) Requests() []Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.requests)
}

// Heal lets nothing fail any more. What fails already goes on.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.healed = true
}

// Land applies the requests that were Delayed or Repeated.
func (p *Proxy) Land() {
	p.mu.Lock()
	late := p.late
	p.late = nil
	p.mu.Unlock()
	for _, apply := range late {
		apply()
	}
}

// A Front is what one process sees of a Proxy.
type Front struct {
	p    *Proxy
	who  string
	dead chan struct{} // closed by Cut
}

// As returns the Front for the process named who.
func (p *Proxy) As(who string) *Front { return &Front{p, who, make(chan struct{})} }

// Cut lets nothing of the process through any more.
func (f *Front) Cut() { close(f.dead) }

// ServeHTTP implements http.Handler.
func (f *Front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler) // the client is gone
	}
	select {
	case <-f.dead:
		panic(http.ErrAbortHandler)
	default:
	}
	q := Request{}
	verb, keys, _ := f.p.Dialect.What(r, body)
	if q.Verb = verb; len(keys) == 1 {
		q.Key = keys[0]
	}
	mode := f.p.begin(q)
	apply := func() *httptest.ResponseRecorder { return f.p.apply(f.who, r, body) }
	switch mode {
	case Delayed, Repeated:
		f.p.mu.Lock()
		f.p.late = append(f.p.late, func() { apply() })
		f.p.mu.Unlock()
	}
	var rec *httptest.ResponseRecorder
	switch mode {
	case Pass, UnavailableAfter, PreconditionAfter, ResetAfter, Repeated, Truncated, Stalled, NoAnswerAfter:
		rec = apply()
	}
	f.answer(w, r, mode, rec)
}

// answer answers a request as its fault demands, by rec if it was applied.
func (f *Front) answer(w http.ResponseWriter, r *http.Request, mode HTTPMode, rec *httptest.ResponseRecorder) {
	refuse := func(status int) {
		contentType, body := f.p.Dialect.Refusal(status)
		w.Header().Set("Content-Type", contentType)
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body) // the client checks
	}
	switch mode {
	case Pass, Repeated:
		send(w, rec, rec.Body.Len())
	case Unavailable, UnavailableAfter:
		refuse(http.StatusServiceUnavailable)
	case TooMany:
		refuse(http.StatusTooManyRequests)
	case Conflict:
		refuse(http.StatusConflict)
	case BadRequest:
		refuse(http.StatusBadRequest)
	case Forbidden:
		refuse(http.StatusForbidden)
	case PreconditionAfter:
		refuse(http.StatusPreconditionFailed)
	case Truncated, Stalled:
		if rec.Body.Len() > 0 {
			send(w, rec, rec.Body.Len()/2)
			_ = http.NewResponseController(w).Flush() // the client checks
		}
		if mode == Stalled {
			f.wait(r)
		}
		panic(http.ErrAbortHandler)
	case NoAnswer, NoAnswerAfter:
		f.wait(r)
		panic(http.ErrAbortHandler)
	default:
		panic(http.ErrAbortHandler)
	}
}

// wait waits until the client has given up.
func (f *Front) wait(r *http.Request) {
	select {
	case <-r.Context().Done():
	case <-f.dead:
	}
}

// send sends the first n bytes of the answer in rec.
func send(w http.ResponseWriter, rec *httptest.ResponseRecorder, n int) {
	for name, values := range rec.Header() {
		w.Header()[name] = values
	}
	if rec.Body.Len() > 0 && w.Header().Get("Content-Length") == "" {
		w.Header().Set("Content-Length", strconv.Itoa(rec.Body.Len()))
	}
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes()[:n]) // the client checks
}

// begin numbers and records r and returns the fault planned for it, after the time that its way takes.
func (p *Proxy) begin(r Request) HTTPMode {
	p.mu.Lock()
	r.N = len(p.requests)
	if !p.healed {
		if p.Decide != nil {
			r.Mode = p.Decide(r)
		}
		p.requests = append(p.requests, r)
	}
	p.mu.Unlock()
	time.Sleep(time.Millisecond + time.Duration(r.N*7919%3001)*time.Microsecond)
	return r.Mode
}

// apply lets the store answer r, and tells the Referee.
func (p *Proxy) apply(who string, r *http.Request, body []byte) *httptest.ResponseRecorder {
	p.applying.Lock()
	defer p.applying.Unlock()
	again := r.Clone(context.WithoutCancel(r.Context())) // what is on its way arrives
	again.Body = io.NopCloser(bytes.NewReader(body))
	rec := httptest.NewRecorder()
	p.Store.ServeHTTP(rec, again)
	verb, keys, data := p.Dialect.What(r, body)
	for _, key := range keys {
		switch {
		case rec.Code >= http.StatusMultipleChoices:
		case verb == Put:
			p.Referee.Put(who, key, data)
		case verb == Delete:
			p.Referee.Removed(who, key)
		}
	}
	return rec
}
