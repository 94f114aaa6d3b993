package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// restartCases kill the witness. Nothing that it has cosigned may be forgotten.
func restartCases() []testCase {
	needed := func(run func(ctx context.Context, t *trial) error) func(ctx context.Context, t *trial) error {
		return func(ctx context.Context, t *trial) error {
			if t.restart == nil {
				return &skipError{"the suite was given no way to kill and start the witness"}
			}
			return run(ctx, t)
		}
	}
	return []testCase{
		{id: "remembers", about: "the witness is killed and started, and asked what it has recorded", rule: rulePersist, run: needed(remembers)},
		{id: "refuses-fork", about: "the witness is killed and started, and shown another history", rule: rulePersist, run: needed(refusesFork)},
		{id: "killed-at-work", about: "the witness is killed six times while 12 logs grow; each goes on from what it is told", rule: rulePersist, run: needed(killedAtWork)},
	}
}

func remembers(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 5)
	if err != nil {
		return err
	}
	other, err := t.fresh(ctx, Plain)
	if err != nil {
		return err
	}
	before, err := t.get(ctx, l)
	if err != nil {
		return err
	}
	if err := t.restart(ctx); err != nil {
		return fmt.Errorf("restarting: %w", err)
	}
	if err := t.unchanged(ctx, l, before); err != nil {
		return fmt.Errorf("after the restart: %w", err)
	}
	if t.freshProbe {
		if err := t.probe(ctx, other); err != nil {
			return fmt.Errorf("after the restart, about a log never cosigned: %w", err)
		}
	}
	return t.advance(ctx, l, 8)
}

func refusesFork(ctx context.Context, t *trial) error {
	l, err := t.freshAt(ctx, Plain, 5)
	if err != nil {
		return err
	}
	if err := t.restart(ctx); err != nil {
		return fmt.Errorf("restarting: %w", err)
	}
	same := newRequest(l, 5, 5)
	same.root = t.fork.root(0, 5).String()
	larger := newRequest(l, 5, 8)
	onFork(l, larger)
	for _, r := range []*request{same, larger} {
		if err := t.refuse(ctx, l, r.body(), only(422)); err != nil {
			return err
		}
	}
	return t.refuse(ctx, l, newRequest(l, 0, 3).body(), only(409))
}

// killedAtWork kills the witness while logs grow. What was answered 200 must be recorded; of what
// was under way, either.
func killedAtWork(ctx context.Context, t *trial) error {
	logs := make([]*testLog, 12)
	for i := range logs {
		first := int64(never)
		if !t.freshProbe {
			first = 1 // to ask for its size would be to have it cosigned
		}
		var err error
		if logs[i], err = t.freshAt(ctx, Plain, first); err != nil {
			return err
		}
	}
	for round := range 6 {
		tried := make([]int64, len(logs)) // sizes under way at the end
		working, stop := context.WithCancel(ctx)
		var all sync.WaitGroup
		for i, l := range logs {
			all.Go(func() { tried[i] = t.growUntilKilled(ctx, working, l) })
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(40+37*round) * time.Millisecond):
		}
		err := t.restart(ctx)
		stop()
		all.Wait()
		if err != nil {
			return fmt.Errorf("restarting: %w", err)
		}
		for i, l := range logs {
			if err := t.recall(ctx, l, tried[i]); err != nil {
				return fmt.Errorf("after kill %d: %w", round+1, err)
			}
		}
	}
	return nil
}

// growUntilKilled has l grow until a request fails or working ends, and returns the size that it was about
// at last. No request is given up: a witness may go on with one whose client has hung up, and the next
// question would not be about what was recorded.
func (t *trial) growUntilKilled(ctx, working context.Context, l *testLog) int64 {
	for working.Err() == nil {
		old := max(l.size, 0)
		size := min(old+1, treeSize-1)
		r := newRequest(l, old, size)
		a, err := t.once(ctx, r.body())
		if err != nil || a.status != http.StatusOK {
			return size
		}
		l.size, l.last = size, cosigned{request: r}
	}
	return max(l.size, 0)
}

// recall checks that a witness knows of l what it has cosigned, or what it was about to.
func (t *trial) recall(ctx context.Context, l *testLog, tried int64) error {
	wrong := max(tried, 0) + 1
	a, err := t.post(ctx, "add-checkpoint", newRequest(l, wrong, wrong).body())
	if err != nil {
		return err
	}
	told, err := strconv.ParseInt(strings.TrimSuffix(a.body, "\n"), 10, 64)
	if a.status != http.StatusConflict || err != nil {
		return fmt.Errorf("asked for the recorded size, it answered %s", a.short())
	}
	if told != max(l.size, 0) && told != tried {
		return fmt.Errorf("it has forgotten: it names size %d, but has answered 200 for %d (and was asked for %d)", told, l.size, tried)
	}
	if told == 0 {
		return nil // it was killed before the first
	}
	fork := newRequest(l, told, told)
	fork.root = t.fork.root(0, told).String()
	if told > 2 { // smaller trees are the same in both histories
		a, err := t.post(ctx, "add-checkpoint", fork.body())
		if err != nil {
			return err
		}
		if a.status != http.StatusUnprocessableEntity {
			return fmt.Errorf("another root hash at the recorded size %d was answered %s; want 422", told, a.short())
		}
	}
	l.size = told
	if err := t.advance(ctx, l, told); err != nil {
		return errors.Join(errors.New("the recorded checkpoint once more"), err)
	}
	return t.advance(ctx, l, told+1)
}
