package rule_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"slices"
	"testing"

	"tallywood/log/entry"
	"tallywood/monitor/rule"
)

// report returns what s reports of an entry, judged first in its log.
func report(s *rule.Set, e *rule.Entry) []rule.Finding {
	var out []rule.Finding
	var b rule.Book
	for _, m := range s.Match(e) {
		if v := s.Judge(&b, e, m, rule.Times{}); v.Report {
			out = append(out, v.Finding)
		}
	}
	return out
}

// signed returns the entry of a signature by key over a digest.
func signed(t testing.TB, key crypto.Signer, details entry.KeyDetails, h crypto.Hash) *rule.Entry {
	t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	w := h.New()
	w.Write([]byte("artifact"))
	digest := w.Sum(nil)
	sig, err := key.Sign(rand.Reader, digest, h)
	if err != nil {
		t.Fatal(err)
	}
	return &rule.Entry{Digest: digest, Hash: h, Signers: []rule.Signer{
		{KeyHash: sha256.Sum256(spki), PublicKey: spki, Signature: sig, Details: details}}}
}

func ecdsaKey(t testing.TB, c elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(c, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func TestBadSignature(t *testing.T) {
	ca := newIssuer(t)
	key := ecdsaKey(t, elliptic.P256())
	good := func() *rule.Entry { return signed(t, key, entry.ECDSAP256, crypto.SHA256) }
	certified := func() *rule.Entry {
		e := signed(t, ca.key, entry.ECDSAP256, crypto.SHA256)
		e.Signers[0].Certificate = parse(t, ca.build(release123))[0].Certificate
		return e
	}
	for name, tc := range map[string]struct {
		entry  func() *rule.Entry
		damage func(*rule.Entry)
		bad    bool
	}{
		"good":                         {good, func(*rule.Entry) {}, false},
		"good, by certificate":         {certified, func(*rule.Entry) {}, false},
		"another digest":               {good, func(e *rule.Entry) { e.Digest[0] ^= 1 }, true},
		"another digest, certificate":  {certified, func(e *rule.Entry) { e.Digest[0] ^= 1 }, true},
		"another signature":            {good, func(e *rule.Entry) { e.Signers[0].Signature[10] ^= 1 }, true},
		"no signature":                 {good, func(e *rule.Entry) { e.Signers[0].Signature = nil }, true},
		"another hash":                 {good, func(e *rule.Entry) { e.Hash = crypto.SHA384 }, true},
		"another type of key":          {good, func(e *rule.Entry) { e.Signers[0].Details = entry.RSA2048 }, true},
		"no type of key":               {good, func(e *rule.Entry) { e.Signers[0].Details = 0 }, false},
		"no type of key, and bad":      {good, func(e *rule.Entry) { e.Signers[0].Details = 0; e.Digest[0] ^= 1 }, true},
		"a type that nobody can check": {good, func(e *rule.Entry) { e.Signers[0].Details = 7; e.Digest[0] ^= 1 }, false},
		"none, over an envelope":       {good, func(e *rule.Entry) { e.Envelope, e.Signers[0].Signature = true, []byte("signature") }, true},
		"none, by a type unknown":      {good, func(e *rule.Entry) { e.Signers[0].Details, e.Signers[0].Signature = 7, []byte("signature") }, true},
		"over an envelope":             {good, func(e *rule.Entry) { e.Envelope = true; e.Digest[0] ^= 1 }, false},
	} {
		t.Run(name, func(t *testing.T) {
			e := tc.entry()
			tc.damage(e)
			off := map[rule.ID]rule.Params{rule.IDSeen: {Off: true}}
			i := rule.Identity{Key: hex.EncodeToString(e.Signers[0].KeyHash[:]), Rules: off}
			if e.Signers[0].Certificate != nil {
				i = rule.Identity{GitHub: "example/tool", Rules: off}
			}
			got := report(newSet(t, i), e)
			if len(got) == 1 != tc.bad || tc.bad && (got[0].Rule != rule.EntryBadSignature || got[0].Severity != rule.Critical) {
				t.Errorf("findings %+v, want a bad signature: %v", got, tc.bad)
			}
			off[rule.EntryBadSignature] = rule.Params{Off: true}
			if got := report(newSet(t, i), e); len(got) > 0 {
				t.Errorf("switched off, but %+v", got)
			}
		})
	}
}

func TestWeakKey(t *testing.T) {
	small, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	large, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		key     crypto.Signer
		details entry.KeyDetails
		hash    crypto.Hash
		allow   []string
		weak    bool
	}{
		"P-256":                {ecdsaKey(t, elliptic.P256()), entry.ECDSAP256, crypto.SHA256, nil, false},
		"P-384":                {ecdsaKey(t, elliptic.P384()), entry.ECDSAP384, crypto.SHA384, nil, false},
		"P-224":                {ecdsaKey(t, elliptic.P224()), 0, crypto.SHA256, nil, true},
		"Ed25519":              {ed, entry.Ed25519ph, crypto.SHA512, nil, false},
		"RSA 2048":             {large, entry.RSA2048, crypto.SHA256, nil, false},
		"RSA 1024":             {small, 3, crypto.SHA256, nil, true},
		"1024, called 2048":    {small, entry.RSA2048, crypto.SHA256, nil, true},
		"P-224, called P-256":  {ecdsaKey(t, elliptic.P224()), entry.ECDSAP256, crypto.SHA256, nil, true},
		"RSA 2048, more asked": {large, entry.RSA2048, crypto.SHA256, []string{"rsa-3072", "ecdsa-p256"}, true},
		"P-256, not allowed":   {ecdsaKey(t, elliptic.P256()), entry.ECDSAP256, crypto.SHA256, []string{"ed25519"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			e := signed(t, tc.key, tc.details, tc.hash)
			s := newSet(t, rule.Identity{Key: hex.EncodeToString(e.Signers[0].KeyHash[:]), Rules: map[rule.ID]rule.Params{
				rule.EntryWeakKey: {Allow: tc.allow}, rule.IDSeen: {Off: true}}})
			got := report(s, e)
			if len(got) == 1 != tc.weak || tc.weak && got[0].Rule != rule.EntryWeakKey {
				t.Errorf("findings %+v, want a weak key: %v", got, tc.weak)
			}
		})
	}
	e := signed(t, ecdsaKey(t, elliptic.P256()), 21, crypto.SHA256)
	e.Signers[0].PublicKey = []byte("of a kind that is yet to come")
	s := newSet(t, rule.Identity{Key: hex.EncodeToString(e.Signers[0].KeyHash[:]), Rules: named(rule.EntryWeakKey)})
	if got := report(s, e); len(got) != 1 || got[0].Rule != rule.EntryWeakKey {
		t.Errorf("unknown key: findings %+v", got)
	}
}

func TestFingerprintUsed(t *testing.T) {
	ca := newIssuer(t)
	spki := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo)
	der := ca.build(release123)
	cert := sha256.Sum256(der)
	i := func(sum [32]byte) rule.Identity {
		return rule.Identity{Email: "a@b.c", Rules: map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Keys: []string{"sha256:" + hex.EncodeToString(sum[:])}}}}
	}
	bare := signed(t, ca.key, entry.ECDSAP256, crypto.SHA256)
	for name, tc := range map[string]struct {
		identity rule.Identity
		entry    *rule.Entry
		hit      bool
	}{
		"key of a certificate of another identity": {i(spki), &rule.Entry{Signers: parse(t, der)}, true},
		"certificate":               {i(cert), &rule.Entry{Signers: parse(t, der)}, true},
		"another certificate":       {i(cert), &rule.Entry{Signers: parse(t, ca.build(but(release123, 23, "x")))}, false},
		"bare key":                  {i(spki), bare, true},
		"another bare key":          {i(spki), signed(t, ecdsaKey(t, elliptic.P256()), entry.ECDSAP256, crypto.SHA256), false},
		"key of the identity's own": {i(spki), &rule.Entry{Signers: parse(t, ca.issue(&x509.Certificate{EmailAddresses: []string{"a@b.c"}}))}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got := report(newSet(t, tc.identity), tc.entry)
			if len(got) == 1 != tc.hit || tc.hit && (got[0].Rule != rule.IDFingerprintUsed || got[0].Severity != rule.Critical || got[0].Subject == "") {
				t.Errorf("findings %+v, want a hit: %v", got, tc.hit)
			}
		})
	}
}

