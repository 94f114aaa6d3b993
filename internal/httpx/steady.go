package httpx

import (
	"context"
	"errors"
	"io"
	"time"
)

// ErrStalled reports that nothing came any more of an answer that had not ended.
var ErrStalled = errors.New("the answer stands still")

// Steady calls do, a request and the reading of its answer, with a context that ends once nothing has
// come for d; do calls beat whenever something has. The error is ErrStalled then. A connection that
// stays open without a byte would else be waited for as long as ctx lasts.
func Steady(ctx context.Context, d time.Duration, do func(ctx context.Context, beat func()) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	t := time.AfterFunc(d, func() { cancel(ErrStalled) })
	defer t.Stop()
	err := do(ctx, func() { t.Reset(d) })
	if err != nil && context.Cause(ctx) == ErrStalled { // what the client makes of it says less
		return ErrStalled
	}
	return err
}

// Beating returns r, whose reads call beat when something has come.
func Beating(r io.Reader, beat func()) io.Reader { return &beating{r, beat} }

type beating struct {
	io.Reader
	beat func()
}

func (b *beating) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if n > 0 {
		b.beat()
	}
	return n, err
}
