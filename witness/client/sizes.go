package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"sync"

	"tallywood/witness/policy"
)

// Sizes asks every witness what tree it has cosigned last: add-checkpoint with the checkpoint's
// own size as old size, and no proof. One that is at this checkpoint re-signs it; others answer
// with their size, and their monitoring prefix, where they have one, with the root. The sizes
// come in the order of the policy. A Root is there only if the monitoring prefix shows it signed by
// the log, or if it is the checkpoint's: no witness can make one up. One that says it has another
// tree of this size, and does not show it, counts as silent.
func (c *Client) Sizes(ctx context.Context, checkpoint []byte) ([]policy.WitnessSize, error) {
	ctx, cancel := deadline(ctx)
	defer cancel()
	r, err := c.parse(checkpoint)
	if err != nil {
		return nil, err
	}
	answers := map[string]policy.WitnessSize{}
	var mu sync.Mutex // guards answers
	var wg sync.WaitGroup
	for _, e := range c.endpoints {
		wg.Go(func() {
			size := c.sizeOf(ctx, e, r)
			mu.Lock()
			defer mu.Unlock()
			for _, w := range e.witnesses {
				size.Name = w.Name
				answers[w.Name] = size
			}
		})
	}
	wg.Wait()
	for _, w := range c.unasked {
		answers[w.Name] = policy.WitnessSize{Name: w.Name, Err: errNoURL}
	}
	sizes := make([]policy.WitnessSize, 0, len(answers))
	for _, w := range c.policy.Witnesses() {
		sizes = append(sizes, answers[w.Name])
	}
	return sizes, nil
}

// sizeOf asks one witness.
func (c *Client) sizeOf(ctx context.Context, e *endpoint, r *round) policy.WitnessSize {
	leave, fresh, err := e.enter(ctx, ctx, nil)
	if err != nil {
		return policy.WitnessSize{Err: err}
	}
	defer leave()
	hc := c.http
	if fresh {
		hc = c.fresh
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	_, err = c.post(ctx, hc, e, r, r.tree.Size, nil)
	var conflict *conflictError
	var refused *RefusedError
	switch {
	case err == nil:
		e.setSize(r.tree.Origin, r.tree.Size)
		root := r.tree.Root
		return policy.WitnessSize{Size: r.tree.Size, Root: &root}
	case errors.As(err, &conflict):
		return c.sizeAfterConflict(ctx, e, r, conflict.size)
	case errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity:
		return c.sizeAfterConflict(ctx, e, r, r.tree.Size)
	case errors.As(err, &refused):
		seen, merr := c.monitor(ctx, e, r.tree.Origin)
		if merr != nil {
			return policy.WitnessSize{Err: errors.Join(err, merr)}
		}
		e.setSize(r.tree.Origin, seen.Size)
		return seen
	}
	return policy.WitnessSize{Err: err}
}

// A ClaimError reports a witness that says it has cosigned another tree than the checkpoint's, of the
// same size, and does not show it: it may as well be lying.
type ClaimError struct{ Size int64 }

func (e *ClaimError) Error() string {
	return fmt.Sprintf("says that it has cosigned another tree of size %d, and shows no proof", e.Size)
}

// sizeAfterConflict completes a size that a witness has told with the root, if it shows that.
func (c *Client) sizeAfterConflict(ctx context.Context, e *endpoint, r *round, size int64) policy.WitnessSize {
	e.setSize(r.tree.Origin, size)
	if size < r.tree.Size {
		return policy.WitnessSize{Size: size} // it lags, and will judge our proof itself
	}
	seen, err := c.monitor(ctx, e, r.tree.Origin)
	if err == nil && seen.Size >= r.tree.Size && seen.Root != nil {
		e.setSize(r.tree.Origin, seen.Size)
		return seen
	}
	if size == r.tree.Size {
		return policy.WitnessSize{Err: &ClaimError{Size: size}}
	}
	return policy.WitnessSize{Size: size}
}

// monitor reads the monitoring prefix: the checkpoint last cosigned, verified, or size 0.
func (c *Client) monitor(ctx context.Context, e *endpoint, origin string) (policy.WitnessSize, error) {
	sum := sha256.Sum256([]byte(origin))
	status, _, answer, err := c.exchange(ctx, c.http, http.MethodGet, e.url+"/"+hex.EncodeToString(sum[:])+"/checkpoint", nil)
	switch {
	case err != nil:
		return policy.WitnessSize{}, fmt.Errorf("reading monitoring prefix: %w", err)
	case status == http.StatusNotFound:
		return policy.WitnessSize{}, nil
	case status != http.StatusOK:
		return policy.WitnessSize{}, fmt.Errorf("reading monitoring prefix: answered %d", status)
	}
	cp, err := c.policy.OpenLog(answer)
	if err != nil {
		return policy.WitnessSize{}, fmt.Errorf("reading monitoring prefix: %w", err)
	}
	if cp.Origin() != origin {
		return policy.WitnessSize{}, fmt.Errorf("monitoring prefix has a checkpoint of %q", cp.Origin())
	}
	for _, cs := range cp.Cosignatures() {
		for _, w := range e.witnesses {
			if cs.Witness == w.Name {
				root := cp.Root()
				return policy.WitnessSize{Size: cp.Size(), Root: &root}, nil
			}
		}
	}
	return policy.WitnessSize{}, errors.New("monitoring prefix has a checkpoint without the witness's cosignature")
}
