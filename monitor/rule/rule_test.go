package rule_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"math/big"
	"net"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"tallywood/monitor/rule"
)

const (
	good = "https://accounts.example.com"
	evil = "https://evil.example"
)

var fulcio = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1}

func extension(n int, value []byte) pkix.Extension {
	return pkix.Extension{Id: append(slices.Clone(fulcio), n), Value: value}
}

func utf8Extension(t testing.TB, n int, text string) pkix.Extension {
	t.Helper()
	der, err := asn1.MarshalWithParams(text, "utf8")
	if err != nil {
		t.Fatal(err)
	}
	return extension(n, der)
}

// names is a subject alternative name extension of names as bytes: tag, value, tag, value.
func names(critical bool, pairs ...any) pkix.Extension {
	var body []byte
	for i := 0; i < len(pairs); i += 2 {
		value := []byte(pairs[i+1].(string))
		body = append(body, byte(pairs[i].(int)), byte(len(value)))
		body = append(body, value...)
	}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 17}, Critical: critical,
		Value: append([]byte{0x30, byte(len(body))}, body...)}
}

// An issuer makes certificates.
type issuer struct {
	t    testing.TB
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca := &issuer{t: t, key: key}
	ca.cert, err = x509.ParseCertificate(ca.issue(&x509.Certificate{IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: "test CA"}}))
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func (ca *issuer) issue(template *x509.Certificate) []byte {
	ca.t.Helper()
	template.SerialNumber, template.NotBefore, template.NotAfter = big.NewInt(7), time.Unix(1e9, 0), time.Unix(1e9+600, 0)
	parent := ca.cert
	if parent == nil {
		parent = template
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, ca.key.Public(), ca.key)
	if err != nil {
		ca.t.Fatal(err)
	}
	return der
}

func parse(t testing.TB, der []byte) []rule.Signer {
	t.Helper()
	c, err := rule.ParseCertificate(der)
	if err != nil {
		t.Fatalf("parsing certificate: %v", err)
	}
	return []rule.Signer{{Certificate: c}}
}

// findings returns what s reports of an entry with the given signers, judged first in its log.
func findings(s *rule.Set, signers []rule.Signer) []rule.Finding {
	var out []rule.Finding
	e := &rule.Entry{Signers: signers}
	var b rule.Book
	for _, m := range s.Match(e) {
		if v := s.Judge(&b, e, m, rule.Times{}); v.Report {
			out = append(out, v.Finding)
		}
	}
	return out
}

