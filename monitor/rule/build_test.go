package rule_test

import (
	"crypto/x509"
	"maps"
	"slices"

	"tallywood/monitor/rule"
)

const (
	actions  = "https://token.actions.githubusercontent.com"
	toolRepo = "https://github.com/example/tool"
	release  = toolRepo + "/.github/workflows/release.yml@refs/tags/v1.2.3"
)

// overEnvelope is a signature that any Ed25519 key can have made, over something that no entry holds.
var overEnvelope = make([]byte, 64)

// release123 is what Fulcio certifies of a run of example/tool: the values of its extensions by
// number, and as 0 the subject alternative name.
var release123 = map[int]string{
	0: release, 1: actions, 2: "push", 3: "c0ffee", 4: "Release", 5: "example/tool", 6: "refs/tags/v1.2.3",
	8: actions, 9: release, 10: "c0ffee", 11: "github-hosted", 12: toolRepo, 13: "c0ffee", 14: "refs/tags/v1.2.3",
	15: "123456789", 16: "https://github.com/example", 17: "42", 18: release, 19: "c0ffee", 20: "push",
	21: toolRepo + "/actions/runs/77/attempts/1", 22: "public", 23: "production",
}

// but returns the values of base, some of them changed; an empty one is left out.
func but(base map[int]string, pairs ...any) map[int]string {
	m := maps.Clone(base)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(int)] = pairs[i+1].(string)
	}
	return m
}

// build issues a certificate with the given extension values.
func (ca *issuer) build(values map[int]string) []byte {
	ca.t.Helper()
	template := &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning}}
	for _, n := range slices.Sorted(maps.Keys(values)) {
		switch v := values[n]; {
		case v == "":
		case n == 0:
			template.URIs = parsedURL(ca.t, v)
		case n <= 6:
			template.ExtraExtensions = append(template.ExtraExtensions, extension(n, []byte(v)))
		default:
			template.ExtraExtensions = append(template.ExtraExtensions, utf8Extension(ca.t, n, v))
		}
	}
	return ca.issue(template)
}

// fired returns the rules of all reasons of some findings, in the order of their names.
func fired(found []rule.Finding) []rule.ID {
	var ids []rule.ID
	for _, f := range found {
		for _, r := range f.Reasons {
			ids = append(ids, r.Rule)
		}
	}
	slices.Sort(ids)
	return ids
}

func named(ids ...rule.ID) map[rule.ID]rule.Params {
	m := map[rule.ID]rule.Params{}
	for _, id := range ids {
		m[id] = rule.Params{}
	}
	return m
}

var tool = rule.Identity{GitHub: "example/tool", RepositoryID: "123456789", OwnerID: "42",
	Expect: rule.Expect{Issuers: []string{actions}, Workflows: []string{".github/workflows/release.yml"},
		Refs: []string{"refs/tags/v*"}, Triggers: []string{"push"}, Runner: "github-hosted", Environments: []string{"production"}}}
