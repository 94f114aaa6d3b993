package scenario_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"tallywood/internal/mint"
	"tallywood/monitor/authorize"
)

const (
	firstRun = "https://github.com/example/tool/actions/runs/1/attempts/1"
	thisRun  = "https://github.com/example/tool/actions/runs/7/attempts/1"
	anyRun   = "tool critical id.unauthorized"
	absent   = "tool warning id.missing"
	unusable = "- warning authorize.unusable"
)

// thisCommit is what the release of these tales is made of.
var thisCommit = strings.Repeat("ab", 20)

// ran is that release, or one that went otherwise.
func ran(change func(*mint.Run)) mint.Entry {
	r := mint.Run{Repository: "example/tool", Ref: "refs/tags/v1.0.0", ID: 7, Commit: thisCommit}
	if change != nil {
		change(&r)
	}
	return entryOf(r.GitHub())
}

func statement(kind authorize.Kind, value string) authorize.Statement {
	return authorize.Statement{Kind: kind, Value: value}
}

// until returns a statement that counts for a while from now.
func until(kind authorize.Kind, value string, d time.Duration) authorize.Statement {
	return authorize.Statement{Kind: kind, Value: value, Expires: time.Now().Add(d).UTC().Truncate(time.Second)}
}

// released is a tale of a project that lists its releases in a manifest, which names a run of long ago.
// When it ends nothing waits any more.
func released(name string, want []string, story func(*stage)) tale {
	return tale{"listed, " + name, strings.Replace(watchReleases, "RULES", "", 1), want, nil, func(s *stage) {
		s.authorize(authorize.Run, firstRun)
		s.look()
		story(s)
		s.look()
		s.after(20 * time.Minute)
	}}
}

// listing is a tale of a release of which something is listed before.
func listing(name string, want []string, e mint.Entry, statements ...authorize.Statement) tale {
	return released(name, want, func(s *stage) {
		s.list("manifest", "releases", statements...)
		s.sign(e)
	})
}

// twoManifests is a tale of a release that both of two manifests list, and that is logged or not.
func twoManifests(name string, want []string, change func(mint.Entry) mint.Entry, comes bool) tale {
	settings := strings.NewReplacer(`["DIR/manifest"]`, `["DIR/a", "DIR/b"]`, "RULES", "    rules: {id.missing: {}}").Replace(watchReleases)
	return tale{"two manifests, " + name, settings, want, nil, func(s *stage) {
		list := func(st authorize.Statement) {
			s.list("a", "releases", st)
			s.list("b", "releases", st)
			s.look()
		}
		list(statement(authorize.Run, firstRun))
		s.steps(28*time.Minute, 14*time.Minute)
		m := s.issue(change(ran(nil)))
		list(statement(authorize.Digest, fmt.Sprintf("sha256:%x", m.Digest)))
		if comes {
			s.logEntry(m.Bytes)
		}
		s.steps(70*time.Minute, 14*time.Minute)
	}}
}

func unchanged(e mint.Entry) mint.Entry { return e }

