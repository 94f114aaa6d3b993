package tsa

import (
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"tallywood/internal/httpx"
)

// failure is a bit of PKIFailureInfo (RFC 3161 section 2.4.2).
type failure int

const (
	failAlgorithm failure = 0  // badAlg
	failRequest   failure = 2  // badRequest
	failFormat    failure = 5  // badDataFormat
	failTime      failure = 14 // timeNotAvailable
	failPolicy    failure = 15 // unacceptedPolicy
	failExtension failure = 16 // unacceptedExtension
	failSystem    failure = 25 // systemFailure
)

// refusal is a request that gets no token.
type refusal struct {
	status  int // HTTP
	failure failure
	message string // for the client's user
	err     error  // beneath; optional
	retry   time.Duration
}

func (r *refusal) Error() string { return r.message }

func (r *refusal) Unwrap() error { return r.err }

// bad refuses a request that would be refused again.
func bad(f failure, message string) error {
	return &refusal{status: http.StatusBadRequest, failure: f, message: message}
}

// clockRefusal refuses to sign the time that err says something about.
func clockRefusal(retry time.Duration, err error) error {
	return &refusal{status: http.StatusServiceUnavailable, failure: failTime,
		message: "no timestamps at present: " + err.Error(), err: err, retry: retry}
}

// errKey is wrapped by errors of the signer. A key in memory signs always; one elsewhere may sign
// again later.
var errKey = errors.New("key unavailable")

// signRefusal refuses a token for want of a signature.
func signRefusal(err error) error {
	if errors.Is(err, errKey) {
		return &refusal{status: http.StatusServiceUnavailable, failure: failSystem, retry: retryKey,
			message: "no timestamps at present: the key does not sign", err: err}
	}
	return &refusal{status: http.StatusInternalServerError, failure: failSystem,
		message: "the timestamp could not be signed", err: err}
}

// refuse answers with the status of err and its text as JSON, or as an RFC 3161 rejection when
// the client asks for that type.
func refuse(w http.ResponseWriter, r *http.Request, err error) {
	var no *refusal
	if !errors.As(err, &no) {
		httpx.WriteBodyError(w, err)
		return
	}
	if !acceptsReply(r) {
		if no.status == http.StatusServiceUnavailable {
			httpx.RetryLater(w, no.retry, no.message)
			return
		}
		httpx.Error(w, no.status, no.message)
		return
	}
	if no.status == http.StatusServiceUnavailable {
		w.Header().Set("Retry-After", seconds(no.retry))
	}
	w.Header().Set("Content-Type", replyType)
	w.WriteHeader(no.status)
	_, _ = w.Write(rejection(no.failure, no.message))
}

// acceptsReply reports whether the client names the reply's type, and not only by a wildcard.
func acceptsReply(r *http.Request) bool {
	for _, value := range r.Header.Values("Accept") {
		for part := range strings.SplitSeq(value, ",") {
			if kind, _, err := mime.ParseMediaType(part); err == nil && kind == replyType {
				return true
			}
		}
	}
	return false
}
