package rule

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// forges are so well known that none imitates another, alike as some are.
var forges = []string{"github.com", "gitlab.com", "bitbucket.org", "codeberg.org"}

// mostEdits is how many characters a look-alike differs in at most.
const mostEdits = 2

// A likeness is what of an identity others may imitate: a repository on a forge, a mail address or a
// domain. What is empty is not compared.
type likeness struct {
	host, owner, repository string // of a forge; the repository is empty if it may be any of the owner
	local, domain           string // of a mail address; a domain alone
	allow                   []*regexp.Regexp
}

// An imitation is what looks like what.
type imitation struct {
	field      string // what of the identity is imitated
	mine, seen string
	how        string
	name       string // all of it
}

// resemble sets what look-alikes of w are compared with, if id.lookalike is on. Named for the identity
// itself, it must have something that others can look like.
func (w *watch) resemble(named bool) error {
	p, on := w.rule(IDLookalike)
	if !on {
		return nil
	}
	l := &likeness{}
	switch literal := !strings.Contains(w.SAN, "*"); {
	case w.project != nil:
		l.place(w.project.url, w.project.owner)
	case w.Email != "":
		l.local, l.domain, _ = cutLast(strings.ToLower(w.Email), "@")
	case w.Domain != "":
		l.domain = strings.ToLower(strings.Trim(w.Domain, "."))
	case w.SAN != "" && workflowHome(w.SAN) != "" && !strings.Contains(workflowHome(w.SAN), "*"):
		l.place(workflowHome(w.SAN), false)
	case w.SAN != "" && literal && strings.Contains(w.SAN, "@") && !strings.Contains(w.SAN, "/"):
		l.local, l.domain, _ = cutLast(strings.ToLower(w.SAN), "@")
	case w.SAN != "" && literal && strings.Contains(w.SAN, "."):
		l.domain = hostOf(Name{URI, w.SAN})
	}
	if l.host == "" && l.domain == "" {
		if named {
			return fmt.Errorf("rule %q: the identity has no owner, repository or domain that others could look like", IDLookalike)
		}
		return nil
	}
	for _, v := range p.Allow {
		if v == "" {
			return fmt.Errorf("rule %q allows an empty name", IDLookalike)
		}
		l.allow = append(l.allow, pattern(strings.ToLower(v)))
	}
	w.likeness = l
	return nil
}

// place sets the place on a forge from the URL of a repository, or of an owner.
func (l *likeness) place(url string, owner bool) {
	var path string
	l.host, path = splitURL(url)
	if l.owner = path; !owner {
		l.owner, l.repository, _ = cutLast(path, "/")
	}
}

// splitURL returns host and path of a URL in lower case, the path without slashes around it.
func splitURL(url string) (host, path string) {
	_, rest, ok := strings.Cut(strings.ToLower(url), "://")
	if !ok {
		return "", ""
	}
	host, path, _ = strings.Cut(rest, "/")
	return host, strings.Trim(path, "/")
}

// judgeLikeness reports a certificate that is nobody's here and looks like w's.
func (w *watch) judgeLikeness(f *Finding, c *Certificate) {
	if w.likeness == nil || c == nil {
		return
	}
	i, ok := w.likeness.imitated(c)
	if !ok {
		return
	}
	if f.Subject == "" {
		f.Subject = Clip(i.name)
	}
	f.Seen = Clip(strings.Join(c.Issuers(), ", "))
	f.add(Reason{Rule: IDLookalike, Field: i.field, Expected: []string{i.mine}, Seen: Clip(i.seen),
		Text: fmt.Sprintf("certificate for %q: %s %q looks like the watched %q (%s)", Clip(i.name), i.field, Clip(i.seen), i.mine, i.how)})
}

// imitated returns the first name in c that looks like l.
func (l *likeness) imitated(c *Certificate) (imitation, bool) {
	for _, n := range c.Names {
		if i, ok := l.imitates(n); ok {
			return i, true
		}
	}
	repositories := c.repositories()
	for _, v := range repositories {
		if i, ok := l.imitates(Name{URI, v}); ok {
			return i, true
		}
	}
	for _, v := range c.values(16) {
		allowed := func(repository string) bool { return l.allowsBelow(v, repository) }
		if i, ok := l.imitates(Name{URI, v}); ok && !slices.ContainsFunc(repositories, allowed) {
			return i, true
		}
	}
	return imitation{}, false
}

// allowsBelow reports whether a repository of an owner is allowed by its own name, so that the owner's,
// which is in the same certificate, needs no other word.
func (l *likeness) allowsBelow(owner, repository string) bool {
	_, path := splitURL(repository)
	below := strings.HasPrefix(strings.ToLower(repository), strings.ToLower(strings.TrimSuffix(owner, "/"))+"/")
	return below && anyMatch(l.allow, path)
}

