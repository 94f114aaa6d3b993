package rekormonitor

import (
	"encoding/hex"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// fulcio are rekor-monitor's names for certificate extensions 1.3.6.1.4.1.57264.1.N.
var fulcio = map[string][]int{
	"issuer": {1, 8}, "github-workflow-trigger": {2}, "github-workflow-sha": {3}, "github-workflow-name": {4},
	"github-workflow-repository": {5}, "github-workflow-ref": {6}, "build-signer-uri": {9}, "build-signer-digest": {10},
	"runner-environment": {11}, "source-repository-uri": {12}, "source-repository-digest": {13}, "source-repository-ref": {14},
	"source-repository-identifier": {15}, "source-repository-owner-uri": {16}, "source-repository-owner-identifier": {17},
	"build-config-uri": {18}, "build-config-digest": {19}, "build-trigger": {20}, "run-invocation-uri": {21},
	"source-repository-visibility-at-signing": {22},
}

const fulcioArc = "1.3.6.1.4.1.57264.1"

// identities returns the identities, one a line.
func (i *importer) identities() string {
	v := i.peer.MonitoredValues
	var b strings.Builder
	line := func(name, selector string) {
		fmt.Fprintf(&b, "  - {name: %s, %s}\n", quoted(i.name(name)), selector)
	}
	seen := map[string]bool{} // the same expression is one identity, wherever it stands
	expression := func(key, expr string) {
		pattern, ok := i.pattern(key, expr)
		if ok && !seen[pattern] {
			seen[pattern] = true
			line(strings.ReplaceAll(expr, `\.`, "."), "regex: "+quoted(pattern))
		}
	}
	for _, c := range v.CertIdentities {
		expression("certSubject", c.CertSubject)
		i.issuers(c)
	}
	for _, s := range v.Subjects {
		expression("subjects", s)
	}
	if len(seen) > 0 {
		i.warn("regular expressions of rekor-monitor match anywhere in a name, so that user@example\\.com is also in eve-user@example.com.evil.example; they are imported so. \"email:\" and \"regex:\" without .* at both ends match whole names")
	}
	for _, f := range v.Fingerprints {
		if key, ok := i.fingerprint(f); ok {
			line("fingerprint "+f, "key: "+key)
		}
	}
	for _, m := range i.extensions() {
		line("extension "+m.id, "extension: "+m.flow())
	}
	if b.Len() == 0 {
		i.warn("it watches nobody: with our configuration the logs alone are checked")
	}
	return b.String()
}

// name returns a name for an identity that no other has.
func (i *importer) name(text string) string {
	const most = 80
	if r := []rune(text); len(r) > most {
		text = string(r[:most]) + "…"
	}
	name := text
	for n := 2; i.names[name]; n++ {
		name = fmt.Sprintf("%s (%d)", text, n)
	}
	i.names[name] = true
	return name
}

// pattern returns a regular expression that matches the whole of a name in which expr matches
// something.
func (i *importer) pattern(key, expr string) (string, bool) {
	if expr == "" {
		i.refuse("%s is empty: rekor-monitor refuses that too", key)
		return "", false
	}
	if _, err := regexp.Compile(expr); err != nil {
		i.refuse("%s %q: %w", key, expr, err)
		return "", false
	}
	return ".*(?:" + expr + ").*", true
}

// issuers says what became of a certIdentity's issuers.
func (i *importer) issuers(c certIdentity) {
	for _, issuer := range c.Issuers {
		if _, err := regexp.Compile(issuer); err != nil || issuer == "" {
			i.refuse("issuers of %q: %q is not a regular expression", c.CertSubject, issuer)
		}
	}
	if len(c.Issuers) > 0 {
		i.warn("certSubject %q: rekor-monitor was silent about issuers other than %q; they are reported now, as they are what a misuse has. \"expect: {issuers: […]}\" explains yours, and makes the others critical",
			c.CertSubject, []string(c.Issuers))
	}
}

// fingerprint returns a fingerprint as we have it, and whether it can be that of anything in the
// logs that are followed.
func (i *importer) fingerprint(f string) (string, bool) {
	sum, err := hex.DecodeString(f)
	switch {
	case err == nil && len(sum) == 32:
		return hex.EncodeToString(sum), true
	case err == nil && len(sum) == 20:
		i.warn("fingerprint %q is of a PGP key: the logs that are followed take none, and it is left out", f)
	case len(f) == 43 && !strings.ContainsAny(f, " ="):
		i.warn("fingerprint %q is of an SSH key: the logs that are followed take none, and it is left out", f)
	default:
		i.refuse("fingerprint %q is neither the SHA-256 of a key or certificate (64 hexadecimal digits) nor that of an SSH or PGP key: it has never matched anything", f)
	}
	return "", false
}

// A match is an extension and the values it is looked for.
type match struct {
	id     string
	values []string
}

func (m match) flow() string {
	list := make([]string, len(m.values))
	for n, v := range m.values {
		list[n] = quoted(v)
	}
	return fmt.Sprintf("{id: %s, values: [%s]}", quoted(m.id), strings.Join(list, ", "))
}

// extensions returns what is looked for in extensions, each once.
func (i *importer) extensions() []match {
	var order []string
	wanted := map[string][]string{}
	add := func(id string, values texts) {
		if len(values) == 0 || slices.Contains(values, "") {
			i.refuse("extension %s: no value, or an empty one", id)
			return
		}
		if wanted[id] == nil {
			order = append(order, id)
		}
		for _, v := range values {
			if !slices.Contains(wanted[id], v) {
				wanted[id] = append(wanted[id], v)
			}
		}
	}
	v := i.peer.MonitoredValues
	for n, m := range []matchers{v.OIDMatchers, v.Misplaced} {
		before := len(order)
		for _, named := range []map[string]texts{m.FulcioExtensions, m.FulcioExtensionsLower} {
			for _, name := range slices.Sorted(maps.Keys(named)) {
				numbers, ok := fulcio[strings.ToLower(name)]
				if !ok {
					i.refuse("fulcioExtensions: unknown key %q", name)
				}
				for _, number := range numbers {
					add(fmt.Sprintf("%s.%d", fulcioArc, number), named[name])
				}
			}
		}
		for _, e := range slices.Concat(m.OIDExtensions, m.OIDExtensionsLower, m.CustomExtensions, m.CustomExtensionsLower) {
			add(string(e.ObjectIdentifier), e.ExtensionValues)
		}
		if n == 1 && len(order) > before {
			i.warn("extensions directly below monitoredValues, and not in oidMatchers, were never read by rekor-monitor; they are watched now")
		}
	}
	out := make([]match, len(order))
	for n, id := range order {
		out[n] = match{id, wanted[id]}
	}
	return out
}
