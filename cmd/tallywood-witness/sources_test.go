package main

import (
	"context"
	"io"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"tallywood/internal/bubble"
)

// TestNothingIsMissedAtTheStart has a log added after serve has read its files, and before it watches them.
func TestNothingIsMissedAtTheStart(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "w")
	if code := run([]string{"init", "--dir", dir, "--name", "witness.example.org"}, io.Discard, t.Output()); code != 0 {
		t.Fatal(code)
	}
	bubble.Test(t, func(t *testing.T) {
		s, err := openService(serveFlags{dir: dir}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if code := run([]string{"logs", "add", "--dir", dir, "--vkey", logVKey("log.example.org"), "--contact", "x"}, io.Discard, t.Output()); code != 0 {
			t.Fatal(code)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*pollEvery+time.Millisecond)
		defer cancel()
		s.watch(ctx, nil)
		if logs := s.witness.Logs(); len(logs) != 1 {
			t.Errorf("it knows %d logs; want the one that was added", len(logs))
		}
	})
}