var releaseTales = []tale{
	released("nothing", []string{anyRun}, func(s *stage) { s.sign(ran(nil)) }),
	listing("the run", nil, ran(nil), statement(authorize.Run, thisRun)),
	listing("the run, and there is a second attempt", []string{anyRun}, ran(func(r *mint.Run) { r.Attempt = 2 }), statement(authorize.Run, thisRun)),
	listing("the run, as the beginning of another", []string{anyRun}, ran(func(r *mint.Run) { r.Attempt = 11 }), statement(authorize.Run, thisRun)),
	listing("the commit alone", []string{anyRun}, ran(nil), statement(authorize.Commit, thisCommit)),
	listing("the tag alone", []string{anyRun}, ran(nil), statement(authorize.Tag, "refs/tags/v1.0.0")),
	listing("commit and tag", nil, ran(nil), statement(authorize.Commit, thisCommit), statement(authorize.Tag, "refs/tags/v1.0.0")),
	listing("the commit and another tag", []string{anyRun}, ran(nil), statement(authorize.Commit, thisCommit), statement(authorize.Tag, "refs/tags/v1.0.1")),
	released("another digest", []string{anyRun}, func(s *stage) {
		m := s.issue(ran(nil))
		s.logCertificate(m)
		s.authorize(authorize.Digest, fmt.Sprintf("sha256:%x", m.Digest))
		s.logEntry(must(m.Sign(mint.Entry{Content: []byte("evil")}))(s.t).Bytes)
	}),
	released("late, after the grace", []string{anyRun}, func(s *stage) {
		m := s.sign(ran(nil))[0]
		s.look()
		s.after(20 * time.Minute)
		s.authorize(authorize.Digest, fmt.Sprintf("sha256:%x", m.Digest))
	}),
	released("until before", []string{anyRun}, func(s *stage) {
		s.list("manifest", "releases", until(authorize.Run, thisRun, 10*time.Minute))
		s.after(15 * time.Minute)
		s.sign(ran(nil))
	}),
	released("until after", nil, func(s *stage) {
		s.list("manifest", "releases", until(authorize.Run, thisRun, 10*time.Minute))
		s.after(5 * time.Minute)
		s.sign(ran(nil))
	}),
	both("listed, and by another issuer", strings.Replace(watchReleases, "RULES", "", 1), []string{badIssuer}, func(s *stage) {
		s.authorize(authorize.Run, thisRun)
		s.sign(vouched(ran(nil), evil))
		s.look()
		s.after(20 * time.Minute)
	}),
	{"listed by a run, certificates too", strings.NewReplacer("required: true", "required: true, certificates: true", "RULES", "").Replace(watchReleases), nil, []string{anyRun}, func(s *stage) {
		s.authorize(authorize.Run, thisRun)
		s.look()
		s.certify(ran(nil).Certificate, ran(func(r *mint.Run) { r.ID = 8 }).Certificate)
		s.look()
		s.after(20 * time.Minute)
	}},
	twoManifests("and it is logged", nil, unchanged, true),
	twoManifests("and it is not", []string{absent}, unchanged, false),
	twoManifests("and somebody else logs it", []string{badIssuer, absent}, func(e mint.Entry) mint.Entry { return vouched(e, evil) }, true),
	released("by another key", []string{unusable, anyRun}, func(s *stage) {
		s.gone("manifest")
		s.list("manifest", "thief", statement(authorize.Run, thisRun))
		s.sign(ran(nil))
	}),
	released("and the manifest goes back", []string{unusable}, func(s *stage) {
		before, err := os.ReadFile(filepath.Join(s.dir, "manifest"))
		if err != nil {
			s.t.Fatal(err)
		}
		s.authorize(authorize.Run, thisRun)
		s.look()
		s.write("manifest", before)
		s.sign(ran(nil))
	}),
	released("and the manifest is gone", []string{unusable}, func(s *stage) {
		s.authorize(authorize.Run, thisRun)
		s.look()
		s.gone("manifest")
		s.sign(ran(nil))
	}),
	released("and the manifest is another, of a larger serial", []string{unusable}, func(s *stage) {
		s.authorize(authorize.Run, thisRun)
		s.look()
		s.gone("manifest")
		for i := range 3 {
			s.authorize(authorize.Tag, fmt.Sprint("refs/tags/v", i))
		}
		s.sign(ran(nil))
	}),
}

// gone removes a file of the stage.
func (s *stage) gone(name string) {
	s.t.Helper()
	if err := os.Remove(filepath.Join(s.dir, name)); err != nil {
		s.t.Fatal(err)
	}
}

const unused = "me warning x.cert-without-entry"

// comparing is a tale of a person of whom certificates and signatures are compared.
func comparing(name string, inLog, inCT []string, story func(*stage)) tale {
	return tale{"compared, " + name, rules("x.cert-without-entry: {}, x.entry-without-cert: {grace: 1h}"), inLog, inCT, func(s *stage) {
		s.sign(person(alice, accounts))
		s.look()
		story(s)
		s.look()
		s.steps(70*time.Minute, 14*time.Minute)
	}}
}

var crossTales = []tale{
	comparing("a certificate alone", nil, []string{unused}, func(s *stage) { s.certify(mint.ForEmail(alice, accounts)) }),
	comparing("somebody else's alone", nil, nil, func(s *stage) { s.certify(mint.ForEmail("bob@example.com", accounts)) }),
	comparing("the entry before its certificate", nil, nil, func(s *stage) {
		m := s.issue(person(alice, accounts))
		s.logEntry(m.Bytes)
		s.after(10 * time.Minute)
		s.logCertificate(m)
	}),
	comparing("another certificate with the same key", nil, []string{unused}, func(s *stage) {
		s.certify(keyed(alice, "mine").Certificate)
		s.sign(keyed(alice, "mine"))
	}),
	comparing("an entry with the key alone", nil, []string{unused}, func(s *stage) { s.sign(bare(keyed(alice, "mine"))) }),
	comparing("an entry with a forged signature", []string{"me critical entry.bad-signature"}, []string{unused}, func(s *stage) { s.sign(changed(forged)) }),
	comparing("the certificate log away meanwhile", nil, []string{"- warning log.unreachable"}, func(s *stage) {
		m := s.issue(person(alice, accounts))
		s.logEntry(m.Bytes)
		s.refuse(true)
		for range 9 {
			time.Sleep(10 * time.Minute)
			s.publish()
			s.logSite.intercept(nil)
			s.check()
		}
		s.logCertificate(m)
		s.refuse(false)
		s.look()
	}),
}
