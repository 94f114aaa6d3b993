package httpx

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

// ErrBusy reports that the bodies of requests under way take all the memory they may take.
var ErrBusy = errors.New("request bodies under way are at their limit")

const (
	// freeBody is the part of every body that no budget counts. Nearly all bodies are smaller, so
	// nearly no request ever waits, and senders that announce much and send little hold nothing.
	freeBody = 16 << 10
	// firstRoom is what a larger body of unknown length has before it is given all it may have.
	firstRoom = 256 << 10
	// budgetWait is how long a larger body may wait for its turn.
	budgetWait = time.Second
	// clientShare is the part of a budget that one client may hold.
	clientShare = 4
	// largeRate is how many bytes per second the larger bodies of one client are read at together, beyond
	// largeBurst at once: those who send as much as they can leave time for the others.
	largeRate  = 8 << 20
	largeBurst = 512 << 10
	// largePiece is how much of a larger body is read at once.
	largePiece = 64 << 10
)

// A BodyBudget bounds the memory that larger bodies take together, and a quarter of it what those of
// one client take; and those of one client are read at 8 MiB per second at most. It may be used
// concurrently.
type BodyBudget struct {
	total int64
	free  *semaphore.Weighted
	rates *Limiter // of bytes

	mu     sync.Mutex
	shares map[netip.Prefix]*share // of clients that hold something or wait
}

// A share is what is free of a client's part.
type share struct {
	free  *semaphore.Weighted
	users int // who hold or wait; guarded by the budget's mutex
}

// NewBodyBudget returns a budget of total bytes.
func NewBodyBudget(total int64) *BodyBudget {
	return &BodyBudget{
		total: total, free: semaphore.NewWeighted(total), rates: NewLimiter(largeRate, largeBurst),
		shares: map[netip.Prefix]*share{},
	}
}

// Read is ReadBody, except that a body of more than 16 KiB counts with its announced length, or
// with limit if that is not known or it is compressed, until release is called. When there is no room
// for it within a second the error is ErrBusy. Without an error, release must be called once.
func (b *BodyBudget) Read(w http.ResponseWriter, r *http.Request, limit int64) (data []byte, release func(), err error) {
	src, err := openBody(w, r, limit)
	if err != nil {
		return nil, nil, err
	}
	defer src.close()
	var buf bytes.Buffer
	if n := src.announced; n >= 0 && n <= freeBody {
		buf.Grow(int(n) + bytes.MinRead)
	}
	if _, err := buf.ReadFrom(io.LimitReader(src, freeBody)); err != nil {
		return nil, nil, err
	}
	if buf.Len() < freeBody || src.announced == freeBody {
		return buf.Bytes(), func() {}, nil
	}
	weight := src.announced
	if weight < 0 {
		weight = limit
	}
	if release, err = b.Hold(r.Context(), Client(r), weight); err != nil {
		return nil, nil, err
	}
	if err := readAll(&buf, &unhurried{src, r, b.rates}, weight); err != nil {
		release()
		return nil, nil, err
	}
	return buf.Bytes(), release, nil
}

// An unhurried body is read as fast as its client's rate allows.
type unhurried struct {
	body  *body
	r     *http.Request
	rates *Limiter
}

// Read implements io.Reader.
func (u *unhurried) Read(p []byte) (int, error) {
	n, err := u.body.Read(p[:min(len(p), largePiece)])
	if err != nil || n == 0 {
		return n, err
	}
	wait := u.rates.Reserve(Client(u.r), n, time.Now())
	if wait <= 0 {
		return n, nil
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
	case <-u.r.Context().Done():
		return n, context.Cause(u.r.Context())
	}
	if b, ok := u.r.Body.(*pacedBody); ok {
		b.excuse(wait)
	}
	return n, nil
}

// readAll reads the rest of src into buf, which takes no more memory than for size bytes in all: a
// Buffer left to itself would take twice as much, and half of that again while it grows.
func readAll(buf *bytes.Buffer, src io.Reader, size int64) error {
	for _, room := range []int64{min(size, firstRoom), size} {
		rest := room - int64(buf.Len())
		if rest <= 0 {
			continue
		}
		buf.Grow(int(rest) + bytes.MinRead)
		n, err := buf.ReadFrom(io.LimitReader(src, rest))
		if err != nil || n < rest {
			return err
		}
	}
	_, err := buf.ReadFrom(src) // nothing more, or its error
	return err
}

// Hold counts size bytes of a client, if that is more than 16 KiB, until release is called, which must
// be called once unless there is an error. When there is no room for them within a second the error is ErrBusy.
func (b *BodyBudget) Hold(ctx context.Context, client netip.Prefix, size int64) (release func(), err error) {
	h, err := b.Take(ctx, client, size)
	if err != nil {
		return nil, err
	}
	return h.Release, nil
}

// A Held is room in a budget that was taken for bytes of a client. It is not for concurrent use.
type Held struct {
	budget       *BodyBudget
	client       netip.Prefix
	share        *share // nil: it holds nothing
	weight, part int64
}

// Take is Hold for what is not there yet: of a size that is not known, the caller takes room for the
// largest that it may be, and gives back what was too much.
func (b *BodyBudget) Take(ctx context.Context, client netip.Prefix, size int64) (*Held, error) {
	weight, part := b.weigh(size)
	if weight == 0 {
		return &Held{}, nil
	}
	s := b.enter(client)
	if acquire(ctx, s.free, part) != nil {
		b.leave(client, s)
		return nil, ErrBusy
	}
	if acquire(ctx, b.free, weight) != nil {
		s.free.Release(part)
		b.leave(client, s)
		return nil, ErrBusy
	}
	return &Held{b, client, s, weight, part}, nil
}

// weigh returns what size bytes count in all and of a client's part.
func (b *BodyBudget) weigh(size int64) (weight, part int64) {
	if size <= freeBody {
		return 0, 0
	}
	weight = min(size, b.total)
	return weight, min(weight, max(b.total/clientShare, 1))
}

// Shrink gives back what size bytes, which are not more than were taken, do not need.
func (h *Held) Shrink(size int64) {
	if h.share == nil {
		return
	}
	weight, part := h.budget.weigh(size)
	if weight == 0 {
		h.Release()
		return
	}
	h.budget.free.Release(h.weight - weight)
	h.share.free.Release(h.part - part)
	h.weight, h.part = weight, part
}

// Release gives back all of it. It must be called at the end, and may be called again.
func (h *Held) Release() {
	if h.share == nil {
		return
	}
	h.budget.free.Release(h.weight)
	h.share.free.Release(h.part)
	h.budget.leave(h.client, h.share)
	h.share = nil
}

// acquire waits no longer than budgetWait.
func acquire(ctx context.Context, s *semaphore.Weighted, n int64) error {
	if s.TryAcquire(n) {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, budgetWait)
	defer cancel()
	return s.Acquire(ctx, n)
}

func (b *BodyBudget) enter(client netip.Prefix) *share {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, ok := b.shares[client]
	if !ok {
		s = &share{free: semaphore.NewWeighted(max(b.total/clientShare, 1))}
		b.shares[client] = s
	}
	s.users++
	return s
}

func (b *BodyBudget) leave(client netip.Prefix, s *share) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.users--; s.users == 0 {
		delete(b.shares, client)
	}
}
