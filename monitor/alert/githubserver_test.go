package alert_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

const githubToken = "github_pat_secret"

// A githubServer answers as GitHub's REST API documents it, for one repository.
type githubServer struct {
	*httptest.Server
	mu       sync.Mutex
	issues   []*issue
	requests []string
	push     bool // the token may push: only then are labels set
	answers  []func(http.ResponseWriter, *http.Request) bool
}

type issue struct {
	Number    int        `json:"number"`
	Title     string     `json:"title"`
	Body      string     `json:"body"`
	State     string     `json:"state"`
	Locked    bool       `json:"locked"`
	Labels    []label    `json:"labels"`
	CreatedAt time.Time  `json:"created_at"`
	UpdatedAt time.Time  `json:"updated_at"`
	Pull      *struct{}  `json:"pull_request,omitempty"`
	comments  []*comment `json:"-"`
}

type label struct {
	Name string `json:"name"`
}

type comment struct {
	ID        int       `json:"id"`
	Body      string    `json:"body"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

func newGitHub(t *testing.T) *githubServer {
	t.Helper()
	g := &githubServer{push: true}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /api/v3/repos/example/tool/issues", g.list)
	mux.HandleFunc("POST /api/v3/repos/example/tool/issues", g.create)
	mux.HandleFunc("GET /api/v3/repos/example/tool/issues/{n}/comments", g.listComments)
	mux.HandleFunc("POST /api/v3/repos/example/tool/issues/{n}/comments", g.createComment)
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { refuse(w, 404, "Not Found") })
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.requests = append(g.requests, r.Method+" "+r.URL.Path)
		switch {
		case r.Header.Get("Authorization") != "Bearer "+githubToken:
			refuse(w, 401, "Bad credentials: "+r.Header.Get("Authorization"))
		case r.UserAgent() == "" || r.Header.Get("Accept") != "application/vnd.github+json" || r.Header.Get("X-GitHub-Api-Version") != "2022-11-28":
			refuse(w, 403, "Request forbidden by administrative rules.")
		default:
			for i, answer := range g.answers {
				if answer(w, r) {
					g.answers = slices.Delete(g.answers, i, i+1)
					return
				}
			}
			mux.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(g.Close)
	return g
}

func refuse(w http.ResponseWriter, status int, message string) {
	reply(w, status, map[string]any{"message": message, "documentation_url": "https://docs.github.com/rest"})
}

func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// page answers with one page of all, and where the others are.
func page[T any](w http.ResponseWriter, r *http.Request, all []T) {
	number := func(key string, usual int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(key)); err == nil && n > 0 {
			return n
		}
		return usual
	}
	size, n := min(100, number("per_page", 30)), number("page", 1)
	from, to := min(len(all), (n-1)*size), min(len(all), n*size)
	if to < len(all) {
		q := r.URL.Query()
		q.Set("page", strconv.Itoa(n+1))
		last := maps.Clone(q)
		last.Set("page", strconv.Itoa((len(all)+size-1)/size))
		base := "http://" + r.Host + r.URL.Path
		w.Header().Set("Link", fmt.Sprintf(`<%s?%s>; rel="last", <%s?%s>; rel="next"`, base, last.Encode(), base, q.Encode()))
	}
	reply(w, 200, append([]T{}, all[from:to]...))
}

func after(r *http.Request, at time.Time) bool {
	since, err := time.Parse(time.RFC3339, r.URL.Query().Get("since"))
	return err != nil || !at.Before(since)
}

func (g *githubServer) list(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	var out []*issue
	for _, i := range g.issues {
		state := q.Get("state")
		if state == "" {
			state = "open"
		}
		labelled := q.Get("labels") == ""
		for _, l := range i.Labels {
			labelled = labelled || l.Name == q.Get("labels")
		}
		if labelled && (state == "all" || state == i.State) && after(r, i.UpdatedAt) {
			out = append(out, i)
		}
	}
	if q.Get("direction") != "asc" {
		slices.Reverse(out)
	}
	page(w, r, out)
}

func (g *githubServer) create(w http.ResponseWriter, r *http.Request) {
	var in struct {
		Title  string   `json:"title"`
		Body   string   `json:"body"`
		Labels []string `json:"labels"`
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Title == "" || len(in.Title) > 256 || len(in.Body) > 65536 {
		reply(w, 422, map[string]any{"message": "Validation Failed", "errors": []any{map[string]string{"resource": "Issue", "field": "title", "code": "invalid"}}})
		return
	}
	i := g.add(in.Title, in.Body)
	if g.push {
		for _, l := range in.Labels {
			i.Labels = append(i.Labels, label{l})
		}
	}
	reply(w, 201, i)
}

// add makes an issue, by whomever.
func (g *githubServer) add(title, body string) *issue {
	now := time.Now().UTC().Truncate(time.Second)
	i := &issue{Number: len(g.issues) + 1, Title: title, Body: body, State: "open", CreatedAt: now, UpdatedAt: now}
	g.issues = append(g.issues, i)
	return i
}

func (g *githubServer) find(w http.ResponseWriter, r *http.Request) *issue {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 1 || n > len(g.issues) {
		refuse(w, 404, "Not Found")
		return nil
	}
	return g.issues[n-1]
}

func (g *githubServer) listComments(w http.ResponseWriter, r *http.Request) {
	i := g.find(w, r)
	if i == nil {
		return
	}
	var out []*comment
	for _, c := range i.comments {
		if after(r, c.UpdatedAt) {
			out = append(out, c)
		}
	}
	page(w, r, out)
}

func (g *githubServer) createComment(w http.ResponseWriter, r *http.Request) {
	i := g.find(w, r)
	if i == nil {
		return
	}
	var in struct {
		Body string `json:"body"`
	}
	switch err := json.NewDecoder(r.Body).Decode(&in); {
	case err != nil || in.Body == "":
		refuse(w, 422, "Validation Failed")
		return
	case i.Locked:
		refuse(w, 403, "Unable to create comment because issue is locked.")
		return
	}
	now := time.Now().UTC().Truncate(time.Second)
	c := &comment{ID: len(i.comments) + 1, Body: in.Body, CreatedAt: now, UpdatedAt: now}
	i.comments, i.UpdatedAt = append(i.comments, c), now
	reply(w, 201, c)
}
