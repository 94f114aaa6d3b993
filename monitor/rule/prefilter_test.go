package rule_test

import (
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"fmt"
	mrand "math/rand/v2"
	"net"
	"slices"
	"strings"
	"testing"

	"tallywood/monitor/rule"
)

// watched are identities of every kind, in sets of their own.
func watched(t testing.TB, ca *issuer) []*rule.Set {
	spki := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	var sets []*rule.Set
	for _, i := range []rule.Identity{
		{Email: "alice@example.com"}, {Email: "kim@sskk.org"}, {Domain: "example.com"}, {Domain: "bücher.example"}, {Domain: "localhost"},
		{SAN: "https://x.org/*/deploy@*"}, {SAN: "10.0.*"}, {SAN: "www.example.com"}, {SAN: "*.0.1"}, {SAN: "ü*"},
		{Regex: `.*@(example|beispiel)\.(com|org)`}, {Regex: `https://[a-z]+\.x\.org/.*`}, {Regex: `\d+\.\d+\.\d+\.\d+`}, {Regex: `(?i)k+`},
		{Regex: `(ab?c|x{2,}y)+z`}, {Regex: `(long){0,2}k`}, {Regex: `other|..`}, {GitHub: "example/tool"}, {GitHub: "example/*"}, {GitLab: "g/sub/p"}, {GitLab: "https://git.x.org/g/p%20q"},
		{Kubernetes: "ns/*"},
		{Extension: rule.Extension{ID: "1.3.6.1.4.1.57264.1.20", Values: []string{"push", "schedule"}}},
		{Extension: rule.Extension{ID: "1.3.6.1.4.1.57264.1.20", Values: []string{"ü"}}}, {Extension: rule.Extension{ID: "2.5.29.37", Values: []string{"x"}}}, {Key: hex.EncodeToString(spki[:])},
		{Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Keys: []string{hex.EncodeToString(spki[:])}}}},
		{GitHub: "example/tool", Rules: named(rule.IDLookalike)},
	} {
		sets = append(sets, newSet(t, i))
	}
	all, err := rule.New(rule.Options{Audit: true, Identities: []rule.Identity{{Name: "me", Email: "alice@example.com"}}})
	if err != nil {
		t.Fatal(err)
	}
	return append(sets, all)
}

// agree checks that matching finds in a certificate what it finds without the filter.
func agree(t *testing.T, sets []*rule.Set, der []byte) (hits int) {
	t.Helper()
	whole, wholeErr := rule.ParseCertificate(der)
	for n, s := range sets {
		c, err := s.Certificate(der)
		if (err == nil) != (wholeErr == nil) || err != nil && err.Error() != wholeErr.Error() {
			t.Errorf("set %d: error %v, without filter %v", n, err, wholeErr)
		}
		got := s.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: c}}})
		want := s.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: whole}}})
		if len(got) != len(want) || len(got) > 0 && (got[0].Subject != want[0].Subject || !slices.EqualFunc(got[0].Reasons, want[0].Reasons,
			func(a, b rule.Reason) bool { return a.Rule == b.Rule && a.Text == b.Text })) {
			t.Errorf("set %d: %+v, without filter %+v", n, got, want)
		}
		hits += len(got)
	}
	return hits
}

func certificates(t testing.TB, ca *issuer) [][]byte {
	one := func(pairs ...any) []byte {
		return ca.issue(&x509.Certificate{ExtraExtensions: []pkix.Extension{names(false, pairs...)}})
	}
	certs := [][]byte{ca.build(release123), ca.build(map[int]string{5: "Example/Tool"}), ca.build(map[int]string{12: "https://gitlab.com/G/sub/p"}),
		ca.build(map[int]string{16: "https://github.com/example"}), ca.build(map[int]string{0: "https://git.x.org/g/p%20q//ci@x"}),
		ca.build(map[int]string{5: "g/p q"}), ca.issue(&x509.Certificate{})}
	for _, ip := range []string{"10.0.0.1", "::1", "127.0.0.1", "::ffff:10.0.0.7"} {
		certs = append(certs, ca.issue(&x509.Certificate{IPAddresses: []net.IP{net.ParseIP(ip)}}))
	}
	for _, v := range []string{"alice@example.com", "ALICE@EXAMPLE.COM", "alice@example.com\x00x", "\u212aim@ſſ\u212ak.org", "kim@sskk.org", "x@www.example.com",
		"*.example.com", "*.com", "*.com.", "*.", "*..", "xn--bcher-kva.example", "x@bücher.example", "BÜCHER.example", "www.example.com", "localhost", "*.localhost",
		"https://x.org/a/deploy@b", "https://X.ORG/a/deploy@b", "10.0.0.1", "bob@beispiel.org", "https://ab.x.org/", "\u212a", "kk", "k", "abcz", "xxyz", "xyz", "acacz",
		"Ü", "ü", "a@exampl\u0130.com", "https://kubernetes.io/namespaces/ns/serviceaccounts/a", "https://github.com/example", "https://github.com/examplex/tool", "a!example.com", "", "\x00"} {
		for _, tag := range []int{0x81, 0x82, 0x86} {
			certs = append(certs, one(tag, v))
		}
		certs = append(certs, one(0x82, "some.host", 0x81, v))
	}
	return certs
}

func TestFilterAgreesWithMatching(t *testing.T) {
	ca := newIssuer(t)
	sets := watched(t, ca)
	hits := 0
	for _, der := range certificates(t, ca) {
		hits += agree(t, sets, der)
	}
	if hits < 100 {
		t.Errorf("only %d matches: the certificates are no test", hits)
	}
}

