package entry_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"slices"
	"strings"
	"testing"

	"tallywood/log/entry"
)

// dsseEntry is an entry of the old kind, in the form rekor-tiles v2.2 and older logged.
const dsseEntry = `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="},"signatures":[{"content":"c2ln","verifier":{"keyDetails":"PKIX_ED25519","publicKey":{"rawBytes":"a2V5"}}},{"content":"c2ln","verifier":{"keyDetails":"PKIX_OF_THE_FUTURE","x509Certificate":{"rawBytes":"Y2VydA=="}}}]}}}`

func TestInputSpellingsCollapse(t *testing.T) {
	s := accepted(t)[0]
	text := string(marshal(t, s.request(t, false)))
	want, err := entry.ParseRequest([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	snake := strings.NewReplacer("hashedRekordRequestV002", "hashed_rekord_request_v002",
		"publicKey", "public_key", "rawBytes", "raw_bytes", "keyDetails", "key_details")
	for name, variant := range map[string]string{
		"snake case":       snake.Replace(text),
		"enum number":      strings.ReplaceAll(text, `"PKIX_ECDSA_P256_SHA_256"`, "5"),
		"no padding":       strings.ReplaceAll(text, "=", ""),
		"URL-safe":         strings.NewReplacer("+", "-", "/", "_").Replace(text),
		"URL-safe, no pad": strings.NewReplacer("+", "-", "/", "_", "=", "").Replace(text),
		"white space":      " \r\n\t" + strings.ReplaceAll(text, ":", " : ") + "\n",
		"escapes":          strings.NewReplacer("digest", `d\u0069gest`, "=", `\u003D`).Replace(text),
		"null fields":      `{"dsseRequestV002":null,` + text[1:],
	} {
		got, err := entry.ParseRequest([]byte(variant))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		} else if !bytes.Equal(got.Canonical, want.Canonical) || got.Key != want.Key {
			t.Errorf("%s: another entry", name)
		}
	}
}

// TestRefusesBadJSON checks the decoder's refusals and that each says where and what.
func TestRefusesBadJSON(t *testing.T) {
	s := accepted(t)[0]
	text := string(marshal(t, s.request(t, false)))
	dsse := string(marshal(t, s.dsseRequest(t, []byte("payload"))))
	both := text[:len(text)-1] + "," + dsse[1:]
	for _, c := range []struct{ name, body, want string }{
		{"nothing", "", "request is empty"},
		{"white space", " \n", "request is empty"},
		{"no arm", "{}", "request has neither hashedRekordRequestV002 nor dsseRequestV002"},
		{"two arms", both, "request has both hashedRekordRequestV002 and dsseRequestV002"},
		{"array", "[]", "request is not an object"},
		{"null", "null", "request is not an object"},
		{"no JSON", "digest=1", "request is not valid JSON at byte 0"},
		{"gzip", "\x1f\x8b\x08\x00", "request is not valid JSON at byte 0"},
		{"cut short", text[:len(text)-1], "request is not valid JSON at byte"},
		{"second value", text + "{}", "request has data after its JSON object"},
		{"unknown field", `{"kind":"x",` + text[1:], `request has the unknown field "kind"`},
		{"long unknown field", `{"` + strings.Repeat("k", 1000) + `":1}`, `unknown field "` + strings.Repeat("k", 40) + `"`},
		{"repeated field", strings.Replace(text, `"digest"`, `"digest":"","digest"`, 1), "hashedRekordRequestV002 has the field digest twice"},
		{"repeated in snake case", strings.Replace(text, `"keyDetails"`, `"key_details":5,"keyDetails"`, 1), "has the field keyDetails twice"},
		{"two verifiers", strings.Replace(text, `"publicKey"`, `"x509Certificate":{},"publicKey"`, 1), "verifier has both publicKey and x509Certificate"},
		{"enum name", strings.Replace(text, "PKIX_ECDSA_P256_SHA_256", "P256", 1), `keyDetails is the unknown value "P256"`},
		{"enum range", strings.Replace(text, `"PKIX_ECDSA_P256_SHA_256"`, "4294967296", 1), "keyDetails is not a 32-bit integer"},
		{"enum type", strings.Replace(text, `"PKIX_ECDSA_P256_SHA_256"`, "true", 1), "keyDetails is not the name or number"},
		{"base64", strings.Replace(text, `"digest":"`, `"digest":"!`, 1), "hashedRekordRequestV002.digest is not base64"},
		{"mixed base64", `{"hashedRekordRequestV002":{"digest":"+-+-"}}`, "digest is not base64"},
		{"type", `{"hashedRekordRequestV002":{"digest":1}}`, "hashedRekordRequestV002.digest is not a string"},
		{"lone surrogate", strings.Replace(dsse, "application", `\ud800`, 1), "request is not valid JSON"},
		{"control character", strings.Replace(dsse, "application", "\x01", 1), "request is not valid JSON"},
		{"invalid UTF-8", strings.Replace(dsse, "application", "\xff", 1), "request is not valid JSON"},
		{"comma", `{"hashedRekordRequestV002":{},}`, "request is not valid JSON"},
		{"number as name", `{1:2}`, "request is not valid JSON"},
	} {
		t.Run(c.name, func(t *testing.T) { refuses(t, []byte(c.body), c.want) })
	}
}

func refuses(t *testing.T, body []byte, want string) {
	t.Helper()
	_, err := entry.ParseRequest(body)
	var bad *entry.InvalidError
	if !errors.As(err, &bad) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %q", err, want)
	}
}

