package client

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"tallywood/internal/span"
)

// ask brings one witness to cosign, or returns why it did not. When ctx has ended, with the quorum or
// without, it goes on for a while: nobody waits for the cosignature any more, but the witness is to have
// seen the newest checkpoint, and Full to have what it says.
func (c *Client) ask(ctx context.Context, e *endpoint, r *round) error {
	late, cancel := c.outlive(ctx, roundTimeout)
	defer cancel()
	gone := r.superseded
	if !e.counts {
		gone = r.outdone // it is asked for rounds that have met the quorum alone
	}
	leave, spare, err := e.enter(ctx, late, gone)
	if err != nil {
		return err
	}
	defer leave()
	for conflicts, fresh := 0, spare; ; {
		if isClosed(gone) {
			return errSuperseded
		}
		if err := e.pause(ctx, true, gone); err != nil {
			if ctx.Err() == nil || e.pause(late, false, gone) != nil {
				return err
			}
			continue // there may be a newer one
		}
		if isClosed(gone) {
			return errSuperseded
		}
		old := c.oldSize(late, e, r)
		proof, err := r.prove(late, old)
		if err != nil {
			return err // not the witness's fault
		}
		err = c.try(ctx, e, request{r, old, proof}, fresh, spare)
		if err == nil {
			c.recovered(e, r)
			return nil
		}
		if final := c.judge(late, e, r, err, &conflicts); final != nil {
			return final
		}
		if late.Err() != nil {
			return err
		}
		var later *laterError
		fresh = fresh || errors.As(err, &later) // another one behind its address may have time
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// enter waits for a turn at the witness. While a round waits, and the request that is under way is
// overdue, there is one more turn, for a fresh connection.
func (e *endpoint) enter(ctx, late context.Context, gone <-chan struct{}) (leave func(), spare bool, err error) {
	overdue := time.NewTimer(e.patience())
	defer overdue.Stop()
	var second chan<- struct{}
	for finished := ctx.Done(); ; {
		select {
		case e.slot <- struct{}{}:
			return func() { <-e.slot }, false, nil
		case second <- struct{}{}:
			return func() { <-e.spare }, true, nil
		case <-overdue.C:
			if finished != nil {
				second = e.spare
			}
		case <-finished:
			second, finished = nil, nil
		case <-gone:
			return nil, false, errSuperseded
		case <-late.Done():
			return nil, false, e.state()
		}
	}
}

// oldSize returns the old size to ask with, and looks into the monitoring prefix if nothing is known.
// A size beyond the checkpoint was either wrong or will be said again: what is allowed is its own.
func (c *Client) oldSize(ctx context.Context, e *endpoint, r *round) int64 {
	size, known := e.size(r.tree.Origin)
	if !known && r.tree.Size > 0 {
		ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
		defer cancel()
		if seen, err := c.monitor(ctx, e, r.tree.Origin); err == nil {
			size = seen.Size // otherwise the witness will tell
		}
		e.setSize(r.tree.Origin, size)
	}
	return min(size, r.tree.Size)
}

// judge notes what a failed request says about the witness. It returns an error if there is no use
// in asking again in this round.
func (c *Client) judge(ctx context.Context, e *endpoint, r *round, err error, conflicts *int) error {
	var conflict *conflictError
	var refused *RefusedError
	switch {
	case errors.As(err, &conflict):
		e.setSize(r.tree.Origin, conflict.size)
		*conflicts++
		if conflict.size > r.tree.Size {
			ahead := c.ahead(ctx, e, r, conflict.size)
			c.alarm(e, r, ahead)
			return ahead
		}
		if *conflicts > maxConflicts {
			err = fmt.Errorf("answered 409 %d times: %w", *conflicts, err)
			c.failed(e, r, err)
			return err
		}
		return nil
	case errors.As(err, &refused):
		c.alarm(e, r, err)
		return err
	}
	c.failed(e, r, err)
	return nil
}

// ahead finds out whether a witness can prove that it is ahead of the checkpoint.
func (c *Client) ahead(ctx context.Context, e *endpoint, r *round, size int64) error {
	ctx, cancel := context.WithTimeout(ctx, monitorTimeout)
	defer cancel()
	if seen, err := c.monitor(ctx, e, r.tree.Origin); err == nil && seen.Size > r.tree.Size {
		return &AheadError{Size: seen.Size, Proven: true}
	}
	return &AheadError{Size: size}
}

// A request is what a witness is asked.
type request struct {
	*round
	old   int64
	proof [][]byte
}

// try makes one request. While its round waits and the answer is overdue, it makes the same one again
// on a fresh connection, for what is lost on one may get through on another; the first answer counts.
func (c *Client) try(ctx context.Context, e *endpoint, q request, fresh, spare bool) error {
	under, cancel := c.outlive(ctx, e.timeout())
	defer cancel()
	type answer struct {
		err   error
		hedge bool
	}
	answers := make(chan answer, 2)
	c.running.Go(func() { answers <- answer{c.send(under, e, q, fresh, spare), false} })
	overdue := time.NewTimer(e.patience())
	defer overdue.Stop()
	waiting := ctx.Done()
	for pending := 1; ; {
		select {
		case <-waiting:
			waiting = nil // it may take its time
		case <-overdue.C:
			if ctx.Err() != nil || !e.takeSpare() {
				continue
			}
			pending++
			c.running.Go(func() {
				defer func() { <-e.spare }()
				answers <- answer{c.send(under, e, q, true, true), true}
			})
		case a := <-answers:
			pending--
			if pending == 0 && errors.Is(a.err, context.DeadlineExceeded) {
				e.timedOut()
			}
			if pending == 0 || settles(a.err) {
				return a.err
			}
			var later *laterError
			if a.hedge && !errors.As(a.err, &later) {
				overdue.Reset(neededBackoff)
			}
		}
	}
}

// settles reports whether another answer to the same request can say no more.
func settles(err error) bool {
	var conflict *conflictError
	var refused *RefusedError
	return err == nil || errors.As(err, &conflict) || errors.As(err, &refused)
}

// send makes one request, and keeps what it brings even if the round has ended meanwhile.
func (c *Client) send(ctx context.Context, e *endpoint, q request, fresh, hedge bool) error {
	hc := c.http
	if fresh {
		hc = c.fresh
	}
	began := time.Now()
	traced, sp := span.Start(ctx, "witness")
	sp.Text("witness", names(e.witnesses))
	sp.Int("old_size", q.old)
	found, err := c.post(traced, hc, e, q.round, q.old, q.proof)
	d := time.Since(began)
	sp.End(err)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) {
		return err // the other request was faster, or nobody is there any more
	}
	c.observe(e, d, hedge, err)
	if err != nil {
		return err
	}
	e.took(d)
	e.setSize(q.tree.Origin, q.tree.Size)
	c.keep(q.round, found)
	return nil
}

// keep adds cosignatures to their round, and to a newer one of the same checkpoint.
func (c *Client) keep(r *round, found map[string]cosignature) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(r.cosignatures, found)
	c.consider(r)
	if newest := c.rounds[r.tree.Origin]; newest != r && newest.text == r.text {
		maps.Copy(newest.cosignatures, found)
		c.consider(newest)
	}
}

// recovered notes that the witness has cosigned, and logs it if it counted as failing.
func (c *Client) recovered(e *endpoint, r *round) {
	if e.succeeded() {
		c.log.Info("witness cosigns again", "origin", r.tree.Origin, "size", r.tree.Size, "key", names(e.witnesses))
	}
}

// failed notes a failure, and logs it once the witness counts as failing.
func (c *Client) failed(e *endpoint, r *round, err error) {
	if e.failed(err) {
		c.log.Warn("witness keeps failing", "origin", r.tree.Origin, "size", r.tree.Size, "key", names(e.witnesses), "err", err)
	}
}

// alarm logs a refusal, the same one only once until the witness has cosigned again.
func (c *Client) alarm(e *endpoint, r *round, err error) {
	if e.refused(err) {
		c.log.Error("witness refuses to cosign", "origin", r.tree.Origin, "size", r.tree.Size, "key", names(e.witnesses), "err", err)
	}
}
