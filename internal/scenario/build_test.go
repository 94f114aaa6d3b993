package scenario_test

import (
	"tallywood/internal/mint"
	"tallywood/monitor/rule"
)

// watchTool is a project on GitHub with all that can be expected of it.
const watchTool = `
identities:
  - name: tool
    github: example/tool
    repository_id: "` + "TOOLID" + `"
    owner_id: "` + "OWNERID" + `"
    expect:
      issuers: ["https://token.actions.githubusercontent.com"]
      workflows: [.github/workflows/release.yml]
      refs: [refs/tags/v*]
      triggers: [push, workflow_dispatch]
      runner: github-hosted
      environments: [production]
`

// tool is a release of it as it should be.
func tool(change func(*mint.Run)) mint.Entry {
	r := mint.Run{Repository: "example/tool", Ref: "refs/tags/v1.2.3", Environment: "production", ID: 1001}
	if change != nil {
		change(&r)
	}
	return entryOf(r.GitHub())
}

// builds returns the story of releases.
func builds(entries ...mint.Entry) func(*stage) {
	return func(s *stage) {
		s.replace("TOOLID", mint.RepositoryID("example/tool"))
		s.replace("OWNERID", mint.OwnerID("example/tool"))
		s.sign(entries...)
		s.look()
	}
}

// usualBuild is a story in which nothing happens that is not expected.
var usualBuild = builds(tool(nil),
	tool(func(r *mint.Run) { r.Trigger, r.Ref = "workflow_dispatch", "refs/tags/v2" }),
	tool(func(r *mint.Run) { r.Repository, r.Workflow = "example/tools", "x.yml" }),
	tool(func(r *mint.Run) { r.Repository, r.Trigger = "examples/tool", "pull_request_target" }))

var buildScenarios = []scenario{
	{rule: rule.IDUnexpectedWorkflow, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.Workflow = ".github/workflows/test.yml" }))},
	{rule: rule.IDUnexpectedWorkflow, what: "a foreign workflow that is called", settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) {
			r.Signer = "https://github.com/evil/shared/.github/workflows/release.yml@refs/heads/main"
		}))},
	{rule: rule.IDUnexpectedRef, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.Ref = "refs/heads/main" }))},
	{rule: rule.IDUnexpectedTrigger, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.Trigger = "pull_request_target" }))},
	{rule: rule.IDRepoIDMismatch, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.RepositoryID = "77" }))},
	{rule: rule.IDRepoIDMismatch, what: "another owner", settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.OwnerID = "77" }))},
	{rule: rule.IDSelfHosted, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.Runner = "self-hosted" }))},
	{rule: rule.IDUnexpectedEnv, settings: watchTool, near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) { r.Environment = "staging" }))},
	{rule: rule.IDReusableCaller, settings: watchTool + "    rules: {id.reusable-caller: {}}\n", near: usualBuild,
		trigger: builds(tool(func(r *mint.Run) {
			r.Repository, r.Signer = "else/where", "https://github.com/example/tool/.github/workflows/release.yml@refs/tags/v1.2.3"
		})), beside: []rule.ID{rule.IDUnexpectedWorkflow, rule.IDRepoIDMismatch}},
}
