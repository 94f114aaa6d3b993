package witness_test

import (
	"crypto/sha256"
	"errors"
	"strings"
	"testing"

	"tallywood/internal/keys"
	"tallywood/storage"
	"tallywood/storage/mem"
	"tallywood/storage/posix"
	"tallywood/witness"
)

func TestCheckStateRefusesTheStateOfOtherKeys(t *testing.T) {
	l, b := newTestLog(t, origin), mem.New()
	l.grow(t, 5, "entry")
	if err := serve(t, b, newClock(), l).CheckState(t.Context()); err != nil {
		t.Fatalf("new state: %v", err)
	}
	w := serve(t, b, newClock(), l)
	w.mustAdd(t, l.request(t, 0, 5))
	if err := w.CheckState(t.Context()); err != nil {
		t.Errorf("own state: %v", err)
	}
	other, err := keys.WitnessFromSeed(name, sha256.Sum256([]byte("another seed")))
	if err != nil {
		t.Fatal(err)
	}
	stranger := serveOptions(t, witness.Options{Keys: other, Bucket: b})
	if err := stranger.CheckState(t.Context()); !errors.Is(err, witness.ErrOtherKeys) || !strings.Contains(err.Error(), testKeys(t).VKeys()[0][len(name)+1:][:8]) {
		t.Errorf("state of other keys: %v", err)
	}
	for what, o := range map[string]witness.Options{
		"past keys":  {Keys: other, Bucket: b, PastKeys: testKeys(t).VKeys()},
		"rotation":   {Keys: other, Bucket: b, Rotation: []keys.Witness{testKeys(t)}},
		"other name": {Keys: func() keys.Witness { k, _ := keys.WitnessFromSeed("w2.example.org", [32]byte{1}); return k }(), Bucket: b},
	} {
		if err := serveOptions(t, o).CheckState(t.Context()); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	// State that cannot be read says nothing about whose it is.
	if _, err := b.Put(t.Context(), stateKey(), []byte("junk"), storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := stranger.CheckState(t.Context()); err != nil {
		t.Errorf("state that cannot be read: %v", err)
	}
}

func TestCheckStateRefusesStateThatTakesNoWrites(t *testing.T) {
	b, err := posix.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, b, newClock())
	if err := w.CheckState(t.Context()); err != nil {
		t.Fatal(err)
	}
	// A directory is where the object should be: nobody, not even root, can write it.
	name := "w3.example.org"
	if _, err := b.Put(t.Context(), "started/"+name+"/x", nil, storage.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	k, err := keys.WitnessFromSeed(name, [32]byte{3})
	if err != nil {
		t.Fatal(err)
	}
	err = serveOptions(t, witness.Options{Keys: k, Bucket: b}).CheckState(t.Context())
	if err == nil || !strings.Contains(err.Error(), "writing to the state: ") {
		t.Errorf("CheckState = %v", err)
	}
}
