package verify_test

import (
	"crypto"
	"strings"
	"testing"

	"tallywood/log/verify"
	"tallywood/witness/policy"
)

func TestMaterialIsWhatTheTrustedRootTrusts(t *testing.T) {
	w := newWorld(t)
	m, err := verify.ParseMaterial(w.trustedRoot())
	if err != nil {
		t.Fatal(err)
	}
	if len(m.CAs) == 0 || len(m.CTLogs) != 1 || !w.ct.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(m.CTLogs[0]) {
		t.Errorf("%d authorities, certificate logs %v", len(m.CAs), m.CTLogs)
	}
	// Rekor v1's checkpoints are none that a policy can list.
	if len(m.VKeys) != 2 {
		t.Fatalf("keys %q", m.VKeys)
	}
	for i, want := range []struct {
		name string
		alg  byte
	}{{origin, policy.AlgEd25519}, {"ct.example.com", policy.AlgRFC6962}} {
		if k, err := policy.ParseVKey(m.VKeys[i]); err != nil || k.Name() != want.name || k.Alg() != want.alg {
			t.Errorf("key %q, %v; want one of %s, type %d", m.VKeys[i], err, want.name, want.alg)
		}
	}
	leaf, _ := w.leaf(leafSpec{})
	known := false
	for _, ca := range m.CAs {
		known = known || leaf.CheckSignatureFrom(ca) == nil
	}
	if !known {
		t.Error("none of the authorities issued a certificate of theirs")
	}
	if _, err := verify.ParseMaterial([]byte("{}")); err == nil || !strings.Contains(err.Error(), "parsing trusted root") {
		t.Errorf("nothing was taken for a trusted root: %v", err)
	}
}
