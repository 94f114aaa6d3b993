package rule_test

import (
	"crypto"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"tallywood/monitor/rule"
)

// waits returns what of an entry by a certificate with the given extensions counts later, for an
// identity with these expectations.
func waits(t *testing.T, x rule.Expect, certified bool, extensions map[int]string) []rule.Wait {
	t.Helper()
	s, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "tool", GitHub: "example/tool", Expect: x}}})
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256([]byte("release"))
	e := &rule.Entry{Certified: certified, Envelope: true, Digest: sum[:], Hash: crypto.SHA256,
		Signers: []rule.Signer{{Certificate: &rule.Certificate{Extensions: extensions}}}}
	if certified {
		e.Digest, e.Hash = nil, 0
	}
	var out []rule.Wait
	for _, m := range s.Match(e) {
		v := s.Judge(&rule.Book{}, e, m, rule.Times{Now: time.Now()})
		if v.Report {
			t.Errorf("reported at once: %+v", v.Reasons)
		}
		out = append(out, v.Waits...)
	}
	return out
}

func TestWhatMustBeAuthorizedWaitsWithItsFacts(t *testing.T) {
	const repo, run = "https://github.com/example/tool", "https://github.com/example/tool/actions/runs/7/attempts/1"
	now := map[int]string{12: repo, 13: "c0ffee", 14: "refs/tags/v1", 21: run, 3: "old", 6: "refs/heads/old"}
	got := waits(t, rule.Expect{Authorize: true}, false, now)
	if len(got) != 1 || got[0].Grace != 15*time.Minute || got[0].Reason.Rule != rule.IDUnauthorized || got[0].Reason.Severity != rule.Critical {
		t.Fatalf("got %+v", got)
	}
	sum := sha256.Sum256([]byte("release"))
	want := rule.Facts{Digest: rule.DigestText(crypto.SHA256, sum[:]), Run: run, Commit: "c0ffee", Ref: "refs/tags/v1", Repository: repo}
	if got[0].Facts.Certificate = ""; got[0].Facts != want || !strings.HasPrefix(want.Digest, "sha256:") || got[0].Reason.Seen != want.Digest {
		t.Errorf("got %+v\nwant facts %+v", got[0], want)
	}
	old := map[int]string{5: "example/tool", 3: "c0ffee", 6: "refs/tags/v1"}
	got = waits(t, rule.Expect{Authorize: true, Grace: time.Hour}, false, old)
	want.Run = ""
	got[0].Facts.Certificate = ""
	if len(got) != 1 || got[0].Facts != want || got[0].Grace != time.Hour {
		t.Errorf("of an old certificate: %+v\nwant facts %+v", got, want)
	}
	long := map[int]string{12: repo, 21: run + strings.Repeat("/", 4096)}
	if got = waits(t, rule.Expect{Authorize: true}, false, long); len(got) != 1 || got[0].Facts.Run != "" {
		t.Errorf("a run of 4 kB is kept: %+v", got)
	}
}

func TestCertificatesWaitOnlyIfAsked(t *testing.T) {
	of := map[int]string{12: "https://github.com/example/tool", 21: "https://github.com/example/tool/actions/runs/7/attempts/1"}
	if got := waits(t, rule.Expect{Authorize: true}, true, of); len(got) != 0 {
		t.Errorf("got %+v", got)
	}
	got := waits(t, rule.Expect{Authorize: true, Certificates: true}, true, of)
	if len(got) != 1 || got[0].Facts.Digest != "" || got[0].Reason.Field != "run" || got[0].Reason.Seen != of[21] {
		t.Errorf("got %+v", got)
	}
}

func TestContradictoryAuthorizationsAreRefused(t *testing.T) {
	for want, id := range map[string]rule.Identity{
		"is off":           {Expect: rule.Expect{Authorize: true}, Rules: map[rule.ID]rule.Params{rule.IDUnauthorized: {Off: true}}},
		"are not required": {Expect: rule.Expect{Grace: time.Hour}},
		"not required":     {Expect: rule.Expect{Certificates: true}},
		"is negative":      {Expect: rule.Expect{Authorize: true, Grace: -time.Hour}},
	} {
		id.Name, id.Email = "me", "me@example.org"
		if _, err := rule.New(rule.Options{Identities: []rule.Identity{id}}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: got %v, want one with %q", id, err, want)
		}
	}
}