// TestRefusesInvalidEntries goes through the validation rules in their order.
func TestRefusesInvalidEntries(t *testing.T) {
	p256 := accepted(t)[0]
	other := signer{p256.name, newECDSA(t, elliptic.P256())}
	const arm, sig, ver = "hashedRekordRequestV002", "signature", "verifier"
	key := func(r map[string]any) map[string]any { return at(r, arm, sig, ver, "publicKey") }
	for _, c := range []struct {
		name   string
		change func(r map[string]any)
		want   string
	}{
		{"no content", func(r map[string]any) { delete(at(r, arm, sig), "content") }, arm + ".signature.content is missing"},
		{"no signature", func(r map[string]any) { delete(at(r, arm), sig) }, arm + ".signature.content is missing"},
		{"no verifier", func(r map[string]any) { delete(at(r, arm, sig), ver) }, arm + ".signature.verifier is missing"},
		{"no digest", func(r map[string]any) { at(r, arm)["digest"] = "" }, arm + ".digest is missing"},
		{"no key", func(r map[string]any) { delete(at(r, arm, sig, ver), "publicKey") }, "verifier has neither publicKey nor x509Certificate"},
		{"no raw bytes", func(r map[string]any) { delete(key(r), "rawBytes") }, "verifier.publicKey.rawBytes is missing"},
		{"PEM", func(r map[string]any) {
			key(r)["rawBytes"] = b64(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: p256.spki(t)}))
		}, "publicKey.rawBytes is PEM, DER is expected"},
		{"no DER", func(r map[string]any) { key(r)["rawBytes"] = b64([]byte("key")) }, "publicKey.rawBytes is not the DER SubjectPublicKeyInfo"},
		{"trailing bytes", func(r map[string]any) { key(r)["rawBytes"] = b64(append(p256.spki(t), 0)) }, "publicKey.rawBytes is not the DER SubjectPublicKeyInfo"},
		{"no certificate", func(r map[string]any) {
			v := at(r, arm, sig, ver)
			delete(v, "publicKey")
			v["x509Certificate"] = map[string]any{"rawBytes": b64(p256.spki(t))}
		}, "x509Certificate.rawBytes is not exactly one DER certificate"},
		{"two certificates", func(r map[string]any) {
			v := at(r, arm, sig, ver)
			delete(v, "publicKey")
			cert := p256.certificate(t)
			v["x509Certificate"] = map[string]any{"rawBytes": b64(append(cert, cert...))}
		}, "x509Certificate.rawBytes is not exactly one DER certificate"},
		{"no details", func(r map[string]any) { delete(at(r, arm, sig, ver), "keyDetails") }, "verifier.keyDetails is missing"},
		{"unspecified details", func(r map[string]any) { at(r, arm, sig, ver)["keyDetails"] = 0 }, "verifier.keyDetails is missing"},
		{"unknown number", func(r map[string]any) { at(r, arm, sig, ver)["keyDetails"] = 99 }, "keyDetails is the unknown value 99"},
		{"P-256 key as RSA", func(r map[string]any) { at(r, arm, sig, ver)["keyDetails"] = "PKIX_RSA_PKCS1V15_2048_SHA256" },
			"keyDetails PKIX_RSA_PKCS1V15_2048_SHA256 does not match the key, which is for PKIX_ECDSA_P256_SHA_256"},
		{"P-256 key as P-384", func(r map[string]any) { at(r, arm, sig, ver)["keyDetails"] = 12 }, "does not match the key"},
		{"P-256 key as pure Ed25519", func(r map[string]any) { at(r, arm, sig, ver)["keyDetails"] = 7 }, "does not match the key"},
		{"SHA-1 digest", func(r map[string]any) { at(r, arm)["digest"] = b64(make([]byte, 20)) }, "digest is 20 bytes long, a SHA2_256 digest has 32"},
		{"other digest", func(r map[string]any) { at(r, arm)["digest"] = b64(make([]byte, 32)) }, "content is not a valid PKIX_ECDSA_P256_SHA_256 signature over the digest"},
		{"other key", func(r map[string]any) { key(r)["rawBytes"] = b64(other.spki(t)) }, "content is not a valid"},
		{"signature is no DER", func(r map[string]any) { at(r, arm, sig)["content"] = b64([]byte("sig")) }, "content is not a valid"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := p256.request(t, false)
			c.change(r)
			refuses(t, marshal(t, r), c.want)
		})
	}
}

