package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"tallywood/witness/policy"
)

// An endpoint is a submission prefix, with the witnesses of the policy that answer there.
type endpoint struct {
	url       string // without final slash
	witnesses []policy.Witness
	slot      chan struct{} // held by whoever has a request under way

	mu       sync.Mutex       // guards the fields below
	sizes    map[string]int64 // by origin: the size last cosigned, as far as we know
	failures int              // in a row
	nextTry  time.Time        // not before
	last     error            // of the last exchange
	alarm    string           // the refusal that was logged last, until it cosigns again
}

// A RefusedError reports a witness that will not cosign, whatever is tried: it does not know the
// log or its key, or thinks it forked.
type RefusedError struct {
	Status int // HTTP
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused with %d: %s", e.Status, e.Reason) }

// An AheadError reports a witness that has cosigned a larger tree than the one it was asked for:
// another process leads the log, or the log was rolled back. Which, its driver must find out.
type AheadError struct{ Size int64 }

func (e *AheadError) Error() string {
	return fmt.Sprintf("has cosigned size %d, beyond this checkpoint", e.Size)
}

// conflictError is a 409 with a size.
type conflictError struct{ size int64 }

func (e *conflictError) Error() string { return fmt.Sprintf("has cosigned size %d", e.size) }

// laterError is a 429 or 503.
type laterError struct {
	status int
	after  time.Duration // 0: not said
}

func (e *laterError) Error() string {
	return fmt.Sprintf("answered %d, retry after %v", e.status, e.after)
}

// post sends one add-checkpoint request and returns the verified cosignatures of the answer.
func (c *Client) post(ctx context.Context, e *endpoint, r *round, old int64, proof [][]byte) (map[string]cosignature, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, h := range proof {
		body.WriteString(base64.StdEncoding.EncodeToString(h) + "\n")
	}
	body.WriteString("\n" + r.text + "\n" + r.logLines)
	status, header, answer, err := c.exchange(ctx, http.MethodPost, e.url+"/add-checkpoint", &body)
	if err != nil {
		return nil, err
	}
	switch {
	case status == http.StatusOK:
		return c.verify(e, r, answer)
	case status == http.StatusConflict:
		return nil, parseConflict(header, answer)
	case status == http.StatusTooManyRequests || status == http.StatusServiceUnavailable:
		return nil, &laterError{status: status, after: retryAfter(header, c.now())}
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout:
		return nil, &RefusedError{Status: status, Reason: printable(answer)}
	}
	return nil, fmt.Errorf("answered %d: %s", status, printable(answer))
}

// exchange makes one request and reads its answer.
func (c *Client) exchange(ctx context.Context, method, url string, body io.Reader) (int, http.Header, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return 0, nil, nil, fmt.Errorf("making request: %w", err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "text/plain; charset=utf-8")
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, nil, err // it names method and URL
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	switch {
	case err != nil:
		return 0, nil, nil, fmt.Errorf("reading answer: %w", err)
	case len(answer) > maxAnswer:
		return 0, nil, nil, fmt.Errorf("answer is larger than %d bytes", maxAnswer)
	}
	return resp.StatusCode, resp.Header, answer, nil
}

// verify takes from an answer the lines of the endpoint's keys. Lines of unknown keys are ignored;
// one bad line of a known key discards the answer, for a witness that mixes good with bad is broken.
func (c *Client) verify(e *endpoint, r *round, answer []byte) (map[string]cosignature, error) {
	n, err := policy.ParseNote(slices.Concat([]byte(r.text+"\n"), answer))
	if err != nil {
		return nil, fmt.Errorf("malformed answer: %w", err)
	}
	if n.Text != r.text {
		return nil, errors.New("malformed answer: it is not signature lines alone")
	}
	found := map[string]cosignature{}
	for _, sig := range n.Signatures {
		for _, w := range e.witnesses {
			if !w.Key.Matches(sig) {
				continue
			}
			t, err := w.Key.Verify(n.Text, sig.Sig)
			if err != nil {
				return nil, fmt.Errorf("cosignature of %s: %w", w.Name, err)
			}
			if skew := c.now().Sub(t); t.IsZero() || skew.Abs() > maxSkew {
				return nil, fmt.Errorf("cosignature of %s states %s, which is not within %v of our clock", w.Name, t.UTC().Format(time.RFC3339), maxSkew)
			}
			found[w.Name] = cosignature{line: sig.Line + "\n", time: t}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("answer has no line by the keys of %s", names(e.witnesses))
	}
	return found, nil
}

// parseConflict reads the answer 409, which is a size and nothing else.
func parseConflict(header http.Header, answer []byte) error {
	if ct := header.Values("Content-Type"); len(ct) != 1 || ct[0] != "text/x.tlog.size" {
		return fmt.Errorf("answered 409 with Content-Type %.60q instead of text/x.tlog.size: %s", ct, printable(answer))
	}
	line, ok := strings.CutSuffix(string(answer), "\n")
	size, err := policy.ParseSize(line)
	if !ok || err != nil {
		return fmt.Errorf("answered 409 with a body that is not a size: %s", printable(answer))
	}
	return &conflictError{size: size}
}

// retryAfter reads a Retry-After of seconds or a date.
func retryAfter(header http.Header, now time.Time) time.Duration {
	s := header.Get("Retry-After")
	if n, err := strconv.ParseUint(s, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if t, err := http.ParseTime(s); err == nil && t.After(now) {
		return t.Sub(now)
	}
	return 0
}

// printable makes an answer fit for a log line.
func printable(answer []byte) string {
	return fmt.Sprintf("%q", bytes.TrimSpace(answer[:min(len(answer), 200)]))
}

func (e *endpoint) size(origin string) int64 {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.sizes[origin]
}

func (e *endpoint) setSize(origin string, size int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sizes[origin] = size
}

// Bounds of the back-off. The upper one is low: a witness that comes back is wanted at once, and
// an attempt costs next to nothing.
const (
	minBackoff    = 50 * time.Millisecond
	maxBackoff    = 2 * time.Second
	maxRetryAfter = time.Minute // beyond it a witness is asked all the same
)

// failed notes a failure and sets the time of the next attempt.
func (e *endpoint) failed(err error) {
	wait := minBackoff
	e.mu.Lock()
	defer e.mu.Unlock()
	for range min(e.failures, 10) {
		wait = min(2*wait, maxBackoff)
	}
	wait = wait/2 + rand.N(wait/2) // jitter, or all logs would return to a witness at once
	var later *laterError
	if errors.As(err, &later) && later.after > 0 {
		wait = min(later.after, maxRetryAfter)
	}
	e.failures++
	e.last, e.nextTry = err, time.Now().Add(wait)
}

func (e *endpoint) succeeded() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.failures, e.last, e.nextTry, e.alarm = 0, nil, time.Time{}, ""
}

// refused notes a refusal; it reports whether it is news.
func (e *endpoint) refused(err error) (news bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	news = e.alarm != err.Error()
	e.failures, e.last, e.nextTry, e.alarm = 0, err, time.Time{}, err.Error()
	return news
}

// pause waits until the endpoint may be asked again.
func (e *endpoint) pause(ctx context.Context) error {
	e.mu.Lock()
	wait, last := time.Until(e.nextTry), e.last
	e.mu.Unlock()
	if wait <= 0 {
		return nil
	}
	if deadline, ok := ctx.Deadline(); ok && time.Now().Add(wait).After(deadline) {
		return fmt.Errorf("not asked again yet: %w", last)
	}
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("not asked again yet: %w", last)
	}
}

// state says why there is no answer.
func (e *endpoint) state() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.last != nil {
		return fmt.Errorf("no answer; before that: %w", e.last)
	}
	return errors.New("no answer")
}
