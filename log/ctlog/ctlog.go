// Package ctlog is a certificate log by c2sp.org/static-ct-api on package log: submission, SCTs
// and static reads (https://c2sp.org/static-ct-api, RFC 6962).
//
// In go certificate chains under accepted roots, out come SCTs. An SCT is a promise, and here it
// is made once the entry's index is durable; a checkpoint that covers it follows. When none does
// for 60 seconds, no more promises are made. A chain seen before gets the SCT it got then: same
// index, same timestamp and, as ECDSA is deterministic here, the same bytes.
//
// The caller gives the log's [TreeHead] to log.Open as second signer, runs the log, and gives
// both to New.
package ctlog

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"

	"github.com/transparency-dev/tessera/ctonly"

	"tallywood/internal/httpx"
	"tallywood/log"
	"tallywood/log/ctentry"
)

const (
	maxChain    = 8         // certificates of a submission
	maxTileLeaf = 256 << 10 // bytes of an encoded entry
)

// Options configure a Log.
type Options struct {
	Log      *log.Log  // of kind ct, with TreeHead as its second signer
	TreeHead *TreeHead // knows the log's key, origin, bucket and clock

	// Roots are the certificates under which chains are accepted, at least one.
	Roots []*x509.Certificate
	// SubmissionRate is how many submissions one address may make per second over HTTP, with
	// bursts of ten times that. Default 50; negative: any number.
	SubmissionRate float64
	// Successor names the log that takes certificates once this one is frozen, for the 405 that
	// answers every submission then. Nil: as the request to freeze it named it.
	Successor func() log.Successor

	Logger *slog.Logger // nil discards
}

// Log takes certificates for a log. All methods may be called concurrently.
type Log struct {
	log     *log.Log
	head    *TreeHead
	chains  chains
	issuers *issuers
	bodies  *httpx.BodyBudget
	limit   *httpx.Limiter
	next    func() log.Successor // may be nil
	logger  *slog.Logger
}

