package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"reflect"
	"slices"
	"strings"
	"time"
)

// ended gives the error of a command that a signal, the cause, has told to end its words. For a command
// that serves, that is no error: it ends no other way.
func (c command) ended(err, cause error) error {
	switch {
	case c.serves && onlyInterrupted(err):
		return nil
	case errors.Is(err, context.Canceled):
		return interrupted(err, cause)
	}
	return err
}

// interrupted says in plain words of an error that it is of a signal, the cause, that told the program to
// end. Unless it says something else besides, it is nobody's fault, whatever code it was given.
func interrupted(err, cause error) error {
	e, ok := errors.AsType[*exitError](err)
	switch {
	case !ok:
		e = &exitError{code: exitOperational}
	case onlyInterrupted(err) && e.code == exitUsage:
		e = &exitError{code: exitOperational} // the hint is about what to change
	case onlyInterrupted(err):
		e = &exitError{code: exitOperational, hint: e.hint}
	}
	words := strings.NewReplacer(context.Canceled.Error(), "interrupted", cause.Error(), "interrupted")
	return &exitError{e.code, errors.New(words.Replace(err.Error())), e.hint}
}

var joined = reflect.TypeOf(errors.Join(context.Canceled))

// onlyInterrupted reports whether err says nothing but that its context has ended. Of errors that are
// joined, each must say that: one that does not would be lost.
func onlyInterrupted(err error) bool {
	for e := err; e != nil; e = errors.Unwrap(e) {
		if reflect.TypeOf(e) == joined {
			return !slices.ContainsFunc(parts(e), func(e error) bool { return !onlyInterrupted(e) })
		}
	}
	return errors.Is(err, context.Canceled)
}

// readLine returns a line of what a person types, or the error of ctx once that ends: a signal ends a
// program that waits for an answer, too.
func readLine(ctx context.Context, in *bufio.Reader) (string, error) {
	type line struct {
		text string
		err  error
	}
	typed := make(chan line, 1)
	go func() {
		text, err := in.ReadString('\n')
		typed <- line{text, err}
	}()
	select {
	case l := <-typed:
		return l.text, l.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// openInterruptible opens a file for reading. That of a pipe waits for somebody who writes into it, or for
// the end of ctx.
func openInterruptible(ctx context.Context, path string) (*os.File, error) {
	type file struct {
		*os.File
		err error
	}
	opened := make(chan file, 1)
	go func() {
		f, err := os.Open(path)
		opened <- file{f, err}
	}()
	select {
	case f := <-opened:
		return f.File, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// interruptible returns f, whose reads fail once ctx has ended: a large file takes long to hash, and what
// comes out of a pipe may be long in coming.
func interruptible(ctx context.Context, f *os.File) io.Reader {
	context.AfterFunc(ctx, func() {
		_ = f.SetReadDeadline(time.Unix(1, 0)) // an ordinary file has none, and keeps nobody waiting
	})
	return readerFunc(func(p []byte) (int, error) {
		n, err := f.Read(p)
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return n, err
	})
}

// readerFunc is a function as an io.Reader.
type readerFunc func(p []byte) (int, error)

// Read calls f.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