func (l *likeness) imitates(n Name) (imitation, bool) {
	var i imitation
	var allowed []string
	switch {
	case l.host != "":
		host, path := splitURL(n.Value)
		if r := workflowHome(n.Value); r != "" {
			_, path = splitURL(r)
		}
		i = l.onForge(host, path)
		owner, _, _ := strings.Cut(path, "/")
		allowed = []string{path, owner, host}
	case l.local != "":
		local, domain, ok := cutLast(strings.ToLower(strings.ReplaceAll(n.Value, "!", "@")), "@")
		if n.Type == URI || !ok {
			return i, false
		}
		i = l.inMail(local, domain)
		allowed = []string{local + "@" + domain, domain}
	default:
		host := hostOf(n)
		i = l.inDomain(host)
		allowed = []string{host, i.seen}
	}
	i.name = n.Value
	allows := func(v string) bool { return v != "" && anyMatch(l.allow, v) }
	return i, i.how != "" && !slices.ContainsFunc(allowed, allows)
}

// onForge compares a repository, or an owner alone: an owner that looks like mine, a repository of my
// owner's that looks like mine, or the same path on what looks like the forge.
func (l *likeness) onForge(host, path string) imitation {
	owner, repository := path, ""
	if l.repository != "" || strings.Contains(path, "/") {
		owner, repository, _ = cutLast(path, "/")
	}
	if host != l.host {
		if owner == l.owner && (l.repository == "" || repository == l.repository) && !slices.Contains(forges, host) {
			return imitation{field: "domain", mine: l.host, seen: host, how: likeDomain(l.host, host)}
		}
		return imitation{}
	}
	if owner != l.owner {
		return imitation{field: "owner", mine: l.owner, seen: owner, how: like(l.owner, owner)}
	}
	if l.repository == "" || repository == "" {
		return imitation{}
	}
	return imitation{field: "repository", mine: l.repository, seen: repository, how: like(l.repository, repository)}
}

// inMail compares a mail address: the same or a like one in a domain that looks like mine, or in mine
// one that is the same but for characters that look alike.
func (l *likeness) inMail(local, domain string) imitation {
	if domain != l.domain {
		if local == l.local || like(l.local, local) != "" {
			return imitation{field: "domain", mine: l.domain, seen: domain, how: likeDomain(l.domain, domain)}
		}
		return imitation{}
	}
	if local != l.local && skeleton(local) == skeleton(l.local) {
		return imitation{field: "address", mine: l.local, seen: local, how: confusable(local)}
	}
	return imitation{}
}

// inDomain compares a host: its last labels, as many as mine has, or mine in the midst of it.
func (l *likeness) inDomain(host string) imitation {
	host = decodeIDN(host)
	labels := strings.Split(host, ".")
	tail := strings.Join(labels[max(0, len(labels)-strings.Count(l.domain, ".")-1):], ".")
	i := imitation{field: "domain", mine: l.domain, seen: tail}
	if i.how = like(l.domain, tail); i.how == "" {
		i.seen, i.how = host, holds(l.domain, host)
	}
	return i
}

// likeDomain is like for domains, which may also begin with another.
func likeDomain(a, b string) string {
	if how := like(a, b); how != "" {
		return how
	}
	return holds(a, b)
}

// holds says how domain b looks like a for having it in front of its end; empty if it has not.
func holds(a, b string) string {
	if strings.Contains("."+b, "."+a+".") {
		return "another domain, which holds it"
	}
	return ""
}

// like says how b, which is not a, looks like a; empty if it does not. Of short names fewer characters
// may differ, as there are other names everywhere around them.
func like(a, b string) string {
	if b == "" || len(b) > 4*len(a)+16 {
		return ""
	}
	if a, b = decodeIDN(a), decodeIDN(b); a == b {
		return ""
	}
	as, bs := skeleton(a), skeleton(b)
	if as == bs {
		return confusable(b)
	}
	first, _, _ := strings.Cut(a, ".") // of a domain the label that matters
	most := min(mostEdits, (len([]rune(first))-1)/2)
	edits := min(bounded([]rune(a), []rune(b), most), bounded([]rune(as), []rune(bs), most))
	switch {
	case edits > most:
		return ""
	case edits == 1:
		return "1 character differs"
	}
	return fmt.Sprintf("%d characters differ", edits)
}

// confusable says how v looks like what has the same skeleton.
func confusable(v string) string {
	if mixed(v) {
		return "characters of several scripts that look alike"
	}
	return "characters that look alike"
}

// mixed reports whether v has letters of more than one script.
func mixed(v string) bool {
	scripts := map[string]bool{}
	for _, r := range v {
		for _, s := range []string{"Latin", "Cyrillic", "Greek", "Armenian", "Cherokee", "Hebrew", "Arabic", "Han", "Hangul", "Hiragana", "Katakana"} {
			if unicode.Is(unicode.Scripts[s], r) {
				scripts[s] = true
			}
		}
	}
	return len(scripts) > 1
}