// TestFilterAgreesOnDamagedCertificates changes a byte or two, as FuzzFilter does for longer.
func TestFilterAgreesOnDamagedCertificates(t *testing.T) {
	ca := newIssuer(t)
	sets, certs := watched(t, ca), certificates(t, ca)
	r := mrand.New(mrand.NewPCG(1, 2))
	for range 2000 {
		der := slices.Clone(certs[r.IntN(len(certs))])
		for range 1 + r.IntN(2) {
			der[r.IntN(len(der))] = byte(r.Uint32())
		}
		agree(t, sets, der[:len(der)-r.IntN(2)*r.IntN(len(der))])
	}
}

// TestWordsAreFound compares with looking for one word after the other, in texts of few letters, in which
// words overlap.
func TestWordsAreFound(t *testing.T) {
	r := mrand.New(mrand.NewPCG(3, 4))
	text := func(letters string, n int) string {
		b := make([]byte, 1+r.IntN(n))
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return string(b)
	}
	for range 3000 {
		var words []string
		for range 1 + r.IntN(5) {
			words = append(words, text("abc", 6))
		}
		in := text("aAbBcCx", 20)
		want := slices.ContainsFunc(words, func(w string) bool { return strings.Contains(strings.ToLower(in), w) })
		if rule.FindWords(words, []byte(in)) != want {
			t.Fatalf("%q in %q: found %v", words, in, !want)
		}
	}
	if rule.FindWords(nil, []byte("abc")) || !rule.FindWords(nil, []byte("\xe2\x84\xaa")) || !rule.FindWords([]string{"k"}, []byte("x\x80")) {
		t.Error("a byte outside ASCII is not taken for a find, or another is")
	}
}

// TestFilterPassesOver: a certificate that concerns nobody is not even taken apart.
func TestFilterPassesOver(t *testing.T) {
	ca := newIssuer(t)
	s, err := rule.New(rule.Options{Identities: []rule.Identity{{Name: "a", Email: "alice@example.com"}, {Name: "b", GitHub: "other/tool"}, {Name: "c", Domain: "b.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	der := ca.build(release123)
	c, err := s.Certificate(der)
	if err != nil || c.Names != nil || c.Extensions != nil || c.KeyHash() != sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo) {
		t.Errorf("certificate %+v, error %v", c, err)
	}
	if n := testing.AllocsPerRun(100, func() { s.Certificate(der) }); n > 1 {
		t.Errorf("%v allocations for a certificate that concerns nobody", n)
	}
	// But one that somebody else passed over is looked at.
	other := newSet(t, rule.Identity{GitHub: "example/tool"})
	if got := other.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: c}}}); len(got) > 0 {
		t.Errorf("findings %+v in a certificate without names", got)
	}
}

// FuzzFilter changes bytes of certificates and checks that the filter still loses nothing.
func FuzzFilter(f *testing.F) {
	ca := newIssuer(f)
	for _, der := range certificates(f, ca) {
		f.Add(der)
	}
	sets := watched(f, ca)
	f.Fuzz(func(t *testing.T, der []byte) { agree(t, sets, der) })
}

// many returns a set of n identities of all usual kinds.
func many(t testing.TB, n int) *rule.Set {
	var ids []rule.Identity
	for i := range n {
		id := rule.Identity{Name: fmt.Sprint(i), GitHub: fmt.Sprintf("owner%d/repository%d", i, i)}
		switch i % 4 {
		case 1:
			id = rule.Identity{Name: id.Name, Email: fmt.Sprintf("person%d@host%d.example.net", i, i)}
		case 2:
			id = rule.Identity{Name: id.Name, Domain: fmt.Sprintf("host%d.example.org", i)}
		case 3:
			id = rule.Identity{Name: id.Name, Kubernetes: fmt.Sprintf("namespace%d/account", i)}
		}
		ids = append(ids, id)
	}
	s, err := rule.New(rule.Options{Identities: ids})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// BenchmarkMatch reads and matches a certificate that concerns nobody, as most do.
func BenchmarkMatch(b *testing.B) {
	ca := newIssuer(b)
	der := ca.build(release123)
	run := func(b *testing.B, s *rule.Set, parse func([]byte) (*rule.Certificate, error)) {
		b.ReportAllocs()
		b.SetBytes(int64(len(der)))
		for b.Loop() {
			c, err := parse(der)
			if err != nil {
				b.Fatal(err)
			}
			if m := s.Match(&rule.Entry{Signers: []rule.Signer{{Certificate: c}}}); len(m) > 0 {
				b.Fatalf("matches %+v", m)
			}
		}
	}
	for _, n := range []int{1, 20, 1000} {
		s := many(b, n)
		b.Run(fmt.Sprintf("identities=%d/filtered", n), func(b *testing.B) { run(b, s, s.Certificate) })
		b.Run(fmt.Sprintf("identities=%d/all", n), func(b *testing.B) { run(b, s, rule.ParseCertificate) })
	}
	s := newSet(b, rule.Identity{GitHub: "sigstore/cosign", Rules: named(rule.IDLookalike)})
	b.Run("identities=1/lookalike", func(b *testing.B) { run(b, s, s.Certificate) })
	b.Run("crypto/x509", func(b *testing.B) {
		for b.Loop() {
			if _, err := x509.ParseCertificate(der); err != nil {
				b.Fatal(err)
			}
		}
	})
}