// TestRefusesAlgorithms goes through what clients cannot verify or must not use.
func TestRefusesAlgorithms(t *testing.T) {
	keys := accepted(t)
	p256, p384, ed := keys[0], keys[1], keys[6]
	pure := func(r map[string]any) {
		at(r, "hashedRekordRequestV002", "signature", "verifier")["keyDetails"] = "PKIX_ED25519"
	}
	r := ed.request(t, false)
	pure(r)
	refuses(t, marshal(t, r), "PKIX_ED25519 has no prehash and cannot sign a digest; use PKIX_ED25519_PH")

	for _, name := range []string{
		"PKIX_RSA_PSS_2048_SHA256", "PKIX_RSA_PSS_3072_SHA256", "PKIX_RSA_PSS_4096_SHA256", "PKIX_RSA_PKCS1V5",
		"PKIX_ECDSA_P384_SHA_256", "PKIX_ECDSA_P256_HMAC_SHA_256", "ML_DSA_44", "ML_DSA_65", "ML_DSA_87", "LMS_SHA256",
	} {
		r := p256.request(t, false)
		at(r, "hashedRekordRequestV002", "signature", "verifier")["keyDetails"] = name
		refuses(t, marshal(t, r), "keyDetails "+name+" is not supported by this log")
	}
	small := signer{"PKIX_RSA_PKCS1V15_2048_SHA256", readRSA(t, 1024)}
	refuses(t, marshal(t, small.request(t, false)), "does not match the key: unsupported RSA size 1024")
	p224 := signer{"PKIX_ECDSA_P256_SHA_256", newECDSA(t, elliptic.P224())}
	refuses(t, marshal(t, p224.request(t, false)), "unsupported curve P-224")

	// P-384 key, SHA-256 digest: signed correctly, but no verifier would rebuild it.
	r = p384.request(t, false)
	h := at(r, "hashedRekordRequestV002")
	digest := sum256([]byte("artifact"))
	sig, err := p384.key.Sign(nil, digest, crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	h["digest"], at(h, "signature")["content"] = b64(digest), b64(sig)
	refuses(t, marshal(t, r), "digest is 32 bytes long, a SHA2_384 digest has 48")
}

// TestDSSEIsLoggedAsHashedrekord: both posts of one signature are one entry.
func TestDSSEIsLoggedAsHashedrekord(t *testing.T) {
	for _, s := range accepted(t) {
		payload := []byte(`{"_type":"https://in-toto.io/Statement/v1"}`)
		r := s.dsseRequest(t, payload)
		got := mustParse(t, r)
		w := s.hash().New()
		w.Write([]byte("DSSEv1 28 application/vnd.in-toto+json 43 "))
		w.Write(payload)
		if !bytes.Equal(got.Body.Digest, w.Sum(nil)) {
			t.Errorf("%s: digest is not of the pre-authentication encoding", s.name)
		}
		same := mustParse(t, map[string]any{"hashedRekordRequestV002": map[string]any{
			"digest": b64(w.Sum(nil)),
			"signature": map[string]any{
				"content":  at(r, "dsseRequestV002", "envelope", "signatures")["sig"],
				"verifier": at(r, "dsseRequestV002", "verifiers"),
			},
		}})
		if !bytes.Equal(got.Canonical, same.Canonical) || got.Key != same.Key {
			t.Errorf("%s: the two posts differ", s.name)
		}
	}
}

func TestDSSERefusals(t *testing.T) {
	keys := accepted(t)
	s, ed := keys[0], keys[6]
	const arm = "dsseRequestV002"
	twice := func(m map[string]any, name string) {
		list := m[name].([]any)
		m[name] = append(list, list[0])
	}
	for _, c := range []struct {
		name   string
		change func(r map[string]any)
		want   string
	}{
		{"two signatures", func(r map[string]any) { twice(at(r, arm, "envelope"), "signatures") }, arm + ".envelope.signatures has more than one element"},
		{"two verifiers", func(r map[string]any) { twice(at(r, arm), "verifiers") }, arm + ".verifiers has more than one element"},
		{"no signature", func(r map[string]any) { at(r, arm, "envelope")["signatures"] = []any{} }, "signatures has no element"},
		{"signatures missing", func(r map[string]any) { delete(at(r, arm, "envelope"), "signatures") }, "signatures is missing"},
		{"verifiers missing", func(r map[string]any) { delete(at(r, arm), "verifiers") }, arm + ".verifiers is missing"},
		{"null verifier", func(r map[string]any) { at(r, arm)["verifiers"] = []any{nil} }, "verifiers[0] is not an object"},
		{"no envelope", func(r map[string]any) { delete(at(r, arm), "envelope") }, "signatures is missing"},
		{"no sig", func(r map[string]any) { delete(at(r, arm, "envelope", "signatures"), "sig") }, "signatures[0].sig is missing"},
		{"no payload", func(r map[string]any) { delete(at(r, arm, "envelope"), "payload") }, "payload is missing"},
		{"no payload type", func(r map[string]any) { delete(at(r, arm, "envelope"), "payloadType") }, "payloadType is missing"},
		{"other payload", func(r map[string]any) { at(r, arm, "envelope")["payload"] = b64([]byte("x")) }, "over the envelope's pre-authentication encoding"},
		{"other type", func(r map[string]any) { at(r, arm, "envelope")["payloadType"] = "x" }, "over the envelope's pre-authentication encoding"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.dsseRequest(t, []byte("payload"))
			c.change(r)
			refuses(t, marshal(t, r), c.want)
		})
	}
	r := ed.dsseRequest(t, []byte("payload"))
	at(r, arm, "verifiers")["keyDetails"] = "PKIX_ED25519"
	refuses(t, marshal(t, r), "verifiers[0].keyDetails PKIX_ED25519 signs the whole envelope, which cannot be logged as a digest")
}

