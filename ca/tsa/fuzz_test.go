package tsa_test

import (
	"crypto"
	"encoding/asn1"
	"math/big"
	"testing"

	"github.com/digitorus/timestamp"
)

// What a decoder lets through becomes a token that the library parses, and that repeats what
// the library read in the request.
func FuzzDER(f *testing.F) {
	h := open(f, newAuthority(f))
	for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512, crypto.SHA1} {
		f.Add(derRequest(f, "", func(r *timestamp.Request) {
			r.HashAlgorithm, r.HashedMessage = hash, make([]byte, hash.Size())
			r.Nonce, r.Certificates = big.NewInt(1e15), true
			r.TSAPolicyOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}
		}))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, query, body)
		if w.Code != 200 {
			return
		}
		got, err := timestamp.ParseResponse(w.Body.Bytes())
		if err != nil {
			t.Fatal(err)
		}
		want, err := timestamp.ParseRequest(body)
		if err != nil {
			t.Fatalf("the library refuses what we accepted: %v", err)
		}
		if got.HashAlgorithm != want.HashAlgorithm || string(got.HashedMessage) != string(want.HashedMessage) {
			t.Error("the imprint is another")
		}
		if (got.Nonce == nil) != (want.Nonce == nil) || want.Nonce != nil && got.Nonce.Cmp(want.Nonce) != 0 {
			t.Errorf("nonce %v, want %v", got.Nonce, want.Nonce)
		}
		if want.TSAPolicyOID != nil && !got.Policy.Equal(want.TSAPolicyOID) {
			t.Errorf("policy %v, want %v", got.Policy, want.TSAPolicyOID)
		}
		if (len(got.Certificates) > 0) != want.Certificates || len(want.Extensions) > 0 {
			t.Errorf("%d certificates, want %v; %d extensions", len(got.Certificates), want.Certificates, len(want.Extensions))
		}
	})
}

func FuzzJSON(f *testing.F) {
	h := open(f, newAuthority(f))
	f.Add(jsonRequest(f, nil))
	f.Add(jsonRequest(f, map[string]any{"nonce": 17, "certificates": true, "tsaPolicyOID": "1.3.6.1.4.1.57264.2"}))
	f.Fuzz(func(t *testing.T, body []byte) {
		w := post(h, "application/json", body)
		if w.Code != 200 && w.Code != 400 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if w.Code == 200 {
			if _, err := timestamp.ParseResponse(w.Body.Bytes()); err != nil {
				t.Fatal(err)
			}
		}
	})
}
