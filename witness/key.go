package witness

import (
	"errors"
	"sync"
	"time"
)

// keyRetry is when a log should ask again after the key could not be used: an agent is back within
// seconds, once somebody has looked.
const keyRetry = 5 * time.Second

// A keyError reports that the Ed25519 key, which may be in an agent or a KMS, could not sign.
type keyError struct{ err error }

func (e *keyError) Error() string { return "signing with the Ed25519 key: " + e.err.Error() }
func (e *keyError) Unwrap() error { return e.err }

// keyState is whether the Ed25519 key could sign when it was last asked to.
type keyState struct {
	mu  sync.Mutex // guards the field below
	err error      // why it could not; nil if it could, or was not asked yet
}

// set notes how signing went, and reports whether that is new.
func (s *keyState) set(err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = (err == nil) != (s.err == nil)
	s.err = err
	return changed
}

// KeyError returns why the Ed25519 key could not sign when it was last asked to, or nil. A key in
// this process always can.
func (w *Witness) KeyError() error {
	w.key.mu.Lock()
	defer w.key.mu.Unlock()
	return w.key.err
}

// noteKey turns the outcome of signing into the answer. While a key cannot be used that is an
// unavailableError, and the state stays as it is; what went wrong is in our log, once.
func (w *Witness) noteKey(e *entry, err error) error {
	var failed *keyError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	changed := w.key.set(err)
	switch {
	case err != nil:
		w.metrics.signErrors.Add(1)
		if changed {
			w.log.Error("the Ed25519 key cannot be used; nothing is signed until it can", "origin", e.origin, "err", err)
		}
		return &unavailableError{after: keyRetry, reason: "the witness cannot use its Ed25519 key now; nothing was signed"}
	case changed:
		w.log.Info("the Ed25519 key can be used again", "origin", e.origin)
	}
	return nil
}
