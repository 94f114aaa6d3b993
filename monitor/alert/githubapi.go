package alert

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"tallywood/monitor"
)

const (
	githubPages = 30       // of 100 each that are read of one list
	githubBytes = 16 << 20 // of one answer
	// > If … the response does not include a retry-after header … wait for at least one minute
	// (GitHub, rate limits for the REST API)
	githubPause = time.Minute
)

// A githubSession is one use of the REST API for a repository.
type githubSession struct {
	target *target
	base   string // URL of the repository
	token  string
}

type githubIssue struct {
	Number    int             `json:"number"`
	Body      string          `json:"body"`
	CreatedAt time.Time       `json:"created_at"`
	Locked    bool            `json:"locked"`
	Pull      json.RawMessage `json:"pull_request"`
}

type githubComment struct {
	Body string `json:"body"`
}

// issues hands the issues of a list to each, until that returns false or there are no more.
func (s *githubSession) issues(ctx context.Context, query url.Values, each func(githubIssue) bool) error {
	query.Set("per_page", "100")
	next := s.base + "/issues?" + query.Encode()
	for range githubPages {
		var page []githubIssue
		a, err := s.call(ctx, http.MethodGet, next, nil, &page)
		if err != nil {
			return fmt.Errorf("listing issues: %w", err)
		}
		for _, i := range page {
			if i.Pull == nil && !each(i) { // the list has pull requests too
				return nil
			}
		}
		if next = s.nextPage(a.header.Get("Link")); next == "" {
			return nil
		}
	}
	return fmt.Errorf("listing issues: more than %d", githubPages*100)
}

// comments returns the comments of an issue that were changed since.
func (s *githubSession) comments(ctx context.Context, issue int, since time.Time) ([]githubComment, error) {
	query := url.Values{"per_page": {"100"}, "since": {since.UTC().Format(time.RFC3339)}}
	next := fmt.Sprintf("%s/issues/%d/comments?%s", s.base, issue, query.Encode())
	var all []githubComment
	for range githubPages {
		var page []githubComment
		a, err := s.call(ctx, http.MethodGet, next, nil, &page)
		if err != nil {
			return nil, fmt.Errorf("listing comments of issue %d: %w", issue, err)
		}
		all = append(all, page...)
		if next = s.nextPage(a.header.Get("Link")); next == "" {
			return all, nil
		}
	}
	return nil, fmt.Errorf("listing comments of issue %d: more than %d", issue, githubPages*100)
}

func (s *githubSession) create(ctx context.Context, title, body, label string) error {
	request := map[string]any{"title": clip(200, title), "body": body, "labels": []string{label}}
	if _, err := s.call(ctx, http.MethodPost, s.base+"/issues", request, nil); err != nil {
		return fmt.Errorf("opening issue: %w", err)
	}
	return nil
}

func (s *githubSession) comment(ctx context.Context, issue int, body string) error {
	to := fmt.Sprintf("%s/issues/%d/comments", s.base, issue)
	if _, err := s.call(ctx, http.MethodPost, to, map[string]any{"body": body}, nil); err != nil {
		return fmt.Errorf("commenting on issue %d: %w", issue, err)
	}
	return nil
}

// nextPage returns the URL of the page after this one, if it is of the same API: the token goes
// nowhere else.
func (s *githubSession) nextPage(link string) string {
	for part := range strings.SplitSeq(link, ",") {
		to, attributes, _ := strings.Cut(strings.TrimSpace(part), ">")
		to, ok := strings.CutPrefix(to, "<")
		if ok && strings.Contains(attributes, `rel="next"`) && strings.HasPrefix(to, s.target.url+"/") {
			return to
		}
	}
	return ""
}

// call sends a request with the token, and decodes the answer to it.
func (s *githubSession) call(ctx context.Context, method, to string, request, out any) (*answer, error) {
	var body []byte
	if request != nil {
		var err error
		if body, err = json.Marshal(request); err != nil {
			return nil, err
		}
	}
	header := http.Header{
		"Accept":               {"application/vnd.github+json"},
		"Authorization":        {"Bearer " + s.token},
		"X-Github-Api-Version": {"2022-11-28"},
	}
	if body != nil {
		header.Set("Content-Type", "application/json")
	}
	a, err := s.target.ask(ctx, method, to, header, body, githubBytes)
	if err != nil {
		return nil, err
	}
	if !a.ok() {
		return nil, githubRefusal(a, time.Now())
	}
	if out != nil {
		if err := json.Unmarshal(a.body, out); err != nil {
			return nil, fmt.Errorf("decoding answer: %w", err)
		}
	}
	return a, nil
}

// githubRefusal returns the error for an answer that is none of success.
func githubRefusal(a *answer, now time.Time) error {
	var said struct {
		Message string `json:"message"`
		Errors  []struct {
			Field   string `json:"field"`
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"errors"`
	}
	_ = json.Unmarshal(a.body, &said) // a proxy between may answer anything
	reason := said.Message
	for _, e := range said.Errors {
		reason += strings.TrimRight(fmt.Sprintf("; %s %s %s", e.Field, e.Code, e.Message), " ")
	}
	switch a.status {
	case http.StatusMovedPermanently, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		reason = "the repository has moved; configure its new name"
	case http.StatusNotFound:
		reason += " (no such repository, or the token may not see it)"
	}
	err := a.refused(now, reason)
	var again *monitor.RetryError
	if a.status != http.StatusForbidden && a.status != http.StatusTooManyRequests || errors.As(err, &again) {
		return err
	}
	if a.header.Get("X-RateLimit-Remaining") == "0" {
		if reset, parseErr := strconv.ParseInt(a.header.Get("X-RateLimit-Reset"), 10, 64); parseErr == nil {
			return &monitor.RetryError{After: max(0, time.Unix(reset, 0).Sub(now)), Err: err}
		}
	}
	if a.status == http.StatusTooManyRequests || strings.Contains(strings.ToLower(said.Message), "rate limit") {
		return &monitor.RetryError{After: githubPause, Err: err}
	}
	return err
}
