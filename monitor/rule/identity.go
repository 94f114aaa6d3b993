package rule

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// An Identity is something to watch for. Exactly one of Email to Kubernetes is set.
type Identity struct {
	Name string // shown in events; unique, not empty

	Email      string // a mail address, without regard to case
	Domain     string // a domain and all below it: in mail addresses, DNS names and URIs
	SAN        string // any subject alternative name; * stands for any run of characters; case ignored
	Regex      string // RE2 over the whole of a subject alternative name
	GitHub     string // owner/repository or owner/*
	GitLab     string // group/project on gitlab.com, or the URL of a project elsewhere
	Key        string // hex SHA-256 of a SubjectPublicKeyInfo or certificate; "sha256:" may precede it
	Kubernetes string // namespace/service-account; each part may be *

	RepositoryID string // of the source repository (1.15); empty: not compared
	OwnerID      string // of its owner (1.17); likewise

	Expect Expect        // what explains an entry; zero: nothing is expected
	Rules  map[ID]Params // opt-in rules that are on, and others that are off
	Notify []string      // names of the sinks that are told; empty: all
}

// Expect says which entries of an identity are explained. An empty field explains anything.
type Expect struct {
	Issuers      []string // OpenID Connect issuers, compared exactly
	Workflows    []string // paths in the repository, or URIs; * stands for any run of characters
	Refs         []string // likewise
	Triggers     []string // names of events
	Runner       string   // "github-hosted", "self-hosted"
	Environments []string // deployment environments

	Authorize    bool          // an authorization must explain a signature
	Grace        time.Duration // within which it must be there; 0: 15 minutes
	Certificates bool          // it must explain entries of certificate logs too, which have no digest
}

// An identity ready to be matched.
type watch struct {
	Identity
	seen     bool                         // id.seen is on
	match    func(*Signer) (string, bool) // the name or key that matched
	inBytes  func([]byte) bool            // whether lower-cased bytes hold what cannot but be there
	expected []string

	remembers []func(*judging) // the rules that need more than the entry, in order
}

// check says what is wrong with the authorizations that are expected.
func (e Expect) check() error {
	switch {
	case e.Grace < 0:
		return fmt.Errorf("grace %v for authorizations is negative", e.Grace)
	case !e.Authorize && (e.Grace != 0 || e.Certificates):
		return errors.New("authorizations have a grace time or are for certificates, and are not required")
	}
	return nil
}

// compile checks the identity and returns it ready for use.
func (i Identity) compile() (*watch, error) {
	var errs []error
	w := &watch{Identity: i, expected: slices.Clone(i.Expect.Issuers)}
	if i.Name == "" {
		errs = append(errs, errors.New("identity without name"))
	}
	for id, p := range i.Rules {
		errs = append(errs, p.check(id, false))
	}
	if slices.Contains(i.Expect.Issuers, "") {
		errs = append(errs, errors.New("empty expected issuer"))
	}
	errs = append(errs, i.Expect.check(), w.selector())
	if i.Expect.Authorize && i.Rules[IDUnauthorized].Off {
		errs = append(errs, fmt.Errorf("authorizations are required, and rule %q is off", IDUnauthorized))
	}
	errs = append(errs, w.remember())
	seen, named := i.Rules[IDSeen]
	w.seen = named && !seen.Off || !named && i.Expect.empty()
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("identity %q: %w", i.Name, err)
	}
	return w, nil
}

// empty reports whether nothing is expected.
func (e Expect) empty() bool {
	return len(e.Issuers)+len(e.Workflows)+len(e.Refs)+len(e.Triggers)+len(e.Environments) == 0 && e.Runner == "" && !e.Authorize
}

// selector sets match and inBytes from the one selector that is set.
func (w *watch) selector() error {
	selectors := []struct {
		value string
		set   func(string) error
	}{
		{w.Email, w.byEmail}, {w.Domain, w.byDomain}, {w.SAN, w.bySAN}, {w.Regex, w.byRegex},
		{w.GitHub, w.byGitHub}, {w.GitLab, w.byGitLab}, {w.Key, w.byKey}, {w.Kubernetes, w.byKubernetes},
	}
	var err error
	n := 0
	for _, s := range selectors {
		if s.value != "" {
			n++
			err = s.set(s.value)
		}
	}
	if n != 1 {
		return fmt.Errorf("%d of email, domain, san, regex, github, gitlab, key, kubernetes set, must be one", n)
	}
	return err
}

