package verify_test

import (
	"fmt"
	"strings"
	"testing"

	"tallywood/log/verify"
)

// FuzzBundle looks for bytes that stop a verifier, or that it accepts although they are not the
// honest bundle.
func FuzzBundle(f *testing.F) {
	w := newWorld(new(testing.T))
	key := newKey(w.t)
	b, spki := w.managed(key)
	b2, _ := w.managedAttestation(key, statement(artifact, "sha512"))
	keyed := w.keyOptions(spki)
	keyed.Policy, keyed.NoPolicy = nil, true
	verifiers := []*verify.Verifier{w.verifier(), w.withoutWitnesses(), w.newVerifier(keyed)}
	seeds := [][]byte{marshal(w.t, w.bundle(artifact, leafSpec{})), marshal(w.t, b), marshal(w.t, b2),
		marshal(w.t, w.attestation(intoto, statement(artifact, "sha256")))}
	for _, s := range shapes {
		seeds = append(seeds, marshal(w.t, w.bundleV1(s)))
	}
	known := map[string]bool{}
	for i, seed := range seeds {
		good := false
		for _, v := range verifiers {
			if got, err := v.Bundle(seed, strings.NewReader(artifact)); err == nil {
				known[fmt.Sprint(*got)], good = true, true
			}
		}
		if !good {
			f.Fatalf("seed %d does not verify", i)
		}
		f.Add(seed)
		f.Add(seed[:len(seed)/2])
	}
	f.Add(fmt.Appendf(nil, `{"mediaType":%q,"verificationMaterial":{},"messageSignature":{}}`, "application/vnd.dev.sigstore.bundle.v0.3+json"))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","dsseEnvelope":{"signatures":[{}]},"verificationMaterial":{"certificate":{},"tlogEntries":[null]}}`))
	f.Add([]byte(`{"mediaType":"application/vnd.dev.sigstore.bundle+json;version=0.1","dsseEnvelope":{"signatures":[{}]},"verificationMaterial":{"x509CertificateChain":{"certificates":[{}]},"tlogEntries":[{"inclusionPromise":{"signedEntryTimestamp":"AA=="},"kindVersion":{"kind":"intoto","version":"0.0.2"},"inclusionProof":{}}]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, v := range verifiers {
			if got, err := v.Bundle(data, strings.NewReader(artifact)); err == nil && !known[fmt.Sprint(*got)] {
				t.Errorf("accepted %q as %+v", data, got)
			}
		}
	})
}

// FuzzEntryOfRekorV1 gives a verifier entries that a Rekor v1 log signed for, whatever is in them.
func FuzzEntryOfRekorV1(f *testing.F) {
	w := newWorld(new(testing.T))
	v := w.withoutWitnesses()
	for _, s := range shapes {
		b := w.bundleV1(s)
		f.Add(s.kind, tle(b).CanonicalizedBody)
	}
	f.Add("dsse", []byte(`{"kind":"dsse","apiVersion":"0.0.1","spec":{"signatures":[]}}`))
	f.Add("intoto", []byte(`{"kind":"intoto","apiVersion":"0.0.2","spec":{"content":{"envelope":{"signatures":[{}]}}}}`))
	f.Add("intoto", []byte(`{"kind":"intoto","apiVersion":"0.0.2","spec":null}`))
	bundles := map[string]shape{}
	for _, s := range shapes {
		bundles[s.kind] = s
	}
	f.Fuzz(func(t *testing.T, kind string, body []byte) {
		s, ok := bundles[kind]
		if !ok || len(body) > 1<<20 {
			return
		}
		b := w.bundleV1(s)
		b.VerificationMaterial.TlogEntries[0] = w.loggedV1(body, kind, tle(b).KindVersion.Version)
		if got, err := v.Bundle(marshal(t, b), strings.NewReader(artifact)); err == nil {
			t.Errorf("accepted %q as %+v", body, got) // it is of another key, which was made just now
		}
	})
}