// TestTwinSignatureIsDuplicate: whoever sees (r, s) can make (r, n-s), which verifies as well, but
// gets no second entry for it.
func TestTwinSignatureIsDuplicate(t *testing.T) {
	for _, c := range []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()} {
		name := map[string]string{"P-256": "PKIX_ECDSA_P256_SHA_256", "P-384": "PKIX_ECDSA_P384_SHA_384", "P-521": "PKIX_ECDSA_P521_SHA_512"}
		s := signer{name[c.Params().Name], newECDSA(t, c)}
		r := s.request(t, false)
		first := mustParse(t, r)
		sig := at(r, "hashedRekordRequestV002", "signature")
		sig["content"] = b64(twin(t, c, first.Body.Signatures[0].Content))
		second := mustParse(t, r)
		if bytes.Equal(first.Canonical, second.Canonical) {
			t.Errorf("%s: the signature's bytes were rewritten", s.name)
		}
		if first.Key != second.Key {
			t.Errorf("%s: twin has another key", s.name)
		}
		if entry.DuplicateKey(first.Canonical) != first.Key || entry.DuplicateKey(second.Canonical) != first.Key {
			t.Errorf("%s: key from canonical bytes differs", s.name)
		}
	}
}

// TestSlowVerificationsTakeTurns: those of long keys and large payloads, and no others.
func TestSlowVerificationsTakeTurns(t *testing.T) {
	for _, s := range accepted(t) {
		slow := slices.Contains([]string{"PKIX_ECDSA_P384_SHA_384", "PKIX_ECDSA_P521_SHA_512",
			"PKIX_RSA_PKCS1V15_3072_SHA256", "PKIX_RSA_PKCS1V15_4096_SHA256"}, s.name)
		for name, c := range map[string]struct {
			request []byte
			slow    bool
		}{
			"hashedrekord":  {marshal(t, s.request(t, false)), slow},
			"dsse":          {marshal(t, s.dsseRequest(t, []byte("payload"))), slow},
			"large payload": {marshal(t, s.dsseRequest(t, make([]byte, 100_000))), true},
		} {
			begun, ended := 0, 0
			turn := func() (func(), error) { begun++; return func() { ended++ }, nil }
			if _, err := entry.ParseRequestInTurn(c.request, turn); err != nil || begun != ended || (begun == 1) != c.slow {
				t.Errorf("%s, %s: %d turns begun and %d ended, %v", s.name, name, begun, ended, err)
			}
			none := errors.New("no turn")
			if _, err := entry.ParseRequestInTurn(c.request, func() (func(), error) { return nil, none }); errors.Is(err, none) != c.slow {
				t.Errorf("%s, %s without a turn: %v", s.name, name, err)
			}
		}
	}
}