func newSet(t testing.TB, i rule.Identity) *rule.Set {
	t.Helper()
	i.Name = "me"
	s, err := rule.New(rule.Options{Identities: []rule.Identity{i}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func parsedURL(t testing.TB, s string) []*url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return []*url.URL{u}
}

func TestSelectors(t *testing.T) {
	ca := newIssuer(t)
	email := func(v string) *x509.Certificate { return &x509.Certificate{EmailAddresses: []string{v}} }
	uri := func(v string) *x509.Certificate { return &x509.Certificate{URIs: parsedURL(t, v)} }
	dns := func(v string) *x509.Certificate { return &x509.Certificate{DNSNames: []string{v}} }
	raw := func(e ...pkix.Extension) *x509.Certificate { return &x509.Certificate{ExtraExtensions: e} }
	workflow := "https://github.com/Example/Tool/.github/workflows/release.yml@refs/tags/v1"
	spki := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	other := append([]byte{6, 10, 0x2b, 6, 1, 4, 1, 0x83, 0xbf, 0x30, 1, 7, 0xa0, 11, 12, 9}, "alice!dom"...)
	for name, tc := range map[string]struct {
		identity rule.Identity
		cert     *x509.Certificate
		hit      bool
	}{
		"email":                   {rule.Identity{Email: "alice@example.com"}, email("alice@example.com"), true},
		"email, other case":       {rule.Identity{Email: "alice@example.com"}, email("Alice@EXAMPLE.com"), true},
		"email, another":          {rule.Identity{Email: "alice@example.com"}, email("malice@example.com"), false},
		"email, longer":           {rule.Identity{Email: "alice@example.com"}, email("alice@example.com.evil.org"), false},
		"email behind NUL":        {rule.Identity{Email: "alice@example.com"}, raw(names(false, 0x81, "alice@example.com\x00.evil.org")), true},
		"email as URI":            {rule.Identity{Email: "alice@example.com"}, raw(names(false, 0x86, "alice@example.com")), true},
		"email, second name":      {rule.Identity{Email: "alice@example.com"}, raw(names(true, 0x81, "bob@x.org", 0x81, "alice@example.com")), true},
		"email in punycode":       {rule.Identity{Email: "alice@bücher.example"}, email("Alice@XN--Bcher-KVA.example"), true},
		"email in unicode":        {rule.Identity{Email: "alice@xn--bcher-kva.example"}, raw(names(false, 0x81, "alice@BÜCHER.example")), true},
		"email without the dots":  {rule.Identity{Email: "alice@bücher.example"}, email("alice@bucher.example"), false},
		"domain in email":         {rule.Identity{Domain: "example.com"}, email("x@Example.com"), true},
		"domain below":            {rule.Identity{Domain: "example.com"}, email("x@mail.example.com"), true},
		"domain, only a suffix":   {rule.Identity{Domain: "example.com"}, email("x@notexample.com"), false},
		"domain in DNS":           {rule.Identity{Domain: "example.com"}, dns("www.example.com"), true},
		"domain under a wildcard": {rule.Identity{Domain: "www.example.com"}, dns("*.example.com"), true},
		"domain, wildcard below":  {rule.Identity{Domain: "example.com"}, dns("*.example.com"), true},
		"domain in URI":           {rule.Identity{Domain: "example.com"}, uri("https://user@ci.example.com:8443/x"), true},
		"domain in a path":        {rule.Identity{Domain: "example.com"}, uri("https://evil.org/example.com"), false},
		"san exact":               {rule.Identity{SAN: "https://x.org/a"}, uri("https://x.org/a"), true},
		"san is no prefix":        {rule.Identity{SAN: "https://x.org/a"}, uri("https://x.org/ab"), false},
		"san dot is a dot":        {rule.Identity{SAN: "https://x.org/a"}, uri("https://xxorg/a"), false},
		"san glob":                {rule.Identity{SAN: "https://x.org/*/deploy@*"}, uri("https://x.org/a/b/deploy@main"), true},
		"san host case":           {rule.Identity{SAN: "https://x.org/a"}, raw(names(false, 0x86, "HTTPS://X.org/a")), true},
		"san of an IP":            {rule.Identity{SAN: "1.1.1.1"}, &x509.Certificate{IPAddresses: []net.IP{net.IPv4(1, 1, 1, 1)}}, true},
		"san of IPv6":             {rule.Identity{SAN: "2001:0DB8:0:0::1"}, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::1")}}, true},
		"san of another IPv6":     {rule.Identity{SAN: "2001:0DB8:0:0::1"}, &x509.Certificate{IPAddresses: []net.IP{net.ParseIP("2001:db8::11")}}, false},
		"san in percents":         {rule.Identity{SAN: "https://x.org/ü"}, raw(names(false, 0x86, "https://x%2Eorg/%C3%BC")), true},
		"san in other percents":   {rule.Identity{SAN: "https://x.org/a/b"}, raw(names(false, 0x86, "https://x.org/a%2Fb%2")), false},
		"san under a wildcard":    {rule.Identity{SAN: "www.x.org"}, dns("*.x.org"), true},
		"san of an otherName":     {rule.Identity{SAN: "alice!dom"}, raw(names(true, 0xa0, string(other))), true},
		"regex":                   {rule.Identity{Regex: `.*@example\.com`}, email("a@EXAMPLE.COM"), true},
		"regex is anchored":       {rule.Identity{Regex: `alice@example\.com`}, email("malice@example.com"), false},
		"regex over lines":        {rule.Identity{Regex: `alice@.*`}, raw(names(false, 0x81, "alice@x\ny")), true},
		"github":                  {rule.Identity{GitHub: "example/tool"}, uri(workflow), true},
		"github, longer name":     {rule.Identity{GitHub: "example/too"}, uri(workflow), false},
		"github in percents":      {rule.Identity{GitHub: "example/tool"}, uri("https://github.com/example/t%6fol/x"), true},
		"github owner":            {rule.Identity{GitHub: "example/*"}, uri(workflow), true},
		"github other owner":      {rule.Identity{GitHub: "exampl/*"}, uri(workflow), false},
		"github by repository":    {rule.Identity{GitHub: "example/tool"}, raw(extension(5, []byte("Example/tool"))), true},
		"github by source":        {rule.Identity{GitHub: "example/tool"}, raw(utf8Extension(t, 12, "https://github.com/example/tool")), true},
		"github owner by old":     {rule.Identity{GitHub: "example/*"}, raw(extension(5, []byte("example/other"))), true},
		"gitlab":                  {rule.Identity{GitLab: "g/sub/p"}, uri("https://gitlab.com/g/sub/p//.gitlab-ci.yml@refs/heads/main"), true},
		"gitlab elsewhere":        {rule.Identity{GitLab: "https://git.x.org/g/p"}, uri("https://git.x.org/g/p//ci.yml@main"), true},
		"kubernetes":              {rule.Identity{Kubernetes: "ns/*"}, uri("https://kubernetes.io/namespaces/ns/serviceaccounts/sa"), true},
		"kubernetes, other":       {rule.Identity{Kubernetes: "ns/sa"}, uri("https://kubernetes.io/namespaces/ns/serviceaccounts/sb"), false},
		"key":                     {rule.Identity{Key: "sha256:" + hex.EncodeToString(spki[:])}, email("x@y.z"), true},
		"another key":             {rule.Identity{Key: strings.Repeat("00", 32)}, email("x@y.z"), false},
	} {
		t.Run(name, func(t *testing.T) {
			got := findings(newSet(t, tc.identity), parse(t, ca.issue(tc.cert)))
			if len(got) == 1 != tc.hit {
				t.Fatalf("findings %+v, want a hit: %v", got, tc.hit)
			}
			if tc.hit && (got[0].Rule != rule.IDSeen || got[0].Severity != rule.Info || got[0].Identity != "me") {
				t.Errorf("finding %+v", got[0])
			}
		})
	}
}

func TestKeyOfABareKeyAndOfACertificate(t *testing.T) {
	ca := newIssuer(t)
	sum := sha256.Sum256([]byte("spki"))
	s := newSet(t, rule.Identity{Key: hex.EncodeToString(sum[:])})
	if got := findings(s, []rule.Signer{{KeyHash: sum}}); len(got) != 1 || got[0].Rule != rule.IDSeen {
		t.Errorf("findings %+v", got)
	}
	// With issuers expected, a use that none of them vouches for is not explained.
	s = newSet(t, rule.Identity{Key: hex.EncodeToString(sum[:]), Expect: rule.Expect{Issuers: []string{good}}})
	if got := findings(s, []rule.Signer{{KeyHash: sum}}); len(got) != 1 || got[0].Rule != rule.IDNoIssuer || got[0].Severity != rule.Critical {
		t.Errorf("findings %+v", got)
	}
	der := ca.issue(&x509.Certificate{})
	sum = sha256.Sum256(der)
	if got := findings(newSet(t, rule.Identity{Key: hex.EncodeToString(sum[:])}), parse(t, der)); len(got) != 1 {
		t.Errorf("findings %+v", got)
	}
}

func TestExpectedIssuers(t *testing.T) {
	ca := newIssuer(t)
	old, now := extension(1, []byte(good)), utf8Extension(t, 8, good)
	for name, tc := range map[string]struct {
		extensions []pkix.Extension
		rule       rule.ID // empty: explained
	}{
		"expected":            {[]pkix.Extension{old, now}, ""},
		"expected, old alone": {[]pkix.Extension{old}, ""},
		"expected, new alone": {[]pkix.Extension{now}, ""},
		"unexpected":          {[]pkix.Extension{utf8Extension(t, 8, evil)}, rule.IDUnexpected},
		"two that differ":     {[]pkix.Extension{old, utf8Extension(t, 8, evil)}, rule.IDUnexpected},
		"a longer one":        {[]pkix.Extension{utf8Extension(t, 8, good+".evil.org")}, rule.IDUnexpected},
		"none":                {nil, rule.IDNoIssuer},
	} {
		t.Run(name, func(t *testing.T) {
			entry := parse(t, ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}, ExtraExtensions: tc.extensions}))
			quiet := newSet(t, rule.Identity{Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}}})
			loud := newSet(t, rule.Identity{Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}},
				Rules: map[rule.ID]rule.Params{rule.IDSeen: {}}})
			want, wantLoud := tc.rule, tc.rule
			if want == "" {
				wantLoud = rule.IDSeen
			}
			for set, want := range map[*rule.Set]rule.ID{quiet: want, loud: wantLoud} {
				got := findings(set, entry)
				if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || got[0].Rule != want) {
					t.Errorf("findings %+v, want %q", got, want)
				}
			}
		})
	}
}

