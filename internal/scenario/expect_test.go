package scenario_test

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/log/entry"
)

// watchAll is the tool with all that can be expected of it but an environment.
var watchAll = strings.Replace(strings.Replace(watchTool, "      environments: [production]\n", "", 1), ", workflow_dispatch", "", 1)

// own is the tool's repository.
const own = "https://github.com/example/tool"

// build is a release of the tool that says something else in its extensions.
func build(values map[int]string) mint.Entry {
	return says(run(nil), values)
}

// run is a release of the tool that went otherwise.
func run(change func(*mint.Run)) mint.Entry {
	return tool(func(r *mint.Run) {
		if r.Environment = ""; change != nil {
			change(r)
		}
	})
}

// fromIssuer is a release of the tool that another issuer vouched for.
func fromIssuer(issuer string) mint.Entry { return vouched(run(nil), issuer) }

// byWorkflow is a release of the tool by the workflow of a URI.
func byWorkflow(uri string) mint.Entry {
	e := build(map[int]string{9: uri, 18: uri})
	e.Names = []mint.Name{{Kind: mint.URI, Value: uri}}
	return e
}

// onRef is a release of the tool from a ref.
func onRef(ref string) mint.Entry { return run(func(r *mint.Run) { r.Ref = ref }) }

// byCaller is a signature by the tool's workflow, which a repository called.
func byCaller(repository string) mint.Entry {
	return entryOf(mint.Run{Repository: repository, Signer: own + "/.github/workflows/release.yml@refs/tags/v1.2.3"}.GitHub())
}

// encoded returns e with the bytes of an extension of Fulcio's beside the others.
func encoded(e mint.Entry, n int, value string) mint.Entry {
	e.More = []pkix.Extension{{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, n}, Value: []byte(value)}}
	return e
}

// What is told of the tool.
const (
	badIssuer   = "tool critical id.unexpected-issuer"
	noIssuer    = "tool critical id.no-issuer"
	badWorkflow = "tool critical id.unexpected-workflow"
	badRef      = "tool critical id.unexpected-ref"
	badTrigger  = "tool critical id.unexpected-trigger"
	badNumber   = "tool critical id.repo-id-mismatch"
	badRunner   = "tool warning id.self-hosted"
	badSetting  = "tool warning id.unexpected-env"
)

