package witness_test

import (
	"testing"

	"filippo.io/torchwood"
	fnote "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"tallywood/storage/mem"
)

// TestOthersVerifyOurLines opens a cosigned checkpoint with the verifiers of torchwood and formats.
func TestOthersVerifyOurLines(t *testing.T) {
	l := newTestLog(t, origin)
	l.grow(t, 70, "entry")
	w := serve(t, mem.New(), newClock(), l)
	vkeys := testKeys(t).VKeys()
	logVerifier, err := note.NewVerifier(l.key.String())
	if err != nil {
		t.Fatal(err)
	}
	verifiers := map[string]note.Verifier{}
	for i, kind := range []string{"Ed25519", "ML-DSA-44"} {
		v, err := torchwood.NewCosignatureVerifier(vkeys[i])
		if err != nil {
			t.Fatal(err)
		}
		verifiers["torchwood "+kind] = v
		if verifiers["formats "+kind], err = fnote.NewVerifierForCosignatureV1(vkeys[i]); err != nil {
			t.Fatal(err)
		}
	}
	old := int64(0)
	for _, size := range []int64{1, 64, 70} {
		signed := l.checkpoint(t, size) + w.mustAdd(t, l.request(t, old, size))
		old = size
		for name, v := range verifiers {
			n, err := note.Open([]byte(signed), note.VerifierList(logVerifier, v))
			if err != nil || len(n.Sigs) != 2 {
				t.Errorf("%s, size %d: %v", name, size, err)
			}
		}
	}
}
