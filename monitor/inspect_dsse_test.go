package monitor_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"testing"

	"tallywood/monitor"
)

// TestEntryOfAnEnvelope has an entry of kind dsse, as Rekor v2 makes them: whether its signature is
// over the payload cannot be told, but whether there can be such a signature can.
func TestEntryOfAnEnvelope(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	payload := sha256.Sum256([]byte("{}"))
	encoded := sha256.Sum256([]byte("DSSEv1 16 application/json 2 {}"))
	sig, err := key.Sign(rand.Reader, encoded[:], crypto.SHA256)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		sig  []byte
		want monitor.Outcome
	}{"over it": {sig, monitor.Skipped}, "nothing that a key makes": {[]byte("signature"), monitor.Failed}} {
		b64 := base64.StdEncoding.EncodeToString
		raw := fmt.Appendf(nil, `{"apiVersion":"0.0.2","kind":"dsse","spec":{"dsseV002":{"payloadHash":{"algorithm":"SHA2_256","digest":%q},`+
			`"signatures":[{"content":%q,"verifier":{"keyDetails":"PKIX_ECDSA_P256_SHA_256","publicKey":{"rawBytes":%q}}}]}}}`, b64(payload[:]), b64(tc.sig), b64(spki))
		found := monitor.Describe(monitor.KindRekor, 0, raw, monitor.Trust{})
		seen := false
		for _, c := range found.Checks {
			if c.What == "signature" {
				if seen = true; c.Result != tc.want {
					t.Errorf("%s: %+v", name, c)
				}
			}
		}
		if !seen {
			t.Errorf("%s: the signature was not looked at: %+v", name, found.Checks)
		}
	}
}
