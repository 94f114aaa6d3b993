package rule

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// selector sets what w matches from the one selector that is set.
func (w *watch) selector() error {
	kind, err := w.kind()
	switch kind {
	case "email":
		err = w.byEmail(w.Email)
	case "domain":
		err = w.byDomain(w.Domain)
	case "san":
		err = w.bySAN(w.SAN)
	case "regex":
		err = w.byRegex(w.Regex)
	case "github":
		err = w.byGitHub(w.GitHub)
	case "gitlab":
		err = w.byGitLab(w.GitLab)
	case "key":
		err = w.byKey(w.Key)
	case "kubernetes":
		err = w.byKubernetes(w.Kubernetes)
	case "extension":
		err = w.byExtension(w.Extension)
	}
	return err
}

func (w *watch) byEmail(v string) error {
	local, host, ok := cutLast(v, "@")
	if !ok || local == "" || strings.Trim(host, ".") != host || host == "" || strings.ContainsAny(v, "*<>(),;:\\ \t\r\n") || strings.Contains(local, "@") {
		return fmt.Errorf("email %q is not a mail address, such as alice@example.org", v)
	}
	ascii, unicode := domainForms(host)
	ascii, unicode = local+"@"+ascii, local+"@"+unicode
	w.matchNames(func(n Name) bool {
		return strings.EqualFold(n.Value, v) || strings.EqualFold(n.Value, ascii) || strings.EqualFold(n.Value, unicode)
	})
	w.literal(ascii, unicode)
	w.needle.words = words(ascii) // a name as unicode is not ASCII
	return nil
}

// domainForms returns a domain in ASCII, as certificates have it, and as people write it.
func domainForms(domain string) (ascii, unicode string) {
	ascii, err := idna.Lookup.ToASCII(domain)
	if err != nil {
		ascii = domain
	}
	if unicode, err = idna.Lookup.ToUnicode(domain); err != nil {
		unicode = domain
	}
	return ascii, unicode
}

func (w *watch) byDomain(v string) error {
	domain := strings.ToLower(strings.Trim(v, "."))
	if domain == "" || strings.ContainsAny(domain, "*@/: ") {
		return fmt.Errorf("domain %q is not a domain name", v)
	}
	ascii, unicode := domainForms(domain)
	w.matchNames(func(n Name) bool { return hostUnder(n, ascii) || hostUnder(n, unicode) })
	w.literal(ascii, unicode)
	w.needle.words = words(ascii, wildcardOver(ascii)) // a name as unicode is not ASCII
	return nil
}

func (w *watch) bySAN(v string) error {
	if _, err := netip.ParsePrefix(v); err == nil {
		return fmt.Errorf("san %q is a network; want one address, or * for any run of characters", v)
	}
	if address, err := netip.ParseAddr(v); err == nil { // names of certificates have the usual form
		v = address.Unmap().WithZone("").String()
	}
	re, err := glob(v)
	if err != nil {
		return fmt.Errorf("san %q: %w", v, err)
	}
	w.matchNames(func(n Name) bool {
		return re.MatchString(n.Value) || n.Type == DNS && wildcardCovers(n.Value, v)
	})
	w.literal(longest(strings.Split(v, "*")))
	w.needle.words = words(longest(strings.Split(v, "*")), wildcardOver(v))
	w.needle.ips = strings.Trim(v, "0123456789abcdefABCDEF.:*") == ""
	return nil
}

