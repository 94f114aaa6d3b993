package rule_test

import (
	"slices"
	"strings"
	"testing"

	"tallywood/monitor/rule"
)

func TestExpectations(t *testing.T) {
	ca := newIssuer(t)
	evilRun := toolRepo + "/.github/workflows/evil.yml@refs/tags/v1.2.3"
	old := map[int]string{0: release, 1: actions, 2: "push", 3: "c0ffee", 4: "Release", 5: "example/tool", 6: "refs/tags/v1.2.3"}
	only := func(e rule.Expect) rule.Identity { return rule.Identity{GitHub: "example/tool", Expect: e} }
	workflows := func(w ...string) rule.Identity { return only(rule.Expect{Workflows: w}) }
	for name, tc := range map[string]struct {
		identity rule.Identity
		values   map[int]string
		want     []rule.ID
		seen     string // of the only reason
	}{
		"all as expected":              {tool, release123, nil, ""},
		"owner in other case":          {tool, but(release123, 0, "", 12, "https://github.com/Example/Tool", 9, "https://github.com/Example/Tool/.github/workflows/release.yml@refs/tags/v1.2.3"), nil, ""},
		"another workflow ran":         {tool, but(release123, 18, evilRun), []rule.ID{rule.IDUnexpectedWorkflow}, evilRun},
		"another workflow signed":      {tool, but(release123, 9, evilRun), []rule.ID{rule.IDUnexpectedWorkflow}, evilRun},
		"another workflow is the name": {tool, but(release123, 0, evilRun), []rule.ID{rule.IDUnexpectedWorkflow}, evilRun},
		"workflow of a longer name": {tool, but(release123, 18, toolRepo+"/.github/workflows/release.yml2@refs/tags/v1.2.3"),
			[]rule.ID{rule.IDUnexpectedWorkflow}, toolRepo + "/.github/workflows/release.yml2@refs/tags/v1.2.3"},
		"workflow in other case": {workflows(".github/workflows/release.yml"), but(release123, 18, toolRepo+"/.github/workflows/Release.yml@refs/tags/v1.2.3"),
			[]rule.ID{rule.IDUnexpectedWorkflow}, toolRepo + "/.github/workflows/Release.yml@refs/tags/v1.2.3"},
		"workflow of a foreign repository": {workflows(".github/workflows/release.yml"), but(release123, 9, "https://github.com/evil/tool/.github/workflows/release.yml@refs/tags/v1.2.3"),
			[]rule.ID{rule.IDUnexpectedWorkflow}, "https://github.com/evil/tool/.github/workflows/release.yml@refs/tags/v1.2.3"},
		"no workflow at all":        {workflows("*.yml"), but(release123, 0, "", 9, "", 18, ""), []rule.ID{rule.IDUnexpectedWorkflow}, ""},
		"workflow by glob":          {workflows(".github/workflows/*.yml"), release123, nil, ""},
		"workflow with its ref":     {workflows(".github/workflows/release.yml@refs/tags/*"), release123, nil, ""},
		"workflow with another ref": {workflows(".github/workflows/release.yml@refs/heads/*"), release123, []rule.ID{rule.IDUnexpectedWorkflow}, release},
		"workflow by glob, and a branch": {workflows(".github/workflows/r*-prod.yml"), but(release123, 0, "", 9, "", 14, "refs/heads/x-prod.yml", 6, "",
			18, toolRepo+"/.github/workflows/run.yml@refs/heads/x-prod.yml"), []rule.ID{rule.IDUnexpectedWorkflow}, toolRepo + "/.github/workflows/run.yml@refs/heads/x-prod.yml"},
		"workflow by glob with a ref, and a branch": {workflows(".github/workflows/r*-prod.yml@refs/tags/*"), but(release123, 0, "", 9, "", 14, "refs/heads/x-prod.yml@refs/tags/v1", 6, "",
			18, toolRepo+"/.github/workflows/run.yml@refs/heads/x-prod.yml@refs/tags/v1"), []rule.ID{rule.IDUnexpectedWorkflow}, toolRepo + "/.github/workflows/run.yml@refs/heads/x-prod.yml@refs/tags/v1"},
		"workflow of a repository in percents": {workflows(".github/workflows/release.yml"), but(release123, 0, "https://github.com/example/t%6Fol/.github/workflows/release.yml@refs/tags/v1.2.3"),
			[]rule.ID{rule.IDUnexpectedWorkflow}, "https://github.com/example/t%6Fol/.github/workflows/release.yml@refs/tags/v1.2.3"},
		"workflow with an at": {workflows(".github/workflows/release@2.yml"), but(release123, 0, "", 9, "", 18,
			toolRepo+"/.github/workflows/release@2.yml@refs/tags/v1.2.3"), nil, ""},
		"workflow with an at, and its ref": {workflows(".github/workflows/release@2.yml@refs/tags/v*"), but(release123, 0, "", 9, "", 18,
			toolRepo+"/.github/workflows/release@2.yml@refs/tags/v1.2.3"), nil, ""},
		"workflow with an at in its tag": {workflows("*/release.yml@refs/tags/@x/*"), but(release123, 0, "", 9, "", 14, "refs/tags/@x/y@1", 6, "", 18,
			toolRepo+"/.github/workflows/release.yml@refs/tags/@x/y@1"), nil, ""},
		"workflow as URI":             {workflows("https://GitHub.com/Example/tool/.github/workflows/release.yml"), release123, nil, ""},
		"workflow as URI with ref":    {workflows("https://github.com/example/tool/.github/workflows/release.yml@refs/tags/v*"), release123, nil, ""},
		"workflow of old certificate": {workflows(".github/workflows/release.yml"), old, nil, ""},
		"tag with an at": {workflows(".github/workflows/release.yml"), but(release123, 0, "", 9, "", 14, "refs/tags/@x/y@1", 18,
			toolRepo+"/.github/workflows/release.yml@refs/tags/@x/y@1"), nil, ""},
		"a file named like a ref": {workflows(".github/workflows/release.yml"), but(release123, 18, toolRepo+"/.github/workflows/release.yml@refs/x@refs/tags/v1.2.3"),
			[]rule.ID{rule.IDUnexpectedWorkflow}, toolRepo + "/.github/workflows/release.yml@refs/x@refs/tags/v1.2.3"},
		"reusable workflow of another": {workflows(".github/workflows/release.yml", "https://github.com/slsa/generator/.github/workflows/go.yml"),
			but(release123, 0, "https://github.com/slsa/generator/.github/workflows/go.yml@refs/tags/v2", 9, "https://github.com/slsa/generator/.github/workflows/go.yml@refs/tags/v2"), nil, ""},
		"reusable workflow by commit": {workflows(".github/workflows/release.yml", "https://github.com/slsa/generator/.github/workflows/go.yml"),
			but(release123, 9, "https://github.com/slsa/generator/.github/workflows/go.yml@0123456789abcdef0123456789abcdef01234567"), nil, ""},
		"a branch":                     {tool, but(release123, 14, "refs/heads/main", 6, ""), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/main"},
		"old and new ref differ":       {tool, but(release123, 6, "refs/heads/main"), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/main"},
		"ref of old certificate":       {only(rule.Expect{Refs: []string{"refs/tags/v*"}}), old, nil, ""},
		"branch of old certificate":    {only(rule.Expect{Refs: []string{"refs/tags/v*"}}), but(old, 6, "refs/heads/main"), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/main"},
		"no ref":                       {tool, but(release123, 14, "", 6, ""), []rule.ID{rule.IDUnexpectedRef}, ""},
		"ref is no prefix":             {only(rule.Expect{Refs: []string{"refs/heads/main"}}), but(release123, 14, "refs/heads/main2", 6, ""), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/main2"},
		"another trigger":              {tool, but(release123, 20, "pull_request_target", 2, ""), []rule.ID{rule.IDUnexpectedTrigger}, "pull_request_target"},
		"trigger of old certificate":   {only(rule.Expect{Triggers: []string{"push"}}), old, nil, ""},
		"old certificate, another one": {only(rule.Expect{Triggers: []string{"push"}}), but(old, 2, "workflow_run"), []rule.ID{rule.IDUnexpectedTrigger}, "workflow_run"},
		"no trigger":                   {tool, but(release123, 20, "", 2, ""), []rule.ID{rule.IDUnexpectedTrigger}, ""},
		"the name registered again":    {tool, but(release123, 15, "987654321"), []rule.ID{rule.IDRepoIDMismatch}, "987654321"},
		"no repository number":         {tool, but(release123, 15, ""), []rule.ID{rule.IDRepoIDMismatch}, ""},
		"another owner of the name":    {tool, but(release123, 17, "43"), []rule.ID{rule.IDRepoIDMismatch}, "43"},
		"both numbers differ":          {tool, but(release123, 15, "1", 17, "2"), []rule.ID{rule.IDRepoIDMismatch, rule.IDRepoIDMismatch}, ""},
		"self-hosted runner":           {tool, but(release123, 11, "self-hosted"), []rule.ID{rule.IDSelfHosted}, "self-hosted"},
		"runner not said":              {tool, but(release123, 11, ""), []rule.ID{rule.IDSelfHosted}, ""},
		"another environment":          {tool, but(release123, 23, "staging"), []rule.ID{rule.IDUnexpectedEnv}, "staging"},
		"no environment":               {tool, but(release123, 23, ""), []rule.ID{rule.IDUnexpectedEnv}, ""},
		"issuer and trigger":           {tool, but(release123, 1, evil, 8, evil, 20, "schedule", 2, ""), []rule.ID{rule.IDUnexpected, rule.IDUnexpectedTrigger}, ""},
		"called by a foreign one":      {tool, but(release123, 5, "stranger/app", 12, "https://github.com/stranger/app", 14, "refs/heads/x", 6, "", 15, "7", 17, "8"), nil, ""},
		"called, the old one is mine":  {only(rule.Expect{Refs: []string{"refs/tags/v*"}}), but(release123, 12, "https://github.com/stranger/app", 14, "refs/heads/x"), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/x"},
		"a name and its refs":          {rule.Identity{SAN: toolRepo + "/*", Expect: rule.Expect{Refs: []string{"refs/tags/v*"}}}, but(release123, 14, "refs/heads/x", 6, ""), []rule.ID{rule.IDUnexpectedRef}, "refs/heads/x"},
		"a name and a relative path":   {rule.Identity{SAN: toolRepo + "/*", Expect: rule.Expect{Workflows: []string{".github/workflows/release.yml"}}}, release123, nil, ""},
		"an owner's repositories":      {rule.Identity{GitHub: "example/*", OwnerID: "42", Expect: rule.Expect{Workflows: []string{".github/workflows/release.yml"}}}, release123, nil, ""},
		"an owner's, a foreign path":   {rule.Identity{GitHub: "example/*", Expect: rule.Expect{Workflows: []string{"build/release.yml"}}}, release123, []rule.ID{rule.IDUnexpectedWorkflow}, release},
		"an extension and a ref": {rule.Identity{Extension: rule.Extension{ID: "1.3.6.1.4.1.57264.1.21", Values: []string{release123[21]}},
			Expect: rule.Expect{Refs: []string{"refs/tags/w*"}}}, release123, []rule.ID{rule.IDUnexpectedRef}, "refs/tags/v1.2.3"},
		"nothing is expected, so silent": {rule.Identity{GitHub: "example/tool", Rules: map[rule.ID]rule.Params{rule.IDSeen: {Off: true}}},
			but(release123, 11, "self-hosted", 20, "schedule"), nil, ""},
		"gitlab": {rule.Identity{GitLab: "g/p", Expect: rule.Expect{Workflows: []string{".gitlab-ci.yml"}, Refs: []string{"refs/heads/main"}}},
			map[int]string{0: "https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main", 9: "https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main",
				12: "https://gitlab.com/g/p", 14: "refs/heads/main", 18: "https://gitlab.com/g/p//.gitlab-ci.yml@refs/heads/main"}, nil, ""},
		"gitlab, another file": {rule.Identity{GitLab: "g/p", Expect: rule.Expect{Workflows: []string{".gitlab-ci.yml"}}},
			map[int]string{0: "https://gitlab.com/g/p//x.yml@refs/heads/main", 12: "https://gitlab.com/g/p", 14: "refs/heads/main"},
			[]rule.ID{rule.IDUnexpectedWorkflow}, "https://gitlab.com/g/p//x.yml@refs/heads/main"},
	} {
		t.Run(name, func(t *testing.T) {
			got := findings(newSet(t, tc.identity), parse(t, ca.build(tc.values)))
			if !slices.Equal(fired(got), tc.want) {
				t.Fatalf("fired %q, want %q: %+v", fired(got), tc.want, got)
			}
			if len(tc.want) != 1 {
				return
			}
			r := got[0].Reasons[0]
			if r.Seen != tc.seen || len(r.Expected) == 0 || r.Field == "" || r.Text == "" {
				t.Errorf("reason %+v, want %q seen", r, tc.seen)
			}
		})
	}
}

func TestSummarySaysWhoseOnce(t *testing.T) {
	ca := newIssuer(t)
	got := findings(newSet(t, tool), parse(t, ca.build(but(release123, 11, "self-hosted", 20, "schedule", 2, "", 14, "refs/heads/x", 6, ""))))
	want := `certificate for "` + release + `" with unexpected ref "refs/heads/x"; with unexpected trigger "schedule"; with unexpected runner "self-hosted"`
	if len(got) != 1 || got[0].Summary() != want {
		t.Errorf("got %+v, want %s", got, want)
	}
}

func TestKeyWithoutCertificateSaysNothingThatIsExpected(t *testing.T) {
	i := rule.Identity{Key: "6161616161616161616161616161616161616161616161616161616161616161", Expect: rule.Expect{Refs: []string{"refs/tags/*"}}}
	got := findings(newSet(t, i), []rule.Signer{{KeyHash: [32]byte([]byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))}})
	if want := []rule.ID{rule.IDUnexpectedRef}; !slices.Equal(fired(got), want) {
		t.Errorf("fired %q, want %q", fired(got), want)
	}
}

func TestRulesThatAreSwitchedOff(t *testing.T) {
	ca := newIssuer(t)
	der := ca.build(but(release123, 1, "", 8, evil, 14, "refs/heads/x", 6, "", 11, "self-hosted"))
	bare := ca.build(but(release123, 1, "", 8, ""))
	i := tool
	i.Rules = map[rule.ID]rule.Params{rule.IDUnexpected: {Off: true}, rule.IDNoIssuer: {Off: true}, rule.IDUnexpectedRef: {Off: true}}
	if got, want := fired(findings(newSet(t, i), parse(t, der))), []rule.ID{rule.IDSelfHosted}; !slices.Equal(got, want) {
		t.Errorf("fired %q, want %q", got, want)
	}
	if got := fired(findings(newSet(t, i), parse(t, bare))); len(got) > 0 {
		t.Errorf("fired %q", got)
	}
	// Of all identities, but where one names the rule itself.
	i.Name, i.Rules = "me", map[rule.ID]rule.Params{rule.IDUnexpectedRef: {}}
	s, err := rule.New(rule.Options{Identities: []rule.Identity{i}, Rules: map[rule.ID]rule.Params{
		rule.IDUnexpectedRef: {Off: true}, rule.IDUnexpected: {Off: true}, rule.IDNoIssuer: {Off: true}, rule.LogBehind: {Max: 7}}})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fired(findings(s, parse(t, der))), []rule.ID{rule.IDSelfHosted, rule.IDUnexpectedRef}; !slices.Equal(got, want) {
		t.Errorf("fired %q, want %q", got, want)
	}
}

func TestSilentRules(t *testing.T) {
	s, err := rule.New(rule.Options{Identities: []rule.Identity{
		{Name: "mail", Email: "a@b.c"},
		{Name: "repo", GitHub: "a/b", Expect: rule.Expect{Issuers: []string{good}, Refs: []string{"refs/tags/*"}},
			Rules: map[rule.ID]rule.Params{rule.IDSelfHosted: {Off: true}}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	want := []rule.Silence{
		{"mail", rule.IDUnexpected, "expect.issuers"}, {"mail", rule.IDNoIssuer, "expect.issuers"},
		{"mail", rule.IDUnknownCA, "cas"}, {"mail", rule.IDUnauthorized, "expect.authorize"},
		{"repo", rule.IDUnknownCA, "cas"}, {"repo", rule.IDUnexpectedWorkflow, "expect.workflows"},
		{"repo", rule.IDUnexpectedTrigger, "expect.triggers"}, {"repo", rule.IDRepoIDMismatch, "repository_id or owner_id"},
		{"repo", rule.IDUnauthorized, "expect.authorize"}, {"repo", rule.IDUnexpectedEnv, "expect.environments"},
	}
	if got := s.Silent(); !slices.Equal(got, want) {
		t.Errorf("silent: %+v\nwant %+v", got, want)
	}
	var none *rule.Set
	if none.Silent() != nil {
		t.Error("no identities, but rules that are silent")
	}
}

func TestReusableCaller(t *testing.T) {
	ca := newIssuer(t)
	shared := "https://github.com/example/tool/.github/workflows/shared.yml@refs/tags/v1"
	called := but(release123, 0, shared, 9, shared, 5, "stranger/app", 12, "https://github.com/stranger/app",
		16, "https://github.com/stranger", 18, "https://github.com/stranger/app/.github/workflows/ci.yml@refs/heads/main")
	on := named(rule.IDReusableCaller)
	on[rule.IDSeen] = rule.Params{Off: true}
	for name, tc := range map[string]struct {
		identity rule.Identity
		values   map[int]string
		hit      bool
	}{
		"foreign":                       {rule.Identity{GitHub: "example/tool", Rules: on}, called, true},
		"foreign, by its workflow":      {rule.Identity{GitHub: "example/tool", Rules: on}, but(called, 5, "", 12, toolRepo), true},
		"own":                           {rule.Identity{GitHub: "example/tool", Rules: on}, but(release123, 0, shared, 9, shared), false},
		"own, a foreign workflow":       {rule.Identity{GitHub: "example/tool", Rules: on}, but(release123, 9, "https://github.com/slsa/x/.github/workflows/y.yml@refs/tags/v1"), false},
		"of the owner":                  {rule.Identity{GitHub: "example/*", Rules: on}, but(called, 5, "", 12, "https://github.com/example/other", 18, "https://github.com/example/other/.github/workflows/ci.yml@refs/heads/main"), false},
		"foreign, by name":              {rule.Identity{SAN: toolRepo + "/.github/workflows/shared.yml@*", Rules: on}, called, true},
		"own, by name":                  {rule.Identity{SAN: toolRepo + "/.github/workflows/shared.yml@*", Rules: on}, but(release123, 0, shared, 9, shared), false},
		"foreign, and not asked to say": {rule.Identity{GitHub: "example/tool", Rules: map[rule.ID]rule.Params{rule.IDSeen: {Off: true}}}, called, false},
	} {
		t.Run(name, func(t *testing.T) {
			got := findings(newSet(t, tc.identity), parse(t, ca.build(tc.values)))
			if len(got) == 1 != tc.hit || tc.hit && (got[0].Rule != rule.IDReusableCaller || got[0].Reasons[0].Expected[0] != toolRepo) {
				t.Errorf("findings %+v, want a hit: %v", got, tc.hit)
			}
		})
	}
}

func TestFactsOfAMatch(t *testing.T) {
	ca := newIssuer(t)
	s := newSet(t, rule.Identity{GitHub: "example/tool"})
	e := &rule.Entry{Signers: parse(t, ca.build(release123)), Certified: true}
	f := s.Match(e)[0].Facts
	if f.Certificate == "" {
		t.Error("no hash of the certificate")
	}
	f.Certificate = ""
	if want := (rule.Facts{Run: release123[21], Commit: "c0ffee", Ref: "refs/tags/v1.2.3", Repository: toolRepo}); f != want {
		t.Errorf("facts %+v, want %+v", f, want)
	}
	old := map[int]string{0: release, 3: "c0ffee", 5: "example/tool", 6: "refs/tags/v1.2.3"}
	f = s.Match(&rule.Entry{Signers: parse(t, ca.build(old)), Certified: true})[0].Facts
	f.Certificate = ""
	if want := (rule.Facts{Commit: "c0ffee", Ref: "refs/tags/v1.2.3", Repository: toolRepo}); f != want {
		t.Errorf("facts %+v, want %+v", f, want)
	}
}

func TestWrongExpectationsAreRefused(t *testing.T) {
	for text, i := range map[string]rule.Identity{
		"empty expected ref":                        {GitHub: "a/b", Expect: rule.Expect{Refs: []string{""}}},
		"does not begin with refs/":                 {GitHub: "a/b", Expect: rule.Expect{Refs: []string{"main"}}},
		`is "github-hosted" meant?`:                 {GitHub: "a/b", Expect: rule.Expect{Runner: "github_hosted"}},
		"expect.refs is empty":                      {GitHub: "a/b", Expect: rule.Expect{Refs: []string{}}},
		"expect.issuers is empty":                   {Email: "a@b.c", Expect: rule.Expect{Issuers: []string{}}},
		"* stands for nothing":                      {Email: "a@b.c", Expect: rule.Expect{Issuers: []string{"https://*.example"}}},
		"is no path in the repository":              {GitHub: "a/b", Expect: rule.Expect{Workflows: []string{"release.yml"}}},
		`rule "id.fan-out" compares`:                {Email: "a@b.c", Rules: named(rule.IDFanOut)},
		`rule "id.ref-drift" compares`:              {Kubernetes: "a/b", Rules: named(rule.IDRefDrift)},
		`is "a/b" meant?`:                           {GitHub: "a/b.git"},
		`is "g/p" meant?`:                           {GitLab: "g/p.git"},
		"letters of ASCII":                          {GitHub: "example/tооl"},
		"is a network":                              {SAN: "192.0.2.0/24"},
		`email "mailto:a@b.c" is not`:               {Email: "mailto:a@b.c"},
		`email "a@b@c" is not`:                      {Email: "a@b@c"},
		`email "a@b.c." is not`:                     {Email: "a@b.c."},
		"those of Fulcio begin with 1.3.6":          {Extension: rule.Extension{ID: "1.18", Values: []string{"x"}}},
		"is not a number":                           {GitHub: "a/b", RepositoryID: "a/b"},
		"owner_id is for those":                     {GitHub: "a/*", RepositoryID: "1"},
		"certificates for email identities never":   {Email: "a@b.c", Expect: rule.Expect{Workflows: []string{"x"}}},
		"for kubernetes identities never":           {Kubernetes: "a/b", OwnerID: "1"},
		`unknown rule "id.brust"; is "id.burst"`:    {Email: "a@b.c", Rules: named("id.brust")},
		`unknown rule "burst"; is "id.burst"`:       {Email: "a@b.c", Rules: named("burst")},
		`unknown rule "x"`:                          {Email: "a@b.c", Rules: named("x")},
		"is about logs":                             {Email: "a@b.c", Rules: named(rule.LogBehind)},
		`does not take "max"; it takes allow`:       {Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDLookalike: {Max: 1}}},
		"keys is missing":                           {Email: "a@b.c", Rules: named(rule.IDFingerprintUsed)},
		`key "00" is not a SHA-256`:                 {Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Keys: []string{"00"}}}},
		`key type "dsa" is none of`:                 {Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.EntryWeakKey: {Allow: []string{"dsa"}}}},
		"no owner, repository or domain":            {Kubernetes: "a/b", Rules: named(rule.IDLookalike)},
		"needs ct_keys":                             {Email: "a@b.c", Rules: named(rule.CertBadSCT)},
		`rule "cert.sct-unknown-log" needs ct_keys`: {Email: "a@b.c", Rules: named(rule.CertUnknownSCTLog)},
		"email and github set, must be one of":      {Email: "a@b.c", GitHub: "a/b"},
		"none set, must be one of email":            {},
	} {
		i.Name = "me"
		_, err := rule.New(rule.Options{Identities: []rule.Identity{i}})
		if err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%q: error %v", text, err)
		}
	}
	if _, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "x", Email: "a@b.c"}}, Rules: named("cert.longlived")}); err == nil || !strings.Contains(err.Error(), "cert.long-lived") {
		t.Errorf("error %v", err)
	}
}
