package scenario_test

import (
	"fmt"
	"slices"

	"tallywood/internal/mint"
)

// foreign is what is told of a name of mine that another issuer vouched for, and unread what is told if
// crypto/x509 does not read the certificate: then nobody knows whose it is either.
const (
	foreign = "me critical id.unexpected-issuer"
	unread  = "me critical id.unexpected-issuer id.unknown-ca"
)

// watching is one identity, recognised by a line, that one issuer vouches for.
func watching(selector string) string {
	return fmt.Sprintf("identities: [{name: me, %s, expect: {issuers: [%q]}}]\n", selector, accounts)
}

// mine returns rows of names of a kind that the identity has.
func mine(kind mint.NameKind, values ...string) []row { return named(foreign, kind, values) }

// mineUnread returns the same of names that crypto/x509 does not take.
func mineUnread(kind mint.NameKind, values ...string) []row { return named(unread, kind, values) }

// others returns rows of names that it has not.
func others(kind mint.NameKind, values ...string) []row { return named("", kind, values) }

func named(want string, kind mint.NameKind, values []string) []row {
	var rows []row
	for _, v := range values {
		r := judged(v, called(kind, v))
		if want != "" {
			r.want = []string{want}
		}
		rows = append(rows, r)
	}
	return rows
}

const (
	ip4  = "\xc0\x00\x02\x07" // 192.0.2.7
	ip6  = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01"
	ip6b = "\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x11"
	ip4b = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff" + ip4
)

