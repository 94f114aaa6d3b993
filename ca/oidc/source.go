package oidc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"
)

const (
	// fetchTimeout is the default of Options.FetchTimeout. It leaves room below the
	// five seconds that Sigstore's JavaScript clients wait, so that they learn what is wrong.
	fetchTimeout = 4 * time.Second

	// keysRenewAge is the age from which keys in use are fetched anew by Run.
	keysRenewAge = 10 * time.Minute
	// keysMaxAge is how long an issuer is not asked whether it withdrew a key.
	keysMaxAge = 15 * time.Minute
	// keysEndAge is how long keys serve when the issuer does not answer that question.
	keysEndAge = 6 * time.Hour

	// refetchInterval is the least time between two fetches that unknown or old keys can provoke.
	refetchInterval = 10 * time.Second
	// retryInterval is the least time between two fetches while there are no keys to use.
	retryInterval = 2 * time.Second

	maxRenewals    = 64 // that wait for Run
	renewalWorkers = 4
)

// source holds the keys of one issuer. Keys never cross issuers.
type source struct {
	issuer   string
	hosts    []string // besides the issuer's own
	client   *http.Client
	timeout  time.Duration // of a fetch
	now      func() time.Time
	log      *slog.Logger
	renewals chan<- *source // to Run

	used time.Time // guarded by Verifier.mu

	mu      sync.Mutex
	keys    *keySet   // nil until the first successful fetch
	tried   time.Time // when the newest attempt ended
	failure error     // of the newest attempt
	running *attempt  // nil if none is
	waiting bool      // for Run
}

// attempt is one fetch. Its outcome is there once done is closed.
type attempt struct {
	done chan struct{}
	keys *keySet
	err  error
}

// verify checks the token's signature with the issuer's keys and returns the payload. A key ID
// that is not known causes one fetch at most, and not more than one each refetchInterval.
func (s *source) verify(ctx context.Context, token string) ([]byte, error) {
	set, err := s.current(ctx)
	if err != nil {
		return nil, &UnavailableError{s.issuer, err}
	}
	payload, err := set.verify(token)
	if t, ok := errors.AsType[*TokenError](err); !ok || t.Reason != ReasonKey {
		return payload, err
	}
	// > When the verifier encounters an unfamiliar kid it goes back to the jwks_uri to retrieve
	// > the keys again (OpenID Connect Core, section 10.1.1)
	newer, fetchErr := s.fetch(ctx, set, refetchInterval)
	switch {
	case fetchErr != nil:
		return nil, &UnavailableError{s.issuer, fetchErr}
	case newer == set:
		return nil, err
	}
	return newer.verify(token)
}

func (s *source) hasKeys() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.keys != nil
}

// current returns the keys. Those that grow old serve on while Run renews them, and while the
// issuer does not answer, until they end. Nobody waits for that, except where the issuer was not
// asked for so long that a withdrawn key could pass.
func (s *source) current(ctx context.Context) (*keySet, error) {
	s.mu.Lock()
	set, tried := s.keys, s.tried
	s.mu.Unlock()
	if set == nil {
		return s.fetch(ctx, nil, retryInterval)
	}
	now := s.now()
	switch age := now.Sub(set.fetched); {
	case age < keysRenewAge:
		return set, nil
	case age >= keysEndAge:
		return s.fetch(ctx, set, retryInterval)
	case now.Sub(tried) < keysMaxAge:
		s.askRenewal()
		return set, nil
	}
	if newer, err := s.fetch(ctx, set, refetchInterval); err == nil {
		return newer, nil
	}
	return set, nil
}

// fetch returns newer keys than old. It fetches them, unless someone has done so meanwhile or is
// about to: then it shares the outcome, be it an error. Within interval of the end of an attempt
// it makes no other and returns what that one brought, perhaps old itself.
//
// The fetch outlives the caller's context: it is for everybody who waits.
func (s *source) fetch(ctx context.Context, old *keySet, interval time.Duration) (*keySet, error) {
	s.mu.Lock()
	if s.keys != old {
		defer s.mu.Unlock()
		return s.keys, nil
	}
	if a := s.running; a != nil {
		s.mu.Unlock()
		select {
		case <-a.done:
			return a.keys, a.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if s.triedWithin(interval) {
		defer s.mu.Unlock()
		if s.failure != nil {
			return nil, s.failure
		}
		return s.keys, nil
	}
	a := s.begin()
	s.mu.Unlock()
	s.run(context.WithoutCancel(ctx), a)
	return a.keys, a.err
}

// triedWithin reports whether the newest attempt ended less than d ago. The caller holds s.mu.
func (s *source) triedWithin(d time.Duration) bool {
	since := s.now().Sub(s.tried)
	return since >= 0 && since < d
}

// begin makes an attempt that the caller then runs. The caller holds s.mu; none is running.
func (s *source) begin() *attempt {
	s.running = &attempt{done: make(chan struct{}), err: errors.New("the fetch was broken off")}
	return s.running
}

// run fetches discovery document and keys once and shares the outcome. The back-off counts from
// the end: an issuer that lets us wait has had its time. An attempt given up because ctx ended
// says nothing about the issuer.
func (s *source) run(ctx context.Context, a *attempt) {
	defer func() { // even if a hostile document makes a parser panic
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running = nil
		if ctx.Err() == nil {
			s.tried, s.failure = s.now(), a.err
		}
		if a.err == nil {
			s.keys = a.keys
		}
		close(a.done)
	}()
	began := s.now()
	bounded, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	fetched, err := s.discover(bounded)
	if err != nil {
		a.err = err
		if ctx.Err() == nil {
			s.log.WarnContext(ctx, "issuer keys not fetched", "key", s.issuer, "err", err)
		}
		return
	}
	fetched.fetched = began
	a.keys, a.err = fetched, nil
}

// askRenewal lets Run fetch the keys anew, unless that is under way or was just tried. If too many
// wait already, a later request asks again.
func (s *source) askRenewal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.waiting || s.running != nil || s.triedWithin(refetchInterval) {
		return
	}
	select {
	case s.renewals <- s:
		s.waiting = true
	default:
	}
}

// renew fetches the keys anew for askRenewal.
func (s *source) renew(ctx context.Context) {
	s.mu.Lock()
	s.waiting = false
	if s.running != nil || s.triedWithin(refetchInterval) {
		s.mu.Unlock()
		return
	}
	a := s.begin()
	s.mu.Unlock()
	s.run(ctx, a)
}

// Run renews the keys of issuers in use until ctx ends. It returns nil.
func (v *Verifier) Run(ctx context.Context) error {
	var workers sync.WaitGroup
	for range renewalWorkers {
		workers.Go(func() {
			for {
				select {
				case <-ctx.Done():
					return
				case s := <-v.renewals:
					s.renew(ctx)
				}
			}
		})
	}
	workers.Wait()
	return nil
}
