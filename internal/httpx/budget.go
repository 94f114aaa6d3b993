package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBusy reports that the bodies of requests under way take all the memory they may take.
var ErrBusy = errors.New("request bodies under way are at their limit")

const (
	// freeBody is the part of every body that no budget counts. Nearly all bodies are smaller, so
	// nearly no request ever waits, and senders that announce much and send little hold nothing.
	freeBody = 16 << 10
	// budgetWait is how long a larger body may wait for its turn.
	budgetWait = time.Second
)

// A BodyBudget bounds the memory that larger request bodies take together. It may be used
// concurrently.
type BodyBudget struct {
	total int64
	free  *semaphore.Weighted
}

// NewBodyBudget returns a budget of total bytes.
func NewBodyBudget(total int64) *BodyBudget {
	return &BodyBudget{total, semaphore.NewWeighted(total)}
}

// Read is ReadBody, except that a body of more than 16 KiB counts with its announced length, or
// with limit if it has none, until release is called. When there is no room for it within a second
// the error is ErrBusy. Without an error, release must be called once.
func (b *BodyBudget) Read(w http.ResponseWriter, r *http.Request, limit int64) (body []byte, release func(), err error) {
	if r.ContentLength > limit {
		return nil, nil, &TooLargeError{Limit: limit}
	}
	src := http.MaxBytesReader(innermost(w), r.Body, limit)
	var buf bytes.Buffer
	if n := r.ContentLength; n >= 0 && n <= freeBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(src, freeBody)); err != nil {
		return nil, nil, bodyError(err, limit)
	}
	if buf.Len() < freeBody || r.ContentLength == freeBody {
		return buf.Bytes(), func() {}, nil
	}
	weight := r.ContentLength
	if weight < 0 {
		weight = limit
	}
	weight = min(weight, b.total)
	ctx, cancel := context.WithTimeout(r.Context(), budgetWait)
	defer cancel()
	if b.free.Acquire(ctx, weight) != nil {
		return nil, nil, ErrBusy
	}
	if _, err := buf.ReadFrom(src); err != nil {
		b.free.Release(weight)
		return nil, nil, bodyError(err, limit)
	}
	return buf.Bytes(), func() { b.free.Release(weight) }, nil
}
