package entry_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"encoding/pem"
	"flag"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/tlog"

	"tallywood/log/entry"
)

var (
	requests = flag.Int("requests", 3000, "how many random requests are compared with the peer")
	seed     = flag.Uint64("seed", 1, "which random requests these are")
)

// TestPeerLogsTheSame goes through every algorithm with a key and with each kind of certificate: the
// peer logs the same bytes, and verifiers rebuild the leaf.
func TestPeerLogsTheSame(t *testing.T) {
	p := newPeer(t)
	for _, h := range holders(t) {
		for _, f := range h.forms {
			a := h.signed[0]
			a.form = f
			e, accepted, explained := p.compare(t, a.write(fixed{}))
			if !accepted || explained != "" {
				t.Errorf("%s, %s: refused, or different: %s", h.name, f.name, explained)
				continue
			}
			leaf := tlog.RecordHash(e.Canonical)
			if want, err := rebuilt(e); err != nil || !bytes.Equal(leaf[:], want) {
				t.Errorf("%s, %s: verifiers rebuild another leaf (%v)", h.name, f.name, err)
			}
		}
	}
}

// TestPeerLogsTheSameOfRandomRequests: whatever way a request is written, it is one entry, the one
// that the peer logs. Of a DSSE request, that is what it logs of the hashedrekord it stands for.
func TestPeerLogsTheSameOfRandomRequests(t *testing.T) {
	t.Logf("-seed %d -requests %d", *seed, *requests)
	p, all := newPeer(t), holders(t)
	r := rand.New(rand.NewPCG(*seed, 0))
	for range *requests {
		p.compareForms(t, choose(t, r, all), r)
		if t.Failed() {
			break
		}
	}
}

// FuzzForms does so for what a fuzzer chooses.
func FuzzForms(f *testing.F) {
	p, all := newPeer(f), holders(f)
	f.Add([]byte{})
	r := rand.New(rand.NewPCG(1, 1))
	for range 20 {
		var b []byte
		for range 50 {
			b = append(b, byte(r.IntN(256)))
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		c := tape(data)
		p.compareForms(t, choose(t, &c, all), &c)
	})
}

func (p *peer) compareForms(t *testing.T, a artifact, c choices) {
	t.Helper()
	request := a.write(c)
	e, accepted, explained := p.compare(t, request)
	if want := map[bool]string{true: "DSSE requests are accepted"}[a.payload != nil]; !accepted || explained != want {
		t.Errorf("refused, or different (%s): %q", explained, request)
		return
	}
	if a.payload != nil { // what it stands for
		plain, accepted, explained := p.compare(t, a.hashedrekord())
		if !accepted || explained != "" || !bytes.Equal(e.Canonical, plain.Canonical) || e.Key != plain.Key {
			t.Errorf("it is another entry than %q: %q", a.hashedrekord(), request)
		}
	}
	s := e.Body.Signatures[0]
	if !bytes.Equal(s.Content, a.sig) || !bytes.Equal(append(s.PublicKey, s.Certificate...), a.form.raw) || !bytes.Equal(e.Body.Digest, a.digest) {
		t.Errorf("it is an entry of other parts: %q", request)
	}
	if entry.DuplicateKey(e.Canonical) != e.Key {
		t.Errorf("the duplicate key of the request is not the entry's: %q", request)
	}
}

// A verdicts counts what came of requests that are not quite in order.
type verdicts struct {
	*peer
	t                 *testing.T
	accepted, refused int
	seen              map[string]bool // differences
}

func (v *verdicts) ask(request []byte) {
	v.t.Helper()
	_, accepted, explained := v.compare(v.t, request)
	if accepted {
		v.accepted++
	} else {
		v.refused++
	}
	v.seen[explained] = true
}

// TestPeerRefusesTheSame breaks requests in every part, and wants the peer's verdict but for the
// differences that have a name. Each of those must occur.
func TestPeerRefusesTheSame(t *testing.T) {
	v := &verdicts{peer: newPeer(t), t: t, seen: map[string]bool{}}
	all := holders(t)
	r := rand.New(rand.NewPCG(*seed, 2))
	for _, h := range all {
		v.details(h)
		v.digests(h)
		v.signatures(h, r)
		v.forms(h, r)
	}
	v.unsupported()
	v.texts(all[0], r)
	v.ask(all[0].signEnvelope(t, "text", []byte("payload")).write(fixed{}))
	large := all[0].signed[0]
	large.form = form{"certificate", true, oversizedCertificate(t, all[0].signer)}
	v.ask(large.write(fixed{}))
	t.Logf("%d requests: both accept %d, one or both refuse %d", v.accepted+v.refused, v.accepted, v.refused)
	for _, d := range differences {
		if !v.seen[d.name] {
			t.Errorf("no request shows that %s", d.name)
		}
	}
	if v.accepted < 100 || v.refused < 1000 {
		t.Error("nearly all requests had the same verdict")
	}
}

