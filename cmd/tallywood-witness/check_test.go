package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"syscall"
	"testing"

	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/witness"
)

// A refusingBucket takes no writes.
type refusingBucket struct {
	storage.Bucket
	err error
}

func (b refusingBucket) Put(_ context.Context, key string, _ []byte, _ storage.PutOptions) (storage.Version, error) {
	return "", fmt.Errorf("putting %q: %w", key, b.err)
}

// TestServeChecksItsState has a state that belongs to another user, one on a read-only disk, and one on a
// full disk, which has room again before long.
func TestServeChecksItsState(t *testing.T) {
	k, err := keys.WitnessFromSeed("witness.example.org", sha256.Sum256([]byte("witness")))
	if err != nil {
		t.Fatal(err)
	}
	for cause, refused := range map[error]bool{syscall.EACCES: true, syscall.EROFS: true, syscall.ENOSPC: false, syscall.EDQUOT: false} {
		var log bytes.Buffer
		s := &service{log: slog.New(slog.NewTextHandler(&log, nil)), config: config{State: "objects"}}
		if s.witness, err = witness.New(witness.Options{Keys: k, Bucket: refusingBucket{mem.New(), cause}}); err != nil {
			t.Fatal(err)
		}
		err := s.checkState(t.Context())
		var ce *commandError
		switch {
		case refused && (!errors.As(err, &ce) || ce.code != exitOperational || !errors.Is(err, cause) || ce.hint == ""):
			t.Errorf("%v: checkState = %v", cause, err)
		case !refused && (err != nil || !strings.Contains(log.String(), "is full")):
			t.Errorf("%v: checkState = %v; log %q", cause, err, log.String())
		}
	}
}
