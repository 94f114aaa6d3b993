package ctlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"tallywood/internal/httpx"
	"tallywood/log"
)

const (
	maxBody   = 128 << 10 // bytes of a submission
	maxBodies = 16 << 20  // bytes of the large submissions under way

	retryLeast  = time.Second
	retrySpread = 4 * time.Second // so that clients do not come back all at once
)

// Handler returns the log's HTTP paths relative to "/": POST ct/v1/add-chain and
// ct/v1/add-pre-chain, GET ct/v1/get-roots, and the static checkpoint, tile/… and issuer/….
func (l *Log) Handler() http.Handler {
	submit := func(precert bool) http.Handler {
		return crossOrigin(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { l.submit(w, r, precert) }),
			http.MethodPost)
	}
	mux := http.NewServeMux()
	mux.Handle("/ct/v1/add-chain", submit(false))
	mux.Handle("/ct/v1/add-pre-chain", submit(true))
	mux.Handle("/ct/v1/get-roots", crossOrigin(http.HandlerFunc(l.getRoots), http.MethodGet))
	mux.Handle("/", log.Static(l.head.o.Bucket, l.head.o.Name))
	return httpx.CollapseSlashes(mux)
}

// crossOrigin lets pages of any origin use h, with the given method.
func crossOrigin(h http.Handler, method string) http.Handler {
	return httpx.Methods(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		header := w.Header()
		header.Set("Access-Control-Allow-Origin", "*")
		if r.Method == http.MethodOptions {
			header.Set("Access-Control-Allow-Methods", method)
			header.Set("Access-Control-Allow-Headers", "Content-Type")
			w.WriteHeader(http.StatusNoContent)
			return
		}
		h.ServeHTTP(w, r)
	}), method, http.MethodOptions)
}

func (l *Log) submit(w http.ResponseWriter, r *http.Request, precert bool) {
	if l.log.Frozen() != nil {
		l.fail(w, log.ErrFrozen)
		return
	}
	if !l.limit.Allow(httpx.Client(r), time.Now()) {
		httpx.TooMany(w, time.Second, "too many submissions from this address")
		return
	}
	body, release, err := l.bodies.Read(w, r, maxBody)
	if err != nil {
		httpx.WriteBodyError(w, err)
		return
	}
	defer release() // the chain takes nearly as much as the body, and is in use until the end
	var in struct {
		Chain [][]byte `json:"chain"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		httpx.Error(w, http.StatusBadRequest, "the body is not JSON of the form {\"chain\":[\"<base64 DER>\",…]}")
		return
	}
	s, err := l.add(r.Context(), in.Chain, precert)
	if err != nil {
		l.fail(w, err)
		return
	}
	signed, err := s.DigitallySigned()
	if err != nil {
		l.fail(w, err)
		return
	}
	// > sct_version, id, timestamp, extensions, signature (RFC 6962 section 4.1)
	answer(w, struct {
		Version    int    `json:"sct_version"`
		ID         []byte `json:"id"`
		Timestamp  int64  `json:"timestamp"`
		Extensions []byte `json:"extensions"`
		Signature  []byte `json:"signature"`
	}{0, s.LogID[:], s.Timestamp, s.Extensions, signed})
}

// fail answers an error of add.
func (l *Log) fail(w http.ResponseWriter, err error) {
	var rejection *rejectionError
	var large *log.TooLargeError
	var rebuilding *log.RebuildError
	switch {
	case errors.Is(err, log.ErrFrozen):
		log.AnswerFrozen(w, l.log.Successor(l.next))
	case errors.As(err, &rejection):
		httpx.Error(w, rejection.status, rejection.Error())
	case errors.As(err, &large):
		httpx.Error(w, http.StatusRequestEntityTooLarge, large.Error())
	case errors.Is(err, log.ErrUnpublished): // before ErrUnavailable, which it comes with
		l.logger.Warn("certificate not logged", "err", err)
		httpx.RetryLater(w, retryLeast+rand.N(retrySpread),
			"no SCT is issued: what the log holds has waited too long for publication, most likely for want of cosignatures; try again later")
	case errors.Is(err, log.ErrFull): // so is this
		l.logger.Warn("certificate not logged", "err", err)
		httpx.RetryLater(w, retryLeast+rand.N(retrySpread),
			"no SCT is issued: more certificates wait than the log can take in time; try again later")
	case errors.As(err, &rebuilding): // and this
		httpx.RetryLater(w, rebuilding.RetryAfter(),
			fmt.Sprintf("no SCT is issued: the log takes certificates when its duplicate index is rebuilt; so far %v", rebuilding.Rebuild))
	case errors.Is(err, log.ErrUnavailable), errors.Is(err, log.ErrNoQuorum),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		l.logger.Warn("certificate not logged", "err", err)
		httpx.RetryLater(w, retryLeast+rand.N(retrySpread), "the log takes no certificates at the moment; try again")
	default:
		l.logger.Error("certificate not logged", "err", err)
		httpx.Error(w, http.StatusInternalServerError, "the log could not issue an SCT")
	}
}

func (l *Log) getRoots(w http.ResponseWriter, _ *http.Request) {
	var out struct {
		Certificates [][]byte `json:"certificates"`
	}
	for _, root := range l.chains.list {
		out.Certificates = append(out.Certificates, root.Raw)
	}
	answer(w, out)
}

func answer(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		httpx.Error(w, http.StatusInternalServerError, "the answer could not be encoded")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	// The client may be gone; submitting again gets the same answer.
	_, _ = w.Write(body)
}
