package verify_test

import (
	"crypto"
	"strings"
	"testing"

	"tallywood/log/verify"
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
