package devoidc

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"
)

// maxStored bounds the codes waiting to be used.
const maxStored = 1024

// store keeps values under random codes for a while. It never grows past maxStored.
type store[T any] struct {
	now      func() time.Time
	lifetime time.Duration

	mu      sync.Mutex
	entries map[string]stored[T]
}

type stored[T any] struct {
	value   T
	expires time.Time
}

func newStore[T any](now func() time.Time, lifetime time.Duration) *store[T] {
	return &store[T]{now: now, lifetime: lifetime, entries: make(map[string]stored[T])}
}

// put keeps v under a new code, and reports whether there was room.
func (s *store[T]) put(v T) (code string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	for code, e := range s.entries {
		if !now.Before(e.expires) {
			delete(s.entries, code)
		}
	}
	if len(s.entries) >= maxStored {
		return "", false
	}
	code = randomCode()
	s.entries[code] = stored[T]{v, now.Add(s.lifetime)}
	return code, true
}

// take returns the value under code and forgets it: a code works once.
func (s *store[T]) take(code string) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[code]
	delete(s.entries, code)
	return e.value, ok && s.now().Before(e.expires)
}

// update changes the first live value that match accepts, and reports whether there was one.
func (s *store[T]) update(match func(T) bool, change func(*T)) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for code, e := range s.entries {
		if s.now().Before(e.expires) && match(e.value) {
			change(&e.value)
			s.entries[code] = e
			return true
		}
	}
	return false
}

// peek returns the value under code and leaves it.
func (s *store[T]) peek(code string) (T, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.entries[code]
	return e.value, ok && s.now().Before(e.expires)
}

func randomCode() string {
	code := make([]byte, 32)
	rand.Read(code) // never fails
	return base64.RawURLEncoding.EncodeToString(code)
}

// verifiesPKCE reports whether verifier is the secret behind an S256 challenge (RFC 7636 section
// 4.6).
func verifiesPKCE(challenge, verifier string) bool {
	sum := sha256.Sum256([]byte(verifier))
	got := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(got), []byte(challenge)) == 1
}
