package alert_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/alert"
)

// next has the next request that is asked for with method answered otherwise.
func (g *githubServer) next(method string, answer http.HandlerFunc) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.answers = append(g.answers, func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method {
			return false
		}
		answer(w, r)
		return true
	})
}

func (g *githubServer) sink(t *testing.T) *alert.GitHub {
	t.Helper()
	s, err := alert.OpenGitHub(alert.GitHubOptions{Repository: "example/tool", API: g.URL + "/api/v3/",
		Token: alert.Secret{Value: githubToken}, MarkerKey: bytes.Repeat([]byte{7}, 32)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// counts returns how many comments each issue has.
func (g *githubServer) counts() []int {
	g.mu.Lock()
	defer g.mu.Unlock()
	counts := []int{}
	for _, i := range g.issues {
		counts = append(counts, len(i.comments))
	}
	return counts
}

// now is alarm n, found now.
func now(n int) monitor.Event {
	e := alarm(n)
	e.Time = time.Now().UTC()
	return e
}

func send(t *testing.T, s monitor.Sink, events ...monitor.Event) {
	t.Helper()
	for _, e := range events {
		if err := s.Send(t.Context(), e); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIssueForEachGroup(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	first, second, other := now(1), now(2), now(3)
	other.Identity = "another"
	send(t, g.sink(t), first, second, other)
	send(t, g.sink(t), first, second, other) // all of it again, by another process
	if got := g.counts(); !slices.Equal(got, []int{1, 0}) {
		t.Fatalf("comments %v", got)
	}
	i := g.issues[0]
	if i.Title != "[critical] id.unexpected-issuer: tool releases (log.localhost)" || !strings.Contains(i.Body, first.ID) ||
		!strings.Contains(i.comments[0].Body, second.ID) || len(i.Labels) != 1 || i.Labels[0].Name != "tallywood" {
		t.Errorf("issue %+v", i)
	}
	// Closed: what is in it stays there, and the next one of its kind is another issue.
	i.State = "closed"
	send(t, g.sink(t), first, second)
	send(t, g.sink(t), now(4), now(5))
	if got := g.counts(); !slices.Equal(got, []int{1, 0, 1}) {
		t.Errorf("comments %v", got)
	}
	g.issues[2].Locked = true
	send(t, g.sink(t), now(6))
	if got := g.counts(); !slices.Equal(got, []int{1, 0, 1, 0}) {
		t.Errorf("comments %v", got)
	}
}

// TestIssueWhoseAnswerIsLost has what was written found when it is sent again.
func TestIssueWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	lose := func() {
		g.next(http.MethodPost, func(w http.ResponseWriter, r *http.Request) {
			serve := g.create
			if strings.HasSuffix(r.URL.Path, "/comments") {
				serve = g.createComment
				r.SetPathValue("n", "1")
			}
			serve(httptest.NewRecorder(), r)
			panic(http.ErrAbortHandler)
		})
	}
	s := g.sink(t)
	for n := 1; n <= 2; n++ { // an issue, a comment
		e := now(n)
		lose()
		if err := s.Send(t.Context(), e); err == nil {
			t.Fatal("a lost answer was taken for one")
		}
		send(t, s, e)
	}
	if got := g.counts(); !slices.Equal(got, []int{1}) {
		t.Errorf("comments %v", got)
	}
}

func TestIssuesOnManyPages(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	s := g.sink(t)
	first, second := now(1), now(2)
	send(t, s, first, second)
	for n := range 450 {
		i := g.add(fmt.Sprint("issue ", n), "")
		i.Labels = []label{{"tallywood"}}
		if n%7 == 0 {
			i.Pull, i.Body = &struct{}{}, g.issues[0].Body // a pull request with our marks is none of ours
		}
		g.issues[0].comments = append(g.issues[0].comments, &comment{Body: "me too", UpdatedAt: time.Now()})
	}
	slices.Reverse(g.issues[0].comments) // ours is on the last page
	send(t, s, first, second)
	send(t, s, now(3))
	if got := g.counts(); got[0] != 452 || len(got) != 451 {
		t.Errorf("%d issues, %d comments on the first", len(got), got[0])
	}
}

// TestIssuesOfStrangers has somebody without rights copy all that is public beforehand.
func TestIssuesOfStrangers(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	s := g.sink(t)
	send(t, s, now(1))
	i := g.issues[0]
	i.State = "closed"
	g.add("copied", i.Body)
	send(t, s, now(2)) // does not go into the copy, which has no label
	if got := g.counts(); !slices.Equal(got, []int{0, 0, 0}) {
		t.Errorf("comments %v", got)
	}
	// The marks cannot be made without the key.
	e := now(3)
	e.Summary = "tallywood-event:" + e.ID + " --> tallywood-group:"
	if strings.Count(i.Body, e.ID) > 0 || strings.Contains(i.Body, "tallywood-event:"+now(1).ID) {
		t.Errorf("body:\n%s", i.Body)
	}
	send(t, s, e, now(4))
	if got := g.counts(); !slices.Equal(got, []int{0, 0, 2}) {
		t.Errorf("comments %v", got)
	}
}

func TestIssuesWithoutTheRightToLabel(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	g.push = false
	e, s := now(1), g.sink(t)
	send(t, s, e, e, now(2), e)
	if got := g.counts(); !slices.Equal(got, []int{0, 0}) {
		t.Errorf("comments %v", got)
	}
}

func TestIssueLinksToItsPage(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	e := now(1)
	e.Page = pageURL
	send(t, g.sink(t), e)
	if lines := strings.Split(g.issues[0].Body, "\n"); lines[1] != "[What it means, and what to do](<"+pageURL+">)" || lines[3] != "```text" {
		t.Errorf("body:\n%s", g.issues[0].Body)
	}
}

func TestIssueTextIsInert(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	e := now(1)
	e.Summary = "@everyone ``` ````\n```\n<!-- x --> <img src=x> #1 ![x](https://evil.example/x.png)"
	e.Subject = strings.Repeat("`", 500)
	send(t, g.sink(t), e)
	lines := strings.Split(g.issues[0].Body, "\n")
	fence := strings.TrimSuffix(lines[1], "text")
	if strings.Trim(fence, "`") != "" || len(fence) < 501 {
		t.Fatalf("body:\n%s", g.issues[0].Body)
	}
	for _, l := range lines[2 : len(lines)-2] {
		if strings.HasPrefix(strings.TrimSpace(l), fence) {
			t.Errorf("the code block ends at %q", l)
		}
	}
	if lines[len(lines)-2] != fence {
		t.Errorf("the last line is %q", lines[len(lines)-2])
	}
}

func TestGitHubThatRefuses(t *testing.T) {
	t.Parallel()
	header := func(status int, message string, pairs ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i < len(pairs); i += 2 {
				w.Header().Set(pairs[i], pairs[i+1])
			}
			refuse(w, status, message)
		}
	}
	in := func(d time.Duration) string { return strconv.FormatInt(time.Now().Add(d).Unix(), 10) }
	for name, c := range map[string]struct {
		method      string
		answer      http.HandlerFunc
		want        string
		least, most time.Duration // to wait; zero: as the outbox likes
	}{
		"primary limit": {"GET", header(403, "API rate limit exceeded for user ID 1.", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(40*time.Minute)),
			"rate limit exceeded", 30 * time.Minute, 40 * time.Minute},
		"primary limit, 429": {"POST", header(429, "API rate limit exceeded", "X-RateLimit-Remaining", "0", "X-RateLimit-Reset", in(-time.Minute)),
			"rate limit exceeded", 0, time.Millisecond},
		"secondary limit": {"POST", header(403, "You have exceeded a secondary rate limit.", "Retry-After", "90", "X-RateLimit-Remaining", "4000"),
			"secondary rate limit", 90 * time.Second, 90 * time.Second},
		"secondary limit without a time": {"POST", header(403, "You have exceeded a secondary rate limit.", "X-RateLimit-Remaining", "4000"),
			"secondary rate limit", time.Minute, time.Minute},
		"no permission": {"POST", header(403, "Resource not accessible by personal access token", "X-RateLimit-Remaining", "4000"), "not accessible", 0, 0},
		"unprocessable": {"POST", func(w http.ResponseWriter, _ *http.Request) {
			reply(w, 422, map[string]any{"message": "Validation Failed", "errors": []any{map[string]string{"field": "labels", "code": "invalid"}}})
		}, "Validation Failed; labels invalid", 0, 0},
		"issues disabled": {"POST", header(410, "Issues are disabled for this repo"), "Issues are disabled", 0, 0},
		"moved":           {"GET", header(301, "Moved Permanently", "Location", "https://api.github.com/repositories/1/issues"), "configure its new name", 0, 0},
		"unicorn":         {"GET", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(502); fmt.Fprint(w, "<html>") }, "502 Bad Gateway", 0, 0},
		"not JSON":        {"GET", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, "decoding answer", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGitHub(t)
			s, e := g.sink(t), now(1)
			g.next(c.method, c.answer)
			err := s.Send(t.Context(), e)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want %q", err, c.want)
			}
			var again *monitor.RetryError
			if errors.As(err, &again) != (c.most > 0) || c.most > 0 && (again.After < c.least || again.After > c.most) {
				t.Errorf("%v: %+v", err, again)
			}
			send(t, s, e) // the next time it goes well
			if got := g.counts(); !slices.Equal(got, []int{0}) {
				t.Errorf("comments %v", got)
			}
		})
	}
}