// details states every value of the enum, and some that it does not have, for a key whose signature is
// over a digest of that value's hash.
func (v *verdicts) details(h *holder) {
	for number := int32(-1); number < 26; number++ {
		hash := map[int32]crypto.Hash{8: crypto.SHA512, 12: crypto.SHA384, 13: crypto.SHA512}[number]
		if hash == 0 {
			hash = crypto.SHA256
		}
		if number == h.details {
			hash = h.hash()
		}
		if strings.Contains(h.name, "ED25519") && hash != crypto.SHA512 {
			hash = crypto.SHA512 // what it can sign
		}
		w := hash.New()
		w.Write([]byte("artifact"))
		a := artifact{digest: w.Sum(nil), form: h.forms[0], details: fmt.Sprint(entry.KeyDetails(number)), number: number}
		var err error
		if a.sig, err = h.key.Sign(nil, a.digest, hash); err != nil {
			v.t.Fatal(err)
		}
		for _, f := range h.forms[:2] {
			a.form = f
			v.ask(a.write(fixed{}))
			v.ask(a.write(numbers{}))
		}
	}
}

// numbers are the choices of a writer that is plain but for enums, which it writes as numbers.
type numbers struct{}

func (numbers) IntN(n int) int {
	if n == 3 {
		return 1
	}
	return 0
}

func (v *verdicts) digests(h *holder) {
	a := h.signed[0]
	for _, digest := range [][]byte{nil, {}, a.digest[1:], a.digest[:20], append(slices.Clone(a.digest), 0), flip(a.digest, 0), flip(a.digest, 8*len(a.digest)-1)} {
		a.digest = digest
		v.ask(a.write(fixed{}))
	}
}

func (v *verdicts) signatures(h *holder, r *rand.Rand) {
	a := h.signed[0]
	sig := a.sig
	broken := [][]byte{nil, sig[1:], sig[:len(sig)-1], append(slices.Clone(sig), 0), append([]byte{0}, sig...), h.signed[1].sig, make([]byte, len(sig))}
	for range 40 {
		broken = append(broken, flip(sig, r.IntN(8*len(sig))))
	}
	if curve := h.curve(); curve != nil {
		broken = append(broken, twin(v.t, curve, sig), // which is valid
			[]byte{0x30, 6, 2, 1, 0, 2, 1, 0}, []byte{0x30, 6, 2, 1, 1, 2, 1, 1}, []byte{0x30, 0x80, 2, 1, 1, 2, 1, 1, 0, 0},
			append([]byte{0x30, 0x81}, sig[1:]...)) // a length in a longer form than needed
	}
	for _, sig := range broken {
		a.sig = sig
		v.ask(a.write(fixed{}))
	}
}

func (h *holder) curve() elliptic.Curve {
	return map[int32]elliptic.Curve{5: elliptic.P256(), 12: elliptic.P384(), 13: elliptic.P521()}[h.details]
}

func (v *verdicts) forms(h *holder, r *rand.Rand) {
	a := h.signed[0]
	for _, f := range h.forms[:5] {
		raw := f.raw
		broken := [][]byte{nil, raw[1:], raw[:len(raw)-1], append(slices.Clone(raw), 0), append(slices.Clone(raw), raw...),
			pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: raw}), surplus(raw)}
		for range 40 {
			broken = append(broken, flip(raw, r.IntN(8*len(raw))))
		}
		for _, raw := range broken {
			a.form = form{f.name, f.certificate, raw}
			v.ask(a.write(fixed{}))
		}
		a.form = form{f.name, !f.certificate, raw}
		v.ask(a.write(fixed{}))
	}
}