// TestKeyRetiredForAll is told once, whoever used it.
func TestKeyRetiredForAll(t *testing.T) {
	ca := newIssuer(t)
	sum := sha256.Sum256(ca.cert.RawSubjectPublicKeyInfo) // all its certificates have it
	retired := map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Keys: []string{hex.EncodeToString(sum[:])}}}
	used := func(email string) *rule.Entry {
		return &rule.Entry{Signers: parse(t, ca.issue(&x509.Certificate{EmailAddresses: []string{email}}))}
	}
	seen := map[rule.ID]rule.Params{rule.IDSeen: {Off: true}}
	a, b := rule.Identity{Name: "a", Email: "a@b.c", Rules: seen}, rule.Identity{Name: "b", Email: "b@b.c", Rules: seen}
	without := b
	without.Rules = map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Off: true}, rule.IDSeen: {Off: true}}
	own := b
	own.Rules = retired
	bare := signed(t, ca.key, entry.ECDSAP256, crypto.SHA256)
	weak := map[rule.ID]rule.Params{rule.IDFingerprintUsed: retired[rule.IDFingerprintUsed], rule.EntryWeakKey: {Allow: []string{"ed25519"}}}
	for name, tc := range map[string]struct {
		o     rule.Options
		e     *rule.Entry
		who   []string
		rules int
	}{
		"by a stranger":                {rule.Options{Identities: []rule.Identity{a, b}, Rules: retired}, used("x@y.z"), []string{""}, 1},
		"bare":                         {rule.Options{Identities: []rule.Identity{a, b}, Rules: retired}, bare, []string{""}, 1},
		"by one of them":               {rule.Options{Identities: []rule.Identity{a, b}, Rules: retired}, used("b@b.c"), []string{"b"}, 1},
		"by one that wants no such":    {rule.Options{Identities: []rule.Identity{a, without}, Rules: retired}, used("b@b.c"), nil, 0},
		"by a stranger, of one":        {rule.Options{Identities: []rule.Identity{a}, Rules: retired}, used("x@y.z"), []string{"a"}, 1},
		"by a stranger, named by one":  {rule.Options{Identities: []rule.Identity{a, own}, Rules: retired}, used("x@y.z"), []string{"b"}, 1},
		"by a stranger, and the audit": {rule.Options{Identities: []rule.Identity{a, b}, Rules: weak, Audit: true}, bare, []string{""}, 2},
		"another key":                  {rule.Options{Identities: []rule.Identity{a, b}, Rules: retired}, signed(t, ecdsaKey(t, elliptic.P256()), entry.ECDSAP256, crypto.SHA256), nil, 0},
		"off":                          {rule.Options{Identities: []rule.Identity{a, b}, Rules: map[rule.ID]rule.Params{rule.IDFingerprintUsed: {Off: true}}}, bare, nil, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := rule.New(tc.o)
			if err != nil {
				t.Fatal(err)
			}
			got := report(s, tc.e)
			var who []string
			for _, f := range got {
				who = append(who, f.Identity)
				if len(f.Reasons) != tc.rules || f.Subject == "" || f.Rule != rule.IDFingerprintUsed {
					t.Errorf("finding %+v", f)
				}
			}
			if !slices.Equal(who, tc.who) {
				t.Errorf("told of %q, want %q", who, tc.who)
			}
		})
	}
}

