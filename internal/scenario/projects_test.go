package scenario_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"tallywood/internal/mint"
)

// days is how long the month is; it begins with begin's day.
const days = 30

// An act is an entry that a project logs at a time.
type act struct {
	at    time.Time
	entry mint.Entry
}

// A month is what happens in it.
type month struct {
	r    *rand.Rand
	acts []act
	runs int64
}

// day returns a time of day n.
func day(n, hour, minute int) time.Time {
	return begin.Truncate(24*time.Hour).AddDate(0, 0, n).Add(time.Duration(hour)*time.Hour + time.Duration(minute)*time.Minute)
}

// weekend reports whether day n is one.
func weekend(n int) bool {
	d := day(n, 0, 0).Weekday()
	return d == time.Saturday || d == time.Sunday
}

// act notes that an entry is logged.
func (m *month) act(at time.Time, e mint.Entry) { m.acts = append(m.acts, act{at, e}) }

// gitHub notes that one run of a workflow signs so many artifacts, some seconds apart.
func (m *month) gitHub(at time.Time, artifacts int, r mint.Run) {
	m.runs++
	r.ID = 9_000_000_000 + m.runs
	for i := range artifacts {
		e := entryOf(r.GitHub())
		e.Content = fmt.Appendf(nil, "artifact %d of %s %s %s", i, r.Repository, r.Ref, r.Commit)
		m.act(at.Add(time.Duration(i*7)*time.Second), e)
	}
}

// gitLab is gitHub for pipelines.
func (m *month) gitLab(at time.Time, artifacts int, r mint.Run) {
	r.Commit = commit(fmt.Sprint("pipeline ", m.runs))
	for range artifacts {
		m.runs++
		r.ID = 9_000_000_000 + m.runs
		m.act(at, entryOf(r.GitLab()))
		at = at.Add(20 * time.Second)
	}
}

// minute returns a minute of an hour, which differs.
func (m *month) minute() int { return m.r.IntN(60) }

// version is a tag of a release.
func version(major, minor, patch int) string {
	return fmt.Sprintf("refs/tags/v%d.%d.%d", major, minor, patch)
}

func commit(text string) string {
	return fmt.Sprintf("%040x", []byte(text+"____________________"))[:40]
}

// A project does what it does in a month; its identity is what the maintainer would watch it by.
type project struct {
	identity string // lines below identities
	does     func(m *month)
}

const gitHubIssuers = `issuers: ["https://token.actions.githubusercontent.com"]`

// gitHubIdentity is the identity of a repository, with what is expected besides the issuer.
func gitHubIdentity(repository, expect string) string {
	return fmt.Sprintf("  - {name: %q, github: %q, repository_id: %q, owner_id: %q, expect: {%s, %s}}\n",
		repository, repository, mint.RepositoryID(repository), mint.OwnerID(repository), gitHubIssuers, expect)
}

// projects are twenty that behave as they say.
var projects = slices.Concat(releasing, building, elsewhere)

