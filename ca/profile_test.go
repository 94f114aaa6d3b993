package ca_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"math/big"
	"testing"
	"time"

	ct "github.com/google/certificate-transparency-go"
	"github.com/google/certificate-transparency-go/ctutil"
	ctx509 "github.com/google/certificate-transparency-go/x509"

	"tallywood/ca"
	"tallywood/ca/oidc"
	"tallywood/log/ctentry"
)

// githubRun is what a GitHub Actions token proves.
var githubRun = oidc.Identity{
	Issuer: "https://token.actions.githubusercontent.com", Subject: "repo:octo/app:ref:refs/heads/main",
	Type: oidc.TypeCIProvider,
	SAN:  oidc.SAN{Kind: oidc.SANURI, Value: "https://github.com/octo/app/.github/workflows/release.yml@refs/heads/main"},
	Extensions: map[int]string{
		2: "push", 3: "ce587453ced02b1526dfb4cb910479d431683101", 4: "Release", 5: "octo/app", 6: "refs/heads/main",
		9: "https://github.com/octo/app/.github/workflows/release.yml@refs/heads/main", 11: "github-hosted",
		12: "https://github.com/octo/app", 13: "ce587453ced02b1526dfb4cb910479d431683101", 15: "1234", 22: "public",
	},
}

func TestProfileFieldByField(t *testing.T) {
	log := newMemoryLog(t)
	c, chain := newCA(t, log)
	key := p256(t)
	issued, err := c.Issue(t.Context(), key.Public(), alice)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(issued.DER)
	if err != nil {
		t.Fatal(err)
	}
	var keyBits struct {
		Algorithm asn1.RawValue
		Bits      asn1.BitString
	}
	if _, err := asn1.Unmarshal(cert.RawSubjectPublicKeyInfo, &keyBits); err != nil {
		t.Fatal(err)
	}
	keyID := sha1.Sum(keyBits.Bits.Bytes)
	start := testNow.Truncate(time.Second)
	for what, ok := range map[string]bool{
		"version 3":             cert.Version == 3,
		"empty subject":         bytes.Equal(cert.RawSubject, []byte{0x30, 0}),
		"issuer name":           bytes.Equal(cert.RawIssuer, chain[0].RawSubject),
		"NotBefore now":         cert.NotBefore.Equal(start),
		"NotAfter in 10 min":    cert.NotAfter.Equal(start.Add(10 * time.Minute)),
		"public key":            key.PublicKey.Equal(cert.PublicKey),
		"key usage":             cert.KeyUsage == x509.KeyUsageDigitalSignature,
		"code signing only":     len(cert.ExtKeyUsage) == 1 && cert.ExtKeyUsage[0] == x509.ExtKeyUsageCodeSigning && len(cert.UnknownExtKeyUsage) == 0,
		"SKI":                   bytes.Equal(cert.SubjectKeyId, keyID[:]),
		"AKI":                   bytes.Equal(cert.AuthorityKeyId, chain[0].SubjectKeyId),
		"one email SAN":         len(cert.EmailAddresses) == 1 && cert.EmailAddresses[0] == "alice@example.com" && len(cert.URIs)+len(cert.DNSNames)+len(cert.IPAddresses) == 0,
		"no CA":                 !cert.IsCA && !cert.BasicConstraintsValid,
		"positive serial":       cert.SerialNumber.Sign() > 0,
		"160-bit serial":        cert.SerialNumber.BitLen() == 159,
		"inner algorithm":       cert.SignatureAlgorithm == x509.ECDSAWithSHA256,
		"nothing unhandled":     len(cert.UnhandledCriticalExtensions) == 0,
		"reported end is right": issued.NotAfter.Equal(cert.NotAfter),
	} {
		if !ok {
			t.Errorf("%s: not so", what)
		}
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	intermediates.AddCert(chain[0])
	roots.AddCert(chain[1])
	if _, err := cert.Verify(x509.VerifyOptions{
		Roots: roots, Intermediates: intermediates, CurrentTime: testNow,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageCodeSigning},
	}); err != nil {
		t.Errorf("verifying the chain: %v", err)
	}
}

// ext is an expected extension; an empty value is not compared.
type ext struct {
	oid      string
	critical bool
	value    string
}

// head is what every certificate begins with.
var head = []ext{
	{"2.5.29.15", true, "\x03\x02\x07\x80"}, {"2.5.29.37", false, "\x30\x0a\x06\x08\x2b\x06\x01\x05\x05\x07\x03\x03"},
	{"2.5.29.14", false, ""}, {"2.5.29.35", false, ""},
}