var nameTables = []table{
	{"a mail address", watching("email: alice@example.org"), slices.Concat(
		mine(mint.Email, "alice@example.org", "Alice@EXAMPLE.org", "alice@example.org\x00.evil.example", "alice@example.org\x00"),
		mine(mint.Other, "alice@example.org", "ALICE@example.org"), mine(mint.DNS, "alice@example.org"), mine(mint.URI, "alice@example.org"),
		others(mint.Email, "alice@example.org.evil.example", "malice@example.org", "alice@example.organic", "alice\x00@example.org",
			"alice@example.org@evil.example", "alice+x@example.org", "alice@sub.example.org"),
		others(mint.Other, "bob@example.org", "alice!example.org"), others(mint.URI, "https://example.org/alice@example.org"),
		[]row{
			judged("as expected", vouched(called(mint.Email, "alice@example.org"), accounts)),
			judged("the third name", with(called(mint.URI, "https://evil.example/x"), mint.Name{Kind: mint.DNS, Value: "evil.example"},
				mint.Name{Kind: mint.Email, Value: "alice@example.org"}), foreign),
			judged("twice", with(called(mint.Email, "alice@example.org"), mint.Name{Kind: mint.Email, Value: "alice@example.org"}), foreign),
		})},
	{"a mail address in Unicode", watching(`email: "alice@bücher.example"`), slices.Concat(
		mine(mint.Email, "alice@xn--bcher-kva.example", "Alice@XN--BCHER-KVA.example"), mineUnread(mint.Email, "alice@bücher.example", "alice@BÜCHER.example"),
		others(mint.Email, "alice@bucher.example", "alice@xn--bcher-kva.example.evil.example"))},
	{"a domain", watching("domain: example.org"), slices.Concat(
		mine(mint.Email, "x@mail.example.org", "X@EXAMPLE.ORG", "evil@evil.example@example.org", "x@example.org\x00.evil.example"),
		mine(mint.URI, "https://ci.example.org:8443/x", "https://user:pw@ci.example.org/x", "https://CI.EXAMPLE.ORG/", "spiffe://example.org/ns/x",
			"https://example.org", "https://example.org?x", "https://example.org#x"), mineUnread(mint.URI, "https://ci.example.org./x", "https://ex%61mple.org/"),
		mine(mint.DNS, "example.org", "build.example.org", "BUILD.example.org.", "*.example.org", "*.org", "*.build.example.org"),
		mine(mint.Other, "alice!example.org", "root@build.example.org"),
		others(mint.Email, "x@notexample.org", "x@example.org.evil.example", "x@example.com", "\"x@example.org\"@evil.example"),
		others(mint.URI, "https://example.org@evil.example/", "https://evil.example/example.org", "https://evil.example/?h=example.org", "https://evil.example#example.org",
			"https://evil.example/@example.org", "https://example.org.evil.example/", "https://example.org%2F@evil.example/"),
		others(mint.DNS, "example.organic", "*.example.organic", "*.evil.org", "*.com", "org", "xn--example.org"),
		others(mint.Other, "alice!example.org.evil", "example.org!evil.example"))},
	{"a domain in Unicode", watching(`domain: "bücher.example"`), slices.Concat(
		mine(mint.DNS, "xn--bcher-kva.example", "XN--BCHER-KVA.EXAMPLE", "a.xn--bcher-kva.example"), mine(mint.Email, "a@xn--bcher-kva.example"),
		mineUnread(mint.Email, "a@bücher.example", "a@BÜCHER.example"), mine(mint.URI, "https://xn--bcher-kva.example/x"),
		mineUnread(mint.URI, "https://bücher.example/x", "https://b%C3%BCcher.example/x"), mine(mint.Other, "a!bücher.example"),
		others(mint.DNS, "bucher.example", "xn--bcher-kva.example.evil.example"), others(mint.Email, "a@bucher.example"))},
	{"a domain in punycode", watching(`domain: xn--bcher-kva.example`), slices.Concat(
		mine(mint.DNS, "xn--bcher-kva.example"), mineUnread(mint.Email, "a@bücher.example"), others(mint.DNS, "bucher.example"))},
	{"an IPv4 address", watching(`san: "192.0.2.7"`), slices.Concat(mine(mint.IP, ip4, ip4b), mine(mint.DNS, "192.0.2.7"),
		others(mint.IP, "\xc0\x00\x02\x46"), others(mint.DNS, "192.0.2.70"), others(mint.URI, "https://192.0.2.7/"))},
	{"an IPv6 address", watching(`san: "2001:db8::1"`), append(mine(mint.IP, ip6), others(mint.IP, ip6b)...)},
	{"an IPv6 address written at length", watching(`san: "2001:0DB8:0:0::1"`), append(mine(mint.IP, ip6), others(mint.IP, ip6b)...)},
	{"a pattern of addresses", watching(`san: "*@example.org"`), slices.Concat(
		mine(mint.Email, "a@example.org", "A@EXAMPLE.ORG", "@example.org"),
		others(mint.Email, "a@example.org.evil.example", "a@sub.example.org"), others(mint.URI, "https://example.org/"))},
	{"a pattern with what regular expressions know", watching(`san: "https://ci.example.org/job[1]/?a=b.*"`), append(
		mine(mint.URI, "https://ci.example.org/job[1]/?a=b.c"),
		others(mint.URI, "https://ci.example.org/job1/a=b.c", "https://ciXexample.org/job[1]/?a=b.c")...)},
	{"a regular expression of two", watching(`regex: 'https://github\.com/example/.*|a@example\.org'`), slices.Concat(
		mine(mint.URI, "https://github.com/example/tool", "https://github.com/example/"), mine(mint.Email, "a@example.org"),
		others(mint.URI, "xhttps://github.com/example/tool"), others(mint.Email, "xa@example.org", "a@example.orgx", "a@example.org\n", "aaexample.org"))},
	{"a service account", watching(`kubernetes: "prod-*/deployer"`), append(
		mine(mint.URI, "https://kubernetes.io/namespaces/prod-a/serviceaccounts/deployer", "https://kubernetes.io/namespaces/prod-b-c/serviceaccounts/deployer"),
		others(mint.URI, "https://kubernetes.io/namespaces/staging/serviceaccounts/deployer", "https://kubernetes.io/namespaces/xprod-a/serviceaccounts/deployer",
			"https://kubernetes.io/namespaces/prod-a/serviceaccounts/deployer2", "https://kubernetes.io/namespaces/prod/serviceaccounts/deployer",
			"https://kubernetes.io/namespaces/prod-a/serviceaccounts/deployer/x", "https://kubernetes.io.evil.example/namespaces/prod-a/serviceaccounts/deployer")...)},
	{"a project on gitlab.com", watching(`gitlab: group/project`), append(
		mine(mint.URI, "https://gitlab.com/group/project//.gitlab-ci.yml@refs/tags/v1", "https://GITLAB.com/Group/Project//.gitlab-ci.yml@refs/tags/v1"),
		others(mint.URI, "https://gitlab.com/group/project2//.gitlab-ci.yml@refs/tags/v1", "https://gitlab.com/group/sub/project//.gitlab-ci.yml@refs/tags/v1",
			"https://gitlab.example.org/group/project//.gitlab-ci.yml@refs/tags/v1", "https://gitlab.com.evil.example/group/project//x")...)},
	{"a project elsewhere", watching(`gitlab: "https://gitlab.example.org/group/project"`), append(
		mine(mint.URI, "https://gitlab.example.org/group/project//.gitlab-ci.yml@refs/tags/v1"),
		others(mint.URI, "https://gitlab.com/group/project//.gitlab-ci.yml@refs/tags/v1")...)},
	{"a repository", watching("github: example/tool"), slices.Concat(
		mine(mint.URI, "https://github.com/example/tool/.github/workflows/release.yml@refs/heads/main", "https://github.com/Example/TOOL/.github/workflows/x.yml@refs/heads/main",
			"HTTPS://GITHUB.COM/example/tool/x", "https://github.com/example/t%6Fol/x", "https://github.com/%65xample/%74ool", "https://github.com/example/tool"),
		mineUnread(mint.URI, "https://git%68ub.com/example/tool/x"),
		others(mint.URI, "https://github.com/example/tool-evil/x", "https://github.com/example/tool2/x", "https://github.com/example/tool.git/x", "https://github.com/example-evil/tool/x",
			"https://github.com.evil.example/example/tool/x", "https://evil.example/github.com/example/tool/x", "https://evil.example/https://github.com/example/tool/x",
			"https://github.com@evil.example/example/tool/x", "https://github.com/evil/example/tool/x", "https://github.com/example", "https://github.com/example%2Ftool/x",
			"https://github.com/example/tool%2Fx"))},
}

