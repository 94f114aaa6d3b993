package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"
)

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

// What a file is hashed for can be ended while it is read.
func TestReadingAnArtifactEndsWithTheProgram(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r := interruptible(ctx, strings.NewReader(strings.Repeat("x", 100)))
	if n, err := r.Read(make([]byte, 10)); n != 10 || err != nil {
		t.Fatalf("read %d, %v", n, err)
	}
	cancel()
	if rest, err := io.ReadAll(r); len(rest) > 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("read %d more, %v", len(rest), err)
	}
}