func TestExtensionOrderAndBytes(t *testing.T) {
	utf8 := func(s string) string {
		if len(s) > 127 {
			t.Fatal("long form needed")
		}
		return string([]byte{0x0c, byte(len(s))}) + s
	}
	const sigstore = "1.3.6.1.4.1.57264.1."
	for name, tc := range map[string]struct {
		id   oidc.Identity
		want []ext
	}{
		"email": {alice, []ext{
			{"2.5.29.17", true, "\x30\x13\x81\x11alice@example.com"},
			{sigstore + "1", false, alice.Issuer}, {sigstore + "8", false, utf8(alice.Issuer)}, {sigstore + "24", false, utf8("1234")},
		}},
		"GitHub": {githubRun, []ext{
			{"2.5.29.17", true, "\x30\x4b\x86\x49" + githubRun.SAN.Value},
			{sigstore + "1", false, githubRun.Issuer}, {sigstore + "2", false, "push"},
			{sigstore + "3", false, "ce587453ced02b1526dfb4cb910479d431683101"}, {sigstore + "4", false, "Release"},
			{sigstore + "5", false, "octo/app"}, {sigstore + "6", false, "refs/heads/main"},
			{sigstore + "8", false, utf8(githubRun.Issuer)}, {sigstore + "9", false, utf8(githubRun.SAN.Value)},
			{sigstore + "11", false, utf8("github-hosted")}, {sigstore + "12", false, utf8("https://github.com/octo/app")},
			{sigstore + "13", false, utf8("ce587453ced02b1526dfb4cb910479d431683101")}, {sigstore + "15", false, utf8("1234")},
			{sigstore + "22", false, utf8("public")}, {sigstore + "24", false, utf8(githubRun.Subject)},
		}},
		"username": {oidc.Identity{
			Issuer: "https://i.example", Subject: "bob", SAN: oidc.SAN{Kind: oidc.SANUsername, Value: "bob!example.com"},
		}, []ext{
			{"2.5.29.17", true, "\x30\x21\xa0\x1f\x06\x0a\x2b\x06\x01\x04\x01\x83\xbf\x30\x01\x07\xa0\x11\x0c\x0fbob!example.com"},
			{sigstore + "1", false, "https://i.example"}, {sigstore + "8", false, utf8("https://i.example")}, {sigstore + "24", false, utf8("bob")},
		}},
	} {
		c, _ := newCA(t, newMemoryLog(t))
		issued, err := c.Issue(t.Context(), p256(t).Public(), tc.id)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		cert, err := x509.ParseCertificate(issued.DER)
		if err != nil {
			t.Fatal(err)
		}
		want := append(append(head[:4:4], tc.want...), ext{"1.3.6.1.4.1.11129.2.4.2", false, ""})
		if len(cert.Extensions) != len(want) {
			t.Fatalf("%s: %d extensions, want %d", name, len(cert.Extensions), len(want))
		}
		for i, e := range cert.Extensions {
			w := want[i]
			if e.Id.String() != w.oid || e.Critical != w.critical || w.value != "" && string(e.Value) != w.value {
				t.Errorf("%s: extension %d is %s critical %v %q, want %+v", name, i, e.Id, e.Critical, e.Value, w)
			}
		}
		reencoded(t, cert)
	}
}

// reencoded checks that every extension is what encoding/asn1 makes of it, as verifiers that
// rebuild the TBSCertificate from its parts need.
func reencoded(t *testing.T, cert *x509.Certificate) {
	t.Helper()
	var tbs struct {
		Version    int `asn1:"explicit,tag:0"`
		Serial     *big.Int
		Algorithm  asn1.RawValue
		Issuer     asn1.RawValue
		Validity   struct{ NotBefore, NotAfter time.Time }
		Subject    asn1.RawValue
		PublicKey  asn1.RawValue
		Extensions []struct {
			ID       asn1.ObjectIdentifier
			Critical bool `asn1:"optional"`
			Value    []byte
		} `asn1:"explicit,tag:3"`
	}
	if rest, err := asn1.Unmarshal(cert.RawTBSCertificate, &tbs); err != nil || len(rest) > 0 {
		t.Fatalf("parsing TBSCertificate: %v, %d bytes left", err, len(rest))
	}
	again, err := asn1.Marshal(tbs)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(again, cert.RawTBSCertificate) {
		t.Error("the TBSCertificate is not strict DER: it re-encodes to other bytes")
	}
}