func (w *watch) byRegex(v string) error {
	// By itself first: a parenthesis too many would close the group that anchors it.
	parsed, err := syntax.Parse(v, syntax.Perl|syntax.DotNL)
	if err != nil {
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
	w.needle = needle{words: required(parsed), ips: true}
	return nil
}

func (w *watch) byGitHub(v string) error {
	owner, repo, ok := strings.Cut(v, "/")
	switch {
	case !ok || owner == "" || repo == "" || strings.ContainsAny(owner, "*@: ") || strings.ContainsAny(repo, "/@: ") ||
		repo != "*" && strings.Contains(repo, "*"):
		return fmt.Errorf("github %q is neither owner/repository nor owner/*", v)
	case repo != "*" && !gitHubName(owner+repo) || !gitHubName(owner):
		return fmt.Errorf("github %q: names there have letters of ASCII, digits, -, _ and . alone", v)
	case strings.HasSuffix(strings.ToLower(repo), ".git"):
		return fmt.Errorf("github %q: no repository is called so there; is %q meant?", v, v[:len(v)-len(".git")])
	}
	if repo == "*" {
		w.byProject(&project{url: "https://github.com/" + owner, path: owner, owner: true})
		return nil
	}
	w.byProject(&project{url: "https://github.com/" + v, path: v})
	return nil
}

// gitHubName reports whether v has only characters that names on github.com may have.
func gitHubName(v string) bool {
	return strings.Trim(strings.ToLower(v), "abcdefghijklmnopqrstuvwxyz0123456789-_.") == ""
}

func (w *watch) byGitLab(v string) error {
	at := v
	if !strings.Contains(v, "://") {
		at = "https://gitlab.com/" + v
	}
	u, err := url.Parse(at)
	if err != nil || u.Host == "" || strings.Count(strings.Trim(u.Path, "/"), "/") == 0 || strings.Contains(v, "*") || strings.Contains(u.Path, "//") {
		return fmt.Errorf("gitlab %q is neither group/project nor the URL of a project", v)
	}
	if bare, ok := strings.CutSuffix(v, ".git"); ok {
		return fmt.Errorf("gitlab %q: no project is called so there; is %q meant?", v, bare)
	}
	w.byProject(&project{url: strings.TrimSuffix(at, "/"), path: strings.Trim(u.Path, "/")})
	return nil
}

// byProject matches what a forge certifies for a project.
func (w *watch) byProject(p *project) {
	w.project = p
	w.match = func(e *Signer) (string, bool) { return p.match(e.Certificate) }
	w.literal(p.path)
	w.needle.words = words(p.url, p.path)
	if strings.HasSuffix(strings.ToLower(p.url), strings.ToLower(p.path)) {
		w.needle.words = words(p.path)
	}
}

func (w *watch) byKey(v string) error {
	want, err := parseFingerprint(v)
	if err != nil {
		return err
	}
	w.match = func(e *Signer) (string, bool) {
		hit := e.KeyHash == want
		if c := e.Certificate; c != nil {
			hit = c.KeyHash() == want || c.Fingerprint() == want
		}
		return "sha256:" + hex.EncodeToString(want[:]), hit
	}
	w.inBytes = func([]byte) bool { return false } // a hash is not in what it is a hash of
	w.needle.hashes = [][32]byte{want}
	return nil
}

func (w *watch) byKubernetes(v string) error {
	namespace, account, ok := strings.Cut(v, "/")
	if !ok || namespace == "" || account == "" || strings.Contains(account, "/") {
		return fmt.Errorf("kubernetes %q is not namespace/service-account", v)
	}
	path := "namespaces/" + namespace + "/serviceaccounts/" + account
	re, err := glob("https://kubernetes.io/" + path)
	if err != nil {
		return fmt.Errorf("kubernetes %q: %w", v, err)
	}
	w.matchNames(func(n Name) bool { return n.Type == URI && re.MatchString(n.Value) })
	w.literal(longest(strings.Split(path, "*")))
	w.needle.words = words(longest(strings.Split(path, "*")))
	return nil
}

// matchNames matches certificates of which one name satisfies match: as it is, or up to its first
// NUL, where a verifier written in C would end it, or as a URI that is the same.
func (w *watch) matchNames(match func(Name) bool) {
	w.match = func(e *Signer) (string, bool) {
		if e.Certificate == nil {
			return "", false
		}
		for _, n := range e.Certificate.Names {
			short, _, _ := strings.Cut(n.Value, "\x00")
			if match(n) || short != n.Value && match(Name{n.Type, short}) {
				return n.Value, true
			}
			if plain := unescape(n.Value); plain != n.Value && match(Name{n.Type, plain}) {
				return n.Value, true
			}
		}
		return "", false
	}
}

// minLiteral is the length below which finding a literal in arbitrary bytes says nothing.
const minLiteral = 4

// literal sets what must be in the bytes of whatever is w's, one of some texts.
func (w *watch) literal(texts ...string) {
	w.inBytes = func(b []byte) bool {
		return slices.ContainsFunc(texts, func(text string) bool {
			return len(text) >= minLiteral && bytes.Contains(b, bytes.ToLower([]byte(text)))
		})
	}
}

// glob compiles a pattern in which * stands for any run of characters and case does not matter.
func glob(pattern string) (*regexp.Regexp, error) {
	if strings.Trim(pattern, "*") == "" {
		return nil, errors.New("the pattern matches everything")
	}
	return regexp.Compile("(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(pattern), `\*`, ".*") + "$")
}

// words returns the words of a needle for texts of which one is in whatever matches; none if one of
// them has no ASCII to look for.
func words(texts ...string) []string {
	var out []string
	for _, t := range texts {
		w := word(t)
		if w == "" {
			return nil
		}
		out = append(out, w)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func longest(parts []string) string {
	return slices.MaxFunc(parts, func(a, b string) int { return len(a) - len(b) })
}
