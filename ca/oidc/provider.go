package oidc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

// extensionArcs names the certificate extensions a CI provider may fill, by the last arc of
// 1.3.6.1.4.1.57264.1 (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md). Arcs 1, 8
// and 24 are missing: issuer and subject come from the verified token alone.
var extensionArcs = map[string]int{
	"github-workflow-trigger":                 2,
	"github-workflow-sha":                     3,
	"github-workflow-name":                    4,
	"github-workflow-repository":              5,
	"github-workflow-ref":                     6,
	"build-signer-uri":                        9,
	"build-signer-digest":                     10,
	"runner-environment":                      11,
	"source-repository-uri":                   12,
	"source-repository-digest":                13,
	"source-repository-ref":                   14,
	"source-repository-identifier":            15,
	"source-repository-owner-uri":             16,
	"source-repository-owner-identifier":      17,
	"build-config-uri":                        18,
	"build-config-digest":                     19,
	"build-trigger":                           20,
	"run-invocation-uri":                      21,
	"source-repository-visibility-at-signing": 22,
	"deployment-environment":                  23,
}

// upstreamOverrides are the overridable-defaults of the providers Fulcio ships that rely on a
// claim replacing a default, for configurations that do not know that key.
var upstreamOverrides = map[string][]string{
	"codefresh-workflow": {"platform_url"},
	"circleci-job":       {"api_url", "platform_url"},
	"buddy-pipeline":     {"base_url"},
}

// extensionEntries maps extension names to templates. In JSON the names are CamelCase.
type extensionEntries map[string]string

func (e *extensionEntries) UnmarshalJSON(data []byte) error {
	var camel map[string]string
	if err := json.Unmarshal(data, &camel); err != nil {
		return fmt.Errorf("decoding extension templates: %w", err)
	}
	byCamel := make(map[string]string)
	for name := range extensionArcs {
		byCamel[strings.ReplaceAll(name, "-", "")] = name
	}
	*e = make(extensionEntries)
	for name, text := range camel {
		if kebab, ok := byCamel[strings.ToLower(name)]; ok {
			name = kebab
		}
		(*e)[name] = text
	}
	return nil
}

// provider turns a CI system's claims into a SAN and extensions.
type provider struct {
	preset      bool // built in: reachable by a legacy type, not by name
	defaults    map[string]string
	overridable map[string]bool
	san         rule
	extensions  []extensionRule // by ascending arc
}

type extensionRule struct {
	arc int
	rule
}

// rule is one value: a claim by its name, or a template over claims and defaults.
type rule struct {
	name     string // of the extension, for messages
	claim    string
	template *template.Template
}

func compileProvider(name string, e *providerEntry) (*provider, error) {
	if e == nil {
		return nil, errors.New("empty")
	}
	p := &provider{defaults: e.Defaults, overridable: make(map[string]bool)}
	overridable := e.Overridable
	if overridable == nil {
		overridable = upstreamOverrides[name]
	}
	for _, key := range overridable {
		p.overridable[key] = true
	}
	if strings.TrimSpace(e.SAN) == "" {
		return nil, errors.New("subject-alternative-name-template is missing")
	}
	var errs []error
	var err error
	// In a SAN even an indexed key must exist, lest two identities collapse into one.
	strict := template.FuncMap{"index": func(m map[string]string, key string) (string, error) {
		if v, ok := m[key]; ok {
			return v, nil
		}
		return "", missingClaim(key)
	}}
	if p.san, err = compileRule("subject-alternative-name", e.SAN, strict); err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(e.Extensions)) {
		text := e.Extensions[name]
		arc, ok := extensionArcs[name]
		if !ok {
			// Fulcio's schema has these two and ignores them, as the token decides.
			if name != "issuer" && name != "subject" {
				errs = append(errs, fmt.Errorf("unknown extension %q", name))
			}
			continue
		}
		if strings.TrimSpace(text) == "" {
			continue
		}
		r, err := compileRule(name, text, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.extensions = append(p.extensions, extensionRule{arc, r})
	}
	slices.SortFunc(p.extensions, func(a, b extensionRule) int { return a.arc - b.arc })
	return p, errors.Join(errs...)
}

func compileRule(name, text string, funcs template.FuncMap) (rule, error) {
	if !strings.Contains(text, "{{") {
		return rule{name: name, claim: text}, nil
	}
	t, err := template.New("").Option("missingkey=error").Funcs(funcs).Parse(text)
	if err != nil {
		return rule{}, fmt.Errorf("parsing template of %s: %w", name, err)
	}
	return rule{name: name, template: t}, nil
}

// missingClaim is the error of a rule whose claim neither the token nor the defaults have.
type missingClaim string

func (m missingClaim) Error() string { return "missing claim " + string(m) }

// values merges token claims and defaults. A claim may stand in for an empty default (which only
// says that the claim is optional) or a default listed as overridable. Any other clash is refused:
// whoever can set a claim named like a default would choose the identity.
func (p *provider) values(claims map[string]any) (map[string]string, error) {
	values := maps.Clone(p.defaults)
	if values == nil {
		values = make(map[string]string)
	}
	for name, claim := range claims {
		text, ok := claimText(claim)
		if !ok {
			continue
		}
		if fixed, ok := p.defaults[name]; ok && fixed != "" && fixed != text && !p.overridable[name] {
			return nil, refuse(ReasonClaim, "claim %s would replace a fixed default", quoteName(name))
		}
		values[name] = text
	}
	return values, nil
}

// claimText renders a scalar claim. Whole floats are written as integers; large integers keep all
// their digits. Lists, objects and null have no text.
func claimText(claim any) (string, bool) {
	switch c := claim.(type) {
	case string:
		return c, true
	case bool:
		return strconv.FormatBool(c), true
	case json.Number:
		if !strings.ContainsAny(c.String(), ".eE") {
			return c.String(), true
		}
		f, err := c.Float64()
		if err != nil {
			return "", false
		}
		return strconv.FormatFloat(f, 'f', -1, 64), true
	}
	return "", false
}

// render evaluates the rule; its error names the claim and the extension, nothing else.
func (r rule) render(values map[string]string) (string, error) {
	if r.template == nil {
		v, ok := values[r.claim]
		if !ok {
			return "", refuse(ReasonClaim, "claim %s is missing for extension %s", quoteName(r.claim), r.name)
		}
		return v, nil
	}
	b := limitedBuilder{max: maxClaim}
	if err := r.template.Execute(&b, values); err != nil {
		if name, ok := missingKey(err); ok {
			return "", refuse(ReasonClaim, "claim %s is missing for extension %s", quoteName(name), r.name)
		}
		return "", refuse(ReasonClaim, "extension %s cannot be rendered from the claims", r.name)
	}
	return b.String(), nil
}

// missingKey digs the key out of a template's error, whose text is the only place that has it.
func missingKey(err error) (string, bool) {
	if m, ok := errors.AsType[missingClaim](err); ok {
		return string(m), true
	}
	const marker = `map has no entry for key "`
	_, rest, ok := strings.Cut(err.Error(), marker)
	if !ok {
		return "", false
	}
	name, _, _ := strings.Cut(rest, `"`)
	return name, true
}

// limitedBuilder is a strings.Builder that refuses to grow past max bytes.
type limitedBuilder struct {
	strings.Builder
	max int
}

func (b *limitedBuilder) Write(p []byte) (int, error) {
	if b.Len()+len(p) > b.max {
		return 0, errors.New("value too long")
	}
	return b.Builder.Write(p)
}
