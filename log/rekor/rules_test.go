package rekor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"
)

// A signer is a key with what its owner states of it.
type signer struct {
	details string
	hash    crypto.Hash
	key     crypto.Signer
}

// signers returns one of each accepted algorithm.
func signers(t *testing.T) map[string]signer {
	t.Helper()
	out := map[string]signer{}
	add := func(name, details string, hash crypto.Hash, key crypto.Signer, err error) {
		if err != nil {
			t.Fatal(err)
		}
		out[name] = signer{details, hash, key}
	}
	for name, c := range map[string]struct {
		curve   elliptic.Curve
		details string
		hash    crypto.Hash
	}{
		"P-256": {elliptic.P256(), "PKIX_ECDSA_P256_SHA_256", crypto.SHA256},
		"P-384": {elliptic.P384(), "PKIX_ECDSA_P384_SHA_384", crypto.SHA384},
		"P-521": {elliptic.P521(), "PKIX_ECDSA_P521_SHA_512", crypto.SHA512},
	} {
		key, err := ecdsa.GenerateKey(c.curve, rand.Reader)
		add(name, c.details, c.hash, key, err)
	}
	for _, bits := range []int{1024, 2048, 3072, 4096} {
		data, err := os.ReadFile(fmt.Sprintf("../entry/testdata/rsa%d.pem", bits))
		if err != nil {
			t.Fatal(err)
		}
		block, _ := pem.Decode(data)
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		add(fmt.Sprintf("RSA-%d", bits), fmt.Sprintf("PKIX_RSA_PKCS1V15_%d_SHA256", max(bits, 2048)), crypto.SHA256, key.(crypto.Signer), nil)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	add("Ed25519ph", "PKIX_ED25519_PH", crypto.SHA512, ed, err)
	return out
}

func (s signer) spki(t *testing.T) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func (s signer) certificate(t *testing.T) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// A form is one of the ways to say the same.
type form struct {
	name                   string
	dsse, certificate      bool
	arm, content, verifier string // their paths in error messages
}

const hashedArm, dsseArm = "hashedRekordRequestV002", "dsseRequestV002"

var forms = func() []form {
	var out []form
	for _, certificate := range []bool{false, true} {
		kind := "key"
		if certificate {
			kind = "certificate"
		}
		out = append(out,
			form{"hashedrekord, " + kind, false, certificate, hashedArm, hashedArm + ".signature.content", hashedArm + ".signature.verifier"},
			form{"dsse, " + kind, true, certificate, dsseArm, dsseArm + ".envelope.signatures[0].sig", dsseArm + ".verifiers[0]"})
	}
	return out
}()

func (f form) raw() string {
	if f.certificate {
		return f.verifier + ".x509Certificate.rawBytes"
	}
	return f.verifier + ".publicKey.rawBytes"
}

// draft is a request to spoil.
type draft struct {
	digest, content, raw []byte
	details              any
	noVerifier, noKey    bool
	payload              []byte
}

func (f form) draft(t *testing.T, s signer) *draft {
	t.Helper()
	d := &draft{details: s.details, payload: []byte("payload")}
	message := []byte("message")
	if f.dsse {
		message = []byte("DSSEv1 4 text 7 payload")
	}
	h := s.hash.New()
	h.Write(message)
	d.digest = h.Sum(nil)
	var err error
	if d.content, err = s.key.Sign(rand.Reader, d.digest, s.hash); err != nil {
		t.Fatal(err)
	}
	d.raw = s.spki(t)
	if f.certificate {
		d.raw = s.certificate(t)
	}
	return d
}

func (f form) render(t *testing.T, d *draft) []byte {
	t.Helper()
	verifier := map[string]any{}
	if d.details != nil {
		verifier["keyDetails"] = d.details
	}
	arm := "publicKey"
	if f.certificate {
		arm = "x509Certificate"
	}
	if !d.noKey {
		verifier[arm] = map[string]any{"rawBytes": b64(d.raw)}
	}
	var request map[string]any
	if f.dsse {
		envelope := map[string]any{"payload": b64(d.payload), "payloadType": "text", "signatures": []any{map[string]any{"sig": b64(d.content)}}}
		request = map[string]any{"envelope": envelope, "verifiers": []any{verifier}}
		if d.noVerifier {
			delete(request, "verifiers")
		}
	} else {
		signature := map[string]any{"content": b64(d.content), "verifier": verifier}
		if d.noVerifier {
			delete(signature, "verifier")
		}
		request = map[string]any{"digest": b64(d.digest), "signature": signature}
	}
	out, err := json.Marshal(map[string]any{f.arm: request})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// A rule is one that a request breaks, and what the answer says of it: the field and the rule.
type rule struct {
	name  string
	spoil func(f form, d *draft)
	want  func(f form) string
	only  func(f form) bool // forms that have the rule; nil: all
}

func hashedOnly(f form) bool { return !f.dsse }
func keyOnly(f form) bool    { return !f.certificate }

func isCertificate(f form) bool { return f.certificate }

// rules are those of section 2 of the Rekor v2 reference, in its order, with keys of P-256.
func rules(t *testing.T, keys map[string]signer) []rule {
	path := func(part func(form) string, rule string) func(form) string {
		return func(f form) string { return part(f) + rule }
	}
	content := func(f form) string { return f.content }
	verifier := func(f form) string { return f.verifier }
	details := func(f form) string { return f.verifier + ".keyDetails" }
	digest := func(f form) string { return f.arm + ".digest" }
	raw := form.raw
	out := []rule{
		{name: "1 content", spoil: func(_ form, d *draft) { d.content = nil }, want: path(content, " is missing")},
		{name: "1 verifier", spoil: func(_ form, d *draft) { d.noVerifier = true }, want: func(f form) string {
			if f.dsse {
				return dsseArm + ".verifiers is missing"
			}
			return f.verifier + " is missing"
		}},
		{name: "1 digest", spoil: func(_ form, d *draft) { d.digest = nil }, want: path(digest, " is missing"), only: hashedOnly},
		{name: "1 key", spoil: func(_ form, d *draft) { d.noKey = true }, want: path(verifier, " has neither publicKey nor x509Certificate")},
		{name: "1 rawBytes", spoil: func(_ form, d *draft) { d.raw = nil }, want: path(raw, " is missing")},
		{name: "2 PEM", spoil: func(_ form, d *draft) { d.raw = pem.EncodeToMemory(&pem.Block{Type: "X", Bytes: d.raw}) }, want: path(raw, " is PEM, DER is expected")},
		{name: "2 no SPKI", spoil: func(_ form, d *draft) { d.raw = []byte("not DER at all") }, want: path(raw, " is not the DER SubjectPublicKeyInfo"), only: keyOnly},
		{name: "2 after SPKI", spoil: func(_ form, d *draft) { d.raw = append(d.raw, 0) }, want: path(raw, " is not the DER SubjectPublicKeyInfo"), only: keyOnly},
		{name: "2 SPKI of other encoding", spoil: func(_ form, d *draft) { d.raw = lengthened(t, d.raw) }, want: path(raw, " is not the canonical encoding of its key"), only: keyOnly},
		{name: "2 no certificate", spoil: func(_ form, d *draft) { d.raw = keys["P-256"].spki(t) }, want: path(raw, " is not exactly one DER certificate"), only: isCertificate},
		{name: "2 two certificates", spoil: func(_ form, d *draft) { d.raw = append(d.raw, d.raw...) }, want: path(raw, " is not exactly one DER certificate"), only: isCertificate},
		{name: "3 details missing", spoil: func(_ form, d *draft) { d.details = nil }, want: path(details, " is missing")},
		{name: "3 details unspecified", spoil: func(_ form, d *draft) { d.details = 0 }, want: path(details, " is missing")},
		{name: "3 unknown number", spoil: func(_ form, d *draft) { d.details = 99 }, want: path(details, " is the unknown value 99")},
		{name: "3 unknown name", spoil: func(_ form, d *draft) { d.details = "PKIX_ROT13" }, want: path(details, ` is the unknown value "PKIX_ROT13"`)},
		{name: "4 type", spoil: func(_ form, d *draft) { d.details = "PKIX_RSA_PKCS1V15_2048_SHA256" }, want: path(details, " PKIX_RSA_PKCS1V15_2048_SHA256 does not match the key, which is for PKIX_ECDSA_P256_SHA_256")},
		{name: "4 curve", spoil: func(_ form, d *draft) { d.details = 12 }, want: path(details, " PKIX_ECDSA_P384_SHA_384 does not match the key")},
		{name: "4 pure Ed25519 of P-256", spoil: func(_ form, d *draft) { d.details = 7 }, want: path(details, " PKIX_ED25519 does not match the key")},
		{name: "6 digest length", spoil: func(_ form, d *draft) { d.digest = d.digest[:20] }, want: path(digest, " is 20 bytes long, a SHA2_256 digest has 32"), only: hashedOnly},
		{name: "7 digest", spoil: func(_ form, d *draft) { d.digest[0] ^= 1 }, want: path(content, " is not a valid PKIX_ECDSA_P256_SHA_256 signature over the digest"), only: hashedOnly},
		{name: "7 payload", spoil: func(_ form, d *draft) { d.payload[0] ^= 1 }, want: path(content, " is not a valid PKIX_ECDSA_P256_SHA_256 signature over the envelope's pre-authentication encoding"),
			only: func(f form) bool { return f.dsse }},
		{name: "7 no DER", spoil: func(_ form, d *draft) { d.content = []byte("a signature") }, want: path(content, " is not a valid PKIX_ECDSA_P256_SHA_256 signature")},
	}
	for _, name := range []string{
		"PKIX_RSA_PSS_2048_SHA256", "PKIX_RSA_PSS_3072_SHA256", "PKIX_RSA_PSS_4096_SHA256", "PKIX_RSA_PKCS1V5",
		"PKIX_ECDSA_P384_SHA_256", "PKIX_ECDSA_P256_HMAC_SHA_256", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "LMS_SHA256",
	} {
		out = append(out, rule{name: "3 " + name, spoil: func(_ form, d *draft) { d.details = name }, want: path(details, " "+name+" is not supported by this log")})
	}
	return out
}

// lengthened adds a NULL to the end of a SEQUENCE, which parsers overlook.
func lengthened(t *testing.T, der []byte) []byte {
	t.Helper()
	var seq asn1.RawValue
	if _, err := asn1.Unmarshal(der, &seq); err != nil {
		t.Fatal(err)
	}
	out, err := asn1.Marshal(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: append(seq.Bytes, 5, 0)})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestValidationRules breaks every rule in each of the forms an entry may be sent in, over HTTP.
func TestValidationRules(t *testing.T) {
	s := serve(t, nil, nil)
	keys := signers(t)
	for _, f := range forms {
		for _, r := range rules(t, keys) {
			if r.only != nil && !r.only(f) {
				continue
			}
			t.Run(f.name+"/"+r.name, func(t *testing.T) {
				d := f.draft(t, keys["P-256"])
				sent := []string{b64(d.content), b64(d.raw), b64(d.digest)}
				r.spoil(f, d)
				sent = append(sent, b64(d.content), b64(d.raw), b64(d.digest))
				s.post(f.render(t, d)).refused(t, 400, 3, r.want(f), sent...)
			})
		}
	}
	s.checkEmpty(t)
}

// TestValidationRulesOfAlgorithms breaks those that differ by algorithm.
func TestValidationRulesOfAlgorithms(t *testing.T) {
	s := serve(t, nil, nil)
	keys := signers(t)
	small, other := keys["RSA-1024"], signers(t)["P-256"]
	delete(keys, "RSA-1024")
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range forms {
		refused := func(name string, d *draft, want string) {
			t.Run(f.name+"/"+name, func(t *testing.T) {
				s.post(f.render(t, d)).refused(t, 400, 3, want, b64(d.content), b64(d.raw), b64(d.digest))
			})
		}
		for name, k := range keys {
			d := f.draft(t, k)
			d.content = f.draft(t, other).content
			refused(name+"/7 signature of another key", d, f.content+" is not a valid "+k.details+" signature over")
			if !f.dsse {
				d = f.draft(t, k)
				d.digest = append(d.digest, 0)
				refused(name+"/6 digest length", d, fmt.Sprintf("%s.digest is %d bytes long, a SHA2_%d digest has %d", f.arm, k.hash.Size()+1, 8*k.hash.Size(), k.hash.Size()))
			}
			for _, wrong := range keys {
				if wrong.details != k.details {
					d = f.draft(t, k)
					d.details = wrong.details
					refused(name+"/4 as "+wrong.details, d, f.verifier+".keyDetails "+wrong.details+" does not match the key, which is for "+k.details)
				}
			}
		}
		refused("4 RSA size", f.draft(t, small), f.verifier+".keyDetails PKIX_RSA_PKCS1V15_2048_SHA256 does not match the key: unsupported RSA size 1024")
		refused("4 unknown curve", f.draft(t, signer{"PKIX_ECDSA_P256_SHA_256", crypto.SHA256, p224}), "does not match the key: unsupported curve P-224")
		d := f.draft(t, keys["Ed25519ph"])
		d.details = "PKIX_ED25519"
		want := "PKIX_ED25519 has no prehash and cannot sign a digest; use PKIX_ED25519_PH"
		if f.dsse {
			want = "PKIX_ED25519 signs the whole envelope, which cannot be logged as a digest; use PKIX_ED25519_PH"
		}
		refused("5 no prehash", d, want)
	}
	s.checkEmpty(t)
}

// TestEveryFormOfEveryAlgorithm is what the rules let through.
func TestEveryFormOfEveryAlgorithm(t *testing.T) {
	s := serve(t, nil, nil)
	keys := signers(t)
	delete(keys, "RSA-1024")
	for name, k := range keys {
		for _, f := range forms {
			d := f.draft(t, k)
			same := form{arm: hashedArm, certificate: f.certificate}
			t.Run(f.name+"/"+name, func(t *testing.T) {
				s.accept(s.post(f.render(t, d)), same.render(t, d))
			})
		}
	}
}

func (s *server) checkEmpty(t *testing.T) {
	t.Helper()
	if c, ok := s.log.Published(); !ok || c.Size() != 0 {
		t.Errorf("log has %d entries", c.Size())
	}
}

// TestCertificateOfAnUnknownKeyType posts one that is well-formed.
func TestCertificateOfAnUnknownKeyType(t *testing.T) {
	s := serve(t, nil, nil)
	f := form{"", false, true, hashedArm, hashedArm + ".signature.content", hashedArm + ".signature.verifier"}
	k := signers(t)["P-256"]
	d := f.draft(t, k)
	ecPublicKey := []byte{6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1}
	unknown := []byte{6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 9}
	d.raw = []byte(strings.Replace(string(d.raw), string(ecPublicKey), string(unknown), 1))
	s.post(f.render(t, d)).refused(t, 400, 3, f.raw()+" is a certificate of an unsupported key type", b64(d.raw))
}
