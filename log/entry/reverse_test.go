package entry_test

import (
	"bytes"
	"reflect"
	"testing"

	"tallywood/log/entry"
)

// FuzzParseCanonical: what is read as canonical is what Canonical makes of it, and Parse reads the same;
// what Canonical makes is read.
func FuzzParseCanonical(f *testing.F) {
	digest := bytes.Repeat([]byte{7}, 32)
	for _, s := range []entry.Signature{
		{Content: []byte("signature"), Certificate: []byte("certificate"), KeyDetails: entry.ECDSAP256},
		{Content: []byte{1}, PublicKey: []byte("a key"), KeyDetails: entry.RSA4096},
	} {
		canonical, err := entry.Canonical(digest, s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(canonical)
		for _, change := range [][2]string{{`":"`, `": "`}, {"=", ""}, {"=", "\n="}, {"}", "}}"}, {"rawBytes", "raw_bytes"}, {"_256", "_384"},
			{"x509", `\u0078509`}, {"BwcH", "BwcI"}, {"0.0.2", "0.0.1"}, {"c2ln", ""}, {"publicKey", "key"}, {"U=", "V="}} {
			f.Add(bytes.Replace(canonical, []byte(change[0]), []byte(change[1]), 1))
		}
		f.Add(canonical[:len(canonical)-1])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		parsed, err := entry.Parse(data)
		rendered := false
		if err == nil && parsed.Kind == entry.Kind {
			again, err := entry.Canonical(parsed.Digest, parsed.Signatures[0])
			rendered = err == nil && bytes.Equal(again, data)
		}
		b, ok := entry.ParseCanonical(data)
		if ok != rendered {
			t.Fatalf("read as canonical: %v; rendered the same: %v", ok, rendered)
		}
		if ok && !reflect.DeepEqual(b, parsed) {
			t.Errorf("read as %+v, Parse says %+v", b, parsed)
		}
	})
}
