package witness

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// TemporaryPrefix begins the origin of every temporary log. No name of .invalid belongs to anybody.
const TemporaryPrefix = "selftest.invalid/"

// maxTemporary bounds the temporary logs.
const maxTemporary = 1000

// ErrTesting reports that there are temporary logs already.
var ErrTesting = errors.New("a self-test is running already")

// AddTemporary makes the witness cosign throw-away logs, for a test of it while it serves others,
// until remove is called. They are treated like all logs, with the same keys and the same durability,
// but for what would outlast them or wake somebody: they are in no list, status and metric of logs,
// not exported, and no evidence is kept against them. Their state is beside that of the others, and
// goes with them; what is left of it by a crash goes when the next are added.
//
// The caller must guarantee that their origins never come back: that the state goes is safe only
// because nobody will have the keys to ask for another tree. Origins begin with [TemporaryPrefix].
func (w *Witness) AddTemporary(ctx context.Context, logs []Log) (remove func(context.Context) error, err error) {
	if len(logs) > maxTemporary {
		return nil, fmt.Errorf("adding %d temporary logs: at most %d can be", len(logs), maxTemporary)
	}
	for _, l := range logs {
		if err := l.check(); err != nil {
			return nil, fmt.Errorf("adding temporary log: %w", err)
		}
		if !strings.HasPrefix(l.Origin, TemporaryPrefix) {
			return nil, fmt.Errorf("adding temporary log: origin %q does not begin with %s", l.Origin, TemporaryPrefix)
		}
	}
	if err := w.beginTesting(); err != nil {
		return nil, err
	}
	if err := w.clearTemporary(ctx); err != nil {
		w.endTesting()
		return nil, err
	}
	added, err := w.introduceTemporary(logs)
	remove = func(ctx context.Context) error {
		defer w.endTesting()
		return w.removeTemporary(ctx, added)
	}
	if err != nil {
		return nil, errors.Join(err, remove(ctx))
	}
	return remove, nil
}

func (w *Witness) beginTesting() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.testing {
		return ErrTesting
	}
	w.testing = true
	return nil
}

func (w *Witness) endTesting() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.testing = false
}

// introduceTemporary makes logs known, and returns those that are even if one of them cannot be.
func (w *Witness) introduceTemporary(logs []Log) ([]*entry, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var added []*entry
	for _, l := range logs {
		if w.logs[l.Origin] != nil {
			return added, fmt.Errorf("adding temporary log: %q is known already", l.Origin)
		}
		w.introduce(l)
		e := w.logs[l.Origin]
		e.temporary = true
		added = append(added, e)
	}
	return added, nil
}

// removeTemporary forgets logs, when no request about them is under way any more.
func (w *Witness) removeTemporary(ctx context.Context, logs []*entry) error {
	w.mu.Lock()
	for _, e := range logs {
		delete(w.logs, e.origin)
		delete(w.hash, e.hash)
	}
	w.mu.Unlock()
	for _, e := range logs {
		select {
		case e.lock <- struct{}{}:
			e.removed = true
			<-e.lock
		case <-ctx.Done():
			return fmt.Errorf("removing temporary logs: %w", ctx.Err())
		}
	}
	return w.clearTemporary(ctx)
}

// clearTemporary deletes the state of temporary logs, and nothing else: that of others is elsewhere.
func (w *Witness) clearTemporary(ctx context.Context) error {
	var keys []string
	for key, err := range w.bucket.List(ctx, w.temporaryKey("")) {
		if err != nil {
			return fmt.Errorf("listing the state of temporary logs: %w", err)
		}
		keys = append(keys, key)
	}
	if err := w.bucket.Delete(ctx, keys...); err != nil {
		return fmt.Errorf("deleting the state of temporary logs: %w", err)
	}
	return nil
}

func (w *Witness) temporaryKey(hash string) string {
	return "selftest/" + w.signer.name + "/" + hash
}