// releasing are projects on GitHub that sign their releases.
var releasing = []project{
	{ // Four releases, each of many architectures at once.
		identity: gitHubIdentity("acme/cli", "workflows: [.github/workflows/release.yml], refs: [refs/tags/v*], triggers: [push], runner: github-hosted"),
		does: func(m *month) {
			for i, n := range []int{2, 9, 17, 24} {
				m.gitHub(day(n, 10, m.minute()), 9, mint.Run{Repository: "acme/cli", Ref: version(2, i, 0)})
			}
		}},
	{ // Release candidates, a release whose first run failed half-way and was run again, and one by hand.
		identity: gitHubIdentity("acme/lib", "workflows: [.github/workflows/release.yml], refs: [refs/tags/*], triggers: [push, workflow_dispatch], runner: github-hosted"),
		does: func(m *month) {
			for i, n := range []int{3, 4, 7} {
				m.gitHub(day(n, 14, m.minute()), 2, mint.Run{Repository: "acme/lib", Ref: fmt.Sprintf("refs/tags/v3.0.0-rc.%d", i)})
			}
			again := mint.Run{Repository: "acme/lib", Ref: version(3, 0, 0), Commit: commit("3.0.0")}
			m.gitHub(day(8, 15, 2), 1, again)
			again.Attempt = 2
			m.gitHub(day(8, 15, 31), 2, again)
			m.gitHub(day(20, 11, 5), 2, mint.Run{Repository: "acme/lib", Ref: version(3, 0, 1), Trigger: "workflow_dispatch"})
		}},
	{ // An action, whose major tag moves with each release.
		identity: gitHubIdentity("acme/setup-action", "workflows: [.github/workflows/release.yml, .github/workflows/major.yml], refs: [refs/tags/v*], triggers: [push]"),
		does: func(m *month) {
			for i, n := range []int{1, 11, 25} {
				c := commit(fmt.Sprint("action ", i))
				m.gitHub(day(n, 9, 10), 1, mint.Run{Repository: "acme/setup-action", Ref: version(4, 2, i), Commit: c})
				m.gitHub(day(n, 9, 14), 1, mint.Run{Repository: "acme/setup-action", Ref: "refs/tags/v4", Commit: c, Workflow: ".github/workflows/major.yml"})
			}
		}},
	{ // A workspace of packages, which are released together each week.
		identity: gitHubIdentity("packs/workspace", `workflows: [.github/workflows/publish.yml], refs: ["refs/tags/@packs/*"], triggers: [push], environments: [npm]`),
		does: func(m *month) {
			for week := range 4 {
				for i := range 14 {
					m.gitHub(day(1+7*week, 16, 3+i/5), 1, mint.Run{Repository: "packs/workspace", Environment: "npm", Workflow: ".github/workflows/publish.yml",
						Ref: fmt.Sprintf("refs/tags/@packs/p%d@1.%d.0", i, week), Commit: commit(fmt.Sprint("week ", week))})
				}
			}
		}},
	{ // Another name from the twelfth day on. The maintainer watches both.
		identity: gitHubIdentity("oldname/tool", "workflows: [.github/workflows/release.yml], refs: [refs/tags/v*], triggers: [push]") +
			fmt.Sprintf("  - {name: \"newname/tool\", github: \"newname/tool\", repository_id: %q, owner_id: %q, expect: {%s, workflows: [.github/workflows/release.yml], refs: [refs/tags/v*]}}\n",
				mint.RepositoryID("oldname/tool"), mint.OwnerID("newname/tool"), gitHubIssuers),
		does: func(m *month) {
			m.gitHub(day(5, 13, 0), 3, mint.Run{Repository: "oldname/tool", Ref: version(0, 9, 0)})
			for i, n := range []int{13, 22} {
				m.gitHub(day(n, 13, 0), 3, mint.Run{Repository: "newname/tool", RepositoryID: mint.RepositoryID("oldname/tool"), Ref: version(0, 10, i)})
			}
		}},
	{ // Private until the tenth day.
		identity: gitHubIdentity("startup/server", "workflows: [.github/workflows/release.yml], refs: [refs/tags/v*]"),
		does: func(m *month) {
			for i, n := range []int{2, 6, 10, 16, 27} {
				r := mint.Run{Repository: "startup/server", Ref: version(1, i, 0)}
				if n < 10 {
					r.Visibility = "private"
				}
				m.gitHub(day(n, 12, m.minute()), 2, r)
			}
		}},
	{ // Many repositories, released on one day as a train, and now and then one of them.
		identity: fmt.Sprintf("  - {name: \"train/*\", github: \"train/*\", owner_id: %q, expect: {%s, workflows: [.github/workflows/release.yml], refs: [refs/tags/v*], triggers: [push]}}\n",
			mint.OwnerID("train/x"), gitHubIssuers),
		does: func(m *month) {
			for i := range 15 {
				m.gitHub(day(15, 9, 30+i/2), 2, mint.Run{Repository: fmt.Sprintf("train/car-%d", i), Ref: version(7, 0, 0)})
			}
			for n := 1; n < days; n += 4 {
				m.gitHub(day(n, 17, m.minute()), 2, mint.Run{Repository: fmt.Sprintf("train/car-%d", n%15), Ref: version(6, 9, n)})
			}
		}},
	{ // Released once, on the last Sunday, after a year of nothing.
		identity: gitHubIdentity("sleepy/parser", "workflows: [.github/workflows/release.yml], refs: [refs/tags/v*]"),
		does: func(m *month) {
			m.gitHub(day(27, 21, 40), 1, mint.Run{Repository: "sleepy/parser", Ref: version(0, 3, 1)})
		}},
}

