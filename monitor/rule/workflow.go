package rule

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// A workflowPattern is for workflows of a path, or a URI, of some refs.
type workflowPattern struct {
	path *regexp.Regexp
	ref  *regexp.Regexp // nil: all refs
}

// compileWorkflows compiles the workflows that are expected. What is before an @ is never compared
// with a ref, nor what is behind it with a path: a branch may be called as the end of a path. Both may
// hold an @, so that each of those in a pattern may be the one between them, or none.
func compileWorkflows(list []string) ([]workflowPattern, error) {
	if slices.Contains(list, "") {
		return nil, errors.New("empty expected workflow")
	}
	var out []workflowPattern
	for _, text := range list {
		text = foldURI(text)
		out = append(out, workflowPattern{path: pattern(text)})
		for i := range text {
			if text[i] == '@' {
				out = append(out, workflowPattern{pattern(text[:i]), pattern(text[i+1:])})
			}
		}
	}
	return out, nil
}

// listed reports whether one of the patterns is for a workflow: a URI, or a path in the repository
// that the certificate is of; with the ref it is of, or for all of them.
func (w *watch) listed(patterns []workflowPattern, c *Certificate, uri string) bool {
	bare, ref := cutRef(uri, c.values(14, 6))
	forms := []string{foldURI(bare)}
	for _, repository := range w.homes(c) {
		if under(bare, repository) {
			forms = append(forms, strings.TrimLeft(bare[len(repository):], "/"))
		}
	}
	return slices.ContainsFunc(patterns, func(p workflowPattern) bool {
		return (p.ref == nil || p.ref.MatchString(ref)) &&
			slices.ContainsFunc(forms, func(form string) bool { return form != "" && p.path.MatchString(form) })
	})
}

// cutRef cuts the ref off the URI of a workflow: the certificate's own if it is that, since both paths
// and refs may hold an @, else what begins like one, or the commit behind the last @.
func cutRef(uri string, refs []string) (bare, ref string) {
	for _, ref := range refs {
		if bare, ok := strings.CutSuffix(uri, "@"+ref); ok && ref != "" {
			return bare, ref
		}
	}
	if bare, ref, ok := strings.Cut(uri, "@refs/"); ok {
		return bare, "refs/" + ref
	}
	if bare, ref, ok := cutLast(uri, "@"); ok && strings.Count(bare, "/") > 3 { // behind scheme, host and a path
		return bare, ref
	}
	return uri, ""
}
