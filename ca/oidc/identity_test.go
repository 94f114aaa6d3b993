package oidc_test

import (
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"tallywood/ca/oidc"
)

func fulcioConfig(t testing.TB) *oidc.Config {
	t.Helper()
	c, err := oidc.LoadConfig(filepath.Join("testdata", "fulcio-config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func identify(t testing.TB, c *oidc.Config, iss string, claims map[string]any) (oidc.Identity, error) {
	t.Helper()
	data, err := json.Marshal(claims)
	if err != nil {
		t.Fatal(err)
	}
	return oidc.Identify(c, iss, data)
}

// githubClaims are those of a GitHub Actions token, as documented by GitHub.
func githubClaims(t testing.TB) map[string]any {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", "github-claims.json"))
	if err != nil {
		t.Fatal(err)
	}
	var claims map[string]any
	if err := json.Unmarshal(data, &claims); err != nil {
		t.Fatal(err)
	}
	return claims
}

const githubIssuer = "https://token.actions.githubusercontent.com"

var githubGolden = map[int]string{
	2: "push", 3: "7a8c2f3e1b0d4c5a6978877665544332211000ff", 4: "Release", 5: "octo-org/octo-app", 6: "refs/heads/main",
	9:  "https://github.com/octo-org/shared/.github/workflows/build.yml@refs/tags/v2",
	10: "00112233445566778899aabbccddeeff00112233", 11: "github-hosted", 12: "https://github.com/octo-org/octo-app",
	13: "7a8c2f3e1b0d4c5a6978877665544332211000ff", 14: "refs/heads/main", 15: "74", 16: "https://github.com/octo-org", 17: "65",
	18: "https://github.com/octo-org/octo-app/.github/workflows/release.yml@refs/heads/main",
	19: "7a8c2f3e1b0d4c5a6978877665544332211000ff", 20: "push",
	21: "https://github.com/octo-org/octo-app/actions/runs/12345678901/attempts/2", 22: "private",
}

func TestGitHubTokenFillsEveryExtension(t *testing.T) {
	for name, c := range map[string]*oidc.Config{
		"shipped configuration": fulcioConfig(t),
		"deprecated type":       mustParse(t, "oidc-issuers:\n  "+githubIssuer+": {issuer-url: "+githubIssuer+", client-id: sigstore, type: github-workflow}\n"),
	} {
		id, err := identify(t, c, githubIssuer, githubClaims(t))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want := oidc.SAN{Kind: oidc.SANURI, Value: githubGolden[9]}
		if id.SAN != want || id.Issuer != githubIssuer || id.Type != oidc.TypeCIProvider || !maps.Equal(id.Extensions, githubGolden) {
			t.Errorf("%s: %+v", name, id)
		}
	}
	// An environment is optional, and given it fills the empty default.
	claims := githubClaims(t)
	claims["environment"] = "production"
	id, err := identify(t, fulcioConfig(t), githubIssuer, claims)
	if err != nil || id.Extensions[23] != "production" {
		t.Errorf("environment: %q, %v", id.Extensions[23], err)
	}
}

func mustParse(t testing.TB, text string) *oidc.Config {
	t.Helper()
	c, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestGitLabToken(t *testing.T) {
	claims := map[string]any{
		"sub": "project_path:group/app:ref_type:tag:ref:v1", "project_path": "group/app", "project_id": "20", "namespace_path": "group",
		"namespace_id": "72", "ci_config_ref_uri": "gitlab.com/group/app//.gitlab-ci.yml@refs/tags/v1", "ci_config_sha": "abc",
		"runner_environment": "gitlab-hosted", "sha": "abc", "ref_type": "tag", "ref": "v1", "pipeline_source": "push",
		"job_id": "302", "project_visibility": "public", "pipeline_id": 1.5, "runner_id": 36, "user_login": nil,
	}
	for name, c := range map[string]*oidc.Config{
		"shipped configuration": fulcioConfig(t),
		"deprecated type":       mustParse(t, "oidc-issuers:\n  https://gitlab.com: {issuer-url: https://gitlab.com, client-id: sigstore, type: gitlab-pipeline}\n"),
	} {
		id, err := identify(t, c, "https://gitlab.com", claims)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if id.SAN.Value != "https://gitlab.com/group/app//.gitlab-ci.yml@refs/tags/v1" || id.Extensions[14] != "refs/tags/v1" ||
			id.Extensions[21] != "https://gitlab.com/group/app/-/jobs/302" {
			t.Errorf("%s: %+v", name, id)
		}
	}
}

func wantIdentityReason(t *testing.T, name string, err error, want oidc.Reason, words ...string) {
	t.Helper()
	var e *oidc.TokenError
	if !errors.As(err, &e) || e.Reason != want {
		t.Errorf("%s: %v, want reason %q", name, err, want)
		return
	}
	for _, w := range words {
		if !strings.Contains(e.Error(), w) {
			t.Errorf("%s: %q does not mention %s", name, e, w)
		}
	}
}

// Trap (a): a claim that someone can choose must not replace the host of the identity.
func TestClaimCannotReplaceAFixedDefault(t *testing.T) {
	claims := githubClaims(t)
	claims["url"] = "https://evil.example"
	_, err := identify(t, fulcioConfig(t), githubIssuer, claims)
	wantIdentityReason(t, "url", err, oidc.ReasonClaim, "url", "fixed default")
	claims["url"] = "https://github.com" // says the same
	if _, err := identify(t, fulcioConfig(t), githubIssuer, claims); err != nil {
		t.Error(err)
	}
	codefresh := map[string]any{
		"sub": "account:1", "platform_url": "https://cf.example.com", "workflow_id": "w", "pipeline_id": "p",
		"account_name": "acc", "account_id": "a", "pipeline_name": "proj/pipe",
	}
	id, err := identify(t, fulcioConfig(t), "https://oidc.codefresh.io", codefresh)
	if err != nil || id.SAN.Value != "https://cf.example.com/acc/proj/pipe:a/p" {
		t.Errorf("a default that is meant to be replaced: %+v, %v", id.SAN, err)
	}
}

func TestMissingClaimsAreNamed(t *testing.T) {
	for _, claim := range []string{"job_workflow_ref", "sha", "run_id", "repository_id"} {
		claims := githubClaims(t)
		delete(claims, claim)
		_, err := identify(t, fulcioConfig(t), githubIssuer, claims)
		wantIdentityReason(t, claim, err, oidc.ReasonClaim, `"`+claim+`"`, "is missing for extension")
		claims[claim] = []string{"a list has no text"}
		_, err = identify(t, fulcioConfig(t), githubIssuer, claims)
		wantIdentityReason(t, claim+" as list", err, oidc.ReasonClaim)
	}
	// CircleCI's templates use index, for which a missing key is no error to text/template: the
	// SAN of all its projects would be the same.
	_, err := identify(t, fulcioConfig(t), "https://oidc.circleci.com", map[string]any{"sub": "x"})
	wantIdentityReason(t, "CircleCI", err, oidc.ReasonClaim, "oidc.circleci.com/project-id")
}

func TestClaimsThatDoNotFitACertificateAreRefused(t *testing.T) {
	for name, value := range map[string]any{
		"line feed": "a\nb", "NUL": "a\x00b", "too long": strings.Repeat("x", 2049),
	} {
		for _, claim := range []string{"workflow", "repository", "job_workflow_ref"} {
			claims := githubClaims(t)
			claims[claim] = value
			_, err := identify(t, fulcioConfig(t), githubIssuer, claims)
			wantIdentityReason(t, name+" in "+claim, err, oidc.ReasonClaim)
		}
	}
}

func TestNumbersKeepTheirDigits(t *testing.T) {
	c := mustParse(t, `
oidc-issuers:
  https://ci.example.com: {issuer-url: https://ci.example.com, client-id: s, type: ci-provider, ci-provider: p}
ci-issuer-metadata:
  p: {subject-alternative-name-template: "https://ci.example.com/{{.id}}/{{.flag}}"}
`)
	for number, want := range map[string]string{
		"7": "7", "9007199254740993": "9007199254740993", "1e3": "1000", "2.0": "2", "2.50": "2.5", "-1": "-1",
	} {
		id, err := oidc.Identify(c, "https://ci.example.com", []byte(`{"sub":"x","flag":true,"id":`+number+`}`))
		if err != nil || id.SAN.Value != "https://ci.example.com/"+want+"/true" {
			t.Errorf("%s: %+v, %v", number, id.SAN, err)
		}
	}
}

// everyType has an issuer of each type but ci-provider.
const everyType = `
oidc-issuers:
  https://k.example.com: {issuer-url: https://k.example.com, client-id: s, type: kubernetes}
  https://s.example.com: {issuer-url: https://s.example.com, client-id: s, type: spiffe, spiffe-trust-domain: example.org}
  https://u.example.com: {issuer-url: https://u.example.com, client-id: s, type: uri, subject-domain: https://users.example.com}
  https://n.example.com: {issuer-url: https://n.example.com, client-id: s, type: username, subject-domain: example.com}
  https://c.example.com: {issuer-url: https://c.example.com, client-id: s, type: chainguard-identity}
  https://d.example.com: {issuer-url: https://d.example.com, client-id: s, type: email, issuer-claim: $.federated_claims.connector_id}
  https://e.example.com: {issuer-url: https://e.example.com, client-id: s, type: email, skip-email-verification: true}
`

func TestIdentitiesByType(t *testing.T) {
	c := mustParse(t, everyType)
	k8s := func(namespace, name any) map[string]any {
		return map[string]any{"sub": "system:serviceaccount", "kubernetes.io": map[string]any{
			"namespace": namespace, "serviceaccount": map[string]any{"name": name},
		}}
	}
	sub := func(s string) map[string]any { return map[string]any{"sub": s} }
	email := func(connector any) map[string]any {
		return map[string]any{"sub": "1", "email": "a@example.com", "email_verified": true, "federated_claims": connector}
	}
	for name, tc := range map[string]struct {
		issuer string
		claims map[string]any
		want   string // the SAN's value; empty: refused
	}{
		"kubernetes":                {"k", k8s("default", "builder"), "https://kubernetes.io/namespaces/default/serviceaccounts/builder"},
		"kubernetes, no namespace":  {"k", k8s("", "builder"), ""},
		"kubernetes, no account":    {"k", k8s("default", nil), ""},
		"kubernetes, slash":         {"k", k8s("default/serviceaccounts/x", "builder"), ""},
		"kubernetes, no claim":      {"k", sub("x"), ""},
		"spiffe":                    {"s", sub("spiffe://example.org/ns/a"), "spiffe://example.org/ns/a"},
		"spiffe, domain alone":      {"s", sub("spiffe://example.org"), "spiffe://example.org"},
		"spiffe, other domain":      {"s", sub("spiffe://example.org.evil.com/a"), ""},
		"spiffe, subdomain":         {"s", sub("spiffe://a.example.org/a"), ""},
		"spiffe, dots":              {"s", sub("spiffe://example.org/../a"), ""},
		"spiffe, empty segment":     {"s", sub("spiffe://example.org//a"), ""},
		"spiffe, final slash":       {"s", sub("spiffe://example.org/"), ""},
		"spiffe, query":             {"s", sub("spiffe://example.org/a?b"), ""},
		"spiffe, user":              {"s", sub("spiffe://u@example.org/a"), ""},
		"spiffe, other scheme":      {"s", sub("https://example.org/a"), ""},
		"uri":                       {"u", sub("https://users.example.com/a"), "https://users.example.com/a"},
		"uri, other host":           {"u", sub("https://users.example.com.evil.com/a"), ""},
		"uri, port":                 {"u", sub("https://users.example.com:8443/a"), ""},
		"uri, user":                 {"u", sub("https://x@users.example.com/a"), ""},
		"uri, other scheme":         {"u", sub("http://users.example.com/a"), ""},
		"uri, email":                {"u", sub("a@example.com"), ""},
		"username":                  {"n", sub("bob"), "bob!example.com"},
		"username, exclamation":     {"n", sub("bob!evil.com"), ""},
		"username, email":           {"n", sub("bob@example.com"), ""},
		"chainguard":                {"c", sub("abc/def"), "https://c.example.com/abc/def"},
		"federated email":           {"d", email(map[string]any{"connector_id": "https://accounts.google.com"}), "a@example.com"},
		"federated, no connector":   {"d", email(nil), ""},
		"federated, wrong shape":    {"d", email("https://accounts.google.com"), ""},
		"federated, control":        {"d", email(map[string]any{"connector_id": "a\nb"}), ""},
		"email, verification given": {"e", map[string]any{"sub": "1", "email": "a@example.com"}, "a@example.com"},
	} {
		id, err := identify(t, c, "https://"+tc.issuer+".example.com", tc.claims)
		switch {
		case tc.want == "" && err == nil:
			t.Errorf("%s: accepted as %+v", name, id.SAN)
		case tc.want != "" && (err != nil || id.SAN.Value != tc.want):
			t.Errorf("%s: %+v, %v", name, id.SAN, err)
		}
	}
	id, err := identify(t, c, "https://d.example.com", email(map[string]any{"connector_id": "https://accounts.google.com"}))
	if err != nil || id.Issuer != "https://accounts.google.com" {
		t.Errorf("federated issuer: %q, %v", id.Issuer, err)
	}
}
