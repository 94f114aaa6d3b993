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

	mu      sync.Mutex // guards what follows, and is not held while the bucket works
	known   map[[32]byte]bool
	storing map[[32]byte]chan struct{} // closed when the store under way has ended
}

func newIssuers(bucket storage.Bucket, prefix string) *issuers {
	return &issuers{bucket: bucket, prefix: prefix, known: map[[32]byte]bool{}, storing: map[[32]byte]chan struct{}{}}
}

// store returns once the certificate is durable. One call at a time writes it; others wait for
// that one, and try themselves if it failed.
func (s *issuers) store(ctx context.Context, der []byte) error {
	fingerprint := sha256.Sum256(der)
	for {
		busy, done := s.begin(fingerprint)
		switch {
		case done != nil:
			err := s.put(ctx, fingerprint, der)
			s.end(fingerprint, done, err == nil)
			return err
		case busy == nil:
			return nil
		}
		select {
		case <-busy:
		case <-ctx.Done():
			return fmt.Errorf("%w: storing issuer: %w", log.ErrUnavailable, context.Cause(ctx))
		}
	}
}

// begin returns done if the caller has to store the certificate, or else what to wait for: nothing
// if it is known to be durable.
func (s *issuers) begin(fingerprint [32]byte) (busy, done chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.known[fingerprint] {
		return nil, nil
	}
	if busy, ok := s.storing[fingerprint]; ok {
		return busy, nil
	}
	done = make(chan struct{})
	s.storing[fingerprint] = done
	return nil, done
}

func (s *issuers) end(fingerprint [32]byte, done chan struct{}, durable bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if durable {
		if len(s.known) >= maxKnownIssuers {
			clear(s.known)
		}
		s.known[fingerprint] = true
	}
	delete(s.storing, fingerprint)
	close(done)
}

func (s *issuers) put(ctx context.Context, fingerprint [32]byte, der []byte) error {
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
	return nil
}
