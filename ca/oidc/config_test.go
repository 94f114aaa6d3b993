package oidc_test

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/ca/oidc"
)

// The configuration Fulcio ships (eb10c98) must load unchanged: anchors below define, aliases as
// keys, and providers whose templates index their claims.
func TestFulciosOwnConfigurationLoads(t *testing.T) {
	c, err := oidc.LoadConfig(filepath.Join("testdata", "fulcio-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var exact, wildcard int
	for _, i := range c.Issuers() {
		if i.Wildcard {
			wildcard++
		} else {
			exact++
		}
		if i.Audience != "sigstore" || i.URL == "" || i.ChallengeClaim == "" {
			t.Errorf("%+v", i)
		}
	}
	if exact != 22 || wildcard != 9 {
		t.Errorf("%d issuers and %d meta issuers, want 22 and 9", exact, wildcard)
	}
}

func TestMissingFileTrustsNobody(t *testing.T) {
	if _, err := oidc.LoadConfig(filepath.Join(t.TempDir(), "issuers.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
}

// ci is a provider for the tables below.
const ci = `
ci-issuer-metadata:
  mine:
    default-template-values: {url: "https://ci.example"}
    extension-templates: {build-trigger: event}
    subject-alternative-name-template: "{{ .url }}/{{ .job }}"
`

func issuer(more string) string {
	return "oidc-issuers:\n  https://i.example.com: {issuer-url: https://i.example.com, client-id: sigstore, " + more + "}\n"
}

func meta(pattern, more string) string {
	return "meta-issuers:\n  " + pattern + ": {client-id: sigstore, " + more + "}\n"
}

// loading is a file and a part of the error it causes; empty: it loads.
type loading struct{ text, want string }

func checkLoading(t *testing.T, cases map[string]loading) {
	t.Helper()
	for name, tc := range cases {
		_, err := parse(tc.text)
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: %v, want %q", name, err, tc.want)
		}
	}
}

func TestConfigTraps(t *testing.T) {
	checkLoading(t, map[string]loading{
		"email":                      {issuer("type: email"), ""},
		"email with issuer claim":    {issuer("type: email, issuer-claim: $.federated_claims.connector_id"), ""},
		"CI provider":                {issuer("type: ci-provider, ci-provider: mine") + ci, ""},
		"deprecated type":            {issuer("type: github-workflow"), ""},
		"contact and environment":    {issuer("type: email, contact: a, description: b, environment: staging"), ""},
		"anchors below define":       {"define:\n  - &t email\n" + issuer("type: *t"), ""},
		"JSON":                       {`{"OIDCIssuers":{"https://i.example.com":{"IssuerURL":"https://i.example.com","ClientID":"sigstore","Type":"email"}}}`, ""},
		"JSON with CI provider":      {`{"OIDCIssuers":{"https://i.example.com":{"IssuerURL":"https://i.example.com","ClientID":"sigstore","Type":"ci-provider","CIProvider":"c"}},"CIIssuerMetadata":{"c":{"SubjectAlternativeNameTemplate":"https://{{.x}}","ExtensionTemplates":{"BuildSignerURI":"x","GithubWorkflowSHA":"y"}}}}`, ""},
		"empty file":                 {"", "decoding"},
		"nobody trusted":             {"oidc-issuers: {}", "no issuer"},
		"not YAML":                   {"\t{", "decoding"},
		"unknown key":                {issuer("type: email, clientid: x"), "clientid"},
		"unknown top-level key":      {issuer("type: email") + "issuers: {}\n", "issuers"},
		"unknown JSON key":           {`{"OIDCIssuers":{},"Extra":1}`, "Extra"},
		"duplicate JSON key":         {`{"OIDCIssuers":{},"OIDCIssuers":{}}`, "decoding JSON"},
		"duplicate YAML key":         {issuer("type: email") + issuer("type: email"), "decoding YAML"},
		"unknown type":               {issuer("type: emial"), `unknown type "emial"`},
		"no type":                    {issuer("contact: x"), `unknown type ""`},
		"no audience":                {"oidc-issuers:\n  https://i.example.com: {issuer-url: https://i.example.com, type: email}\n", "client-id"},
		"key differs from URL":       {"oidc-issuers:\n  https://i.example.com: {issuer-url: https://other.example.com, client-id: s, type: email}\n", "differs from its key"},
		"key with final slash":       {"oidc-issuers:\n  https://i.example.com/: {issuer-url: https://i.example.com, client-id: s, type: email}\n", "differs from its key"},
		"plain http":                 {"oidc-issuers:\n  http://i.example.com: {issuer-url: http://i.example.com, client-id: s, type: email}\n", "plain http"},
		"plain http on loopback":     {"oidc-issuers:\n  http://127.0.0.1:80/dev: {issuer-url: \"http://127.0.0.1:80/dev\", client-id: s, type: email}\n", ""},
		"URL with query":             {"oidc-issuers:\n  https://i.example.com?x: {issuer-url: https://i.example.com?x, client-id: s, type: email}\n", "without user, query"},
		"URL with user":              {"oidc-issuers:\n  https://u@i.example.com: {issuer-url: https://u@i.example.com, client-id: s, type: email}\n", "without user, query"},
		"star in an exact issuer":    {"oidc-issuers:\n  https://*.example.com: {issuer-url: https://*.example.com, client-id: s, type: email}\n", "belongs into meta-issuers"},
		"issuer-claim elsewhere":     {issuer("type: kubernetes, issuer-claim: $.x"), "email issuers only"},
		"issuer-claim no path":       {issuer("type: email, issuer-claim: '$..x[*]'"), "issuer-claim"},
		"skip elsewhere":             {issuer("type: kubernetes, skip-email-verification: true"), "email issuers only"},
		"challenge by another claim": {issuer("type: email, challenge-claim: name"), "challenge-claim"},
		"ca-cert is no PEM":          {issuer("type: email, ca-cert: x"), "ca-cert"},
		"provider not defined":       {issuer("type: ci-provider, ci-provider: nobody"), "ci-provider"},
		"built-in preset by name":    {issuer("type: ci-provider, ci-provider: github-workflow"), "ci-provider"},
		"no provider":                {issuer("type: ci-provider"), "ci-provider"},
		"provider elsewhere":         {issuer("type: email, ci-provider: mine") + ci, "does not fit"},
		"provider without SAN":       {issuer("type: email") + strings.Replace(ci, `"{{ .url }}/{{ .job }}"`, `" "`, 1), "subject-alternative-name-template"},
		"template does not parse":    {issuer("type: email") + strings.Replace(ci, "{{ .job }}", "{{ .job", 1), "parsing template"},
		"template of unknown func":   {issuer("type: email") + strings.Replace(ci, "{{ .job }}", "{{ env .job }}", 1), "parsing template"},
		"unknown extension":          {issuer("type: email") + strings.Replace(ci, "build-trigger", "build-triger", 1), `unknown extension "build-triger"`},
		"provider is null":           {issuer("type: email") + "ci-issuer-metadata: {mine: }\n", "empty"},
	})
}

func TestIssuersThatMayNotSpeakForTheirSubjects(t *testing.T) {
	checkLoading(t, map[string]loading{
		"spiffe":                    {issuer("type: spiffe, spiffe-trust-domain: example.org"), ""},
		"spiffe without domain":     {issuer("type: spiffe"), "spiffe-trust-domain"},
		"spiffe meta":               {meta("https://*.example.com", "type: spiffe, spiffe-trust-domain: x"), "meta issuer"},
		"uri":                       {issuer("type: uri, subject-domain: https://users.example.com"), ""},
		"uri of the same host":      {issuer("type: uri, subject-domain: https://i.example.com"), ""},
		"uri without scheme":        {issuer("type: uri, subject-domain: example.com"), "subject-domain"},
		"uri of another domain":     {issuer("type: uri, subject-domain: https://example.org"), "registrable domain"},
		"uri of a public suffix":    {"oidc-issuers:\n  https://a.co.uk: {issuer-url: https://a.co.uk, client-id: s, type: uri, subject-domain: https://b.co.uk}\n", "registrable domain"},
		"username":                  {issuer("type: username, subject-domain: example.com"), ""},
		"username with scheme":      {issuer("type: username, subject-domain: https://example.com"), "subject-domain"},
		"username of a pub. suffix": {"oidc-issuers:\n  https://a.github.io: {issuer-url: https://a.github.io, client-id: s, type: username, subject-domain: b.github.io}\n", "registrable domain"},
		"meta":                      {meta("https://oidc.eks.*.amazonaws.com/id/*", "type: kubernetes"), ""},
		"meta challenge claim":      {meta("https://x.example.com/*", "type: kubernetes, challenge-claim: email"), ""},
		"meta over a domain":        {meta("https://*.com/id", "type: kubernetes"), "registrable domain"},
		"meta over a public suffix": {meta("https://*.co.uk/id", "type: kubernetes"), "registrable domain"},
		"meta over half a domain":   {meta("https://my*.com/id", "type: kubernetes"), "registrable domain"},
		"meta over all hosts":       {meta("https://*/id", "type: kubernetes"), "registrable domain"},
		"meta over the scheme":      {meta("'*://x.example.com'", "type: kubernetes"), "meta issuer"},
		"overlapping meta issuers": {meta("https://x.example.com/*/b", "type: kubernetes") +
			"  https://x.example.com/a/*: {client-id: other, type: email}\n", "matches both"},
	})
}

func TestAllProblemsAreReportedAtOnce(t *testing.T) {
	_, err := parse(`
oidc-issuers:
  https://a.example.com: {issuer-url: https://a.example.com, type: emial}
  https://b.example.com: {issuer-url: https://x.example.com, client-id: s, type: email}
`)
	for _, want := range []string{"emial", "client-id", "differs from its key"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not mention %q", err, want)
		}
	}
}

func TestVerifierRefusesWhatItCannotHonour(t *testing.T) {
	if _, err := oidc.New(oidc.Options{}); err == nil {
		t.Error("no configuration: accepted")
	}
	c, err := parse("oidc-issuers:\n  http://localhost:1: {issuer-url: \"http://localhost:1\", client-id: s, type: email}\n")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := oidc.New(oidc.Options{Config: c}); err == nil {
		t.Error("plain http without AllowHTTP: accepted")
	}
	if _, err := oidc.New(oidc.Options{Config: c, AllowHTTP: true, FetchTimeout: -1}); err == nil {
		t.Error("a negative time: accepted")
	}
	if _, err := oidc.New(oidc.Options{Config: c, AllowHTTP: true}); err != nil {
		t.Error(err)
	}
}

// T2: a pattern covers a whole URL, and a star nothing but letters, digits, - and _.
func TestMetaPatternsAreAnchored(t *testing.T) {
	const p = "https://oidc.eks.*.amazonaws.com/id/*"
	for url, want := range map[string]bool{
		"https://oidc.eks.us-west-2.amazonaws.com/id/B02C":                            true,
		"https://oidc.eks.a_b.amazonaws.com/id/x":                                     true,
		"https://oidc.eks..amazonaws.com/id/x":                                        false,
		"https://oidc.eks.us.amazonaws.com/id/":                                       false,
		"https://oidc.eks.us.amazonaws.com/id/x/":                                     false,
		"https://oidc.eks.us.amazonaws.com/id/x/y":                                    false,
		"https://oidc.eks.us.amazonaws.com/id/x?y":                                    false,
		"https://oidc.eks.us.amazonaws.com/id/x#y":                                    false,
		"https://oidc.eks.us.amazonaws.com/id/..":                                     false,
		"https://oidc.eks.us.amazonaws.com/id/%2e":                                    false,
		"https://oidc.eks.us.amazonaws.com/id/x\n":                                    false,
		"https://oidc.eks.us.amazonaws.com/id/é":                                      false,
		"https://oidc.eks.us.amazonaws.com/id/*":                                      false,
		"https://oidc.eks.*.amazonaws.com/id/*":                                       false,
		"https://oidc.eks.us.amazonaws.com:8443/id/x":                                 false,
		"https://oidc.eks.us.amazonaws.com.evil.com/id/x":                             false,
		"https://oidc.eks.us.evil.amazonaws.com/id/x":                                 false,
		"https://oidc.eks.us@evil.com/.amazonaws.com/id/x":                            false,
		"https://oidc.eks.evil.com/.amazonaws.com/id/x":                               false,
		"https://oidc.eks.us。amazonaws.com/id/x":                                      false,
		"http://oidc.eks.us.amazonaws.com/id/x":                                       false,
		"http://localhost:3000?https://oidc.eks.us.amazonaws.com/id/x":                false,
		" https://oidc.eks.us.amazonaws.com/id/x":                                     false,
		"https://oidc.eks." + strings.Repeat("a", 3000) + ".amazonaws.com/id/x":       false,
		"HTTPS://oidc.eks.us.amazonaws.com/id/x":                                      false,
		"https://user:pass@oidc.eks.us.amazonaws.com/id/x":                            false,
		"https://oidc.eks.us.amazonaws.com/id/x https://oidc.eks.y.amazonaws.com/id/": false,
	} {
		if oidc.Match(p, url) != want {
			t.Errorf("%q: match is %v", url, !want)
		}
	}
}

func TestOverlapOfPatterns(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{
		{"https://a/*", "https://a/b", true},
		{"https://a/*", "https://a/b.c", false},
		{"https://a/*/x", "https://a/y/*", true},
		{"https://a/*", "https://a/*/*", false},
		{"https://a/x*", "https://a/*y", true},
		{"https://a/x*x", "https://a/x", false},
		{"https://a/**", "https://a/b", false},
		{"https://a/*b", "https://a/b", false},
		{"https://*.a", "https://*.b", false},
		{"", "", true},
	} {
		if oidc.Overlap(tc.a, tc.b) != tc.want || oidc.Overlap(tc.b, tc.a) != tc.want {
			t.Errorf("%q and %q: overlap is not %v", tc.a, tc.b, tc.want)
		}
	}
}