// mentions is somebody's certificate with more extensions.
func mentions(values map[int]string) mint.Entry {
	return says(called(mint.Email, "bob@evil.example"), values)
}

var extensionTables = []table{
	{"extensions of a repository", watching("github: example/tool"), []row{
		judged("source", mentions(map[int]string{12: "https://github.com/example/tool"}), foreign),
		judged("source in other case", mentions(map[int]string{12: "https://github.com/Example/Tool/"}), foreign),
		judged("source in percents", mentions(map[int]string{12: "https://github.com/example/t%6Fol"}), foreign),
		judged("source, for git", mentions(map[int]string{12: "https://github.com/example/tool.git"})),
		judged("source, longer", mentions(map[int]string{12: "https://github.com/example/tool-evil"})),
		judged("source in another domain", mentions(map[int]string{12: "https://github.com.evil.example/example/tool"})),
		judged("source on another forge", mentions(map[int]string{12: "https://gitlab.com/example/tool"})),
		judged("old", mentions(map[int]string{5: "Example/Tool"}), foreign),
		judged("old, longer", mentions(map[int]string{5: "example/tool-evil"})),
		judged("old, behind something", mentions(map[int]string{5: "my-example/tool"})),
		judged("of its owner", mentions(map[int]string{16: "https://github.com/example"})),
	}},
	{"extensions of an owner", watching("github: example/*"), []row{
		judged("source", mentions(map[int]string{12: "https://github.com/example/a"}), foreign),
		judged("owner in other case", mentions(map[int]string{16: "https://GitHub.com/EXAMPLE"}), foreign),
		judged("old", mentions(map[int]string{5: "example/a"}), foreign),
		judged("name, far below", called(mint.URI, "https://github.com/example/a/b/c/d"), foreign),
		judged("name of another", called(mint.URI, "https://github.com/example-evil/a/x")),
		judged("name of yet another", called(mint.URI, "https://github.com/xexample/a/x")),
		judged("owner, longer", mentions(map[int]string{16: "https://github.com/example-evil"})),
		judged("owner, shorter", mentions(map[int]string{16: "https://github.com/examp"})),
		judged("old of another", mentions(map[int]string{5: "example-evil/a"})),
		judged("old, below another", mentions(map[int]string{5: "evil/example/a"})),
	}},
	{"an extension", watching(`extension: {id: 1.3.6.1.4.1.57264.1.18, values: ["https://x.example/w@refs/heads/main", "b"]}`), []row{
		judged("the first value", mentions(map[int]string{18: "https://x.example/w@refs/heads/main"}), foreign),
		judged("the second", mentions(map[int]string{18: "b"}), foreign),
		judged("longer", mentions(map[int]string{18: "https://x.example/w@refs/heads/main2"})),
		judged("other case", mentions(map[int]string{18: "B"})),
		judged("elsewhere", mentions(map[int]string{12: "b", 9: "b"})),
	}},
	{"two identities over one entry", `
identities:
  - {name: a, github: example/tool, expect: {issuers: ["https://accounts.example.com"], refs: [refs/tags/v*]}}
  - {name: b, github: example/*, expect: {issuers: ["https://accounts.example.com", "https://accounts.evil.example"]}}
`, []row{
		judged("as both expect", vouched(mentions(map[int]string{12: "https://github.com/example/tool", 14: "refs/tags/v1"}), accounts)),
		judged("as the second expects", mentions(map[int]string{12: "https://github.com/example/tool", 14: "refs/tags/v1"}), "a critical id.unexpected-issuer"),
		judged("not of the first", mentions(map[int]string{12: "https://github.com/example/other", 14: "refs/heads/x"})),
		judged("as none expects", vouched(mentions(map[int]string{12: "https://github.com/example/tool", 14: "refs/heads/x"}), "https://x.example"),
			"a critical id.unexpected-issuer id.unexpected-ref", "b critical id.unexpected-issuer"),
	}},
	{"a key", "identities:\n  - {name: any, key: WATCHED}\n  - {name: strict, key: WATCHED, expect: {issuers: [\"https://accounts.example.com\"]}}\n", []row{
		judged("another", keyed(alice, "another")),
		judged("in a certificate", keyed(alice, "watched"), "any info id.seen"),
		judged("in one of another issuer", vouched(keyed(alice, "watched"), evil), "any info id.seen", "strict critical id.unexpected-issuer"),
		judged("by itself", bare(keyed(alice, "watched")), "any info id.seen", "strict critical id.no-issuer"),
		judged("another by itself", bare(keyed(alice, "another"))),
	}},
}

// bare returns e without its certificate.
func bare(e mint.Entry) mint.Entry {
	e.Bare = true
	return e
}
