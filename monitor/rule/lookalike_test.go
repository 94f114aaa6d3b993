package rule_test

import (
	"crypto/x509"
	"testing"

	"tallywood/monitor/rule"
)

func TestLookalikes(t *testing.T) {
	ca := newIssuer(t)
	github := func(repo string) []byte {
		url := "https://github.com/" + repo
		return ca.build(map[int]string{0: url + "/.github/workflows/x.yml@refs/heads/main", 12: url})
	}
	whole := func(owner, repository string) map[int]string { // what such certificates really have
		url := "https://github.com/" + owner
		return map[int]string{0: url + "/" + repository + "/.github/workflows/x.yml@refs/heads/main", 5: owner + "/" + repository, 12: url + "/" + repository, 16: url}
	}
	email := func(v string) []byte { return ca.issue(&x509.Certificate{EmailAddresses: []string{v}}) }
	dns := func(v string) []byte { return ca.issue(&x509.Certificate{DNSNames: []string{v}}) }
	repo, owner := rule.Identity{GitHub: "sigstore/cosign"}, rule.Identity{GitHub: "sigstore/*"}
	alice, domain := rule.Identity{Email: "alice@example.com"}, rule.Identity{Domain: "example.com"}
	for name, tc := range map[string]struct {
		identity rule.Identity
		der      []byte
		allow    string
		field    string // empty: no look-alike
	}{
		"the repository itself":       {repo, github("sigstore/cosign"), "", ""},
		"itself in other case":        {repo, github("SigStore/Cosign"), "", ""},
		"owner, one letter":           {repo, github("slgstore/cosign"), "", "owner"},
		"owner, two letters":          {repo, github("sigstoer/cosign"), "", "owner"},
		"owner, three letters":        {repo, github("sigstabc/cosign"), "", ""},
		"owner, a digit":              {repo, github("sigst0re/anything"), "", "owner"},
		"owner, a capital I":          {repo, github("sIgstore/cosign"), "", ""}, // the same account
		"owner, allowed":              {repo, github("sigstor/cosign"), "sigstor", ""},
		"owner, allowed by pattern":   {repo, github("sigstor/cosign"), "sigst*/cosign", ""},
		"owner, repository allowed":   {repo, ca.build(whole("sigstor", "cosign")), "sigstor/cosign", ""},
		"owner, its repositories":     {repo, ca.build(whole("Sigstor", "cosign")), "sigstor/*", ""},
		"owner, another repository":   {repo, ca.build(whole("sigstor", "cosign")), "sigstor/rekor", "owner"},
		"owner of none of them":       {repo, ca.build(map[int]string{5: "sigstor/cosign", 16: "https://github.com/sigstorr"}), "sigstor/cosign", "owner"},
		"owner, another is allowed":   {repo, github("sigstor/cosign"), "sigstores", "owner"},
		"repository":                  {repo, github("sigstore/cosigm"), "", "repository"},
		"repository, two for one":     {repo, github("sigstore/coslgn"), "", "repository"},
		"repository, another one":     {repo, github("sigstore/rekor"), "", ""},
		"same name, another owner":    {repo, github("someone/cosign"), "", ""},
		"another repository of mine":  {owner, github("sigstore/cosigm"), "", ""},
		"owner of any":                {owner, github("sigstorre/x"), "", "owner"},
		"two letters for one, thrice": {rule.Identity{GitHub: "summmer/x"}, github("surnrnrner/x"), "", "owner"},
		"short owner, one letter":     {rule.Identity{GitHub: "abc/x"}, github("abd/x"), "", "owner"},
		"short owner, two letters":    {rule.Identity{GitHub: "abc/x"}, github("aef/x"), "", ""},
		"another forge":               {repo, ca.build(map[int]string{0: "https://github.corn/sigstore/cosign/.github/workflows/x.yml@refs/heads/main"}), "", "domain"},
		"a forge in another domain":   {repo, ca.build(map[int]string{0: "https://github.com.evil.org/sigstore/cosign"}), "", "domain"},
		"a forge in it, not my path":  {repo, ca.build(map[int]string{0: "https://github.com.evil.org/sigstore/rekor"}), "", ""},
		"mail, domain in another":     {alice, email("alice@example.com.evil.org"), "", "domain"},
		"mail, another's in another":  {alice, email("bob@example.com.evil.org"), "", ""},
		"another well-known forge":    {repo, ca.build(map[int]string{0: "https://gitlab.com/sigstore/cosign//x.yml@refs/heads/main"}), "", ""},
		"a forge far away":            {repo, ca.build(map[int]string{0: "https://codeberg.org/sigstore/cosign"}), "", ""},
		"old repository":              {repo, ca.build(map[int]string{5: "sigstore/cosing"}), "", "repository"},
		"name with a pattern":         {rule.Identity{SAN: "https://github.com/sigstore/cosign/.github/workflows/*"}, github("slgstore/cosign"), "", "owner"},
		"gitlab":                      {rule.Identity{GitLab: "group/sub/project"}, ca.build(map[int]string{0: "https://gitlab.com/group/sub/projekt//ci.yml@refs/heads/main"}), "", "repository"},
		"gitlab, another group":       {rule.Identity{GitLab: "group/sub/project"}, ca.build(map[int]string{0: "https://gitlab.com/other/sub/project//ci.yml@refs/heads/main"}), "", ""},
		"mail itself":                 {alice, email("Alice@Example.com"), "", ""},
		"mail, domain":                {alice, email("alice@examp1e.com"), "", "domain"},
		"mail, domain and name":       {alice, email("a1ice@exarnple.com"), "", "domain"},
		"mail, another person there":  {alice, email("somebody@examp1e.com"), "", ""},
		"mail, colleague":             {alice, email("alicia@example.com"), "", ""},
		"mail, name with a digit":     {alice, email("al1ce@example.com"), "", "address"},
		"mail, allowed":               {alice, email("alice@example.co"), "example.co", ""},
		"domain itself":               {domain, dns("www.example.com"), "", ""},
		"domain, one letter":          {domain, dns("www.exampla.com"), "", "domain"},
		"domain in mail":              {domain, email("x@exampl.com"), "", "domain"},
		"domain in another":           {domain, dns("example.com.evil.org"), "", "domain"},
		"domain, Cyrillic":            {domain, dns("xn--exmple-4nf.com"), "", "domain"},
		"domain, accent":              {domain, dns("xn--exmple-cua.com"), "", "domain"},
		"domain, another":             {domain, dns("examination.com"), "", ""},
		"domain, prefix":              {domain, dns("example.community"), "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			i := tc.identity
			p := rule.Params{}
			if tc.allow != "" {
				p.Allow = []string{tc.allow}
			}
			i.Rules = map[rule.ID]rule.Params{rule.IDLookalike: p, rule.IDSeen: {Off: true}}
			got := findings(newSet(t, i), parse(t, tc.der))
			switch {
			case tc.field == "" && len(got) > 0:
				t.Errorf("findings %+v", got)
			case tc.field == "":
			case len(got) != 1 || got[0].Rule != rule.IDLookalike || got[0].Severity != rule.Warning || got[0].Reasons[0].Field != tc.field || got[0].Subject == "":
				t.Errorf("findings %+v, want a look-alike of the %s", got, tc.field)
			}
		})
	}
}