// surplus returns der, a sequence, with one element more, which parsers of keys overlook.
func surplus(der []byte) []byte {
	header := 2
	if der[1] >= 0x80 {
		header += int(der[1] & 0x7f)
	}
	content := append(slices.Clone(der[header:]), 5, 0)
	out := []byte{0x30, 0x82, byte(len(content) >> 8), byte(len(content))}
	switch {
	case len(content) < 128:
		out = []byte{0x30, byte(len(content))}
	case len(content) < 256:
		out = []byte{0x30, 0x81, byte(len(content))}
	}
	return append(out, content...)
}

// unsupported are valid signatures with keys that no log takes.
func (v *verdicts) unsupported() {
	for _, s := range []signer{
		{"PKIX_RSA_PKCS1V15_2048_SHA256", readRSA(v.t, 1024)}, {"PKIX_ECDSA_P256_SHA_256", newECDSA(v.t, elliptic.P224())},
	} {
		v.ask(marshal(v.t, s.request(v.t, false)))
		v.ask(marshal(v.t, s.request(v.t, true)))
	}
}

// texts breaks the JSON of a request: at every byte, and with what JSON or protojson do not allow
// between any two.
func (v *verdicts) texts(h *holder, r *rand.Rand) {
	a := h.signed[0]
	text := a.write(numbers{})
	for i := range len(text) {
		v.ask(text[:i])
		v.ask(slices.Delete(slices.Clone(text), i, i+1))
		for _, c := range []byte("\"{}[],: \n0\\ux/=-_\x00\x1f\x7f\xc3\xff") {
			v.ask(slices.Replace(slices.Clone(text), i, i+1, c))
			if r.IntN(4) == 0 {
				v.ask(slices.Insert(slices.Clone(text), i, c))
			}
		}
	}
	enum := func(number string) []byte {
		return []byte(strings.Replace(string(text), `"keyDetails":5`, `"keyDetails":`+number, 1))
	}
	for _, number := range []string{"5.0", "5e0", "50e-1", "0.5e1", "5.5", "05", "+5", "-5", "5.", ".5", "5e", "1e400", "4294967301", "-2147483649",
		`"5"`, `"pkix_ecdsa_p256_sha_256"`, `""`, "true", "null", "[5]", "{}", "NaN", "0x5"} {
		v.ask(enum(number))
	}
	for _, tail := range []string{" ", "\n\n", "{}", " []", "null", "5", "x", "\x00", ",", "}", `"a"`, string(text)} {
		v.ask([]byte(string(text) + tail))
	}
	for _, head := range []string{" ", "\ufeff", "null", "[", "{}", "//\n", "\x00"} {
		v.ask([]byte(head + string(text)))
	}
	v.members(string(text))
}

// members adds, repeats and retypes the members of every object of a request.
func (v *verdicts) members(text string) {
	for _, name := range []string{"hashedRekordRequestV002", "digest", "signature", "content", "verifier", "publicKey", "rawBytes", "keyDetails"} {
		at := `"` + name + `":`
		before, after, found := strings.Cut(text, at)
		if !found {
			v.t.Fatalf("%s has no %s", text, at)
		}
		for _, more := range []string{
			`"surplus":1,` + at, `"@type":"x",` + at, `"[a.b]":1,` + at, `"":0,` + at, at + `null,` + at, at + `{},` + at, at + `"",` + at,
			`"` + strings.ToUpper(name) + `":`, `"` + name + ` ":`, `"` + name + `\u0000":`, `'` + name + `':`, name + `:`, at + at, `"` + name + `"`,
			at + `null,"x":`, at + `[],"x":`, at + `1,"x":`, at + `true,"x":`, `"dsseRequestV002":{},` + at, `"dsseRequestV002":null,` + at,
			`"x509Certificate":{},` + at, `"x509Certificate":null,` + at, `"x509Certificate":{"rawBytes":""},` + at,
		} {
			v.ask([]byte(before + more + after))
		}
	}
	for _, whole := range []string{``, ` `, `{}`, `[]`, `null`, `"a"`, `1`, `{"hashedRekordRequestV002":null}`, `{"hashedRekordRequestV002":{}}`,
		`{"dsseRequestV002":{}}`, `{"hashedRekordRequestV002":{"signature":{"verifier":{}}}}`, strings.Repeat(`{"hashedRekordRequestV002":`, 20_000)} {
		v.ask([]byte(whole))
	}
}

func flip(b []byte, bit int) []byte {
	out := slices.Clone(b)
	out[bit/8] ^= 1 << (bit % 8)
	return out
}
