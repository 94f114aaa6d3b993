package sign

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode"
)

const (
	requestTimeout  = 30 * time.Second // the other clients' own
	defaultPatience = time.Minute
	firstPause      = 500 * time.Millisecond // doubled with each attempt, if the service says nothing
	maxAnswer       = 1 << 20                // bytes read of an answer
	maxMessage      = 500                    // characters shown of an error text
)

// A ServiceError reports an answer of a service that is not the one asked for.
type ServiceError struct {
	Service string // what it is, in words
	URL     string
	Status  int    // HTTP status
	Message string // the service's own words, printable and short; may be empty
}

// Error says who answered what.
func (e *ServiceError) Error() string {
	text := fmt.Sprintf("%s %s answered %d %s", e.Service, e.URL, e.Status, http.StatusText(e.Status))
	if e.Message != "" {
		text += ": " + e.Message
	}
	return text
}

// Temporary reports whether the same request may succeed later.
func (e *ServiceError) Temporary() bool {
	return e.Status == http.StatusTooManyRequests || e.Status >= 500 && e.Status != http.StatusNotImplemented
}

// A client calls services, and has a bounded amount of patience with all of them together.
type client struct {
	http     *http.Client
	patience time.Duration
	log      *slog.Logger
	deadline time.Time // of retries; set by the first call
}

func newClient(h *http.Client, patience time.Duration, log *slog.Logger) *client {
	if h == nil {
		// An identity token must not be carried to wherever a service points, so redirects are
		// answers like any other, and wrong ones.
		h = &http.Client{Timeout: requestTimeout, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	if patience == 0 {
		patience = defaultPatience
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &client{http: h, patience: patience, log: log}
}

// A call is one request, which may be sent several times: all of ours are idempotent.
type call struct {
	service string // in words, for errors
	method  string // default POST
	url     string
	header  map[string]string
	body    []byte
	status  []int // that mean success
}

// do sends a call until it succeeds, is refused for good, or patience is at its end, and returns
// the answer's body.
func (c *client) do(ctx context.Context, call call) ([]byte, error) {
	if c.deadline.IsZero() {
		c.deadline = time.Now().Add(c.patience)
	}
	pause := firstPause
	for attempt := 1; ; attempt++ {
		answer, wait, err := c.try(ctx, call)
		if err == nil || wait < 0 || ctx.Err() != nil {
			return answer, err
		}
		if wait == 0 {
			wait = pause/2 + rand.N(pause)
			pause *= 2
		}
		if time.Now().Add(wait).After(c.deadline) {
			return nil, fmt.Errorf("%w (gave up after %d attempts)", err, attempt)
		}
		c.log.Info("service is not ready, waiting", "dur", wait, "err", err)
		select {
		case <-ctx.Done():
			return nil, errors.Join(ctx.Err(), err)
		case <-time.After(wait):
		}
	}
}

// never means that another attempt would fail as well.
const never = -1

// try sends a call once. With an error it says how long to wait before the next attempt: never, or
// 0 if nobody knows.
func (c *client) try(ctx context.Context, call call) ([]byte, time.Duration, error) {
	method := call.method
	if method == "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, call.url, bytes.NewReader(call.body))
	if err != nil {
		return nil, never, fmt.Errorf("%s: %w", call.service, err)
	}
	for name, value := range call.header {
		req.Header.Set(name, value)
	}
	res, err := c.http.Do(req)
	if err != nil {
		// A service that does not listen will not do so within a minute, and its address is wrong
		// more often than not.
		if op := new(net.OpError); errors.As(err, &op) && op.Op == "dial" {
			return nil, never, fmt.Errorf("%s: %w", call.service, err)
		}
		return nil, 0, fmt.Errorf("%s: %w", call.service, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	if err != nil {
		return nil, 0, fmt.Errorf("%s %s: reading answer: %w", call.service, call.url, err)
	}
	for _, s := range call.status {
		if res.StatusCode != s {
			continue
		}
		if len(body) > maxAnswer {
			return nil, never, fmt.Errorf("%s %s: answer of more than %d bytes", call.service, call.url, maxAnswer)
		}
		return body, 0, nil
	}
	refusal := &ServiceError{call.service, call.url, res.StatusCode, message(res, body)}
	if !refusal.Temporary() {
		return nil, never, refusal
	}
	return nil, retryAfter(res.Header.Get("Retry-After"), time.Now()), refusal
}

// message finds the sentence for people in an error answer: the message of a JSON object, or a
// plain text's first line.
func message(res *http.Response, body []byte) string {
	if to := res.Header.Get("Location"); to != "" {
		return printable("redirected to " + to)
	}
	var object struct {
		Message          string `json:"message"`
		Error            any    `json:"error"` // a string with OAuth 2.0, and any thing elsewhere
		ErrorDescription string `json:"error_description"`
	}
	if json.Unmarshal(body, &object) == nil {
		name, _ := object.Error.(string)
		switch {
		case object.Message != "":
			return printable(object.Message)
		case object.ErrorDescription != "":
			return printable(name + ": " + object.ErrorDescription)
		default:
			return printable(name)
		}
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "text/html") {
		return "" // an error page of something in between
	}
	line, _, _ := strings.Cut(strings.TrimSpace(string(body)), "\n")
	if next := successor.FindStringSubmatch(res.Header.Get("Link")); next != nil {
		line += " It goes on at " + next[1] + ", which newer trust files name."
	}
	return printable(line)
}

// successor matches the link to the log that takes entries in the place of a frozen one (RFC 5829).
var successor = regexp.MustCompile(`^<([^<> ]+)>; *rel="successor-version"$`)

// printable makes a text of somebody else's fit for a terminal.
func printable(s string) string {
	s = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if runes := []rune(s); len(runes) > maxMessage {
		return string(runes[:maxMessage]) + "…"
	}
	return s
}

// retryAfter reads the header of that name (RFC 9110 section 10.2.3): seconds or a date; 0 if it
// says nothing one can use.
func retryAfter(value string, now time.Time) time.Duration {
	if seconds, err := strconv.Atoi(value); err == nil && seconds > 0 {
		return time.Duration(min(seconds, 1<<20)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil && at.After(now) {
		return at.Sub(now)
	}
	return 0
}
