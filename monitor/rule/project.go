package rule

import (
	"fmt"
	"slices"
	"strings"
)

// A project is what a forge certifies the builds of: a repository, or all of an owner's.
type project struct {
	url   string // without a slash at its end
	path  string // of the URL: owner/repository, or the owner
	owner bool
}

// has reports whether uri is the project or below it.
func (p *project) has(uri string) bool { return under(uri, p.url) || under(unescape(uri), p.url) }

// under reports whether v is prefix, or a path below it, without regard to case.
func under(v, prefix string) bool {
	return len(v) >= len(prefix) && strings.EqualFold(v[:len(prefix)], prefix) &&
		(len(v) == len(prefix) || v[len(prefix)] == '/')
}

// match returns what of c is the project's: names below it, the source repository (12), its owner
// (16), and the repository path of old certificates (5).
func (p *project) match(c *Certificate) (string, bool) {
	if c == nil {
		return "", false
	}
	for _, n := range c.Names {
		if p.has(n.Value) {
			return n.Value, true
		}
	}
	for _, v := range []string{c.Extensions[12], c.Extensions[16]} {
		if p.has(v) {
			return v, true
		}
	}
	v := c.Extensions[5]
	return v, strings.EqualFold(v, p.path) || p.owner && under(v, p.path)
}

// repositories returns the URIs of the source repositories that c names.
func (c *Certificate) repositories() []string {
	out := c.values(12)
	if old := c.Extensions[5]; old != "" { // of github.com alone
		if uri := "https://github.com/" + old; !slices.ContainsFunc(out, func(v string) bool { return strings.EqualFold(v, uri) }) {
			out = append(out, uri)
		}
	}
	return out
}

// homes returns the repositories that paths of w's workflows are in: those that c is of, as far as
// they are w's, or w's.
func (w *watch) homes(c *Certificate) []string {
	out := slices.DeleteFunc(c.repositories(), func(v string) bool { return w.project != nil && !w.project.has(v) })
	if len(out) == 0 && w.project != nil && !w.project.owner {
		out = append(out, w.project.url)
	}
	return out
}

// callers reports whether c is of a foreign repository alone, which called a workflow of w's project.
// One that does not say its repository is the project's.
func (w *watch) callers(c *Certificate) bool {
	if c == nil || w.project == nil {
		return false
	}
	repositories := c.repositories()
	return len(repositories) > 0 && !slices.ContainsFunc(repositories, w.project.has)
}

// judgeCaller reports a workflow of the identity that a foreign repository called: of its project, or
// of the repository of the name that matched.
func (w *watch) judgeCaller(f *Finding, name string, c *Certificate) {
	if c == nil || !w.on(IDReusableCaller) {
		return
	}
	home := w.project
	if home == nil {
		home = &project{url: workflowHome(name)}
	}
	signers := c.values(9)
	if len(signers) == 0 {
		signers = []string{name}
	}
	if home.url == "" || !slices.ContainsFunc(signers, home.has) {
		return
	}
	for _, v := range append(c.repositories(), c.values(18)...) {
		if home.has(v) {
			continue
		}
		f.add(Reason{Rule: IDReusableCaller, Field: "repository", Expected: []string{home.url}, Seen: Clip(v),
			Text: fmt.Sprintf("workflow %q was called by a foreign repository: %q", Clip(signers[0]), Clip(v))})
		return
	}
}

// workflowHome returns the repository in the URI of a workflow on a forge, empty if it is none.
func workflowHome(uri string) string {
	_, rest, ok := strings.Cut(uri, "://")
	if !ok {
		return ""
	}
	scheme := uri[:len(uri)-len(rest)]
	for _, mark := range []string{"/.github/workflows/", "//"} { // GitHub's, GitLab's
		if repository, _, ok := strings.Cut(rest, mark); ok && strings.Contains(repository, "/") {
			return scheme + repository
		}
	}
	return ""
}

// foldURI lower-cases what of a URI is without regard to case: scheme and host, and on github.com
// owner and repository.
func foldURI(uri string) string {
	if !strings.Contains(uri, "://") {
		return uri
	}
	uri = foldHost(uri)
	const github = "https://github.com/"
	rest, ok := strings.CutPrefix(uri, github)
	if !ok {
		return uri
	}
	end := 0
	for range 2 {
		end += indexAnyOrEnd(rest[end:], "/")
		end = min(end+1, len(rest))
	}
	return github + strings.ToLower(rest[:end]) + rest[end:]
}