// building are projects on GitHub that sign what they build all the time.
var building = []project{
	{ // Releases, each push to the main branch, and a build every night.
		identity: gitHubIdentity("cloudy/operator", "workflows: [.github/workflows/release.yml, .github/workflows/main.yml, .github/workflows/nightly.yml], refs: [refs/tags/v*, refs/heads/main], triggers: [push, schedule]"),
		does: func(m *month) {
			for n := range days {
				m.gitHub(day(n, 2, 17), 4, mint.Run{Repository: "cloudy/operator", Workflow: ".github/workflows/nightly.yml", Trigger: "schedule", Commit: commit(fmt.Sprint("night ", n))})
				for range m.r.IntN(4) {
					m.gitHub(day(n, 8+m.r.IntN(10), m.minute()), 1, mint.Run{Repository: "cloudy/operator", Workflow: ".github/workflows/main.yml"})
				}
			}
			m.gitHub(day(18, 15, 0), 6, mint.Run{Repository: "cloudy/operator", Ref: version(1, 20, 0)})
		}},
	{ // A bot that merges updates, most of them on Monday mornings.
		identity: gitHubIdentity("botted/app", "workflows: [.github/workflows/*.yml], refs: [refs/heads/main], triggers: [push, merge_group]"),
		does: func(m *month) {
			for n := range days {
				updates := m.r.IntN(3)
				if day(n, 0, 0).Weekday() == time.Monday {
					updates = 13
				}
				for i := range updates {
					m.gitHub(day(n, 6, 2*i), 1, mint.Run{Repository: "botted/app", Workflow: ".github/workflows/snapshot.yml", Trigger: "push"})
				}
			}
		}},
	{ // A workflow of the same owner that its repositories call.
		identity: gitHubIdentity("shared/app", `workflows: [.github/workflows/release.yml, "https://github.com/shared/workflows/.github/workflows/build.yml"], refs: [refs/heads/main, refs/tags/v*]`),
		does: func(m *month) {
			for n := range days {
				if weekend(n) {
					continue
				}
				m.gitHub(day(n, 11, m.minute()), 2, mint.Run{Repository: "shared/app", Signer: "https://github.com/shared/workflows/.github/workflows/build.yml@refs/heads/main"})
			}
		}},
	{ // A workflow that everybody calls, as its owner wants.
		identity: gitHubIdentity("generic/generator", "workflows: [.github/workflows/generator.yml, .github/workflows/release.yml]"),
		does: func(m *month) {
			for n := range days {
				m.gitHub(day(n, 9+n%8, m.minute()), 1, mint.Run{Repository: fmt.Sprintf("somebody-%d/anything", n%11), Ref: version(1, n, 0),
					Signer: "https://github.com/generic/generator/.github/workflows/generator.yml@refs/tags/v2.1.0"})
			}
			m.gitHub(day(14, 10, 0), 1, mint.Run{Repository: "generic/generator", Ref: version(2, 1, 1)})
		}},
	{ // On machines of its own, with two environments.
		identity: gitHubIdentity("bank/ledger", "workflows: [.github/workflows/deploy.yml], refs: [refs/heads/main, refs/heads/release/*], triggers: [push, workflow_dispatch], runner: self-hosted, environments: [staging, production]"),
		does: func(m *month) {
			for n := range days {
				if weekend(n) {
					continue
				}
				r := mint.Run{Repository: "bank/ledger", Workflow: ".github/workflows/deploy.yml", Runner: "self-hosted", Environment: "staging", Visibility: "internal"}
				m.gitHub(day(n, 13, m.minute()), 2, r)
				if n%7 == 3 {
					r.Environment, r.Ref, r.Trigger = "production", fmt.Sprintf("refs/heads/release/%d", n), "workflow_dispatch"
					m.gitHub(day(n, 15, m.minute()), 2, r)
				}
			}
		}},
}

