package e2e_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

const (
	// replicaAdders add all at once, each waiting replicaPace between two entries.
	replicaAdders = 12
	replicaPace   = 100 * time.Millisecond
	// addPatience is how long a client waits for an answer; npm's give up after 5 s.
	addPatience = 5 * time.Second
	// recoveryLimit is generous: the machine may be busy. The figures are logged.
	recoveryLimit = patience
)

// addSomewhere posts an entry to one replica after the other until one takes it.
func (c *cluster) addSomewhere(ctx context.Context, n int64, e signedEntry) {
	for turn := n; ctx.Err() == nil; turn++ {
		if c.post(ctx, c.replicas[turn%int64(len(c.replicas))], n, e) {
			pause(ctx, replicaPace)
			return
		}
		pause(ctx, 20*time.Millisecond)
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// post posts an entry to one replica and reports whether it was taken.
func (c *cluster) post(ctx context.Context, r *replica, n int64, e signedEntry) bool {
	var taken receipt
	ok := c.attempt(ctx, r, fmt.Sprintf("entry %d", n), func(ctx context.Context) (err error) {
		taken, err = add(ctx, c.client, r.url, n, e)
		return err
	})
	if ok {
		c.take(taken, e)
	}
	return ok
}

// attempt makes one request to a replica and reports whether it succeeded. It notes failures that
// must not be. One that comes no sooner than a log waits for its witnesses may be the machine's: what
// takes long is for recover to judge.
func (c *cluster) attempt(ctx context.Context, r *replica, what string, request func(ctx context.Context) error) bool {
	r.posting.RLock()
	defer r.posting.RUnlock()
	began := time.Now()
	pctx, cancel := context.WithTimeout(ctx, addPatience)
	defer cancel()
	err := request(pctx)
	if err == nil || ctx.Err() != nil { // the test ended it
		return err == nil
	}
	took := time.Since(began)
	at := fmt.Sprintf("%s at %s, after %v", what, r.name, took.Round(time.Millisecond))
	refused, answered := errors.AsType[*statusError](err)
	switch {
	case answered && !refused.comeBack():
		c.fault(fmt.Errorf("%s: %w", at, err))
	case took >= quorumTimeout, answered && refused.behind():
	case r.strict.Load():
		c.fault(fmt.Errorf("%s: failed by the handover of another replica: %w", at, err))
	case r.leaving.Load() && (answered || listens(r)):
		c.fault(fmt.Errorf("%s: failed by a replica that hands over, and listens still: %w", at, err))
	}
	return false
}

// listens reports whether anyone takes connections at the replica's address.
func listens(r *replica) bool {
	conn, err := net.Dial("tcp", r.url[len("http://"):])
	if err == nil {
		conn.Close()
	}
	return err == nil
}

// recover posts to each of the replicas until it takes an add, and returns how long after the event
// the first and the last of them did.
func (c *cluster) recover(t *testing.T, event time.Time, replicas []*replica) (first, all time.Duration) {
	t.Helper()
	took := make([]time.Duration, len(replicas))
	var probing sync.WaitGroup
	for i, r := range replicas {
		probing.Go(func() {
			n := c.next.Add(1) - 1
			e, err := c.signer.entry(n)
			if err != nil {
				c.fault(err)
				return
			}
			for {
				taken := c.post(t.Context(), r, n, e)
				if took[i] = time.Since(event); taken || took[i] > recoveryLimit {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	probing.Wait()
	first = took[0]
	for i, d := range took {
		first, all = min(first, d), max(all, d)
		if d > recoveryLimit {
			t.Fatalf("no add by %s within %v of the event", replicas[i].name, recoveryLimit)
		}
	}
	return first, all
}

// watchBucket looks at the checkpoint of a log in the bucket as often as it can: it never goes back.
// Each one is given to saw.
func (c *memory) watchBucket(bucket, log string, saw func(size int64, note string) error) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		size := int64(0)
		for ctx.Err() == nil {
			pause(ctx, 5*time.Millisecond)
			note, err := os.ReadFile(filepath.Join(bucket, "log/logs", log, "checkpoint"))
			if errors.Is(err, fs.ErrNotExist) {
				continue // it is being replaced
			}
			if err != nil {
				c.fault(err)
				continue
			}
			tr, err := noteTree(string(note))
			if err == nil && tr.size < size {
				err = fmt.Errorf("the checkpoint went back from size %d to %d", size, tr.size)
			}
			if err == nil {
				err = saw(tr.size, string(note))
			}
			if err != nil {
				c.fault(fmt.Errorf("%s in the bucket: %w", log, err))
				continue
			}
			size = tr.size
			c.mu.Lock()
			c.seeLocked(tr, "the bucket")
			c.mu.Unlock()
		}
	})
	return func() { cancel(); watching.Wait() }
}
