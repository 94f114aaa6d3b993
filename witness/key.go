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

// keyProbe is what a key signs that is only asked whether it can. It is no checkpoint, nor a tree.
const keyProbe = "tallywood: this is signed to see whether a key can be used, and means nothing\n"

// keyState is whether the keys that are elsewhere could sign when they were last asked to.
type keyState struct {
	mu    sync.Mutex // guards the fields below
	known bool       // they were asked
	err   error      // why they could not
	asked time.Time  // when CheckKey last asked
}

// set notes how signing went, and reports whether that is new.
func (s *keyState) set(err error) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changed = (err == nil) != (s.err == nil)
	s.known, s.err = true, err
	return changed
}

// ask returns what is known, and whether it is time to ask: when nothing is known yet, and every few
// seconds while they cannot sign.
func (s *keyState) ask(now time.Time) (err error, again bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if again = (!s.known || s.err != nil) && now.Sub(s.asked) >= keyRetry; again {
		s.asked = now
	}
	return s.err, again
}

// CheckKey returns why the Ed25519 key cannot sign, or nil. One in this process always can. One that
// could when it was last asked to is not asked again.
func (w *Witness) CheckKey() error {
	err, again := w.key.ask(time.Now())
	if !again {
		return err
	}
	err = nil
	for _, k := range w.signer.validAt(w.now().Unix()) {
		if k.remote && err == nil {
			_, err = k.sign([]byte(keyProbe))
		}
	}
	if w.key.set(err) {
		w.logKey(err)
	}
	return err
}

// logKey says that the key can, or cannot, be used any more.
func (w *Witness) logKey(err error) {
	if err != nil {
		w.log.Error("the Ed25519 key cannot be used; nothing is signed until it can", "err", err)
		return
	}
	w.log.Info("the Ed25519 key can be used again")
}

// noteKey turns the outcome of signing into the answer. While a key cannot be used that is an
// unavailableError, and the state stays as it is; what went wrong is in our log, once.
func (w *Witness) noteKey(err error) error {
	var failed *keyError
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	if w.key.set(err) {
		w.logKey(err)
	}
	if err != nil {
		w.metrics.signErrors.Add(1)
		return &unavailableError{after: keyRetry, reason: "the witness cannot use its Ed25519 key now; nothing was signed"}
	}
	return nil
}