// TestLookalikeOfAnotherOfMine: what is watched under a name of its own is nobody's imitation.
func TestLookalikeOfAnotherOfMine(t *testing.T) {
	ca := newIssuer(t)
	on := map[rule.ID]rule.Params{rule.IDLookalike: {}, rule.IDSeen: {Off: true}}
	s, err := rule.New(rule.Options{Rules: on, Identities: []rule.Identity{{Name: "com", Domain: "example.com"}, {Name: "co", Domain: "example.co"},
		{Name: "key", Key: "6161616161616161616161616161616161616161616161616161616161616161"}}})
	if err != nil {
		t.Fatal(err)
	}
	if got := findings(s, parse(t, ca.issue(&x509.Certificate{DNSNames: []string{"example.co"}}))); len(got) > 0 {
		t.Errorf("findings %+v", got)
	}
	if got := findings(s, parse(t, ca.issue(&x509.Certificate{DNSNames: []string{"example.cm"}}))); len(got) != 2 {
		t.Errorf("findings %+v, want one of each domain", got)
	}
}

func FuzzLookalike(f *testing.F) {
	for _, v := range []string{"alice@examp1e.com", "https://github.com/slgstore/cosign", "xn--exmple-4nf.com", "xn--", "@", "://", "https:///", "a!b"} {
		f.Add(v)
	}
	on := named(rule.IDLookalike)
	s, err := rule.New(rule.Options{Rules: on, Identities: []rule.Identity{{Name: "r", GitHub: "sigstore/cosign"}, {Name: "o", GitHub: "sigstore/*"},
		{Name: "m", Email: "alice@example.com"}, {Name: "d", Domain: "example.com"}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, v string) {
		for _, kind := range []rule.NameType{rule.Email, rule.DNS, rule.URI, rule.IP, rule.Other} {
			c := &rule.Certificate{Names: []rule.Name{{Type: kind, Value: v}}, Extensions: map[int]string{5: v, 12: v, 16: v}}
			for _, m := range s.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: c}}}) {
				for _, r := range m.Reasons {
					if r.Rule == rule.IDLookalike && (r.Expected[0] == r.Seen || r.Seen == "") {
						t.Errorf("%q looks like %q", r.Seen, r.Expected)
					}
				}
			}
		}
	})
}