func TestUsernameSANIsAnOtherName(t *testing.T) {
	c, _ := newCA(t, newMemoryLog(t))
	id := oidc.Identity{Issuer: "https://i.example", Subject: "bob", SAN: oidc.SAN{Kind: oidc.SANUsername, Value: "bob!example.com"}}
	issued, err := c.Issue(t.Context(), p256(t).Public(), id)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := ctx509.ParseCertificate(issued.DER)
	if ctx509.IsFatal(err) {
		t.Fatal(err)
	}
	for _, e := range cert.Extensions {
		if e.Id.String() != "2.5.29.17" {
			continue
		}
		var names struct {
			Other struct {
				Type  asn1.ObjectIdentifier
				Value string `asn1:"explicit,tag:0,utf8"`
			} `asn1:"tag:0"`
		}
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			t.Fatalf("parsing SAN: %v", err)
		}
		if !names.Other.Type.Equal(oidOf(7)) || names.Other.Value != "bob!example.com" {
			t.Errorf("SAN is %v %q", names.Other.Type, names.Other.Value)
		}
		return
	}
	t.Error("no SAN")
}

// subjectKeys are all the kinds of keys that can be certified.
func subjectKeys(t *testing.T) map[string]crypto.PublicKey {
	keys := make(map[string]crypto.PublicKey)
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys[curve.Params().Name] = k.Public()
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys["RSA"], keys["Ed25519"] = rsaKey.Public(), ed
	return keys
}

// TestPrecertificateCommitsToTheCertificate is what every verifier of SCTs relies on: the
// precertificate without its poison and the certificate without its SCT list are the same bytes.
// Ours and Google's code must agree on that, for every kind of key and identity.
func TestPrecertificateCommitsToTheCertificate(t *testing.T) {
	for name, pub := range subjectKeys(t) {
		for _, id := range []oidc.Identity{alice, githubRun, {
			Issuer: "https://i.example", Subject: "bob", SAN: oidc.SAN{Kind: oidc.SANUsername, Value: "bob!example.com"},
		}} {
			log := newMemoryLog(t)
			c, chain := newCA(t, log)
			issued, err := c.Issue(t.Context(), pub, id)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			checkPair(t, fmt.Sprintf("%s %s", name, id.SAN.Value), log, chain, issued.DER)
		}
	}
}

func checkPair(t *testing.T, name string, log *memoryLog, chain []*x509.Certificate, final []byte) {
	t.Helper()
	pre := log.chains[0][0]
	preTBS, err := ctentry.PrecertTBS(pre)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	tbs, err := ctentry.TBS(final)
	if err != nil {
		t.Fatal(err)
	}
	if tbs, err = ctentry.RemoveExtension(tbs, ctentry.OIDSCTList); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(preTBS, tbs) {
		t.Errorf("%s: precertificate and certificate differ", name)
	}
	oraclePre, err := ctx509.RemoveCTPoison(mustTBS(t, pre))
	if err != nil {
		t.Fatal(err)
	}
	oracleFinal, err := ctx509.RemoveSCTList(mustTBS(t, final))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(oraclePre, preTBS) || !bytes.Equal(oracleFinal, tbs) {
		t.Errorf("%s: certificate-transparency-go finds other bytes", name)
	}
	leaf, err := ctx509.ParseCertificate(final)
	if ctx509.IsFatal(err) {
		t.Fatal(err)
	}
	issuer, err := ctx509.ParseCertificate(chain[0].Raw)
	if ctx509.IsFatal(err) {
		t.Fatal(err)
	}
	scts, err := ctentry.SCTs(final)
	if err != nil || len(scts) != 1 {
		t.Fatalf("%s: %d SCTs, %v", name, len(scts), err)
	}
	if err := scts[0].Verify(log.key.Public(), log.entries[0]); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	sct := &ct.SignedCertificateTimestamp{
		LogID: ct.LogID{KeyID: scts[0].LogID}, Timestamp: uint64(scts[0].Timestamp), Extensions: scts[0].Extensions,
	}
	sct.Signature.Algorithm.Hash, sct.Signature.Algorithm.Signature = 4, 3
	sct.Signature.Signature = scts[0].Signature
	if err := ctutil.VerifySCT(log.key.Public(), []*ctx509.Certificate{leaf, issuer}, sct, true); err != nil {
		t.Errorf("%s: certificate-transparency-go refuses the SCT: %v", name, err)
	}
}

func mustTBS(t *testing.T, cert []byte) []byte {
	t.Helper()
	tbs, err := ctentry.TBS(cert)
	if err != nil {
		t.Fatal(err)
	}
	return tbs
}

func TestEveryKindOfIssuingKey(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []crypto.Signer{rsaKey, edKey, ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), ecKey(t, elliptic.P521())} {
		template := rootTemplate("root")
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		root, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		chain := []*x509.Certificate{root}
		log := newMemoryLog(t)
		c, err := ca.New(ca.Options{Chain: chain, Signer: key, CTLog: log, Now: fixedNow})
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		issued, err := c.Issue(t.Context(), p256(t).Public(), githubRun)
		if err != nil {
			t.Fatalf("%T: %v", key, err)
		}
		checkPair(t, fmt.Sprintf("%T", key), log, chain, issued.DER)
	}
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
