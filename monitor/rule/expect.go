package rule

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// An expectation compares one field of a certificate with what an identity expects.
type expectation struct {
	rule     ID
	field    string                      // as in a Reason
	noun     string                      // for people
	expected []string                    // what explains it
	seen     func(*Certificate) []string // the values that are there, each of which must be explained
	explains func(*Certificate, string) bool
}

// builds lists the selectors whose certificates are those of builds, or may be: only they have what
// is compared here.
var builds = []string{"github", "gitlab", "san", "regex", "domain", "key", "extension"}

// ofBuilds are the opt-in rules that compare what only those certificates have.
var ofBuilds = []ID{IDFanOut, IDRefDrift, IDVisibilityChange, IDReusableCaller}

// expectations sets what of w's certificates is compared, from Expect and the identity's numbers.
func (w *watch) expectations() error {
	var errs []error
	if len(w.Expect.Workflows) > 0 {
		patterns, err := compileWorkflows(w.Expect.Workflows)
		errs = append(errs, err)
		w.expects = append(w.expects, expectation{IDUnexpectedWorkflow, "workflow", "workflow", w.Expect.Workflows,
			w.workflows, func(c *Certificate, v string) bool { return w.listed(patterns, c, v) }})
	}
	for _, list := range []struct {
		rule        ID
		field, noun string
		expected    []string
		ns          []int // extensions, the old form behind the new
	}{
		{IDUnexpectedRef, "ref", "ref", w.Expect.Refs, []int{14, 6}},
		{IDUnexpectedTrigger, "trigger", "trigger", w.Expect.Triggers, []int{20, 2}},
		{IDUnexpectedEnv, "environment", "deployment environment", w.Expect.Environments, []int{23}},
		{IDSelfHosted, "runner", "runner", one(w.Expect.Runner), []int{11}},
		{IDRepoIDMismatch, "repository_id", "repository ID", one(w.RepositoryID), []int{15}},
		{IDRepoIDMismatch, "owner_id", "owner ID", one(w.OwnerID), []int{17}},
	} {
		if len(list.expected) == 0 {
			continue
		}
		patterns, err := compilePatterns(list.field, list.expected)
		errs = append(errs, err)
		w.expects = append(w.expects, expectation{list.rule, list.field, list.noun, list.expected,
			func(c *Certificate) []string { return c.values(list.ns...) },
			func(_ *Certificate, v string) bool { return anyMatch(patterns, v) }})
	}
	return errors.Join(append(errs, w.checkExpect())...)
}

func one(v string) []string {
	if v == "" {
		return nil
	}
	return []string{v}
}

// checkExpect refuses what could never be as expected.
func (w *watch) checkExpect() error {
	kind, _ := w.kind()
	var errs []error
	for _, x := range w.expects {
		if kind != "" && !slices.Contains(builds, kind) {
			errs = append(errs, fmt.Errorf("a %s is expected, which certificates for %s identities never have", x.noun, kind))
		}
	}
	for name, id := range map[string]string{"repository_id": w.RepositoryID, "owner_id": w.OwnerID} {
		if strings.Trim(id, "0123456789") != "" {
			errs = append(errs, fmt.Errorf("%s %q is not a number, as the forge's API shows it", name, id))
		}
	}
	if w.RepositoryID != "" && w.project != nil && w.project.owner {
		errs = append(errs, errors.New("repository_id is of one repository, and the identity has all of an owner's; owner_id is for those"))
	}
	if near := misspelt(w.Expect.Runner, "github-hosted", "gitlab-hosted", "self-hosted"); near != "" {
		errs = append(errs, fmt.Errorf("runner %q; is %q meant?", w.Expect.Runner, near))
	}
	for name, list := range map[string][]string{"issuers": w.Expect.Issuers, "workflows": w.Expect.Workflows, "refs": w.Expect.Refs,
		"triggers": w.Expect.Triggers, "environments": w.Expect.Environments} {
		if list != nil && len(list) == 0 {
			errs = append(errs, fmt.Errorf("expect.%s is empty: leave it out if any may be", name))
		}
	}
	for _, v := range w.Expect.Issuers {
		switch {
		case v == "":
			errs = append(errs, errors.New("empty expected issuer"))
		case strings.Contains(v, "*"):
			errs = append(errs, fmt.Errorf("issuer %q: issuers are compared exactly, and * stands for nothing in them", v))
		}
	}
	for _, v := range w.Expect.Workflows {
		if w.GitHub != "" && !strings.ContainsAny(v, "/*") && v != "" {
			errs = append(errs, fmt.Errorf("workflow %q is no path in the repository, such as .github/workflows/%s", v, v))
		}
	}
	for _, r := range w.Expect.Refs {
		if !strings.HasPrefix(r, "refs/") && !strings.HasPrefix(r, "*") {
			errs = append(errs, fmt.Errorf("ref %q does not begin with refs/; a branch is refs/heads/…, a tag refs/tags/…", r))
		}
	}
	return errors.Join(errs...)
}

