package conformance

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	maxAnswer    = 1 << 20 // bytes of an answer that are read
	maxThrottled = 30      // repetitions of one request that the witness does not want now
	maxWait      = 3 * time.Second
)

// noAnswer is what a result has got of a request that nobody answered.
const noAnswer = "no answer"

// An answer is an HTTP response, read.
type answer struct {
	status int
	header http.Header
	body   string
	closed bool // the connection was closed with no answer
}

// short describes an answer in a few words.
func (a answer) short() string {
	switch {
	case a.closed:
		return "a closed connection"
	case a.status == http.StatusConflict:
		return fmt.Sprintf("409 %s %.24q", a.header.Get("Content-Type"), a.body)
	case a.status == http.StatusOK && strings.HasPrefix(a.body, emDash):
		return fmt.Sprintf("200 with %d lines", strings.Count(a.body, "\n"))
	case a.status == http.StatusOK:
		return fmt.Sprintf("200 with %d bytes", len(a.body))
	}
	return strconv.Itoa(a.status)
}

// send sends a request once.
func (s *session) send(r *http.Request) (answer, error) { return s.sendBy(s.http, r) }

func (s *session) sendBy(c *http.Client, r *http.Request) (answer, error) {
	resp, err := c.Do(r)
	if err != nil {
		return answer{}, fmt.Errorf("no answer: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return answer{}, fmt.Errorf("reading answer: %w", err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(body)}, nil
}

// patient sends what newRequest makes, and again while the witness asks to come back later.
func (s *session) patient(ctx context.Context, newRequest func() (*http.Request, error)) (answer, error) {
	for n := 1; ; n++ {
		r, err := newRequest()
		if err != nil {
			return answer{}, fmt.Errorf("making request: %w", err)
		}
		a, err := s.send(r)
		wait, later := a.comeBack()
		if err != nil || !later || n == maxThrottled {
			return a, err
		}
		s.throttled.Add(1)
		select {
		case <-ctx.Done():
			return answer{}, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// comeBack reports whether an answer asks to come back later, and when.
func (a answer) comeBack() (time.Duration, bool) {
	seconds, err := strconv.Atoi(a.header.Get("Retry-After"))
	switch {
	case a.status != http.StatusTooManyRequests && a.status != http.StatusServiceUnavailable:
		return 0, false
	case err == nil:
		return min(maxWait, time.Duration(seconds)*time.Second), true
	}
	return 50 * time.Millisecond, a.status == http.StatusTooManyRequests
}

// post sends a body to an endpoint of the submission prefix.
func (s *session) post(ctx context.Context, endpoint, body string) (answer, error) {
	return s.patient(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodPost, s.url+"/"+endpoint, strings.NewReader(body))
	})
}

// get asks the monitoring prefix for a log's checkpoint.
func (s *session) get(ctx context.Context, l *testLog) (answer, error) {
	return s.patient(ctx, func() (*http.Request, error) {
		return http.NewRequestWithContext(ctx, http.MethodGet, s.checkpointURL(l.Origin), nil)
	})
}

func (s *session) checkpointURL(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return s.monitoring + "/" + hex.EncodeToString(sum[:]) + "/checkpoint"
}

// containsLines reports whether every line of part is one of whole.
func containsLines(whole, part string) bool {
	lines := strings.Split(whole, "\n")
	for line := range strings.Lines(part) {
		if !slices.Contains(lines, strings.TrimSuffix(line, "\n")) {
			return false
		}
	}
	return true
}

// A cosignature is a verified line of an answer.
type cosignature struct {
	key       witnessKey
	timestamp uint64
	line      string
}

// statement returns what a cosignature of r's checkpoint is about.
func (r *request) statement(size uint64) statement {
	s := statement{text: r.note(), end: size}
	lines := strings.Split(s.text, "\n")
	s.origin = lines[0]
	if b, err := base64.StdEncoding.DecodeString(lines[2]); err == nil {
		copy(s.root[:], b)
	}
	return s
}

// verify checks the body of a 200: signature lines of the witness's keys, with a time, for s.
func (s *session) verify(body string, about statement) ([]cosignature, error) {
	all, err := s.parseLines(body, about)
	for _, c := range all {
		if c.timestamp == 0 {
			err = errors.Join(err, fmt.Errorf("the timestamp of %s is zero", c.key.name))
		}
	}
	return all, err
}

// parseLines checks signature lines of the witness's keys.
func (s *session) parseLines(body string, about statement) ([]cosignature, error) {
	if body == "" {
		return nil, errors.New("the body is empty")
	}
	if !strings.HasSuffix(body, "\n") {
		return nil, errors.New("the body does not end in a newline")
	}
	var all []cosignature
	for line := range strings.Lines(body) {
		line = strings.TrimSuffix(line, "\n")
		rest, ok := strings.CutPrefix(line, emDash)
		name, b64, ok2 := strings.Cut(rest, " ")
		blob, err := base64.StdEncoding.Strict().DecodeString(b64)
		if !ok || !ok2 || err != nil || len(blob) < 5 {
			return nil, fmt.Errorf("line %.60q is no signature line", line)
		}
		i := slices.IndexFunc(s.keys, func(k witnessKey) bool { return k.name == name && k.id() == [4]byte(blob) })
		if i < 0 {
			return nil, fmt.Errorf("line %.60q is of a key that is not among those given", line)
		}
		timestamp, err := s.keys[i].verify(about, blob[4:])
		if err != nil {
			return nil, fmt.Errorf("line %.60q: %w", line, err)
		}
		all = append(all, cosignature{s.keys[i], timestamp, line})
	}
	return all, nil
}

// answers are what a specification permits.
type answers struct {
	ours    int // what Tallywood's witness answers
	others  []int
	refusal bool // any 4xx is permitted
}

// only permits one status.
func only(status int) answers { return answers{ours: status} }

// either permits several; the first is ours.
func either(ours int, others ...int) answers { return answers{ours: ours, others: others} }

// refused permits any answer that is an error: the specification says what is wrong with the request,
// and not how it is answered. Ours is a 4xx.
func refused(ours int) answers { return answers{ours: ours, refusal: true} }

func (w answers) String() string {
	if w.refusal {
		return "an error"
	}
	text := strconv.Itoa(w.ours)
	for _, status := range w.others {
		text += " or " + strconv.Itoa(status)
	}
	return text
}

// judge returns an error if a is not permitted, and notes in t if it is not ours.
func (w answers) judge(t *trial, a answer) error {
	permitted := a.status == w.ours || slices.Contains(w.others, a.status) || w.refusal && (a.closed || a.status >= 400)
	switch {
	case a.status == http.StatusOK && w.ours != http.StatusOK:
		return fmt.Errorf("answered %s; want %s", a.short(), w)
	case !permitted:
		return fmt.Errorf("answered %s (%.80q); want %s", a.short(), strings.TrimSpace(a.body), w)
	case strings.HasPrefix(a.body, emDash) || strings.Contains(a.body, "\n"+emDash):
		return fmt.Errorf("answered %s with signature lines in the body", a.short())
	case a.status != w.ours:
		t.differs = fmt.Sprintf("answered %s; ours answers %d", a.short(), w.ours)
	}
	return nil
}
