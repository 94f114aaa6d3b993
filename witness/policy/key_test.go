package policy_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
	"time"

	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"tallywood/witness/policy"
)

// Vectors of github.com/transparency-dev/formats v0.1.1, note/note_rfc6962_test.go: a checkpoint
// that Sunlight published.
const (
	romeVKey = "rome.ct.filippo.io/2024h1+78f4abae+BTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABAFzPC3fap+uINc1RQ4eRbYMUt84+bKkA8GDLN8KwVdzAgYhYSv4kS8XSheGLAHCWhIJTJbuC3sL88bNMTtrsBM="
	romeNote = "rome.ct.filippo.io/2024h1\n115474666\n2q1K6aiIJR+F7TyhiWOghoWOjY0/3dVBLsBbAvB4xCw=\n\n" +
		"— rome.ct.filippo.io/2024h1 ePSrrgAAAY5+gVlSBAMARzBFAiEAv8bOMzo3Ed/GbU9fzzJvaStX6i8xTsmEF+NqvpGhIO0CIEn1X+zzVEerdix64GEn97XCXObA2G5JQ8UDDqCKdG5m\n"
	sumVKey = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
)

func TestParseVKeyAgreesWithOthers(t *testing.T) {
	_, logVKey := logSigner(t, origin)
	_, edVKey := cosigner(t, "w1.example.org", false)
	_, pqVKey := cosigner(t, "w1.example.org", true)
	for _, tc := range []struct {
		vkey string
		alg  byte
	}{
		{neumannVKey, policy.AlgEd25519},
		{sumVKey, policy.AlgEd25519},
		{logVKey, policy.AlgEd25519},
		{edVKey, policy.AlgCosignatureV1},
		{romeVKey, policy.AlgRFC6962},
		{pqVKey, policy.AlgMLDSA44},
	} {
		k := mustKey(t, tc.vkey)
		if k.Alg() != tc.alg || k.String() != tc.vkey {
			t.Errorf("ParseVKey(%.60q) = algorithm %d, vkey %.60q", tc.vkey, k.Alg(), k.String())
		}
		if id := fmt.Sprintf("%08x", k.ID()); id != strings.Split(tc.vkey, "+")[1] {
			t.Errorf("ID of %.60q = %s", tc.vkey, id)
		}
	}
}

func TestParseVKeyRefuses(t *testing.T) {
	encode := func(b ...byte) string { return base64.StdEncoding.EncodeToString(b) }
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(p384.Public())
	if err != nil {
		t.Fatal(err)
	}
	_, pqVKey := cosigner(t, "w", true)
	for name, vkey := range map[string]string{
		"nothing":                        "",
		"name alone":                     "sum.golang.org",
		"two fields":                     "sum.golang.org+033de0ae",
		"no name":                        "+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
		"space in the name":              "sum golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
		"wrong hash":                     strings.Replace(sumVKey, "033de0ae", "033de0af", 1),
		"upper case hash":                strings.Replace(sumVKey, "033de0ae", "033DE0AE", 1),
		"short hash":                     strings.Replace(sumVKey, "033de0ae", "33de0ae", 1),
		"other name, same hash":          strings.Replace(sumVKey, "sum.", "sun.", 1),
		"type 0x01 passed off as 0x04":   strings.Replace(sumVKey, "+Ac4z", "+BM4z", 1),
		"empty key":                      "w+00000000+",
		"algorithm alone":                "w+00000000+" + encode(1),
		"31-byte key":                    "w+00000000+" + encode(make([]byte, 32)...),
		"unknown algorithm":              "w+00000000+" + encode(append([]byte{2}, make([]byte, 32)...)...),
		"algorithm 0xff":                 "w+00000000+" + encode(append([]byte{255}, make([]byte, 32)...)...),
		"base64 without padding":         strings.TrimRight(romeVKey, "="),
		"trailing line feed":             sumVKey + "\n",
		"0x05 with a raw key":            "w+00000000+" + encode(append([]byte{5}, make([]byte, 32)...)...),
		"0x05 with P-384":                "w+00000000+" + encode(append([]byte{5}, spki...)...),
		"0x06 cut short":                 pqVKey[:len(pqVKey)-8],
		"0x06 with an Ed25519 key":       "w+00000000+" + encode(append([]byte{6}, make([]byte, 32)...)...),
		"0x06 with a 256-byte key name":  strings.Repeat("n", 256) + pqVKey[1:],
		"0x05 with bytes after the SPKI": "w+00000000+" + encode(append(append([]byte{5}, spki...), 0)...),
	} {
		if k, err := policy.ParseVKey(vkey); err == nil {
			t.Errorf("%s: parsed as %.80q", name, k)
		}
	}
}