func TestUnknownCA(t *testing.T) {
	ours, theirs := newIssuer(t), newIssuer(t)
	poison := pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3}, Critical: true, Value: []byte{5, 0}}
	template := func() *x509.Certificate {
		return &x509.Certificate{ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
			ExtraExtensions: []pkix.Extension{names(true, 0x81, "a@b.c"), utf8Extension(t, 8, evil), poison}}
	}
	s, err := rule.New(rule.Options{CAs: []*x509.Certificate{ours.cert},
		Identities: []rule.Identity{{Name: "me", Email: "a@b.c"}, {Name: "also me", Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}}}}})
	if err != nil {
		t.Fatal(err)
	}
	got := findings(s, parse(t, ours.issue(template())))
	if len(got) != 2 || got[0].Rule != rule.IDSeen || got[1].Rule != rule.IDUnexpected || len(got[1].Reasons) != 1 {
		t.Errorf("our CA: findings %+v", got)
	}
	got = findings(s, parse(t, theirs.issue(template())))
	if len(got) != 2 || got[0].Rule != rule.IDUnknownCA || len(got[1].Reasons) != 2 || !strings.Contains(got[1].Summary(), "pinned CA") {
		t.Errorf("another CA: findings %+v", got)
	}
}

func TestSeveralSignersMakeOneFinding(t *testing.T) {
	ca := newIssuer(t)
	one := func(i string) rule.Signer {
		return parse(t, ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"},
			ExtraExtensions: []pkix.Extension{utf8Extension(t, 8, i)}}))[0]
	}
	s := newSet(t, rule.Identity{Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}}})
	if got := findings(s, []rule.Signer{one(good), one(evil), one(good)}); len(got) != 1 || got[0].Rule != rule.IDUnexpected {
		t.Errorf("findings %+v", got)
	}
}

