package client

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
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
	counts    bool          // some of them count towards the quorum; otherwise it is asked once that is met
	slot      chan struct{} // held by whoever has a request under way
	spare     chan struct{} // held by a second one, which goes when the first is overdue
	health

	sizesMu sync.Mutex       // guards sizes
	sizes   map[string]int64 // by origin: the size last cosigned, as far as we know
}

func newEndpoint(url string) *endpoint {
	return &endpoint{url: url, slot: make(chan struct{}, 1), spare: make(chan struct{}, 1), sizes: map[string]int64{}}
}

// takeSpare takes the spare slot if nobody has it.
func (e *endpoint) takeSpare() bool {
	select {
	case e.spare <- struct{}{}:
		return true
	default:
		return false
	}
}

// A RefusedError reports a witness that will not cosign, whatever is tried: it does not know the
// log or its key, or thinks it forked.
type RefusedError struct {
	Status int // HTTP
	Reason string
}

func (e *RefusedError) Error() string { return fmt.Sprintf("refused with %d: %s", e.Status, e.Reason) }

// An AheadError reports a witness that says it has cosigned a larger tree than the one it was asked
// for. If it is proven, another process leads the log, or the log was rolled back: which, its driver
// must find out. If not, the witness may as well be lying.
type AheadError struct {
	Size   int64
	Proven bool // its monitoring prefix has a checkpoint of that size, signed by the log
}

func (e *AheadError) Error() string {
	if e.Proven {
		return fmt.Sprintf("has cosigned size %d, beyond this checkpoint, and shows it signed by the log", e.Size)
	}
	return fmt.Sprintf("says that it has cosigned size %d, beyond this checkpoint, and shows no proof", e.Size)
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
func (c *Client) post(ctx context.Context, hc *http.Client, e *endpoint, r *round, old int64, proof [][]byte) (map[string]cosignature, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "old %d\n", old)
	for _, h := range proof {
		body.WriteString(base64.StdEncoding.EncodeToString(h) + "\n")
	}
	body.WriteString("\n" + r.text + "\n" + r.logLines)
	status, header, answer, err := c.exchange(ctx, hc, http.MethodPost, e.url+"/add-checkpoint", &body)
	if err != nil {
		return nil, err
	}
	return c.read(e, r, status, header, answer)
}

// read returns what an answer to add-checkpoint says.
func (c *Client) read(e *endpoint, r *round, status int, header http.Header, answer []byte) (map[string]cosignature, error) {
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

// size returns the size last cosigned, if anything is known about it.
func (e *endpoint) size(origin string) (size int64, known bool) {
	e.sizesMu.Lock()
	defer e.sizesMu.Unlock()
	size, known = e.sizes[origin]
	return size, known
}

func (e *endpoint) setSize(origin string, size int64) {
	e.sizesMu.Lock()
	defer e.sizesMu.Unlock()
	e.sizes[origin] = size
}
