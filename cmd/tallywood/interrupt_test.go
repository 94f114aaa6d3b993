package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// TestInterruptionIsSaidInWords has a command end as its context does.
func TestInterruptionIsSaidInWords(t *testing.T) {
	said := errors.New("terminated signal received")
	of := func(err error) error { return fmt.Errorf("checking logs: %w", err) }
	for name, c := range map[string]struct {
		err  error
		code int
		want string
	}{
		"plain":           {of(context.Canceled), exitOperational, "checking logs: interrupted"},
		"with its cause":  {of(fmt.Errorf("Post x: %w (%w)", said, context.Canceled)), exitOperational, "checking logs: Post x: interrupted (interrupted)"},
		"a negative code": {hinted(exitNegative, of(context.Canceled), "try again"), exitOperational, "checking logs: interrupted\ntallywood: hint: try again"},
		"a usage code":    {hinted(exitUsage, of(context.Canceled), "write it otherwise"), exitOperational, "checking logs: interrupted"},
		"damage besides":  {hinted(exitNegative, errors.Join(of(context.Canceled), errors.New("tile: damaged")), ""), exitNegative, "checking logs: interrupted\n    tile: damaged"},
	} {
		var out bytes.Buffer
		if got := report(&out, command{}.ended(c.err, said)); got != c.code || out.String() != "tallywood: error: "+c.want+"\n" {
			t.Errorf("%s: exit code %d, %q", name, got, out.String())
		}
	}
}

// TestServingEndsWithoutAnError when all there is to say is that it was told to end, and says what else
// there is.
func TestServingEndsWithoutAnError(t *testing.T) {
	serves, other := command{serves: true}, errors.New("closing: I/O error")
	opening := fmt.Errorf("opening: %w", context.Canceled)
	for _, err := range []error{nil, opening, errors.Join(opening, nil), openError(errors.Join(opening, errors.Join(context.Canceled)))} {
		if got := serves.ended(err, context.Canceled); got != nil {
			t.Errorf("%v: ended with %v", err, got)
		}
	}
	for _, err := range []error{other, errors.Join(opening, other), openError(fmt.Errorf("opening: %w", errors.Join(errors.Join(other), opening)))} {
		if got := serves.ended(err, context.Canceled); got == nil || !strings.Contains(got.Error(), other.Error()) {
			t.Errorf("%v: ended with %v", err, got)
		}
	}
}

// brief is a context that ends when it has been asked a number of times whether it has. It asks itself
// now and then, as what only waits would never do.
type brief struct {
	context.Context
	end  context.CancelFunc
	left *atomic.Int64
}

func newBrief(t *testing.T, questions int64) *brief {
	ctx, cancel := context.WithCancel(t.Context())
	b := &brief{ctx, cancel, new(atomic.Int64)}
	b.left.Store(questions)
	go func() {
		for ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
			b.asked()
		}
	}()
	return b
}

func (b *brief) asked() {
	if b.left.Add(-1) < 0 {
		b.end()
	}
}

func (b *brief) Done() <-chan struct{} { b.asked(); return b.Context.Done() }
func (b *brief) Err() error            { b.asked(); return b.Context.Err() }

// onReady calls a function when something is written, such as the ready line.
type onReady func()

func (f onReady) Write(p []byte) (int, error) { f(); return len(p), nil }

// TestServingMayBeEndedAtAnyMoment of its start, and starts the next time.
func TestServingMayBeEndedAtAnyMoment(t *testing.T) {
	dir := logFiles(t)
	monitor := filepath.Join(dir, "monitor.yaml")
	policy, err := os.ReadFile(filepath.Join(dir, "policy.txt"))
	if err != nil {
		t.Fatal(err)
	}
	vkey, _, _ := strings.Cut(strings.TrimPrefix(string(policy), "log "), "\n")
	if err := os.WriteFile(monitor, []byte(`state: ./monitor-state
logs: [{origin: log.example.org, url: "http://127.0.0.1:1", vkey: `+vkey+`, policy: none}]
identities: []
notify: {all: {jsonl: events.jsonl}}
`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"serve", "--config", filepath.Join(dir, "config.yaml")},
		{"up", "--data", filepath.Join(dir, "data"), "--address", "127.0.0.1:0"},
		{"monitor", "run", "--config", monitor},
	} {
		t.Run(args[0], func(t *testing.T) {
			began := false
			for _, questions := range []int64{0, 1, 3, 9, 27, 81, 1 << 20} {
				ctx := newBrief(t, questions)
				var log bytes.Buffer
				c := named(args)
				tm := terminal{in: strings.NewReader(""), out: onReady(func() { began = true; ctx.end() }), err: &log}
				if args[0] == "monitor" {
					if questions > 81 {
						break // it has no moment at which it is ready
					}
					began = true
				}
				fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
				fs.SetOutput(io.Discard)
				err := c.run(ctx, tm, fs, args[len(strings.Fields(c.name)):])
				if err := c.ended(err, context.Canceled); err != nil || ctx.Context.Err() == nil {
					t.Errorf("after %d questions it ended with %v; its log:\n%s", questions, err, &log)
				}
			}
			if !began {
				t.Error("it was never ready")
			}
		})
	}
}

// named returns the command that args name.
func named(args []string) command {
	for _, c := range commands() {
		for _, sub := range c.subs {
			if len(args) > 1 && sub.name == args[0]+" "+args[1] {
				return sub
			}
		}
		if c.name == args[0] {
			return c
		}
	}
	panic("there is no such command")
}

// A person who is asked something can end the program instead of answering.
func TestQuestionsEndWithTheProgram(t *testing.T) {
	t.Setenv("XDG_CONFIG_HOME", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	in, never := io.Pipe()
	defer never.Close()
	asked := make(chan error, 1)
	go func() {
		asked <- agree(ctx, terminal{in, io.Discard, io.Discard}, "a.eyJzdWIiOiIxIn0.c", false)
	}()
	cancel()
	select {
	case err := <-asked:
		if !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("it goes on waiting for an answer")
	}
}

// TestReadingAnArtifactEndsWithTheProgram: of a pipe that nobody writes into, of one that nothing comes from,
// and of a large file.
func TestReadingAnArtifactEndsWithTheProgram(t *testing.T) {
	silent := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(silent, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	opened := make(chan error, 1)
	go func() {
		_, err := openArtifact(ctx, silent)
		opened <- err
	}()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	read := interruptible(ctx, r)
	if _, err := w.Write([]byte("begun")); err != nil {
		t.Fatal(err)
	}
	data := make([]byte, 9)
	if n, err := read.Read(data); string(data[:n]) != "begun" || err != nil {
		t.Fatalf("%q, %v", data[:n], err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := io.Copy(io.Discard, read)
		ended <- err
	}()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("a pipe ends with %v", err)
	}
	if err := <-opened; !errors.Is(err, context.Canceled) {
		t.Errorf("opening a pipe that nobody writes into ends with %v", err)
	}
	if writer, err := os.OpenFile(silent, os.O_WRONLY, 0); err != nil { // that lets the opening go
		t.Error(err)
	} else if err := writer.Close(); err != nil {
		t.Error(err)
	}
	zero, err := os.Open("/dev/zero")
	if err != nil {
		t.Fatal(err)
	}
	defer zero.Close()
	if _, err := io.Copy(io.Discard, interruptible(ctx, zero)); !errors.Is(err, context.Canceled) {
		t.Errorf("an endless file ends with %v", err)
	}
}