var expectTables = []table{
	{"issuers", watchAll, []row{
		judged("as expected", run(nil)),
		judged("with a slash", fromIssuer(mint.GitHubIssuer+"/"), badIssuer),
		judged("in other case", fromIssuer("https://token.actions.GitHubUserContent.com"), badIssuer),
		judged("without TLS", fromIssuer("http://token.actions.githubusercontent.com"), badIssuer),
		judged("of an enterprise", fromIssuer(mint.GitHubIssuer+"/example"), badIssuer),
		judged("in another domain", fromIssuer(mint.GitHubIssuer+".evil.example"), badIssuer),
		judged("with a NUL", fromIssuer(mint.GitHubIssuer+"\x00"), badIssuer),
		judged("with a space", fromIssuer(mint.GitHubIssuer+" "), badIssuer),
		judged("another in the new extension", build(map[int]string{8: evil}), badIssuer),
		judged("another in the old extension", build(map[int]string{1: evil}), badIssuer),
		judged("the old extension alone", build(map[int]string{8: ""})),
		judged("the new extension alone", build(map[int]string{1: ""})),
		judged("none", build(map[int]string{1: "", 8: ""}), noIssuer),
		judged("an empty one", encoded(build(map[int]string{1: "", 8: ""}), 8, "\x0c\x00"), badIssuer),
		judged("the new extension in the form of the old", encoded(build(map[int]string{1: "", 8: ""}), 8, mint.GitHubIssuer), "tool critical log.malformed-entry"),
		judged("another, in that form", encoded(build(map[int]string{1: "", 8: ""}), 8, evil), badIssuer),
		judged("two of the same extension", encoded(run(nil), 8, "\x0c\x1d"+evil), "tool critical id.unexpected-issuer id.unknown-ca"),
	}},
	{"workflows", watchAll, []row{
		judged("without a ref", byWorkflow(own+"/.github/workflows/release.yml")),
		judged("another", run(func(r *mint.Run) { r.Workflow = ".github/workflows/lint.yml" }), badWorkflow),
		judged("below", byWorkflow(own+"/.github/workflows/sub/release.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("elsewhere", byWorkflow(own+"/x/.github/workflows/release.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("of another suffix", byWorkflow(own+"/.github/workflows/release.yaml@refs/tags/v1.2.3"), badWorkflow),
		judged("in other case", byWorkflow(own+"/.github/workflows/Release.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("a file named as if its ref began there", byWorkflow(own+"/.github/workflows/release.yml@evil.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("in percents", byWorkflow(own+"/.github/workflows/release%2Eyml@refs/tags/v1.2.3"), badWorkflow),
		judged("with dots", byWorkflow(own+"/.github/workflows/../workflows/release.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("foreign, mine behind it", byWorkflow("https://github.com/evil/x/.github/workflows/evil.yml@refs/heads/main?"+own+"/.github/workflows/release.yml"), badWorkflow),
		judged("foreign, of the same path", byWorkflow("https://github.com/evil/x/.github/workflows/release.yml@refs/tags/v1.2.3"), badWorkflow),
		judged("foreign, that signs", build(map[int]string{9: "https://github.com/evil/x/.github/workflows/release.yml@refs/heads/main"}), badWorkflow),
		judged("foreign, that ran", build(map[int]string{18: "https://github.com/evil/x/.github/workflows/release.yml@refs/heads/main"}), badWorkflow),
		judged("another, that ran and called mine", build(map[int]string{18: own + "/.github/workflows/lint.yml@refs/tags/v1.2.3"}), badWorkflow),
		judged("the repository in other case", byWorkflow("https://github.com/Example/Tool/.github/workflows/release.yml@refs/tags/v1.2.3")),
		judged("called by a stranger", byCaller("evil/x")),
		judged("called by a stranger, with another issuer", vouched(byCaller("evil/x"), evil), badIssuer),
	}},
	{"refs, triggers, runners and numbers", watchAll, []row{
		judged("a branch of the tag's name", onRef("refs/heads/v1.2.3"), badRef),
		judged("of a pull request", onRef("refs/pull/7/merge"), badRef),
		judged("a tag in other case", onRef("refs/tags/V1"), badRef),
		judged("a tag with a slash", onRef("refs/tags/v1/x")),
		judged("a tag called like a tag", onRef("refs/tags/refs/tags/v1"), badRef),
		judged("the old extension alone", build(map[int]string{14: ""})),
		judged("none", build(map[int]string{14: "", 6: ""}), badRef),
		judged("another in the old extension", build(map[int]string{6: "refs/heads/main"}), badRef),
		judged("another in the new extension", build(map[int]string{14: "refs/heads/main"}), badRef),
		judged("pull_request_target", run(func(r *mint.Run) { r.Trigger = "pull_request_target" }), badTrigger),
		judged("workflow_run", run(func(r *mint.Run) { r.Trigger = "workflow_run" }), badTrigger),
		judged("a trigger in other case", run(func(r *mint.Run) { r.Trigger = "Push" }), badTrigger),
		judged("another in the old extension", build(map[int]string{2: "issue_comment"}), badTrigger),
		judged("another in the new extension", build(map[int]string{20: "issue_comment"}), badTrigger),
		judged("no trigger", build(map[int]string{2: "", 20: ""}), badTrigger),
		judged("a runner of one's own", run(func(r *mint.Run) { r.Runner = "self-hosted" }), badRunner),
		judged("a runner of another forge", build(map[int]string{11: "gitlab-hosted"}), badRunner),
		judged("no runner", build(map[int]string{11: ""}), badRunner),
		judged("a number with a digit more", build(map[int]string{15: mint.RepositoryID("example/tool") + "0"}), badNumber),
		judged("no number", build(map[int]string{15: ""}), badNumber),
		judged("no owner's number", build(map[int]string{17: ""}), badNumber),
		judged("all at once", vouched(run(func(r *mint.Run) { r.Runner, r.Ref = "self-hosted", "refs/heads/x" }), evil),
			"tool critical id.self-hosted id.unexpected-issuer id.unexpected-ref"),
	}},
	{"refs of branches", "identities: [{name: tool, github: example/tool, expect: {refs: [refs/heads/main]}}]\n", []row{
		judged("the branch", onRef("refs/heads/main")),
		judged("a tag called like it", onRef("refs/tags/refs/heads/main"), badRef),
		judged("a tag", onRef("refs/tags/main"), badRef),
		judged("a longer one", onRef("refs/heads/main2"), badRef),
	}},
	{"workflows of tags", `identities: [{name: tool, github: example/tool, expect: {workflows: [".github/workflows/release.yml@refs/tags/v*", "https://github.com/shared/flows/.github/workflows/sign.yml@*"]}}]
`, []row{
		judged("a tag", run(nil)),
		judged("a branch", onRef("refs/heads/main"), badWorkflow),
		judged("a branch called like a ref and a tag", onRef("refs/heads/x@refs/tags/v1"), badWorkflow),
		judged("a shared one", run(func(r *mint.Run) {
			r.Signer = "https://github.com/shared/flows/.github/workflows/sign.yml@refs/heads/main"
		})),
		judged("a shared one, by its commit", run(func(r *mint.Run) {
			r.Signer = "https://github.com/shared/flows/.github/workflows/sign.yml@1111111111111111111111111111111111111111"
		})),
		judged("another shared one", run(func(r *mint.Run) {
			r.Signer = "https://github.com/shared/flows/.github/workflows/sign2.yml@refs/heads/main"
		}), badWorkflow),
	}},
	{"workflows by a pattern", "identities: [{name: tool, github: example/tool, expect: {workflows: [\".github/workflows/release-*-prod.yml\"]}}]\n", []row{
		judged("one of them", run(func(r *mint.Run) { r.Workflow = ".github/workflows/release-x86-prod.yml" })),
		judged("another", run(func(r *mint.Run) { r.Workflow = ".github/workflows/release-dev.yml" }), badWorkflow),
		judged("another, on a branch called like the rest of the pattern", run(func(r *mint.Run) {
			r.Workflow, r.Ref = ".github/workflows/release-dev.yml", "refs/heads/x-prod.yml"
		}), badWorkflow),
	}},
	{"environments", "identities:\n  - {name: any, github: example/tool, expect: {environments: [\"*\"]}}\n  - {name: tool, github: example/tool, expect: {environments: [release]}}\n", []row{
		judged("as expected", run(func(r *mint.Run) { r.Environment = "release" })),
		judged("in other case", run(func(r *mint.Run) { r.Environment = "Release" }), badSetting),
		judged("another", run(func(r *mint.Run) { r.Environment = "staging" }), badSetting),
		judged("none", run(nil), "any warning id.unexpected-env", badSetting),
		judged("an empty one", encoded(run(nil), 23, "\x0c\x00"), "any warning id.unexpected-env", badSetting),
	}},
	{"a rule that is off", watchAll + "rules: {id.self-hosted: {off: true}}\n", []row{
		judged("a runner of one's own", run(func(r *mint.Run) { r.Runner = "self-hosted" })),
		judged("a pull request", run(func(r *mint.Run) { r.Trigger = "pull_request" }), badTrigger),
	}},
	{"callers", "identities: [{name: tool, github: example/tool, rules: {id.seen: {off: true}, id.reusable-caller: {}}}]\n", []row{
		judged("itself", run(nil)),
		judged("itself in other case", build(map[int]string{12: "https://github.com/Example/Tool"})),
		judged("a stranger", byCaller("evil/x"), "tool warning id.reusable-caller"),
		judged("another of the owner's", byCaller("example/x"), "tool warning id.reusable-caller"),
		judged("one of a longer name", byCaller("example/tool-evil"), "tool warning id.reusable-caller"),
		judged("a stranger's workflow ran", build(map[int]string{18: "https://github.com/evil/x/.github/workflows/release.yml@refs/tags/v1.2.3"}), "tool warning id.reusable-caller"),
	}},
}

var entryTables = []table{
	{"certificates", rules("cert.long-lived: {}, cert.bad-eku: {}, cert.no-sct: {}, cert.bad-sct: {}, cert.sct-unknown-log: {}, entry.weak-key: {}"), []row{
		judged("as usual", person(alice, accounts)),
		judged("ten minutes and the tolerance", changed(withLife(610*time.Second))),
		judged("a second more", changed(withLife(611*time.Second)), "me warning cert.long-lived"),
		judged("that ends before it begins", changed(withLife(-time.Minute)), "me critical cert.long-lived id.unknown-ca"),
		judged("for servers alone", changed(withUsages(mint.ServerAuth)), "me warning cert.bad-eku"),
		judged("for everything", changed(withUsages(asn1.ObjectIdentifier{2, 5, 29, 37, 0})), "me warning cert.bad-eku"),
		judged("for nothing", changed(func(e *mint.Entry) { e.Usages = []asn1.ObjectIdentifier{} }), "me warning cert.bad-eku"),
		judged("RSA of 2048 bits", changed(withDetails(entry.RSA2048))),
		judged("P-384", changed(withDetails(entry.ECDSAP384))),
		judged("Ed25519", changed(withDetails(entry.Ed25519ph))),
	}},
	{"kinds of keys", rules("entry.weak-key: {allow: [ed25519, rsa-3072]}"), []row{
		judged("P-256", person(alice, accounts), "me warning entry.weak-key"),
		judged("Ed25519", changed(withDetails(entry.Ed25519ph))),
		judged("RSA of 2048 bits", changed(withDetails(entry.RSA2048)), "me warning entry.weak-key"),
		judged("RSA of 3072 bits", changed(withDetails(entry.RSA3072))),
	}},
	{"a retired key", rules("id.fingerprint-used: {keys: [WATCHED]}"), []row{
		judged("another", person(alice, accounts)),
		judged("by its owner", keyed(alice, "watched"), "me critical id.fingerprint-used"),
		judged("by somebody else", keyed("bob@example.com", "watched"), "me critical id.fingerprint-used"),
	}},
	{"everybody", "audit: true\nidentities: []\nrules: {cert.long-lived: {}, entry.weak-key: {allow: [ecdsa-p256]}}\n", []row{
		judged("as usual", person("bob@example.com", accounts)),
		judged("long", bobs(withLife(time.Hour)), "- warning cert.long-lived"),
		judged("RSA", bobs(withDetails(entry.RSA2048)), "- warning entry.weak-key"),
	}},
}

const alike = "tool warning id.lookalike"

// repositories returns rows of repositories that look like the watched one, and of others.
func repositories(looks, others []string) []row {
	var rows []row
	for _, n := range looks {
		rows = append(rows, judged(n, entryOf(mint.Run{Repository: n}.GitHub()), alike))
	}
	for _, n := range others {
		rows = append(rows, judged(n, entryOf(mint.Run{Repository: n}.GitHub())))
	}
	return rows
}

// addresses returns rows of mail addresses likewise.
func addresses(looks, others []string) []row {
	var rows []row
	for _, n := range looks {
		rows = append(rows, judged(n, person(n, accounts), alike))
	}
	for _, n := range others {
		rows = append(rows, judged(n, person(n, accounts)))
	}
	return rows
}

// lookalikes is an identity that others may look like.
func lookalikes(selector, params string) string {
	return "identities: [{name: tool, " + selector + ", rules: {id.seen: {off: true}, id.lookalike: {" + params + "}}}]\n"
}

var likenessTables = []table{
	{"look-alikes of a repository", lookalikes("github: example/tool", `allow: ["example/t00l"]`), repositories(
		[]string{"example/too1", "examp1e/tool", "exampIe/tool", "ехample/tool", "example/tools", "exarnple/tool", "example-/tool", "exmple/tool", "еxamplе/tооl"},
		[]string{"example/tool", "EXAMPLE/tool", "example/tool-evil", "example/hammer", "elsewhere/tool", "example/t00l", "exam/tool", "acme/too1", "example-evil/tool"})},
	{"look-alikes of its forge", lookalikes("github: example/tool", ""), []row{
		judged("in another domain", called(mint.URI, "https://github.com.evil.example/example/tool/.github/workflows/x.yml@refs/heads/main"), alike),
		judged("of another end", called(mint.URI, "https://github.corn/example/tool/.github/workflows/x.yml@refs/heads/main"), alike),
		judged("another path there", called(mint.URI, "https://github.com.evil.example/elsewhere/hammer/.github/workflows/x.yml@refs/heads/main")),
	}},
	{"look-alikes of a short name", lookalikes("github: abc/xy", ""), repositories(
		[]string{"abd/xy", "аbc/xy", "ab/xy"}, []string{"axd/xy", "abc/xz", "abc/xyz", "bac/xy"})},
	{"look-alikes of a domain", lookalikes("domain: example.com", ""), addresses(
		[]string{"a@examp1e.com", "a@exarnple.com", "a@example.co", "a@mail.examp1e.com", "a@xn--exmple-4nf.com", "a@examplle.com", "a@example.com.evil.example"},
		[]string{"a@example.com", "a@mail.example.com", "a@EXAMPLE.com", "a@gmail.com", "a@le.com", "a@example.org.evil.example"})},
	{"look-alikes of an address", lookalikes("email: alice@example.com", ""), addresses(
		[]string{"alice@examp1e.com", "alice@exarnple.com", "alice@example.com.evil.example"},
		[]string{"bob@example.com.evil.example", "bob@examp1e.com", "alice@example.com", "bob@example.com", "alice@gmail.com"})},
}
