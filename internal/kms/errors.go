package kms

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

// An Error reports that a KMS did not do what it was asked.
type Error struct {
	URI  string // of the key
	Hint string // what to do about it; may be empty
	Err  error

	action    string
	temporary bool
}

func (e *Error) Error() string { return fmt.Sprintf("%s %s: %v", e.action, e.URI, e.Err) }

// Unwrap returns what was wrong.
func (e *Error) Unwrap() error { return e.Err }

// Temporary reports whether the fault may pass by itself: the service does not answer, is
// overloaded, or says that something of its own failed.
func (e *Error) Temporary() bool { return e.temporary }

// A failure is an error and what is known of it.
type failure struct {
	err       error
	hint      string
	temporary bool
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

const (
	hintUnreachable = "the service did not answer: look at the network, the region and the endpoint"
	hintOverloaded  = "the service cannot do it at the moment, or its quota is used up"
	hintOtherKey    = "the alias, or the service, has another key than at the start; a log or an authority cannot go on with another key"
	hintKind        = "checkpoints are signed with Ed25519, SCTs with ECDSA P-256, certificates and timestamps with ECDSA P-256 or P-384"
)

var errBusy = &failure{err: errors.New("too many signatures are under way"), hint: hintOverloaded, temporary: true}

// unreachable is the failure of a request that was not answered.
func unreachable(err error) *failure {
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("no answer in time: %w", err)
	}
	return &failure{err: err, hint: hintUnreachable, temporary: true}
}

// fault makes an Error of err.
func (k *Key) fault(action string, err error) error {
	e := &Error{URI: k.uri, Err: err, action: action}
	if f, ok := errors.AsType[*failure](err); ok {
		e.Hint, e.temporary = f.hint, f.temporary
	}
	return e
}

// The pauses between requests for the same thing.
const (
	leastPause = 50 * time.Millisecond
	mostPause  = time.Second
)

// retry does what do does until it succeeds, fails for good, or has no time left in ctx. Each
// attempt may take as long as attempt. One that the end of ctx cut short says nothing about the service: the
// error is that of the attempt before.
func retry(ctx context.Context, attempt time.Duration, do func(context.Context) error) error {
	var before error
	for pause := leastPause; ; pause = min(2*pause, mostPause) {
		actx, cancel := context.WithTimeout(ctx, attempt)
		err := do(actx)
		cancel()
		if f, ok := errors.AsType[*failure](err); !ok || !f.temporary {
			return err
		}
		if ctx.Err() != nil && before != nil {
			return before
		}
		before = err
		wait := pause/2 + rand.N(pause/2)
		if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= wait {
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return err
		}
	}
}