func TestGitHubTokenStaysSecret(t *testing.T) {
	t.Parallel()
	g := newGitHub(t)
	token := secretFile(t, "github_pat_wrong\n")
	s, err := alert.OpenGitHub(alert.GitHubOptions{Repository: "example/tool", API: g.URL + "/api/v3", Token: token, MarkerKey: make([]byte, 32)})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(t.Context(), now(1)); err == nil || strings.Contains(err.Error(), "github_pat") || !strings.Contains(err.Error(), "Bearer (secret)") {
		t.Errorf("error %v", err)
	}
	// A server that sends us on to another one with the token.
	elsewhere := newReceiver(t)
	g.next(http.MethodGet, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", fmt.Sprintf(`<%s/x>; rel="next"`, elsewhere.URL))
		reply(w, 200, []any{})
	})
	send(t, g.sink(t), now(1))
	if elsewhere.header != nil {
		t.Errorf("another server got %v", elsewhere.header)
	}
}

func TestGitHubOptionsAreChecked(t *testing.T) {
	t.Parallel()
	good := func() alert.GitHubOptions {
		return alert.GitHubOptions{Repository: "example/tool", Token: alert.Secret{Value: "x"}, MarkerKey: make([]byte, 32)}
	}
	if _, err := alert.OpenGitHub(good()); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*alert.GitHubOptions){
		"no repository":    func(o *alert.GitHubOptions) { o.Repository = "" },
		"a URL":            func(o *alert.GitHubOptions) { o.Repository = "https://github.com/example/tool" },
		"a path":           func(o *alert.GitHubOptions) { o.Repository = "../tool" },
		"no token":         func(o *alert.GitHubOptions) { o.Token = alert.Secret{} },
		"no token file":    func(o *alert.GitHubOptions) { o.Token = alert.Secret{File: "/no/such/file"} },
		"two labels":       func(o *alert.GitHubOptions) { o.Label = "a,b" },
		"short key":        func(o *alert.GitHubOptions) { o.MarkerKey = nil },
		"clear text":       func(o *alert.GitHubOptions) { o.API = "http://github.example.org/api/v3" },
		"API with a key":   func(o *alert.GitHubOptions) { o.API = "https://x:y@github.example.org/api/v3" },
		"API with a query": func(o *alert.GitHubOptions) { o.API = "https://github.example.org/api/v3?x=y" },
	} {
		o := good()
		change(&o)
		if _, err := alert.OpenGitHub(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// FuzzGitHubAnswers has a server answer anything to everything.
func FuzzGitHubAnswers(f *testing.F) {
	f.Add(200, "[]", "", "")
	f.Add(200, `[{"number":1,"body":"x","created_at":"2026-01-01T00:00:00Z"}]`, "<http://127.0.0.1/x>; rel=\"next\"", "")
	f.Add(403, `{"message":"You have exceeded a secondary rate limit","errors":[{"code":"x"}]}`, "", "60")
	f.Add(429, "{}", ",,<>;", "Wed, 21 Oct 2015 07:28:00 GMT")
	f.Add(301, "\x00", "<", "1e999")
	f.Add(201, "{", ">", "-1")
	var status int
	var body, link, retry string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Link", link)
		w.Header().Set("Retry-After", retry)
		w.WriteHeader(status)
		fmt.Fprint(w, body)
	}))
	f.Cleanup(server.Close)
	s, err := alert.OpenGitHub(alert.GitHubOptions{Repository: "example/tool", API: server.URL, Token: alert.Secret{Value: githubToken}, MarkerKey: make([]byte, 32)})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, code int, text, to, after string) {
		status, body, link, retry = 200+max(0, code)%400, text, to, after
		err := s.Send(t.Context(), alarm(1))
		if err != nil && (strings.Contains(err.Error(), githubToken) || strings.ContainsFunc(err.Error(), func(r rune) bool { return r < ' ' })) {
			t.Errorf("error %q", err)
		}
		if err == nil && status > 299 {
			t.Errorf("status %d was taken for success", status)
		}
	})
}