// TestBrokenCertificateStillMatches damages a certificate in every way that keeps its name.
func TestBrokenCertificateStillMatches(t *testing.T) {
	ca := newIssuer(t)
	s := newSet(t, rule.Identity{Email: "a@b.c", Expect: rule.Expect{Issuers: []string{good}}})
	der := ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}})
	twice := ca.issue(&x509.Certificate{ExtraExtensions: []pkix.Extension{names(false, 0x81, "a@b.c"),
		extension(8, []byte("not DER")), extension(1, []byte(good))}})
	for name, der := range map[string][]byte{
		"trailing data": append(slices.Clone(der), 0),
		"bad issuer":    twice,
	} {
		c, err := rule.ParseCertificate(der)
		if err == nil {
			t.Errorf("%s: no error", name)
		}
		if got := findings(s, []rule.Signer{{Certificate: c}}); len(got) != 1 || got[0].Severity != rule.Critical {
			t.Errorf("%s: findings %+v", name, got)
		}
	}
	// Cut anywhere, the bytes still say whom they are about.
	at := strings.Index(string(der), "a@b.c") + len("a@b.c")
	for n := at; n < len(der); n++ {
		_, err := rule.ParseCertificate(der[:n])
		if err == nil {
			t.Fatalf("cut at %d: no error", n)
		}
		if got := s.MatchBytes(der[:n]); len(got) != 1 {
			t.Fatalf("cut at %d: findings %+v", n, got)
		}
	}
}

