package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"

	"tallywood/log"
	"tallywood/storage"
)

const maxKnownIssuers = 1024

// issuers keeps the certificates above the logged ones, each in an object named by its hash.
type issuers struct {
	bucket storage.Bucket
	prefix string

	mu    sync.Mutex // held while one is stored, which is rare
	known map[[32]byte]bool
}

func newIssuers(bucket storage.Bucket, prefix string) *issuers {
	return &issuers{bucket: bucket, prefix: prefix, known: map[[32]byte]bool{}}
}

// store returns once the certificate is durable.
func (s *issuers) store(ctx context.Context, der []byte) error {
	fingerprint := sha256.Sum256(der)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[fingerprint] {
		return nil
	}
	key := s.prefix + hex.EncodeToString(fingerprint[:])
	_, err := s.bucket.Put(ctx, key, der, storage.PutOptions{
		If: storage.Absent(), ContentType: "application/pkix-cert",
		CacheControl: "public, max-age=604800, immutable",
	})
	switch {
	case errors.Is(err, storage.ErrPrecondition):
		stored, _, err := s.bucket.Get(ctx, key, storage.Range{})
		if err != nil {
			return fmt.Errorf("%w: reading issuer: %w", log.ErrUnavailable, err)
		}
		if !bytes.Equal(stored, der) {
			return fmt.Errorf("storing issuer: object %q is damaged: it holds another certificate", key)
		}
	case err != nil:
		return fmt.Errorf("%w: storing issuer: %w", log.ErrUnavailable, err)
	}
	if len(s.known) >= maxKnownIssuers {
		clear(s.known)
	}
	s.known[fingerprint] = true
	return nil
}
