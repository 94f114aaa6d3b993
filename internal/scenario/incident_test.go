package scenario_test

import (
	"fmt"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/authorize"
	"tallywood/monitor/rule"
)

// publishing is a workspace of packages that releases from one workflow and lists what it releases.
const publishing = `
identities:
  - name: packages
    github: packs/workspace
    expect:
      issuers: ["https://token.actions.githubusercontent.com"]
      workflows: [.github/workflows/release.yml]
      refs: [refs/heads/main, refs/tags/*]
      triggers: [push]
      authorize: {required: true, grace: 15m, from: ["DIR/manifest"], keys: ["DIR/release.vkey"]}
    rules: {id.burst: {max: 50, window: 10m}}
`

// packages has so many packages published by the right workflow, in so much time; its maintainers have
// listed the first of them.
func packages(listed, n int, within time.Duration) func(*stage) {
	return func(s *stage) {
		s.authorize(authorize.Run, "https://github.com/packs/workspace/actions/runs/1/attempts/1")
		run := func(i int) mint.Run {
			return mint.Run{Repository: "packs/workspace", ID: 100 + int64(i/2)}
		}
		for i := range listed {
			r := run(i)
			s.authorize(authorize.Run, fmt.Sprintf("https://github.com/packs/workspace/actions/runs/%d/attempts/1", r.ID))
		}
		for i := range n {
			s.sign(entryOf(run(i).GitHub()))
			time.Sleep(within / time.Duration(n))
			if i%32 == 31 {
				s.look()
			}
		}
		s.after(20 * time.Minute)
	}
}

// incidents are what happened to others, or nearly, and what tells of it.
var incidents = []scenario{
	{rule: rule.IDUnexpected, what: "Symantec 2015, a certificate for a domain from somebody else's issuer", settings: `
identities: [{name: search, domain: search.example, expect: {issuers: ["https://pki.search.example"]}}]
`,
		trigger: logged(with(entryOf(mint.Certificate{Extensions: map[int]string{8: "https://symantec.example"}}), mint.Name{Kind: mint.DNS, Value: "www.search.example"})),
		near:    logged(with(entryOf(mint.Certificate{Extensions: map[int]string{8: "https://pki.search.example"}}), mint.Name{Kind: mint.DNS, Value: "www.search.example"}))},
	{rule: rule.IDNoIssuer, what: "Fina 2025, certificates for an IP address", settings: `
identities: [{name: resolver, san: "1.1.1.1", expect: {issuers: ["https://pki.resolver.example"]}}]
`,
		trigger: logged(with(entryOf(mint.Certificate{}), mint.Name{Kind: mint.IP, Value: "\x01\x01\x01\x01"})),
		near:    logged(with(entryOf(mint.Certificate{}), mint.Name{Kind: mint.IP, Value: "\x01\x01\x01\x64"}))},
	{rule: rule.IDUnexpectedRef, what: "ultralytics 2024, the real publisher after its cache was poisoned", settings: `
identities: [{name: models, github: ultra/models, expect: {issuers: ["https://token.actions.githubusercontent.com"], workflows: [.github/workflows/publish.yml], refs: [refs/tags/v*]}}]
`,
		trigger: logged(entryOf(mint.Run{Repository: "ultra/models", Workflow: ".github/workflows/publish.yml", Ref: "refs/heads/openimbot:$(curl)"}.GitHub())),
		near:    logged(entryOf(mint.Run{Repository: "ultra/models", Workflow: ".github/workflows/publish.yml", Ref: "refs/tags/v8.3.41"}.GitHub()))},
	{rule: rule.IDRefDrift, what: "tj-actions 2025, all tags moved to one commit", settings: `
identities: [{name: changed-files, github: tj/changed-files, expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {id.ref-drift: {}}}]
`,
		trigger: func(s *stage) { s.retag("0e58ed8671d6b60d0890c21b07f8835ace038e67") },
		near:    func(s *stage) { s.retag("") }},
	{rule: rule.IDFanOut, what: "Shai-Hulud 2025, a worm in all of an owner's repositories", settings: ownerRules("id.fan-out: {}"),
		trigger: spread(30, 8*time.Minute),
		near:    spread(30, 3*time.Hour)},
	{rule: rule.IDBurst, what: "TanStack 2026, 84 versions in six minutes by the right workflow", settings: publishing,
		trigger: packages(84, 84, 6*time.Minute),
		near:    packages(42, 42, 6*time.Minute)},
	{rule: rule.IDUnauthorized, what: "TanStack 2026, with valid provenance that nobody meant", settings: publishing, beside: []rule.ID{rule.IDBurst},
		trigger: packages(0, 84, 6*time.Minute),
		near:    packages(42, 42, 6*time.Minute)},
	{rule: rule.IDFirstUse, what: "AntV 2026, after a year of silence", settings: `
identities: [{name: chart, github: antv/chart, expect: {issuers: ["https://token.actions.githubusercontent.com"]}, rules: {id.first-use: {after: 2160h}}}]
`,
		trigger: func(s *stage) { s.silent(365 * 24 * time.Hour) },
		near:    func(s *stage) { s.silent(30 * 24 * time.Hour) }},
}

// retag has three tags released, and then signed again, with another commit if there is one.
func (s *stage) retag(commit string) {
	s.t.Helper()
	for _, c := range []string{"", commit} {
		for i := range 3 {
			s.sign(entryOf(mint.Run{Repository: "tj/changed-files", Ref: fmt.Sprintf("refs/tags/v4%d", i), Commit: c, ID: 5}.GitHub()))
		}
		s.after(5 * time.Minute)
	}
}

// silent has a repository release, and release again after so long.
func (s *stage) silent(d time.Duration) {
	s.t.Helper()
	s.begins = 1
	s.sign(s.world.Anybody(0), entryOf(mint.Run{Repository: "antv/chart"}.GitHub()))
	s.look()
	time.Sleep(d)
	s.sign(entryOf(mint.Run{Repository: "antv/chart"}.GitHub()))
	s.look()
}