func TestMatchBytes(t *testing.T) {
	for name, tc := range map[string]struct {
		identity rule.Identity
		bytes    string
		hit      bool
	}{
		"plain":          {rule.Identity{Email: "alice@b.c"}, `{"x":"Alice@B.C"}`, true},
		"base64":         {rule.Identity{Email: "alice@b.c"}, `{"x":"` + base64.StdEncoding.EncodeToString([]byte("12 alice@b.c 34")) + `"`, true},
		"base64, odd":    {rule.Identity{Email: "alice@b.c"}, `junk` + base64.RawURLEncoding.EncodeToString([]byte("\xff\xfe alice@b.c 34")), true},
		"another":        {rule.Identity{Email: "alice@b.c"}, `{"x":"bob@b.c"}`, false},
		"regex":          {rule.Identity{Regex: `https://x\.org/[A-Z]+`}, `..https://x.org/ABC..`, true},
		"key":            {rule.Identity{Key: strings.Repeat("61", 32)}, strings.Repeat("a", 32), false},
		"github":         {rule.Identity{GitHub: "o/r"}, "x o/r y", false}, // too short to mean anything
		"longer github":  {rule.Identity{GitHub: "owner/repo"}, "https://github.com/Owner/Repo/x", true},
		"kubernetes":     {rule.Identity{Kubernetes: "ns/*"}, "https://kubernetes.io/namespaces/ns/serviceaccounts/x", true},
		"literal of san": {rule.Identity{SAN: "*@example.com"}, "x@example.com", true},
	} {
		if got := newSet(t, tc.identity).MatchBytes([]byte(tc.bytes)); len(got) == 1 != tc.hit {
			t.Errorf("%s: findings %+v, want a hit: %v", name, got, tc.hit)
		}
	}
	var none *rule.Set
	if none.MatchBytes([]byte("x")) != nil || findings(none, []rule.Signer{{}}) != nil {
		t.Error("no identities, but findings")
	}
}