// TestAudit: cert.* and entry.* run on everything, once, and nothing else does.
func TestAudit(t *testing.T) {
	ca := newIssuer(t)
	der := func(v map[int]string) []rule.Signer { return parse(t, ca.build(v)) }
	audit := func(o rule.Options) *rule.Set {
		o.Audit = true
		s, err := rule.New(o)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	bad := signed(t, ca.key, entry.ECDSAP256, crypto.SHA256)
	bad.Digest[0] ^= 1
	tooOld := ca.issue(&x509.Certificate{EmailAddresses: []string{"x@y.z"}}) // no EKU
	eku := &rule.Entry{Signers: parse(t, tooOld)}
	alone := audit(rule.Options{Rules: named(rule.CertBadEKU)})
	for name, tc := range map[string]struct {
		set  *rule.Set
		e    *rule.Entry
		want []rule.ID
		who  string
	}{
		"nothing wrong":                     {alone, &rule.Entry{Signers: der(release123)}, nil, ""},
		"signature of nobody":               {alone, bad, []rule.ID{rule.EntryBadSignature}, ""},
		"usage of nobody's":                 {alone, eku, []rule.ID{rule.CertBadEKU}, ""},
		"usage, not asked for":              {audit(rule.Options{}), eku, nil, ""},
		"of a watched identity, once":       {audit(rule.Options{Rules: named(rule.CertBadEKU), Identities: []rule.Identity{{Name: "me", Email: "x@y.z"}}}), eku, []rule.ID{rule.CertBadEKU}, "me"},
		"of one that does not want to know": {audit(rule.Options{Rules: named(rule.CertBadEKU), Identities: []rule.Identity{{Name: "me", Email: "x@y.z", Rules: map[rule.ID]rule.Params{rule.CertBadEKU: {Off: true}, rule.IDSeen: {Off: true}}}}}), eku, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := report(tc.set, tc.e)
			if !slices.Equal(fired(got), tc.want) || len(got) > 0 && (got[0].Identity != tc.who || got[0].Subject == "") {
				t.Errorf("findings %+v, want %q of %q", got, tc.want, tc.who)
			}
		})
	}
	if _, err := rule.New(rule.Options{Audit: true, Rules: named(rule.CertBadSCT)}); err == nil {
		t.Error("an audit of timestamps without the keys of logs was accepted")
	}
	if _, err := rule.New(rule.Options{Audit: true, Rules: named(rule.IDSeen)}); err == nil {
		t.Error("a rule about identities was accepted without any")
	}
}
