package oidc_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-jose/go-jose/v4"

	"tallywood/ca/oidc"
	"tallywood/internal/bubble"
)

// slowIssuer is an issuer without a network, for tests in which time is simulated. It answers
// after delay, or never.
type slowIssuer struct {
	mu      sync.Mutex
	key     jose.JSONWebKey
	delay   time.Duration
	silent  bool
	fetches int // begun
}

const slowURL = "https://issuer.example"

func (i *slowIssuer) RoundTrip(r *http.Request) (*http.Response, error) {
	i.mu.Lock()
	silent, delay := i.silent, i.delay
	var body any = jose.JSONWebKeySet{Keys: []jose.JSONWebKey{i.key}}
	if r.URL.Path == "/.well-known/openid-configuration" {
		i.fetches++
		body = map[string]any{"issuer": slowURL, "jwks_uri": slowURL + "/keys", "id_token_signing_alg_values_supported": []string{"ES256"}}
	}
	i.mu.Unlock()
	answer := time.After(delay)
	if silent {
		answer = nil
	}
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-answer:
	}
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(text))), Request: r}, nil
}

func (i *slowIssuer) set(change func()) {
	i.mu.Lock()
	defer i.mu.Unlock()
	change()
}

// check compares how often the issuer was asked so far.
func (i *slowIssuer) check(t *testing.T, what string, want int) {
	t.Helper()
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.fetches != want {
		t.Errorf("%s: %d fetches in all, want %d", what, i.fetches, want)
	}
}

// newSlowIssuer returns an issuer, its verifier, and a token that is good for a day.
func newSlowIssuer(t *testing.T) (*slowIssuer, *oidc.Verifier, string) {
	t.Helper()
	return newBoundIssuer(t, 0)
}

// newBoundIssuer is newSlowIssuer for a verifier with a time for fetches of its own.
func newBoundIssuer(t *testing.T, bound time.Duration) (*slowIssuer, *oidc.Verifier, string) {
	t.Helper()
	key := ecKey(t)
	i := &slowIssuer{key: jwk("k", key)}
	config, err := oidc.ParseConfig([]byte(emailConfig(slowURL)))
	if err != nil {
		t.Fatal(err)
	}
	v, err := oidc.New(oidc.Options{Config: config, HTTP: &http.Client{Transport: i}, FetchTimeout: bound})
	if err != nil {
		t.Fatal(err)
	}
	return i, v, sign(t, jose.ES256, "k", key, map[string]any{
		"iss": slowURL, "sub": "1234", "aud": "sigstore", "exp": time.Now().Add(24 * time.Hour).Unix(),
		"email": "alice@example.com", "email_verified": true,
	})
}

// verify verifies and checks how long that took.
func verify(t *testing.T, what string, v *oidc.Verifier, token string, want time.Duration) error {
	t.Helper()
	began := time.Now()
	_, err := v.Verify(t.Context(), token)
	if took := time.Since(began); took != want {
		t.Errorf("%s: took %v, want %v", what, took, want)
	}
	return err
}

// start runs v until stop is called, which checks that it then ends.
func start(t *testing.T, v *oidc.Verifier) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- v.Run(ctx) }()
	return func() {
		t.Helper()
		cancel()
		synctest.Wait()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("Run goes on after its context ended")
		}
	}
}

func TestSilentIssuerFailsAllItsUsersAtOnce(t *testing.T) {
	if oidc.FetchTimeout >= 5*time.Second {
		t.Fatalf("a fetch may take %v, and JavaScript clients wait five seconds", oidc.FetchTimeout)
	}
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		i.silent = true
		var users sync.WaitGroup
		for range 3 {
			users.Go(func() {
				wantUnavailable(t, "at once", verify(t, "at once", v, token, oidc.FetchTimeout))
			})
		}
		users.Go(func() {
			time.Sleep(time.Second)
			wantUnavailable(t, "later", verify(t, "later", v, token, oidc.FetchTimeout-time.Second))
		})
		users.Go(func() {
			time.Sleep(time.Second)
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			began := time.Now()
			_, err := v.Verify(ctx, token)
			wantUnavailable(t, "impatient", err)
			if took := time.Since(began); took != time.Second {
				t.Errorf("impatient: took %v", took)
			}
		})
		users.Wait()
		i.check(t, "five users", 1)

		wantUnavailable(t, "right after", verify(t, "right after", v, token, 0))
		time.Sleep(oidc.RetryInterval - time.Nanosecond)
		wantUnavailable(t, "just before the next attempt", verify(t, "just before the next attempt", v, token, 0))
		i.check(t, "within the interval", 1)

		i.set(func() { i.silent = false })
		time.Sleep(time.Nanosecond)
		if err := verify(t, "risen", v, token, 0); err != nil {
			t.Errorf("risen: %v", err)
		}
		i.check(t, "risen", 2)
	})
}