// New returns the certificate log on o.Log. It reads and starts nothing.
func New(o Options) (*Log, error) {
	var errs []error
	if o.Log == nil {
		errs = append(errs, errors.New("no log"))
	}
	if o.TreeHead == nil {
		errs = append(errs, errors.New("no tree head signer"))
	} else if o.Log != nil && o.Log.Name() != o.TreeHead.o.Name {
		errs = append(errs, fmt.Errorf("the tree head signer is that of log %q, not %q", o.TreeHead.o.Name, o.Log.Name()))
	}
	if len(o.Roots) == 0 {
		errs = append(errs, errors.New("no accepted root: nothing could be logged"))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("checking options of certificate log: %w", err)
	}
	if o.SubmissionRate == 0 {
		o.SubmissionRate = 50
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return &Log{
		log: o.Log, head: o.TreeHead, chains: newChains(o.Roots),
		issuers: newIssuers(o.TreeHead.o.Bucket, "logs/"+o.TreeHead.o.Name+"/issuer/"),
		bodies:  httpx.NewBodyBudget(maxBodies),
		limit:   httpx.NewLimiter(o.SubmissionRate, int(math.Ceil(10*o.SubmissionRate))), next: o.Successor, logger: o.Logger,
	}, nil
}

// AddPreChain logs the precertificate at chain[0] (DER, its issuers following) and returns its
// SCT in TLS form. The entry is durable when it returns. Errors of the submission itself have a
// method Temporary that returns false; those that wrap log.ErrUnavailable may pass.
func (l *Log) AddPreChain(ctx context.Context, chain [][]byte) (sct []byte, err error) {
	s, err := l.add(ctx, chain, true)
	if err != nil {
		return nil, err
	}
	return s.Marshal()
}

// add logs a chain and returns the SCT of its leaf, checked.
func (l *Log) add(ctx context.Context, chain [][]byte, precert bool) (ctentry.SCT, error) {
	if l.log.Frozen() != nil {
		return ctentry.SCT{}, log.ErrFrozen
	}
	path, err := l.chains.check(chain, precert)
	if err != nil {
		return ctentry.SCT{}, err
	}
	e, err := newEntry(path, precert)
	if err != nil {
		return ctentry.SCT{}, err
	}
	// Issuers are durable before the entry that names them is, so that no reader ever misses one.
	for _, issuer := range path[1:] {
		if err := l.issuers.store(ctx, issuer.Raw); err != nil {
			return ctentry.SCT{}, err
		}
	}
	if e.Timestamp, err = l.head.issue(ctx); err != nil {
		return ctentry.SCT{}, err
	}
	position, err := l.log.Sequence(ctx, logEntry(e))
	if err != nil {
		return ctentry.SCT{}, fmt.Errorf("sequencing certificate: %w", err)
	}
	e.Timestamp = int64(position.Timestamp)
	if position.Duplicate {
		if err := l.compare(ctx, e, position.Index); err != nil {
			return ctentry.SCT{}, err
		}
	}
	if e.Extensions, err = ctentry.MarshalExtensions(position.Index); err != nil {
		return ctentry.SCT{}, err
	}
	return l.head.sct(e)
}

// compare checks that the entry at index, of which e is taken to be a duplicate, is the one that an
// SCT for e would promise. The duplicate key covers the certificate alone.
func (l *Log) compare(ctx context.Context, e ctentry.Entry, index int64) error {
	leaf, err := l.log.Logged(ctx, index, logEntry(e).Key)
	if err != nil {
		return fmt.Errorf("comparing with the entry logged first: %w", err)
	}
	logged, err := ctentry.Parse(leaf)
	switch {
	case err != nil:
		return fmt.Errorf("parsing entry %d: %w", index, err)
	case logged.Precert != e.Precert || logged.Timestamp != e.Timestamp ||
		logged.IssuerKeyHash != e.IssuerKeyHash || !bytes.Equal(logged.Certificate, e.Certificate):
		return fmt.Errorf("entry %d has the submission's certificate, but another issuer key, contents or time", index)
	}
	return nil
}

// newEntry makes the entry of a verified path, root included, without timestamp and index.
func newEntry(path []*x509.Certificate, precert bool) (ctentry.Entry, error) {
	e := ctentry.Entry{Precert: precert, Certificate: path[0].Raw}
	for _, issuer := range path[1:] {
		e.UnverifiedFingerprints = append(e.UnverifiedFingerprints, sha256.Sum256(issuer.Raw))
	}
	if precert {
		tbs, err := ctentry.RemoveExtension(path[0].RawTBSCertificate, ctentry.OIDPoison)
		if err != nil {
			return e, reject("the precertificate's extensions are malformed: %w", err)
		}
		e.Certificate, e.UnverifiedPrecertificate = tbs, path[0].Raw
		e.IssuerKeyHash = sha256.Sum256(path[1].RawSubjectPublicKeyInfo)
	}
	size := 60 + len(e.Certificate) + len(e.UnverifiedPrecertificate) + 32*len(e.UnverifiedFingerprints)
	if size > maxTileLeaf {
		return e, &rejectionError{http.StatusRequestEntityTooLarge,
			fmt.Errorf("the entry would have %d bytes; at most %d are accepted", size, maxTileLeaf)}
	}
	return e, nil
}

// logEntry is e as package log takes it. Duplicates are equal certificates or precertificates.
func logEntry(e ctentry.Entry) log.Entry {
	ct := &ctonly.Entry{
		Timestamp: uint64(e.Timestamp), IsPrecert: e.Precert, Certificate: e.Certificate,
		FingerprintsChain: e.UnverifiedFingerprints,
	}
	if e.Precert {
		ct.Precertificate, ct.IssuerKeyHash = e.UnverifiedPrecertificate, bytes.Clone(e.IssuerKeyHash[:])
	}
	return log.Entry{Key: [32]byte(ct.Identity()), CT: ct}
}

// rejectionError reports a submission that would be refused again.
type rejectionError struct {
	status int // HTTP
	err    error
}

func (e *rejectionError) Error() string { return e.err.Error() }
func (e *rejectionError) Unwrap() error { return e.err }

// Temporary says that trying again is useless.
func (e *rejectionError) Temporary() bool { return false }

func reject(format string, args ...any) error {
	return &rejectionError{http.StatusBadRequest, fmt.Errorf(format, args...)}
}
