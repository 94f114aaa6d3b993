// Package demo shows, to someone who has never heard of a transparency log, what one is for: it
// starts a throw-away stack, and then attacks it before the viewer's eyes.
//
// Everything in it is real: the log, its witnesses, the certificate authority, signatures, the
// monitor and its alerts. What is dishonest is done by the log's operator, who has the log's key and
// stands between the log and those who read it; that part is this package's own (operator). An
// attack that is not refused, or not alerted of, is an error.
//
// Out goes prose. All files are in a directory of their own, which is removed at the end, and all
// listeners are on loopback addresses, on ports that the system picks.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/httpx"
)

// patience is how long anything that must happen may take.
const patience = time.Minute

// Options say how the demo is shown.
type Options struct {
	Out io.Writer // where it is told; required
	// Pause is called between two steps, and waits for the viewer; nil: it goes on.
	Pause func(context.Context) error
	Keep  bool // leave the directory, and say where it is
}

// A NotCaughtError reports an attack that went through.
type NotCaughtError struct {
	Step string
	Err  error
}

func (e *NotCaughtError) Error() string { return e.Step + ": " + e.Err.Error() }

// Unwrap returns what happened instead.
func (e *NotCaughtError) Unwrap() error { return e.Err }

// Run shows the demo. It returns nil when all attacks were caught, a *NotCaughtError if one was not,
// and another error if the stack did not do what it is for.
func Run(ctx context.Context, o Options) (err error) {
	if o.Out == nil {
		return errors.New("showing demo: nowhere to show it")
	}
	began := time.Now()
	dir, err := os.MkdirTemp("", "tallywood-demo-")
	if err != nil {
		return fmt.Errorf("preparing demo: %w", err)
	}
	if !o.Keep {
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	t := &teller{out: o.Out}
	t.opening(dir, o.Keep)
	s, err := prepare(ctx, dir)
	if err != nil {
		return fmt.Errorf("preparing demo: %w", err)
	}
	if err := s.run(ctx, func(ctx context.Context) error { return s.play(ctx, t, o.Pause) }); err != nil {
		return err
	}
	t.closing(time.Since(began), s, o.Keep)
	return t.err
}

// run runs all parts, and show once they are ready; when that ends, all do. Its error comes first:
// those of parts that it interrupts do not count.
func (s *stage) run(ctx context.Context, show func(context.Context) error) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	g, gctx := errgroup.WithContext(ctx)
	ready := make(chan struct{})
	g.Go(func() error {
		return s.stack.Run(gctx, s.listener, nil, func() { close(ready) })
	})
	g.Go(func() error { return httpx.Serve(gctx, s.outside, s.handler, httpx.ServeOptions{}) })
	g.Go(func() error {
		if err := s.await(gctx, ready); err != nil {
			return err
		}
		g.Go(func() error { return s.monitor.Run(gctx) })
		if err := show(gctx); err != nil {
			return err // the group ends the others, and has this error by then
		}
		end()
		return nil
	})
	return errors.Join(g.Wait(), s.stack.Close())
}

// await waits until the stack is ready, and learns whom the demo is about.
func (s *stage) await(ctx context.Context, ready <-chan struct{}) error {
	select {
	case <-ready:
		return s.learn(ctx)
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(patience):
		return errors.New("starting the stack takes too long")
	}
}

// play shows the steps.
func (s *stage) play(ctx context.Context, t *teller, pause func(context.Context) error) error {
	steps := []struct {
		title string
		show  func(context.Context, *teller) error
	}{
		{"Alice signs a program", s.sign},
		{"A forged signature", s.forge},
		{"A log with two faces", s.fork},
		{"A log that forgets", s.rollBack},
		{"Somebody else signs as Alice", s.misuse},
	}
	for n, step := range steps {
		if pause != nil {
			if err := pause(ctx); err != nil {
				return err
			}
		}
		t.step(n+1, len(steps), step.title)
		if err := step.show(ctx, t); err != nil {
			return fmt.Errorf("step %d, %s: %w", n+1, step.title, err)
		}
	}
	return nil
}

// listen opens a listener on a port that the system picks.
func listen() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") }

// file writes a file of the viewer's kind and returns its path.
func (s *stage) file(name, text string) (string, error) {
	path := filepath.Join(s.dir, name)
	return path, os.WriteFile(path, []byte(text), 0o644)
}
