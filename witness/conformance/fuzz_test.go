package conformance_test

import (
	"strings"
	"testing"

	"tallywood/witness/conformance"
)

// FuzzAnswer: whatever a witness under test answers, the suite survives, and takes nothing for its
// cosignature that is none.
func FuzzAnswer(f *testing.F) {
	vkeys := witnessKeys(f).VKeys()
	f.Add("")
	f.Add("\u2014 witness.example.org AAAA\n")
	f.Add("\u2014 witness.example.org AAAAAAAAAAAAAAAAAAAA\n\u2014 x y\n")
	f.Add(strings.Repeat("\n", 100))
	f.Fuzz(func(t *testing.T, body string) {
		if err := conformance.VerifyAnswer(vkeys, body); err == nil {
			t.Errorf("%q was taken for a cosignature", body)
		}
	})
}

func FuzzWitnessKey(f *testing.F) {
	for _, vkey := range witnessKeys(f).VKeys() {
		f.Add(vkey)
	}
	f.Add("a+00000000+BA==")
	f.Add("++")
	f.Fuzz(func(t *testing.T, vkey string) { _ = conformance.ParseWitnessKey(vkey) })
}
