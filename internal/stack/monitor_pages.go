package stack

import (
	"cmp"
	"fmt"
	"io/fs"
	"maps"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/monitor"
	"tallywood/monitor/alert"
	"tallywood/monitor/web"
)

// monitorPages returns the pages of m; nil if it has none.
func monitorPages(m *config.Monitor) (*web.Pages, error) {
	if m.Pages == nil {
		return nil, nil
	}
	o := web.Options{Dir: m.Pages.Dir, Handled: m.Pages.Handled, MaxAlerts: m.Pages.Alerts}
	for _, id := range m.Identities {
		o.Identities = append(o.Identities, pageIdentity(id))
	}
	of := alert.AtomOptions{Path: filepath.Join(m.Pages.Dir, feedPage)}
	if m.Pages.URL != "" {
		of.URL = strings.TrimRight(m.Pages.URL, "/") + "/" + feedPage
	}
	feed, err := alert.NewAtom(of)
	if err != nil {
		return nil, fmt.Errorf("pages: feed: %w", err)
	}
	o.Feed = feed
	pages, err := web.New(o)
	if err != nil {
		return nil, fmt.Errorf("pages: %w", err)
	}
	return pages, nil
}

// showPages has o show the pages of m, if it has any.
func showPages(o *monitor.Options, m *config.Monitor) error {
	pages, err := monitorPages(m)
	if pages == nil || err != nil {
		return err
	}
	o.Display = pages
	o.Routes[config.PagesSink] = monitor.Route{Sink: linked(pages, m), Always: true}
	return nil
}

// linked returns a sink that is told, with each event, where the pages of m have it; the same sink if
// nobody knows.
func linked(sink monitor.Sink, m *config.Monitor) monitor.Sink {
	if sink == nil || m.Pages == nil || m.Pages.URL == "" {
		return sink
	}
	return web.Link(sink, m.Pages.URL)
}

// pageIdentity returns an identity as its page shows it.
func pageIdentity(id config.Identity) web.Identity {
	out := web.Identity{Name: id.Name, Rules: slices.Sorted(maps.Keys(id.Rules))}
	for _, s := range []struct{ key, value string }{{"email", id.Email}, {"domain", id.Domain}, {"san", id.SAN}, {"regex", id.Regex},
		{"github", id.GitHub}, {"gitlab", id.GitLab}, {"key", id.Key}, {"kubernetes", id.Kubernetes}} {
		if s.value != "" {
			out.Watches = s.key + ": " + s.value
		}
	}
	if e := id.Extension; e != nil {
		out.Watches = "extension: " + e.ID
	}
	if x := id.Extension; x != nil {
		out.Watches = "extension: " + x.ID + " " + strings.Join(x.Values, ", ")
	}
	add := func(field string, values ...string) {
		if len(values) > 0 && values[0] != "" {
			out.Expects = append(out.Expects, web.Expect{Field: field, Values: values})
		}
	}
	x := id.Expect
	if a := x.Authorize; a != nil {
		out.Manifest = a.From[0]
		add("authorizations from", a.From...)
	}
	add("issuers", x.Issuers...)
	add("workflows", x.Workflows...)
	add("refs", x.Refs...)
	add("triggers", x.Triggers...)
	add("runner", x.Runner)
	add("environments", x.Environments...)
	add("repository number", id.RepositoryID)
	add("owner number", id.OwnerID)
	return out
}

// pagesPath is where a server that runs a monitor serves its pages.
const pagesPath = "/monitor/"

// servePages serves the files of the monitor's pages. There is no list of a directory, and what is
// no page is not taken for one.
func (s *Stack) servePages(w http.ResponseWriter, r *http.Request) {
	dir := s.pages.Load()
	name := strings.TrimPrefix(r.URL.Path, pagesPath)
	if name == "" {
		name = indexPage
	}
	if dir == nil {
		httpx.Error(w, http.StatusNotFound, "the monitor of this server writes no pages")
		return
	}
	f, info, err := openPage(*dir, name)
	if err != nil {
		s.noPage(w, r, name)
		return
	}
	defer f.Close()
	h := w.Header()
	h.Set("Content-Type", pageType(name))
	h.Set("Cache-Control", "no-cache")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	http.ServeContent(w, r, "", info.ModTime(), f)
}

// Files of the pages: the first of them, and the feed.
const (
	indexPage = "index.html"
	feedPage  = "feed.xml"
)

// noPage answers that there is no such page.
func (s *Stack) noPage(w http.ResponseWriter, r *http.Request, name string) {
	if name != indexPage {
		httpx.Error(w, http.StatusNotFound, fmt.Sprintf("the monitor has written no page %.200q", r.URL.Path))
		return
	}
	h := w.Header()
	h.Set("Content-Type", "text/plain; charset=utf-8")
	h.Set("Cache-Control", "no-store")
	fmt.Fprintln(w, "The monitor is starting; its pages come within seconds.")
}

// openPage opens a regular file below dir. What begins with a dot is being written.
func openPage(dir, name string) (*os.File, fs.FileInfo, error) {
	if strings.HasPrefix(path.Base(name), ".") {
		return nil, nil, fs.ErrNotExist
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	info, err := root.Stat(name) // before it is opened: a FIFO would wait for its writer
	if err != nil || !info.Mode().IsRegular() {
		return nil, nil, cmp.Or(err, fs.ErrNotExist)
	}
	f, err := root.Open(name)
	return f, info, err
}

// pageType returns the type of a file of the pages.
func pageType(name string) string {
	if strings.HasPrefix(name, "checkpoints/") {
		return "text/plain; charset=utf-8"
	}
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".json":
		return "application/json"
	case ".xml":
		return "application/atom+xml; charset=utf-8"
	case ".txt", ".pem":
		return "text/plain; charset=utf-8"
	}
	return "application/octet-stream"
}
