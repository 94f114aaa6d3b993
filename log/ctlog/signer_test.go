package ctlog_test

import (
	"crypto"
	"crypto/ecdsa"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"tallywood/log"
)

// A farSigner is a key that is elsewhere: it may be out of reach, and lets signatures through when
// enough of them are asked for.
type farSigner struct {
	*ecdsa.PrivateKey

	mu      sync.Mutex
	err     error
	want    int
	waiting int
	open    chan struct{} // closed when those that wait may go
}

func (s *farSigner) set(err error, want int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.want = err, want
}

// Sign implements crypto.Signer.
func (s *farSigner) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	s.mu.Lock()
	err, mine := s.err, s.open
	if s.waiting++; s.waiting >= s.want {
		close(s.open)
		s.open, s.waiting, s.want = make(chan struct{}), 0, 0 // once
	}
	s.mu.Unlock()
	<-mine
	if err != nil {
		return nil, err
	}
	return s.PrivateKey.Sign(r, digest, o)
}

// TestAKeyOutOfReachIsAskedForLater logs a certificate whose SCT cannot be signed: the submitter is
// told to come again, and gets it then.
func TestAKeyOutOfReachIsAskedForLater(t *testing.T) {
	f := newFixture(t)
	far := &farSigner{PrivateKey: f.key, open: make(chan struct{})}
	f.signer = far
	ct, _, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t)) // it runs
	far.set(errors.New("no answer in time"), 0)
	chain := f.ca.submission(t)
	if _, err := ct.AddPreChain(t.Context(), chain); !errors.Is(err, log.ErrUnavailable) {
		t.Errorf("without its key: %v; want log.ErrUnavailable", err)
	}
	if w := do(ct.Handler(), "POST", addPreChain, submission(t, chain)); w.Code != 503 || w.Header().Get("Retry-After") == "" {
		t.Errorf("without its key: %d %v %s", w.Code, w.Header(), w.Body)
	}
	far.set(nil, 0)
	if sct := mustAdd(t, ct, chain); sct.Timestamp == 0 {
		t.Error("no SCT")
	}
}

// TestSCTsAreSignedSideBySide would not end if submissions waited for each other's signatures.
func TestSCTsAreSignedSideBySide(t *testing.T) {
	f := newFixture(t)
	far := &farSigner{PrivateKey: f.key, open: make(chan struct{})}
	f.signer = far
	ct, l, _ := f.run()
	mustAdd(t, ct, f.ca.submission(t))
	f.published(l, 1)
	const together = 16
	far.set(nil, together)
	var wait sync.WaitGroup
	for range together {
		chain := f.ca.submission(t)
		wait.Go(func() {
			if _, err := ct.AddPreChain(t.Context(), chain); err != nil {
				t.Error(err)
			}
		})
	}
	done := make(chan struct{})
	go func() { wait.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(time.Minute):
		t.Errorf("%d submissions are not signed at the same time", together)
	}
	far.set(nil, 0)
}