func TestEntryTooLargeForBundle(t *testing.T) {
	s := accepted(t)[0]
	digest, sig := s.sign(t, []byte("artifact"))
	big := oversizedCertificate(t, s)
	_, err := entry.ParseRequest(marshal(t, map[string]any{"hashedRekordRequestV002": map[string]any{
		"digest": b64(digest),
		"signature": map[string]any{"content": b64(sig), "verifier": map[string]any{
			"keyDetails": s.name, "x509Certificate": map[string]any{"rawBytes": b64(big)},
		}},
	}}))
	var large *entry.TooLargeError
	if !errors.As(err, &large) || large.Limit != 65535 || large.Size <= large.Limit {
		t.Errorf("got %v", err)
	}
	// A DSSE payload is not stored, so its size does not count.
	mustParse(t, s.dsseRequest(t, make([]byte, 200_000)))
}

func TestParseForeignEntries(t *testing.T) {
	b, err := entry.Parse([]byte(dsseEntry))
	if err != nil {
		t.Fatal(err)
	}
	if b.Kind != "dsse" || b.HashAlg != crypto.SHA256 || len(b.Signatures) != 2 || b.Signatures[0].KeyDetails.String() != "PKIX_ED25519" ||
		string(b.Signatures[0].PublicKey) != "key" || b.Signatures[1].KeyDetails != 0 || string(b.Signatures[1].Certificate) != "cert" {
		t.Errorf("got %+v", b)
	}
	var other *entry.UnsupportedError
	_, err = entry.Parse([]byte(`{"apiVersion":"0.0.1","kind":"intoto","spec":{"content":{"x":[1.5e-3,{},true,"\u00e4"]}}}`))
	if !errors.As(err, &other) || other.Kind != "intoto" || other.Version != "0.0.1" {
		t.Errorf("foreign kind: %v", err)
	}
	for name, text := range map[string]string{
		"empty":                          "",
		"no JSON":                        "\x30\x82",
		"trailing data":                  dsseEntry + " 1",
		"deep":                           `{"spec":` + strings.Repeat("[", 5000),
		"no spec":                        `{"apiVersion":"0.0.2","kind":"dsse"}`,
		"empty spec":                     `{"apiVersion":"0.0.2","kind":"dsse","spec":{}}`,
		"other spec":                     `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"dsseV002":{}}}`,
		"no digest":                      strings.Replace(dsseEntry, `"digest"`, `"digest":null,"x"`, 1),
		"payload hash of another length": `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":"AA=="},"signatures":[{"content":"c2ln","verifier":{"keyDetails":"PKIX_ED25519","publicKey":{"rawBytes":"a2V5"}}}]}}}`,
		"no signatures":                  `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"digest":"AA=="}}}}`,
		"eleven signatures": strings.Replace(dsseEntry, `"signatures":[`, `"signatures":[`+
			strings.Repeat(`{"content":"c2ln","verifier":{"publicKey":{"rawBytes":"a2V5"}}},`, 9), 1),
		"no content": strings.ReplaceAll(dsseEntry, `"content":"c2ln",`, ""),
	} {
		_, err := entry.Parse([]byte(text))
		var bad *entry.InvalidError
		if !errors.As(err, &bad) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestCanonicalRefusesIncompleteParts(t *testing.T) {
	digest := make([]byte, 32)
	ok := entry.Signature{Content: []byte("s"), PublicKey: []byte("k"), KeyDetails: entry.ECDSAP256}
	if _, err := entry.Canonical(digest, ok); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*entry.Signature){
		"details":   func(s *entry.Signature) { s.KeyDetails = 7 },
		"digest":    func(s *entry.Signature) { s.KeyDetails = entry.ECDSAP384 },
		"two keys":  func(s *entry.Signature) { s.Certificate = []byte("c") },
		"no key":    func(s *entry.Signature) { s.PublicKey = nil },
		"no number": func(s *entry.Signature) { s.KeyDetails = -1 },
	} {
		s := ok
		change(&s)
		if _, err := entry.Canonical(digest, s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestErrorsHoldNoSecrets: what was sent does not come back, apart from short names.
func TestErrorsHoldNoSecrets(t *testing.T) {
	s := accepted(t)[0]
	r := s.request(t, false)
	h := at(r, "hashedRekordRequestV002")
	h["digest"] = b64(make([]byte, 32))
	_, err := entry.ParseRequest(marshal(t, r))
	content := at(h, "signature")["content"].(string)
	raw, _ := base64.StdEncoding.DecodeString(content)
	if err == nil || strings.Contains(err.Error(), content[:12]) || strings.Contains(err.Error(), string(raw[:8])) {
		t.Errorf("got %v", err)
	}
}
