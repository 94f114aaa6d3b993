// Package httpx holds what every HTTP surface shares: the error body, request limits, method
// and path handling, and a server loop with explicit timeouts.
//
// Errors have the JSON shape that Sigstore clients know, {"code","message","details"}, where
// code is the gRPC code that belongs to the HTTP status.
package httpx

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// grpcCode gives the gRPC status code Sigstore's JSON errors carry for an HTTP status.
func grpcCode(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return 3 // invalid argument
	case http.StatusRequestTimeout:
		return 4 // deadline exceeded
	case http.StatusNotFound:
		return 5
	case http.StatusConflict:
		return 6
	case http.StatusForbidden, http.StatusMisdirectedRequest:
		return 7
	case http.StatusTooManyRequests:
		return 8
	case http.StatusMethodNotAllowed:
		return 12
	case http.StatusServiceUnavailable:
		return 14
	case http.StatusUnauthorized:
		return 16
	case http.StatusInternalServerError:
		return 13
	default:
		return 2 // unknown
	}
}

// Error answers with status and the JSON body {"code":N,"message":message,"details":[]}.
// The message is for people: it says what was wrong and what would be right.
func Error(w http.ResponseWriter, status int, message string) {
	body, err := json.Marshal(struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Details []any  `json:"details"`
	}{grpcCode(status), message, []any{}})
	if err != nil { // strings always marshal; should that change, the status still counts
		body = []byte(`{"code":2,"message":"","details":[]}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Del("Content-Length")
	w.WriteHeader(status)
	// The client may be gone; there is no one left to tell.
	_, _ = w.Write(append(body, '\n'))
}

// RetryLater answers 503 with a Retry-After of at least one second, rounded up.
func RetryLater(w http.ResponseWriter, after time.Duration, message string) {
	setRetryAfter(w, after)
	Error(w, http.StatusServiceUnavailable, message)
}

// TooMany answers 429 with a Retry-After of at least one second, rounded up.
func TooMany(w http.ResponseWriter, after time.Duration, message string) {
	setRetryAfter(w, after)
	Error(w, http.StatusTooManyRequests, message)
}

func setRetryAfter(w http.ResponseWriter, after time.Duration) {
	seconds := max(1, int64((after+time.Second-1)/time.Second))
	w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
}

// CollapseSlashes lets h see runs of slashes in the path as one: clients concatenate a base URL
// that ends in a slash with a path that begins with one.
func CollapseSlashes(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.Contains(r.URL.Path, "//") {
			h.ServeHTTP(w, r)
			return
		}
		u := *r.URL
		u.Path, u.RawPath = collapse(u.Path), collapse(u.RawPath)
		r2 := *r
		r2.URL = &u
		h.ServeHTTP(w, &r2)
	})
}

func collapse(path string) string {
	var out strings.Builder
	var last rune
	for _, c := range path {
		if c != '/' || last != '/' {
			out.WriteRune(c)
		}
		last = c
	}
	return out.String()
}

// Methods lets only the given methods through to h, and HEAD where GET is one of them.
// Others are answered 405 with Allow.
func Methods(h http.Handler, methods ...string) http.Handler {
	if slices.Contains(methods, http.MethodGet) && !slices.Contains(methods, http.MethodHead) {
		methods = append(slices.Clone(methods), http.MethodHead)
	}
	allow := strings.Join(methods, ", ")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !slices.Contains(methods, r.Method) {
			w.Header().Set("Allow", allow)
			Error(w, http.StatusMethodNotAllowed, fmt.Sprintf("method %.16s is not allowed here; use %s", r.Method, allow))
			return
		}
		h.ServeHTTP(w, r)
	})
}
