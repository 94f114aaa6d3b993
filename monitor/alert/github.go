package alert

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"sync"
	"time"

	"tallywood/monitor"
)

const (
	githubAPI   = "https://api.github.com"
	githubLabel = "tallywood"
	githubSkew  = time.Hour // that our clock and theirs may differ
	maxIssue    = 60_000    // bytes of text; theirs are 65,536 characters
)

// GitHubOptions configure a GitHub.
type GitHubOptions struct {
	Repository string // owner/name
	Token      Secret // may read and write issues there
	API        string // base URL; empty: https://api.github.com
	Label      string // of the issues; empty: tallywood

	// MarkerKey makes the marks by which issues and comments are recognised, so that nobody else can
	// make them beforehand: 32 bytes that stay the same.
	MarkerKey []byte

	// AllowPrivate lets the API's host have an address that is not public.
	AllowPrivate bool
}

// GitHub opens an issue for the first event of a rule, identity and log, and adds a comment to it
// for each further one while it is open. An event that is in the repository already is not written
// again, in an issue or a comment, open or closed.
type GitHub struct {
	o      GitHubOptions
	target *target
	mu     sync.Mutex // finding and writing are one
}

var _ monitor.Sink = (*GitHub)(nil)

// repositoryName is what GitHub allows as owner/name.
var repositoryName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9-]{0,38}/[A-Za-z0-9._-]{1,100}$`)

// OpenGitHub checks o and reads the token. It does not connect.
func OpenGitHub(o GitHubOptions) (*GitHub, error) {
	if o.API == "" {
		o.API = githubAPI
	}
	if o.Label == "" {
		o.Label = githubLabel
	}
	o.API = strings.TrimRight(o.API, "/")
	var errs []error
	if !repositoryName.MatchString(o.Repository) {
		errs = append(errs, fmt.Errorf("repository %q is not owner/name", o.Repository))
	}
	if len(o.Label) > 50 || strings.ContainsAny(o.Label, ",\r\n") {
		errs = append(errs, fmt.Errorf("label %q is longer than 50 bytes, or has a comma in it", o.Label))
	}
	if len(o.MarkerKey) != 32 {
		errs = append(errs, fmt.Errorf("key for marks has %d bytes, want 32", len(o.MarkerKey)))
	}
	_, err := o.Token.read()
	errs = append(errs, err)
	t, err := newTarget("GitHub API", o.API, o.AllowPrivate)
	if err == nil {
		if u, _ := url.Parse(o.API); u.RawQuery != "" || u.Fragment != "" || u.User != nil {
			err = fmt.Errorf("GitHub API URL %s has more than a path", u.Redacted())
		}
	}
	if err := errors.Join(append(errs, err)...); err != nil {
		return nil, err
	}
	return &GitHub{o: o, target: t}, nil
}

// Send implements monitor.Sink: when it returns nil the event is in the repository, once.
func (g *GitHub) Send(ctx context.Context, e monitor.Event) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	token, err := g.o.Token.read()
	if err == nil {
		err = g.write(ctx, &githubSession{target: g.target, base: g.o.API + "/repos/" + g.o.Repository, token: token}, e)
	}
	if err != nil {
		return hide(fmt.Errorf("writing event %s to %s: %w", e.ID, g.o.Repository, err), token)
	}
	return nil
}

func (g *GitHub) write(ctx context.Context, s *githubSession, e monitor.Event) error {
	since := e.Time.Add(-githubSkew)
	if there, err := g.hasIssue(ctx, s, e, since); err != nil || there {
		return err
	}
	open, closed, err := g.grouped(ctx, s, e, since)
	if err != nil {
		return err
	}
	for _, issue := range append(open, closed...) {
		comments, err := s.comments(ctx, issue.Number, since)
		if err != nil {
			return err
		}
		for _, c := range comments {
			if strings.Contains(c.Body, g.eventMark(e)) {
				return nil
			}
		}
	}
	for _, issue := range open {
		if !issue.Locked {
			return s.comment(ctx, issue.Number, issueText(e, g.eventMark(e)))
		}
	}
	return s.create(ctx, title(e), issueText(e, g.eventMark(e)+" "+g.groupMark(e)), g.o.Label)
}

// hasIssue looks among the issues that are not older than the event for its own.
func (g *GitHub) hasIssue(ctx context.Context, s *githubSession, e monitor.Event, since time.Time) (bool, error) {
	there := false
	query := url.Values{"state": {"all"}, "sort": {"created"}, "direction": {"desc"}}
	err := s.issues(ctx, query, func(i githubIssue) bool {
		there = there || strings.Contains(i.Body, g.eventMark(e))
		return !there && !i.CreatedAt.Before(since)
	})
	return there, err
}

// grouped returns the issues of the event's group: those that are open, the oldest first, and those
// that were closed since. Only who may write to the repository can give them the label.
func (g *GitHub) grouped(ctx context.Context, s *githubSession, e monitor.Event, since time.Time) (open, closed []githubIssue, err error) {
	mark := g.groupMark(e)
	find := func(into *[]githubIssue) func(githubIssue) bool {
		return func(i githubIssue) bool {
			if strings.Contains(i.Body, mark) {
				*into = append(*into, i)
			}
			return true
		}
	}
	query := url.Values{"labels": {g.o.Label}, "sort": {"created"}, "direction": {"asc"}, "state": {"open"}}
	if err := s.issues(ctx, query, find(&open)); err != nil {
		return nil, nil, err
	}
	query.Set("state", "closed")
	query.Set("since", since.UTC().Format(time.RFC3339))
	return open, closed, s.issues(ctx, query, find(&closed))
}

// eventMark returns what tells that a text is about e.
func (g *GitHub) eventMark(e monitor.Event) string { return "tallywood-event:" + g.mark("event", e.ID) }

// groupMark returns what tells that an issue is for events like e.
func (g *GitHub) groupMark(e monitor.Event) string {
	return "tallywood-group:" + g.mark("group", string(e.Rule), e.Identity, e.Origin)
}

func (g *GitHub) mark(parts ...string) string {
	mac := hmac.New(sha256.New, g.o.MarkerKey)
	for _, p := range parts {
		fmt.Fprintf(mac, "%d:%s", len(p), p)
	}
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

// issueText returns the Markdown for an event: what the log says stays inside a code block, in which
// nothing is a link, an image or a mention. The page of the event is the one link.
func issueText(e monitor.Event, marks string) string {
	link := ""
	if e.Page != "" {
		link = fmt.Sprintf("[%s](<%s>)\n\n", aboutPage, plainURL(e.Page)) // the configuration's, not the log's
		e.Page = ""
	}
	text := clip(maxIssue, plain(e))
	fence := "```"
	for strings.Contains(text, fence) {
		fence += "`"
	}
	return fmt.Sprintf("<!-- %s -->\n%s%stext\n%s\n%s\n", marks, link, fence, strings.TrimRight(text, "\n"), fence)
}