func TestSilentIssuerIsGivenTheTimeThatIsAskedFor(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newBoundIssuer(t, 17*time.Second)
		i.silent = true
		wantUnavailable(t, "silent", verify(t, "silent", v, token, 17*time.Second))
	})
}

// Tokens with made-up key IDs share their fetches too, and cost users of known keys nothing.
func TestSilentIssuerAndUnknownKeys(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		if err := verify(t, "good", v, token, 0); err != nil {
			t.Fatal(err)
		}
		unknown := sign(t, jose.ES256, "x", ecKey(t), map[string]any{"iss": slowURL})
		i.set(func() { i.silent = true })
		time.Sleep(oidc.RefetchInterval)
		var users sync.WaitGroup
		for range 3 {
			users.Go(func() { wantUnavailable(t, "unknown", verify(t, "unknown", v, unknown, oidc.FetchTimeout)) })
		}
		synctest.Wait()
		if err := verify(t, "known", v, token, 0); err != nil {
			t.Errorf("known: %v", err)
		}
		users.Wait()
		time.Sleep(oidc.RefetchInterval - time.Nanosecond)
		wantUnavailable(t, "within the interval", verify(t, "within the interval", v, unknown, 0))
		i.check(t, "unknown keys", 2)
	})
}

func TestKeysInUseAreRenewedBeforeAnyoneWaits(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		defer start(t, v)()
		if err := verify(t, "first", v, token, 0); err != nil {
			t.Fatal(err)
		}
		other := ecKey(t)
		i.set(func() { i.delay, i.key = time.Second, jwk("2", other) })
		time.Sleep(oidc.KeysRenewAge - time.Nanosecond)
		if err := verify(t, "young", v, token, 0); err != nil {
			t.Errorf("young: %v", err)
		}
		synctest.Wait()
		i.check(t, "young", 1)
		time.Sleep(time.Nanosecond)
		for range 10 {
			if err := verify(t, "old", v, token, 0); err != nil {
				t.Errorf("old: %v", err)
			}
		}
		synctest.Wait()
		i.check(t, "old", 2)
		time.Sleep(2 * time.Second) // one for each document
		synctest.Wait()
		wantReason(t, "withdrawn", verify(t, "withdrawn", v, token, 0), oidc.ReasonKey)
	})
}

func TestOldKeysServeWhileTheIssuerIsSilentUntilTheyEnd(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		defer start(t, v)()
		if err := verify(t, "first", v, token, 0); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		i.set(func() { i.silent = true })
		for time.Since(began) < oidc.KeysEndAge {
			if err := verify(t, "silent", v, token, 0); err != nil {
				t.Fatalf("after %v: %v", time.Since(began), err)
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		i.check(t, "the first, and one a minute once the keys are old", 1+int((oidc.KeysEndAge-oidc.KeysRenewAge)/time.Minute))
		wantUnavailable(t, "ended", verify(t, "ended", v, token, oidc.FetchTimeout))
		wantUnavailable(t, "ended, again", verify(t, "ended, again", v, token, 0))
		i.set(func() { i.silent = false })
		time.Sleep(oidc.RetryInterval)
		if err := verify(t, "risen", v, token, 0); err != nil {
			t.Errorf("risen: %v", err)
		}
	})
}

// Only who comes after a long silence of users waits for an issuer that has gone silent too.
func TestIdleKeysAreAskedAboutFirst(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		defer start(t, v)()
		if err := verify(t, "first", v, token, 0); err != nil {
			t.Fatal(err)
		}
		i.set(func() { i.silent = true })
		time.Sleep(oidc.KeysMaxAge)
		if err := verify(t, "idle", v, token, oidc.FetchTimeout); err != nil {
			t.Errorf("idle: %v", err)
		}
		for range 3 {
			time.Sleep(oidc.RefetchInterval)
			if err := verify(t, "in use again", v, token, 0); err != nil {
				t.Errorf("in use again: %v", err)
			}
		}
	})
}

// A renewal that ends with Run is not held against the issuer.
func TestRunEndsDuringAFetch(t *testing.T) {
	bubble.Test(t, func(t *testing.T) {
		i, v, token := newSlowIssuer(t)
		stop := start(t, v)
		if err := verify(t, "first", v, token, 0); err != nil {
			t.Fatal(err)
		}
		time.Sleep(oidc.KeysRenewAge)
		i.set(func() { i.silent = true })
		if err := verify(t, "old", v, token, 0); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		i.check(t, "renewal under way", 2)
		stop()
		i.set(func() { i.silent = false })
		wantReason(t, "unknown key", verify(t, "unknown key", v, sign(t, jose.ES256, "x", ecKey(t), map[string]any{"iss": slowURL}), 0), oidc.ReasonKey)
		i.check(t, "unknown key", 3)
	})
}