func (w *watch) byEmail(v string) error {
	if local, host, ok := cutLast(v, "@"); !ok || local == "" || host == "" {
		return fmt.Errorf("email %q is not a mail address", v)
	}
	w.matchNames(func(n Name) bool { return strings.EqualFold(n.Value, v) })
	w.literal(v)
	return nil
}

func (w *watch) byDomain(v string) error {
	domain := strings.ToLower(strings.Trim(v, "."))
	if domain == "" || strings.ContainsAny(domain, "*@/: ") {
		return fmt.Errorf("domain %q is not a domain name", v)
	}
	w.matchNames(func(n Name) bool { return hostUnder(n, domain) })
	w.literal(domain)
	return nil
}

func (w *watch) bySAN(v string) error {
	re, err := glob(v)
	if err != nil {
		return fmt.Errorf("san %q: %w", v, err)
	}
	w.matchNames(func(n Name) bool {
		return re.MatchString(n.Value) || n.Type == DNS && wildcardCovers(n.Value, v)
	})
	w.literal(longest(strings.Split(v, "*")))
	return nil
}

func (w *watch) byRegex(v string) error {
	// By itself first: a parenthesis too many would close the group that anchors it.
	if _, err := regexp.Compile(v); err != nil {
		return fmt.Errorf("regex %q: %w", v, err)
	}
	loose, err := regexp.Compile("(?is)(?:" + v + ")")
	if err != nil {
		return fmt.Errorf("regex %q: %w", v, err)
	}
	anchored, err := regexp.Compile("(?s)^(?:" + v + ")$")
	if err != nil {
		return fmt.Errorf("regex %q: %w", v, err)
	}
	w.matchNames(func(n Name) bool {
		return anchored.MatchString(n.Value) || anchored.MatchString(foldHost(n.Value))
	})
	w.inBytes = loose.Match
	return nil
}

func (w *watch) byGitHub(v string) error {
	owner, repo, ok := strings.Cut(v, "/")
	if !ok || owner == "" || repo == "" || strings.ContainsAny(owner, "* ") || strings.ContainsAny(repo, "/ ") ||
		repo != "*" && strings.Contains(repo, "*") {
		return fmt.Errorf("github %q is neither owner/repository nor owner/*", v)
	}
	if repo == "*" {
		w.byProject("https://github.com/"+owner, owner, true)
		return nil
	}
	w.byProject("https://github.com/"+v, v, false)
	return nil
}

func (w *watch) byGitLab(v string) error {
	project := v
	if !strings.Contains(v, "://") {
		project = "https://gitlab.com/" + v
	}
	u, err := url.Parse(project)
	if err != nil || u.Host == "" || strings.Count(strings.Trim(u.Path, "/"), "/") == 0 || strings.Contains(v, "*") {
		return fmt.Errorf("gitlab %q is neither group/project nor the URL of a project", v)
	}
	w.byProject(strings.TrimSuffix(project, "/"), strings.Trim(u.Path, "/"), false)
	return nil
}

// byProject matches what a forge certifies for the project at a URL: names below it, the source
// repository (12), its owner (16), and the repository path of old certificates (5).
func (w *watch) byProject(project, path string, owner bool) {
	under := func(v, prefix string) bool {
		return len(v) >= len(prefix) && strings.EqualFold(v[:len(prefix)], prefix) &&
			(len(v) == len(prefix) || v[len(prefix)] == '/')
	}
	w.match = func(e *Signer) (string, bool) {
		c := e.Certificate
		if c == nil {
			return "", false
		}
		for _, n := range c.Names {
			if under(n.Value, project) {
				return n.Value, true
			}
		}
		for _, v := range []string{c.Extensions[12], c.Extensions[16]} {
			if under(v, project) {
				return v, true
			}
		}
		v := c.Extensions[5]
		return v, strings.EqualFold(v, path) || owner && under(v, path)
	}
	w.literal(path)
}