// misspelt returns the word of which v is likely a misspelling, if it is one.
func misspelt(v string, words ...string) string {
	if slices.Contains(words, v) {
		return ""
	}
	for _, word := range words {
		if bounded([]rune(strings.ToLower(v)), []rune(word), 2) <= 2 {
			return word
		}
	}
	return ""
}

// compilePatterns compiles what may be expected of a field.
func compilePatterns(field string, list []string) ([]*regexp.Regexp, error) {
	var out []*regexp.Regexp
	var errs []error
	for _, p := range list {
		if p == "" {
			errs = append(errs, fmt.Errorf("empty expected %s", field))
			continue
		}
		out = append(out, pattern(p))
	}
	return out, errors.Join(errs...)
}

// pattern compiles text in which * stands for any run of characters, over all of a value.
func pattern(text string) *regexp.Regexp {
	return regexp.MustCompile("(?s)^" + strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, ".*") + "$")
}

func anyMatch(patterns []*regexp.Regexp, v string) bool {
	return slices.ContainsFunc(patterns, func(p *regexp.Regexp) bool { return p.MatchString(v) })
}

// judgeIssuer compares the OpenID Connect issuer.
func (w *watch) judgeIssuer(f *Finding, signer *Signer) {
	c := signer.Certificate
	if c == nil {
		if len(w.expected) > 0 && w.on(IDNoIssuer) {
			f.add(Reason{Rule: IDNoIssuer, Text: fmt.Sprintf("key %q was used without a certificate, so that no issuer vouches for it", f.Subject),
				Field: "issuer", Expected: w.expected})
		}
		return
	}
	issuers := c.Issuers()
	f.Seen = Clip(strings.Join(issuers, ", "))
	switch {
	case len(w.expected) == 0:
	case len(issuers) == 0 && w.on(IDNoIssuer):
		f.add(Reason{Rule: IDNoIssuer, Text: fmt.Sprintf("certificate for %q without OpenID Connect issuer", f.Subject),
			Field: "issuer", Expected: w.expected})
	case w.on(IDUnexpected) && slices.ContainsFunc(issuers, func(i string) bool { return !slices.Contains(w.expected, i) }):
		f.add(Reason{Rule: IDUnexpected, Text: fmt.Sprintf("certificate for %q from unexpected issuer %q", f.Subject, f.Seen),
			Field: "issuer", Expected: w.expected, Seen: f.Seen})
	}
}

// judgeExpectations compares all that is expected beside the issuer. What is not there is not as
// expected.
func (w *watch) judgeExpectations(f *Finding, signer *Signer) {
	for _, x := range w.expects {
		if !w.on(x.rule) {
			continue
		}
		c := signer.Certificate
		r := Reason{Rule: x.rule, Field: x.field, Expected: x.expected}
		var seen []string
		if c != nil {
			seen = x.seen(c)
		}
		unexplained := slices.DeleteFunc(slices.Clone(seen), func(v string) bool { return x.explains(c, v) })
		switch {
		case len(unexplained) > 0:
			r.Seen = Clip(strings.Join(unexplained, ", "))
			r.Text = fmt.Sprintf("certificate for %q with unexpected %s %q", f.Subject, x.noun, r.Seen)
		case len(seen) > 0:
			continue
		case c == nil:
			r.Text = fmt.Sprintf("key %q was used without a certificate, which would say its %s", f.Subject, x.noun)
		default:
			r.Text = fmt.Sprintf("certificate for %q does not say its %s", f.Subject, x.noun)
		}
		f.add(r)
	}
}

// workflows returns the workflows that c names: the one that ran (1.18), the one it called and that
// signed (1.9), and the name that verifiers compare, which is the latter again.
func (w *watch) workflows(c *Certificate) []string {
	out := c.values(18, 9)
	for _, n := range c.Names {
		if n.Type == URI && (w.project == nil || w.project.has(n.Value)) && !slices.Contains(out, n.Value) {
			out = append(out, n.Value)
		}
	}
	return out
}