func TestVerifyTakesOthersCosignatures(t *testing.T) {
	text := body(7)
	edTorch, edVKey := cosigner(t, "w1.example.org", false)
	pqTorch, pqVKey := cosigner(t, "w1.example.org", true)
	skey, fVKey, err := fnote.GenerateMLDSAKey("f.example.org")
	if err != nil {
		t.Fatal(err)
	}
	pqFormats, err := fnote.NewMLDSASigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		signer note.Signer
		vkey   string
	}{
		"torchwood Ed25519": {edTorch, edVKey},
		"torchwood ML-DSA":  {pqTorch, pqVKey},
		"formats ML-DSA":    {pqFormats, fVKey},
	} {
		k := mustKey(t, tc.vkey)
		sig, err := tc.signer.Sign([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		at, err := k.Verify(text, sig)
		if err != nil || time.Since(at).Abs() > time.Minute {
			t.Errorf("%s: Verify = %v, %v", name, at, err)
		}
		if _, err := k.Verify(body(8), sig); err == nil {
			t.Errorf("%s: another tree verifies", name)
		}
		for cut := range min(len(sig), 100) {
			if _, err := k.Verify(text, sig[:cut]); err == nil {
				t.Errorf("%s: %d bytes of a signature verify", name, cut)
			}
		}
		for i := range 8 {
			bad := bytes.Clone(sig)
			bad[i] ^= 0x80
			if _, err := k.Verify(text, bad); err == nil {
				t.Errorf("%s: a changed timestamp verifies", name)
			}
		}
	}
}

func TestVerifyTreeHead(t *testing.T) {
	k := mustKey(t, romeVKey)
	n, err := policy.ParseNote([]byte(romeNote))
	if err != nil {
		t.Fatal(err)
	}
	sig := n.Signatures[0].Sig
	at, err := k.Verify(n.Text, sig)
	if err != nil || at.UnixMilli() != 1711519390034 {
		t.Errorf("Verify = %v (%d), %v", at, at.UnixMilli(), err)
	}
	for cut := range len(sig) {
		if _, err := k.Verify(n.Text, sig[:cut]); err == nil {
			t.Errorf("%d bytes of a signature verify", cut)
		}
	}
	if _, err := k.Verify(n.Text, append(bytes.Clone(sig), 0)); err == nil {
		t.Error("a byte after the signature is taken")
	}
	// RFC 6962 signs neither of these, so that the verifier must look.
	for name, text := range map[string]string{
		"foreign origin": strings.Replace(n.Text, "rome", "home", 1),
		"extension":      n.Text + "extension\n",
	} {
		if _, err := k.Verify(text, sig); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestSubtreeMessageRefusesWhatItCannotEncode(t *testing.T) {
	long := strings.Repeat("x", 256)
	for name, f := range map[string]func() ([]byte, error){
		"no cosigner":          func() ([]byte, error) { return policy.SubtreeMessage("", 1, "o", 0, 1, [32]byte{}) },
		"long cosigner":        func() ([]byte, error) { return policy.SubtreeMessage(long, 1, "o", 0, 1, [32]byte{}) },
		"no origin":            func() ([]byte, error) { return policy.SubtreeMessage("c", 1, "", 0, 1, [32]byte{}) },
		"long origin":          func() ([]byte, error) { return policy.SubtreeMessage("c", 1, long, 0, 1, [32]byte{}) },
		"timestamp of subtree": func() ([]byte, error) { return policy.SubtreeMessage("c", 1, "o", 4, 8, [32]byte{}) },
		"negative timestamp":   func() ([]byte, error) { return policy.SubtreeMessage("c", -1, "o", 0, 8, [32]byte{}) },
		"backward range":       func() ([]byte, error) { return policy.SubtreeMessage("c", 0, "o", 8, 4, [32]byte{}) },
	} {
		if msg, err := f(); err == nil {
			t.Errorf("%s: encoded as %q", name, msg)
		}
	}
}

func FuzzParseVKey(f *testing.F) {
	_, pqVKey := cosigner(f, "w", true)
	for _, s := range []string{neumannVKey, sumVKey, romeVKey, pqVKey, "w+00000000+", "w+00000000+BQ=="} {
		f.Add(s, []byte("short"))
	}
	f.Fuzz(func(t *testing.T, vkey string, sig []byte) {
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			return
		}
		if k.String() != vkey {
			t.Errorf("%q has a second spelling %q", k.String(), vkey)
		}
		_, _ = k.Verify(body(5), sig) // must not panic
	})
}