func (w *watch) byKey(v string) error {
	sum, err := hex.DecodeString(strings.TrimPrefix(v, "sha256:"))
	if err != nil || len(sum) != 32 {
		return fmt.Errorf("key %q is not a SHA-256 in hex", v)
	}
	want := [32]byte(sum)
	w.match = func(e *Signer) (string, bool) {
		hit := e.KeyHash == want
		if c := e.Certificate; c != nil {
			hit = c.KeyHash() == want || c.Fingerprint() == want
		}
		return "sha256:" + hex.EncodeToString(sum), hit
	}
	w.inBytes = func([]byte) bool { return false } // a hash is not in what it is a hash of
	return nil
}

func (w *watch) byKubernetes(v string) error {
	namespace, account, ok := strings.Cut(v, "/")
	if !ok || namespace == "" || account == "" || strings.Contains(account, "/") {
		return fmt.Errorf("kubernetes %q is not namespace/service-account", v)
	}
	re, err := glob("https://kubernetes.io/namespaces/" + namespace + "/serviceaccounts/" + account)
	if err != nil {
		return fmt.Errorf("kubernetes %q: %w", v, err)
	}
	w.matchNames(func(n Name) bool { return n.Type == URI && re.MatchString(n.Value) })
	w.literal(longest(strings.Split("namespaces/"+namespace+"/serviceaccounts/"+account, "*")))
	return nil
}

// matchNames matches certificates of which one name satisfies match: as it is, or up to its first
// NUL, where a verifier written in C would end it.
func (w *watch) matchNames(match func(Name) bool) {
	w.match = func(e *Signer) (string, bool) {
		if e.Certificate == nil {
			return "", false
		}
		for _, n := range e.Certificate.Names {
			if match(n) {
				return n.Value, true
			}
			if short, _, ok := strings.Cut(n.Value, "\x00"); ok && match(Name{n.Type, short}) {
				return n.Value, true
			}
		}
		return "", false
	}
}

// minLiteral is the length below which finding a literal in arbitrary bytes says nothing.
const minLiteral = 4

func (w *watch) literal(v string) {
	lower := bytes.ToLower([]byte(v))
	w.inBytes = func(b []byte) bool { return len(lower) >= minLiteral && bytes.Contains(b, lower) }
}

// glob compiles a pattern in which * stands for any run of characters and case does not matter.
func glob(pattern string) (*regexp.Regexp, error) {
	if strings.Trim(pattern, "*") == "" {
		return nil, errors.New("the pattern matches everything")
	}
	return regexp.Compile("(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
}

// hostUnder reports whether the host that n is about is domain or below it, or a wildcard that
// covers domain.
func hostUnder(n Name, domain string) bool {
	host := n.Value
	switch n.Type {
	case Email, Other:
		_, host, _ = cutLast(host, "@")
	case URI:
		_, rest, ok := strings.Cut(host, "://")
		if !ok {
			return false
		}
		host = rest[:indexAnyOrEnd(rest, "/?#")]
		if _, after, ok := cutLast(host, "@"); ok {
			host = after
		}
		host = host[:indexAnyOrEnd(host, ":")]
	case IP:
		return false
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	return host == domain || strings.HasSuffix(host, "."+domain) || wildcardCovers(host, domain)
}

// wildcardCovers reports whether the DNS name "*.x" covers the one-label-deeper name.
func wildcardCovers(wildcard, name string) bool {
	suffix, ok := strings.CutPrefix(wildcard, "*.")
	_, parent, _ := strings.Cut(name, ".")
	return ok && suffix != "" && strings.EqualFold(strings.TrimSuffix(suffix, "."), strings.TrimSuffix(parent, "."))
}

// foldHost lower-cases what is a host in a URI, a mail address or a DNS name.
func foldHost(v string) string {
	if scheme, rest, ok := strings.Cut(v, "://"); ok {
		end := indexAnyOrEnd(rest, "/?#")
		return strings.ToLower(scheme) + "://" + strings.ToLower(rest[:end]) + rest[end:]
	}
	if local, host, ok := cutLast(v, "@"); ok {
		return local + "@" + strings.ToLower(host)
	}
	return strings.ToLower(v)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

func indexAnyOrEnd(s, chars string) int {
	if i := strings.IndexAny(s, chars); i >= 0 {
		return i
	}
	return len(s)
}

func longest(parts []string) string {
	return slices.MaxFunc(parts, func(a, b string) int { return len(a) - len(b) })
}