// elsewhere are those who are not on GitHub.
var elsewhere = []project{
	{ // Tags and nightly pipelines on gitlab.com.
		identity: `  - {name: "group/library", gitlab: group/library, expect: {issuers: ["https://gitlab.com"], workflows: [.gitlab-ci.yml], refs: [refs/heads/main, refs/tags/v*]}}` + "\n",
		does: func(m *month) {
			for n := range days {
				m.gitLab(day(n, 1, 30), 1, mint.Run{Repository: "group/library", Trigger: "schedule"})
			}
			m.gitLab(day(6, 10, 0), 3, mint.Run{Repository: "group/library", Ref: version(5, 0, 0)})
		}},
	{ // A project in a group of a group, by hand.
		identity: `  - {name: "group/sub/charts", gitlab: group/sub/charts, expect: {issuers: ["https://gitlab.com"], refs: [refs/tags/*], triggers: [web, push]}}` + "\n",
		does: func(m *month) {
			for i, n := range []int{3, 10, 19, 26} {
				m.gitLab(day(n, 16, m.minute()), 2, mint.Run{Repository: "group/sub/charts", Ref: fmt.Sprintf("refs/tags/chart-%d", i), Trigger: []string{"web", "push"}[i%2]})
			}
		}},
	{ // A maintainer who signs by hand, logged in here or there, once late at night.
		identity: `  - {name: alice, email: alice@maintainers.example, expect: {issuers: ["https://accounts.google.com", "https://github.com/login/oauth"]}, people: true}` + "\n",
		does: func(m *month) {
			for i, n := range []int{4, 12, 23} {
				m.act(day(n, 20+i, 35), person("alice@maintainers.example", []string{"https://accounts.google.com", "https://github.com/login/oauth"}[i%2]))
			}
		}},
	{ // A company whose people sign their commits.
		identity: `  - {name: company, domain: company.example, expect: {issuers: ["https://login.company.example"]}, people: true}` + "\n",
		does: func(m *month) {
			for n := range days {
				if weekend(n) {
					continue
				}
				for who := range 6 {
					for range 1 + m.r.IntN(5) {
						m.act(day(n, 8+m.r.IntN(10), m.minute()), person(fmt.Sprintf("person%d@company.example", who), "https://login.company.example"))
					}
				}
			}
		}},
	{ // A key in a safe, and another one from the twentieth day on.
		identity: "  - {name: old key, key: OLDKEY}\n  - {name: new key, key: NEWKEY}\n",
		does: func(m *month) {
			for _, n := range []int{2, 9, 16, 23} {
				name := map[bool]string{true: "old", false: "new"}[n < 20]
				e := mint.Entry{Bare: true}
				e.Key = name
				m.act(day(n, 12, 0), e)
			}
		}},
	{ // A cluster that signs what it deploys, at any hour.
		identity: `  - {name: deployer, kubernetes: prod/deployer, expect: {issuers: ["https://oidc.cluster.example"]}}` + "\n",
		does: func(m *month) {
			for n := range days {
				for range 4 + m.r.IntN(4) {
					m.act(day(n, m.r.IntN(24), m.minute()), entryOf(mint.ForKubernetes("prod", "deployer", "https://oidc.cluster.example")))
				}
			}
		}},
	{ // A build machine with a certificate of its own authority for its host name.
		identity: `  - {name: build host, san: builder.example.net, expect: {issuers: ["https://spire.example.net"]}}` + "\n",
		does: func(m *month) {
			for n := 1; n < days; n += 3 {
				c := mint.Certificate{Names: []mint.Name{{Kind: mint.DNS, Value: "builder.example.net"}}, Extensions: map[int]string{8: "https://spire.example.net"}}
				m.act(day(n, 18, m.minute()), entryOf(c))
			}
		}},
}
