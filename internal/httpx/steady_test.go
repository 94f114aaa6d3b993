package httpx_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"tallywood/internal/bubble"
	"tallywood/internal/httpx"
)

// TestSteady reads an answer that comes slowly, and one that stands still.
func TestSteady(t *testing.T) {
	const patience = 10 * time.Second
	for _, c := range []struct {
		name  string
		bytes int // one each nine seconds
		end   bool
		want  error
		takes time.Duration
	}{
		{"slow", 10, true, nil, 90 * time.Second},
		{"still", 3, false, httpx.ErrStalled, 27*time.Second + patience},
		{"nothing", 0, false, httpx.ErrStalled, patience},
	} {
		t.Run(c.name, func(t *testing.T) {
			bubble.Test(t, func(t *testing.T) {
				begun := time.Now()
				err := httpx.Steady(t.Context(), patience, func(ctx context.Context, beat func()) error {
					r, w := io.Pipe()
					context.AfterFunc(ctx, func() { r.CloseWithError(ctx.Err()) })
					go func() {
						for range c.bytes {
							time.Sleep(9 * time.Second)
							_, _ = w.Write([]byte{0}) // the reader counts
						}
						if c.end {
							w.Close()
						}
					}()
					data, err := io.ReadAll(httpx.Beating(r, beat))
					if len(data) != c.bytes {
						t.Errorf("%d bytes came", len(data))
					}
					return err
				})
				if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) || time.Since(begun) != c.takes {
					t.Errorf("%v after %v", err, time.Since(begun))
				}
			})
		})
	}
}

// TestSteadyReportsTheCallersEnd has the caller give up: that is no stall.
func TestSteadyReportsTheCallersEnd(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := httpx.Steady(ctx, time.Hour, func(ctx context.Context, _ func()) error { return ctx.Err() })
	if !errors.Is(err, context.Canceled) || errors.Is(err, httpx.ErrStalled) {
		t.Error(err)
	}
}
