// Package tsa is a timestamp authority: RFC 3161 over HTTP, in DER and in Sigstore's JSON form
// (https://www.rfc-editor.org/rfc/rfc3161, section 3.4 for the transport).
//
// In goes the digest of something, out comes a token that says it existed at a time. A Rekor v2
// entry carries no trusted time, so this token is what proves that a ten-minute certificate was
// valid when it signed.
//
// The caller answers for the clock: what Now returns is signed. Guard is where doubt about it
// enters, and a time earlier than one already signed is refused in any case.
package tsa

import (
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"tallywood/internal/httpx"
	"tallywood/internal/keys"
)

// Options say with what, and for whom, an authority signs.
type Options struct {
	// Chain is the certificate chain, leaf first and root last; see [CheckChain].
	Chain []*x509.Certificate
	// Signer holds the leaf's key: ECDSA on P-256, P-384 or P-521, RSA, or Ed25519.
	Signer crypto.Signer
	// Digest of the signature: SHA-256, SHA-384 or SHA-512. Zero: the one that belongs to the
	// key (SHA-256 for P-256 and RSA). Ed25519 is always with SHA-512 (RFC 8419).
	Digest crypto.Hash
	// Policies are the accepted policies; the first is the default one.
	// Empty: only 1.3.6.1.4.1.57264.2, Sigstore's.
	Policies []asn1.ObjectIdentifier
	// FullChain puts the whole chain, not only the leaf, into tokens that ask for certificates.
	FullChain bool
	// Now is the clock; nil: time.Now.
	Now func() time.Time
	// Guard is asked about each time before it is signed; an error means that the clock is not
	// to be trusted and the answer is 503. nil: the clock is believed.
	Guard func(now time.Time) error
	// Log gets refusals because of the clock and failed signatures; nil discards them.
	Log *slog.Logger
}

const (
	maxJSON = 1 << 10 // bytes of a JSON request
	maxDER  = 4 << 10 // bytes of a DER request; a usual one has 70

	warnBefore = 30 * 24 * time.Hour // of the leaf's end

	retryClock   = 5 * time.Second // when a doubted clock may be right again
	retryExpired = time.Minute     // when somebody may have renewed the chain
	retryKey     = 5 * time.Second // when a key elsewhere may sign again
)

// authority answers requests.
type authority struct {
	format   *format
	policies policies
	pem      []byte // the chain

	notBefore, notAfter time.Time // when every certificate of the chain is valid

	now   func() time.Time
	guard func(time.Time) error
	log   *slog.Logger

	last atomic.Int64 // the latest second signed
}

// New returns a handler of POST /api/v1/timestamp, GET /api/v1/timestamp/certchain and
// GET /ping; it answers 404 to any other path. A chain that a client would refuse is an error here.
func New(o Options) (http.Handler, error) {
	a := &authority{now: o.Now, guard: o.Guard, log: o.Log}
	if a.now == nil {
		a.now = time.Now
	}
	if a.guard == nil {
		a.guard = func(time.Time) error { return nil }
	}
	if a.log == nil {
		a.log = slog.New(slog.DiscardHandler)
	}
	policies, policyErr := newPolicies(o.Policies)
	a.policies = policies
	if o.Signer == nil {
		return nil, errors.Join(policyErr, errors.New("no signer"))
	}
	if err := errors.Join(policyErr, CheckChain(o.Chain, o.Signer.Public(), a.now())); err != nil {
		return nil, fmt.Errorf("opening timestamp authority: %w", err)
	}
	var err error
	if a.format, err = newFormat(o); err != nil {
		return nil, fmt.Errorf("opening timestamp authority: %w", err)
	}
	a.pem = keys.FormatChain(o.Chain)
	a.notBefore, a.notAfter = validity(o.Chain)
	if left := a.notAfter.Sub(a.now()); left < warnBefore {
		a.log.Warn("timestamp certificate expires soon", "dur", left.Round(time.Hour))
	}
	mux := http.NewServeMux()
	mux.Handle("/api/v1/timestamp", httpx.Methods(http.HandlerFunc(a.timestamp), http.MethodPost))
	mux.Handle("/api/v1/timestamp/certchain", httpx.Methods(http.HandlerFunc(a.certchain), http.MethodGet))
	mux.Handle("/ping", httpx.Methods(http.HandlerFunc(ping), http.MethodGet))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		httpx.Error(w, http.StatusNotFound, "no such path at the timestamp authority")
	})
	return mux, nil
}

func (a *authority) timestamp(w http.ResponseWriter, r *http.Request) {
	req, err := a.decode(w, r)
	if err != nil {
		refuse(w, r, err)
		return
	}
	now, err := a.time()
	if err != nil {
		a.log.Warn("timestamp refused", "err", err)
		refuse(w, r, err)
		return
	}
	reply, err := a.format.response(req, now)
	if err != nil {
		a.log.Error("signing timestamp", "err", err)
		refuse(w, r, signRefusal(err))
		return
	}
	h := w.Header()
	h.Set("Content-Type", replyType)
	h.Set("Cache-Control", "no-cache, no-store, no-transform, must-revalidate, private, max-age=0")
	h.Set("X-Content-Type-Options", "nosniff")
	// The client may be gone; there is no one left to tell.
	_, _ = w.Write(reply)
}

// time returns the second to sign, or why there is none. No second is earlier than one already
// signed. The clock is read after the latest of those is known: a reading below it means that the
// clock went back. If a request signs a later one in between, ours is read anew.
func (a *authority) time() (time.Time, error) {
	for {
		last := a.last.Load()
		now, err := a.readClock()
		if err != nil {
			return time.Time{}, err
		}
		if now.Unix() < last {
			return time.Time{}, clockRefusal(retryClock, fmt.Errorf(
				"the clock went back from %s to %s", rfc3339(time.Unix(last, 0)), rfc3339(now)))
		}
		if a.last.CompareAndSwap(last, now.Unix()) {
			return now, nil
		}
	}
}

// readClock returns the clock's second, if it can be trusted and the certificate covers it.
func (a *authority) readClock() (time.Time, error) {
	wall := a.now()
	if err := a.guard(wall); err != nil {
		return time.Time{}, clockRefusal(retryClock, fmt.Errorf("the clock is not to be trusted: %w", err))
	}
	// Tokens carry whole seconds, so it is the truncated time that the certificate must cover.
	now := wall.UTC().Truncate(time.Second)
	if now.Before(a.notBefore) || now.After(a.notAfter) {
		return time.Time{}, clockRefusal(retryExpired, fmt.Errorf(
			"the timestamp certificate is valid from %s to %s, and it is %s", rfc3339(a.notBefore), rfc3339(a.notAfter), rfc3339(now)))
	}
	return now, nil
}

func (a *authority) certchain(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "application/pem-certificate-chain")
	h.Set("Cache-Control", "max-age=86400, immutable")
	h.Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(a.pem)
}

// ping answers one byte, as the peer does.
func ping(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write([]byte("."))
}

func rfc3339(t time.Time) string { return t.UTC().Format(time.RFC3339) }