func TestWrongIdentitiesAreRefused(t *testing.T) {
	for name, i := range map[string]rule.Identity{
		"nothing to match": {Name: "x"},
		"two selectors":    {Name: "x", Email: "a@b.c", Domain: "b.c"},
		"no name":          {Email: "a@b.c"},
		"no address":       {Name: "x", Email: "alice"},
		"no domain":        {Name: "x", Domain: "https://b.c/"},
		"matches all":      {Name: "x", SAN: "**"},
		"bad regex":        {Name: "x", Regex: "("},
		"unclosed regex":   {Name: "x", Regex: "a)|(b"},
		"github owner":     {Name: "x", GitHub: "owner"},
		"github glob":      {Name: "x", GitHub: "own*/repo"},
		"gitlab group":     {Name: "x", GitLab: "group"},
		"short key":        {Name: "x", Key: "00"},
		"kubernetes":       {Name: "x", Kubernetes: "a/b/c"},
		"unknown rule":     {Name: "x", Email: "a@b.c", Rules: map[rule.ID]rule.Params{"id.sen": {}}},
		"rule always on":   {Name: "x", Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.LogRollback: {}}},
		"too many":         {Name: "x", Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDBurst: {Max: 1 << 62}}},
		"too long":         {Name: "x", Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.CertLongLived: {Window: 1<<63 - 1}}},
		"empty issuer":     {Name: "x", Email: "a@b.c", Expect: rule.Expect{Issuers: []string{""}}},
	} {
		if _, err := rule.New(rule.Options{Identities: []rule.Identity{i}}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if _, err := rule.New(rule.Options{}); err == nil {
		t.Error("an empty watch list was accepted")
	}
	twice := rule.Identity{Name: "x", Email: "a@b.c"}
	if _, err := rule.New(rule.Options{Identities: []rule.Identity{twice, twice}}); err == nil {
		t.Error("a name was accepted twice")
	}
}

func TestClasses(t *testing.T) {
	for _, tc := range []struct{ a, b, want rule.Class }{
		{rule.Clean, rule.Clean, 0}, {rule.Operational, rule.IdentityAlert, 3},
		{rule.IdentityAlert, rule.Misbehaved, 4}, {rule.Operational, rule.Clean, 5}, {rule.Misbehaved, rule.Operational, 4},
	} {
		if got := rule.Worse(tc.a, tc.b); got != tc.want {
			t.Errorf("worse of %d and %d is %d", tc.a, tc.b, got)
		}
	}
	for id, want := range map[rule.ID]rule.Class{rule.IDUnexpected: 3, rule.QuorumLost: 4, rule.LogStale: 5, rule.LogMalformedEntry: 3} {
		if got := rule.ClassOf(id, rule.Critical); got != want || rule.ClassOf(id, rule.Info) != rule.Clean {
			t.Errorf("class of %s is %d", id, got)
		}
	}
	for _, s := range []rule.Severity{rule.Info, rule.Warning, rule.Critical} {
		data, err := json.Marshal(s)
		var back rule.Severity
		if err != nil || json.Unmarshal(data, &back) != nil || back != s {
			t.Errorf("severity %v is %s in JSON: %v", s, data, err)
		}
	}
	var s rule.Severity
	if json.Unmarshal([]byte(`"fatal"`), &s) == nil {
		t.Error("an unknown severity was accepted")
	}
}

// FuzzCertificate: no bytes make the parser panic, and what crypto/x509 accepts has the same names.
func FuzzCertificate(f *testing.F) {
	ca := newIssuer(f)
	f.Add(ca.cert.Raw)
	f.Add(ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}, DNSNames: []string{"x.y"}, IPAddresses: []net.IP{net.IPv4(1, 2, 3, 4)},
		URIs: parsedURL(f, "https://x.org/a"), ExtraExtensions: []pkix.Extension{utf8Extension(f, 8, good), extension(1, []byte(good))}}))
	s := newSet(f, rule.Identity{Email: "a@b.c"})
	f.Fuzz(func(t *testing.T, der []byte) {
		c, err := rule.ParseCertificate(der)
		findings(s, []rule.Signer{{Certificate: c}})
		s.MatchBytes(der)
		std, stdErr := x509.ParseCertificate(der)
		if stdErr != nil {
			return
		}
		if err != nil {
			// Stricter than crypto/x509 in its own extensions alone.
			if !strings.Contains(err.Error(), "1.3.6.1.4.1.57264") && !strings.Contains(err.Error(), "otherName") {
				t.Errorf("crypto/x509 accepts what fails here: %v", err)
			}
			return
		}
		var emails []string
		for _, n := range c.Names {
			if n.Type == rule.Email {
				emails = append(emails, n.Value)
			}
		}
		if !slices.Equal(emails, std.EmailAddresses) || c.KeyHash() != sha256.Sum256(std.RawSubjectPublicKeyInfo) {
			t.Errorf("names %q, crypto/x509 reads %q", emails, std.EmailAddresses)
		}
	})
}
