package tsa_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/digitorus/timestamp"
	"github.com/sigstore/timestamp-authority/v2/pkg/verification"

	"tallywood/ca/tsa"
	"tallywood/internal/keys"
)

const (
	query = "application/timestamp-query"
	reply = "application/timestamp-reply"
	path  = "/api/v1/timestamp"
)

// start is when the tests' chains begin, not on a whole second.
var start = time.Date(2026, 11, 24, 18, 0, 0, 987654321, time.UTC)

// newAuthority returns options with a fresh chain and a clock at start.
func newAuthority(t testing.TB) tsa.Options {
	t.Helper()
	chain, signer, err := tsa.CreateChain("example.org", start)
	if err != nil {
		t.Fatal(err)
	}
	return tsa.Options{Chain: chain, Signer: signer, Now: func() time.Time { return start }}
}

func open(t testing.TB, o tsa.Options) http.Handler {
	t.Helper()
	h, err := tsa.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func post(h http.Handler, mediaType string, body []byte, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest("POST", path, bytes.NewReader(body))
	r.Header.Set("Content-Type", mediaType)
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// derRequest is a DER request for artifact, changed by edit.
func derRequest(t testing.TB, artifact string, edit func(*timestamp.Request)) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(artifact))
	req := &timestamp.Request{HashAlgorithm: crypto.SHA256, HashedMessage: digest[:]}
	if edit != nil {
		edit(req)
	}
	der, err := req.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func jsonRequest(t testing.TB, fields map[string]any) []byte {
	t.Helper()
	all := map[string]any{"artifactHash": sha256Of("artifact"), "hashAlgorithm": "sha256"}
	for k, v := range fields {
		all[k] = v
	}
	out, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func sha256Of(s string) string {
	digest := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(digest[:])
}

// verify checks a reply as Sigstore's clients do.
func verify(t testing.TB, chain []*x509.Certificate, token []byte, artifact string) *timestamp.Timestamp {
	t.Helper()
	ts, err := verification.VerifyTimestampResponse(token, strings.NewReader(artifact), verification.VerifyOpts{
		TSACertificate: chain[0], Intermediates: chain[1 : len(chain)-1], Roots: chain[len(chain)-1:],
	})
	if err != nil {
		t.Fatal(err)
	}
	return ts
}

func TestTokenHasTheProfile(t *testing.T) {
	o := newAuthority(t)
	h := open(t, o)
	nonce, _ := new(big.Int).SetString("1234567890123456789012345678901234567890", 10)
	for name, body := range map[string][]byte{
		"DER": derRequest(t, "artifact", func(r *timestamp.Request) {
			r.Nonce, r.Certificates = nonce, true
			r.TSAPolicyOID = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 2}
		}),
		"JSON": jsonRequest(t, map[string]any{"nonce": nonce, "certificates": true,
			"tsaPolicyOID": "1.3.6.1.4.1.57264.2", "unknown": map[string]any{"is": "ignored"}}),
	} {
		mediaType := map[string]string{"DER": query, "JSON": "application/json; charset=utf-8"}[name]
		w := post(h, mediaType, body)
		if w.Code != 200 || w.Header().Get("Content-Type") != reply {
			t.Fatalf("%s: %d %s", name, w.Code, w.Body)
		}
		if got := w.Header().Get("Cache-Control"); got != "no-cache, no-store, no-transform, must-revalidate, private, max-age=0" {
			t.Errorf("%s: Cache-Control %q", name, got)
		}
		ts := verify(t, o.Chain, w.Body.Bytes(), "artifact")
		if !ts.Time.Equal(start.Truncate(time.Second)) || ts.Accuracy != time.Second || ts.Ordering {
			t.Errorf("%s: time %v ± %v, ordering %v", name, ts.Time, ts.Accuracy, ts.Ordering)
		}
		if ts.Policy.String() != "1.3.6.1.4.1.57264.2" || ts.Nonce.Cmp(nonce) != 0 {
			t.Errorf("%s: policy %v, nonce %v", name, ts.Policy, ts.Nonce)
		}
		if ts.SerialNumber.Sign() != 1 || ts.SerialNumber.BitLen() != 159 {
			t.Errorf("%s: serial number of %d bits", name, ts.SerialNumber.BitLen())
		}
		if len(ts.Certificates) != 1 || !ts.Certificates[0].Equal(o.Chain[0]) {
			t.Errorf("%s: %d certificates", name, len(ts.Certificates))
		}
	}
}

func TestClientsMinimalRequests(t *testing.T) {
	o := newAuthority(t)
	h := open(t, o)
	for mediaType, body := range map[string][]byte{
		query:              derRequest(t, "artifact", nil), // cosign, sigstore-go
		"application/json": jsonRequest(t, nil),            // sigstore-js
	} {
		w := post(h, mediaType, body)
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", mediaType, w.Code, w.Body)
		}
		ts := verify(t, o.Chain, w.Body.Bytes(), "artifact")
		if ts.Nonce != nil || len(ts.Certificates) != 0 {
			t.Errorf("%s: nonce %v, %d certificates, none was asked for", mediaType, ts.Nonce, len(ts.Certificates))
		}
	}
}

func TestEveryKeyTypeAndDigestVerifies(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{
		"P-256": ecdsaKey(t, elliptic.P256()), "P-384": ecdsaKey(t, elliptic.P384()),
		"P-521": ecdsaKey(t, elliptic.P521()), "RSA": rsaKey, "Ed25519": edKey,
	} {
		for _, digest := range []crypto.Hash{0, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
			o := chainFor(t, key, nil)
			o.Digest = digest
			h, err := tsa.New(o)
			if name == "Ed25519" && digest != 0 && digest != crypto.SHA512 {
				if err == nil {
					t.Errorf("Ed25519 with %v: accepted", digest)
				}
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, hash := range []crypto.Hash{crypto.SHA256, crypto.SHA384, crypto.SHA512} {
				sum := hash.New()
				sum.Write([]byte("artifact"))
				w := post(h, query, derRequest(t, "", func(r *timestamp.Request) {
					r.HashAlgorithm, r.HashedMessage, r.Certificates = hash, sum.Sum(nil), true
				}))
				if w.Code != 200 {
					t.Fatalf("%s, %v: %d %s", name, hash, w.Code, w.Body)
				}
				verify(t, o.Chain, w.Body.Bytes(), "artifact")
			}
		}
	}
}

func TestFullChainIsEmbeddedOnRequest(t *testing.T) {
	o := newAuthority(t)
	o.FullChain = true
	w := post(open(t, o), query, derRequest(t, "artifact", func(r *timestamp.Request) { r.Certificates = true }))
	if ts := verify(t, o.Chain, w.Body.Bytes(), "artifact"); len(ts.Certificates) != 3 {
		t.Errorf("%d certificates", len(ts.Certificates))
	}
}

func TestTokenOfAnotherArtifactOrSignerIsRefused(t *testing.T) {
	o := newAuthority(t)
	token := post(open(t, o), query, derRequest(t, "artifact", nil)).Body.Bytes()
	options := func(chain []*x509.Certificate) verification.VerifyOpts {
		return verification.VerifyOpts{TSACertificate: chain[0], Intermediates: chain[1:2], Roots: chain[2:]}
	}
	if _, err := verification.VerifyTimestampResponse(token, strings.NewReader("other"), options(o.Chain)); err == nil {
		t.Error("the token holds for another artifact")
	}
	if _, err := verification.VerifyTimestampResponse(token, strings.NewReader("artifact"), options(newAuthority(t).Chain)); err == nil {
		t.Error("the token holds for another authority")
	}
}

func TestBadRequestsAreRefusedByRow(t *testing.T) {
	h := open(t, newAuthority(t))
	digest := sha256.Sum256(nil)
	oid := func(n int) asn1.ObjectIdentifier {
		o := make(asn1.ObjectIdentifier, n)
		o[0] = 1
		return o
	}
	good := derRequest(t, "artifact", nil)
	sha1 := derRequest(t, "", func(r *timestamp.Request) { r.HashAlgorithm, r.HashedMessage = crypto.SHA1, digest[:20] })
	for name, tc := range map[string]struct {
		mediaType string
		body      []byte
		status    int
		message   string
	}{
		"no media type":            {"", good, 415, "Error generating timestamp response"},
		"unknown media type":       {"text/plain", good, 415, "Error generating timestamp response"},
		"media type in parameter":  {"multipart/form-data; boundary=application/json", good, 415, "Error generating timestamp response"},
		"malformed media type":     {"application/json;;", good, 415, "Error generating timestamp response"},
		"JSON over 1,024 bytes":    {"application/json", jsonRequest(t, map[string]any{"x": strings.Repeat("x", 1024)}), 400, "timestamp request is too large"},
		"JSON over 4 KiB":          {"application/json", jsonRequest(t, map[string]any{"x": strings.Repeat("x", 5000)}), 400, "timestamp request is too large"},
		"DER over 4 KiB":           {query, make([]byte, 4097), 413, "4096 bytes"},
		"DER empty":                {query, nil, 400, "Error generating timestamp response"},
		"DER is not a request":     {query, []byte{0x30, 0}, 400, "Error generating timestamp response"},
		"DER trailing data":        {query, append(bytes.Clone(good), 0), 400, "Error generating timestamp response"},
		"DER truncated":            {query, good[:len(good)-1], 400, "Error generating timestamp response"},
		"DER version 2":            {query, bytes.Replace(good, []byte{2, 1, 1}, []byte{2, 1, 2}, 1), 400, "Error generating timestamp response"},
		"DER SHA-1":                {query, sha1, 400, "Weak hash algorithm in timestamp request"},
		"DER unknown hash":         {query, bytes.Replace(good, []byte{0x60, 0x86, 0x48}, []byte{0x60, 0x86, 0x49}, 1), 400, "Unknown hash algorithm"},
		"DER digest length":        {query, derRequest(t, "", func(r *timestamp.Request) { r.HashedMessage = digest[:31] }), 400, "Message digest has incorrect length for specified algorithm"},
		"DER policy":               {query, derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = oid(4) }), 400, "unaccepted policy: requested TSA policy is not supported by the TSA"},
		"DER policy of 128 arcs":   {query, derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = oid(128) }), 400, "unaccepted policy"},
		"DER policy of 129 arcs":   {query, derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = oid(129) }), 400, "OID should be comprised of at most 128 components"},
		"DER policy of 3,000 arcs": {query, derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = oid(3000) }), 400, "OID should be comprised of at most 128 components"},
		"DER extension":            {query, derRequest(t, "", func(r *timestamp.Request) { r.ExtraExtensions = []pkix.Extension{{Id: oid(3), Value: []byte{1}}} }), 400, "unaccepted extension"},
		"DER nonce of 161 bits":    {query, derRequest(t, "", func(r *timestamp.Request) { r.Nonce = new(big.Int).Lsh(big.NewInt(1), 160) }), 400, "nonce"},
		"JSON malformed":           {"application/json", []byte("{"), 400, "parsing JSON"},
		"JSON after the object":    {"application/json", append(jsonRequest(t, nil), "{}"...), 400, "parsing JSON"},
		"JSON wrong type":          {"application/json", jsonRequest(t, map[string]any{"certificates": "yes"}), 400, "parsing JSON: the value of certificates is of the wrong type: string"},
		"JSON is a list":           {"application/json", []byte("[1]"), 400, "parsing JSON: want an object, not array"},
		"JSON no digest":           {"application/json", []byte(`{"hashAlgorithm":"sha256"}`), 400, "artifactHash is missing"},
		"JSON unpadded digest":     {"application/json", jsonRequest(t, map[string]any{"artifactHash": strings.TrimRight(sha256Of(""), "=")}), 400, "base64"},
		"JSON sha1":                {"application/json", jsonRequest(t, map[string]any{"hashAlgorithm": "SHA1"}), 400, "Weak hash algorithm in timestamp request"},
		"JSON unknown hash":        {"application/json", jsonRequest(t, map[string]any{"hashAlgorithm": "md5"}), 400, "Unknown hash algorithm"},
		"JSON digest length":       {"application/json", jsonRequest(t, map[string]any{"hashAlgorithm": "sha512"}), 400, "Message digest has incorrect length for specified algorithm"},
		"JSON policy":              {"application/json", jsonRequest(t, map[string]any{"tsaPolicyOID": "1.2.3"}), 400, "unaccepted policy"},
		"JSON policy of 129 arcs":  {"application/json", jsonRequest(t, map[string]any{"tsaPolicyOID": "1" + strings.Repeat(".1", 128)}), 400, "OID should be comprised of at most 128 components"},
		"JSON fractional nonce":    {"application/json", jsonRequest(t, map[string]any{"nonce": 1.5}), 400, "the nonce is not an integer"},
		"JSON quoted nonce":        {"application/json", jsonRequest(t, map[string]any{"nonce": "15"}), 400, "the nonce is not an integer"},
		"JSON nonce of 161 bits":   {"application/json", jsonRequest(t, map[string]any{"nonce": new(big.Int).Lsh(big.NewInt(1), 160)}), 400, "nonce"},
	} {
		w := post(h, tc.mediaType, tc.body)
		var got struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
			t.Errorf("%s: %v: %q", name, err, w.Body)
			continue
		}
		if w.Code != tc.status || !strings.Contains(got.Message, tc.message) {
			t.Errorf("%s: %d %q; want %d %q", name, w.Code, got.Message, tc.status, tc.message)
		}
	}
	if w := httptest.NewRecorder(); true {
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != 405 || w.Header().Get("Allow") != "POST" {
			t.Errorf("GET: %d, Allow %q", w.Code, w.Header().Get("Allow"))
		}
	}
}

func TestNonceOfTheLargestSizeIsEchoed(t *testing.T) {
	o := newAuthority(t)
	h := open(t, o)
	largest := new(big.Int).Sub(new(big.Int).Lsh(big.NewInt(1), 160), big.NewInt(1))
	for _, nonce := range []*big.Int{big.NewInt(0), big.NewInt(-1), big.NewInt(128), largest, new(big.Int).Neg(largest)} {
		for mediaType, body := range map[string][]byte{
			query:              derRequest(t, "artifact", func(r *timestamp.Request) { r.Nonce = nonce }),
			"application/json": jsonRequest(t, map[string]any{"nonce": nonce}),
		} {
			w := post(h, mediaType, body)
			if w.Code != 200 {
				t.Fatalf("%v as %s: %d %s", nonce, mediaType, w.Code, w.Body)
			}
			if ts := verify(t, o.Chain, w.Body.Bytes(), "artifact"); ts.Nonce == nil || ts.Nonce.Cmp(nonce) != 0 {
				t.Errorf("%v as %s: got %v", nonce, mediaType, ts.Nonce)
			}
		}
	}
}

func TestHugeNumbersAreRefusedAtOnce(t *testing.T) {
	h := open(t, newAuthority(t))
	arcs := make(asn1.ObjectIdentifier, 100_000)
	arcs[0] = 1
	for name, tc := range map[string]struct {
		mediaType string
		body      []byte
		status    int
	}{
		"JSON nonce of 10^6 digits": {"application/json", []byte(`{"nonce":1` + strings.Repeat("0", 1_000_000) + "}"), 400},
		"JSON OID of 10^5 arcs":     {"application/json", jsonRequest(t, map[string]any{"tsaPolicyOID": "1" + strings.Repeat(".1", 99_999)}), 400},
		"DER OID of 10^5 arcs":      {query, derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = arcs }), 413},
		"DER nonce of 10^6 digits":  {query, derRequest(t, "", func(r *timestamp.Request) { r.Nonce = new(big.Int).Lsh(big.NewInt(1), 3_321_928) }), 413},
	} {
		const most = 5 * time.Millisecond
		best := time.Hour // of some: the machine has other work
		for n := 0; n < 5 || n < 50 && best > most; n++ {
			began := time.Now()
			w := post(h, tc.mediaType, tc.body)
			best = min(best, time.Since(began))
			if w.Code != tc.status {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		if best > most {
			t.Errorf("%s: took %v", name, best)
		}
	}
}

func TestRejectionIsRFC3161WhenAskedFor(t *testing.T) {
	o := newAuthority(t)
	down := false
	o.Guard = func(time.Time) error {
		if down {
			return errors.New("no quorum of time servers")
		}
		return nil
	}
	h := open(t, o)
	digest := sha256.Sum256(nil)
	sha1 := derRequest(t, "", func(r *timestamp.Request) { r.HashAlgorithm, r.HashedMessage = crypto.SHA1, digest[:20] })
	policy := derRequest(t, "", func(r *timestamp.Request) { r.TSAPolicyOID = asn1.ObjectIdentifier{1, 2, 3} })
	for _, tc := range []struct {
		body   []byte
		down   bool
		status int
		text   string
	}{
		{sha1, false, 400, timestamp.BadAlgorithm.String()},
		{policy, false, 400, timestamp.UnacceptedPolicy.String()},
		{derRequest(t, "", nil), true, 503, timestamp.TimeNotAvailable.String()},
	} {
		down = tc.down
		w := post(h, query, tc.body, "Accept", "application/json;q=0.5, "+reply)
		_, err := timestamp.ParseResponse(w.Body.Bytes())
		if w.Code != tc.status || w.Header().Get("Content-Type") != reply || err == nil || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%d %s: %v; want %q", w.Code, w.Header().Get("Content-Type"), err, tc.text)
		}
	}
	if w := post(h, query, sha1, "Accept", "*/*"); w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("a wildcard got %s", w.Header().Get("Content-Type"))
	}
}

// farSigner is a key elsewhere that cannot be reached.
type farSigner struct{ crypto.Signer }

func (farSigner) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("no answer from 10.1.2.3")
}

func TestAKeyOutOfReachInvitesARetry(t *testing.T) {
	o := newAuthority(t)
	o.Signer = farSigner{o.Signer}
	h := open(t, o)
	w := post(h, query, derRequest(t, "", nil), "Accept", reply)
	_, err := timestamp.ParseResponse(w.Body.Bytes())
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || err == nil || !strings.Contains(err.Error(), timestamp.SystemFailure.String()) {
		t.Errorf("%d %v: %v", w.Code, w.Header(), err)
	}
	w = post(h, query, derRequest(t, "", nil))
	if w.Code != 503 || w.Header().Get("Retry-After") == "" || !strings.Contains(w.Body.String(), "the key does not sign") || strings.Contains(w.Body.String(), "10.1.2.3") {
		t.Errorf("%d %v: %s", w.Code, w.Header(), w.Body)
	}
}

func TestUnknownPathsAreAnsweredInJSON(t *testing.T) {
	h := open(t, newAuthority(t))
	for _, unknown := range []string{path + "/", path + "/chain", path + "/certchain/x", "/"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", unknown, nil))
		var body struct {
			Code    int
			Message string
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); w.Code != 404 || err != nil || body.Code != 5 || body.Message == "" ||
			w.Header().Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", unknown, w.Code, w.Body)
		}
	}
}

func TestCertificateChainIsServed(t *testing.T) {
	o := newAuthority(t)
	h := open(t, o)
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", path+"/certchain", nil))
	chain, err := keys.ParseChain(w.Body.Bytes())
	if err != nil || len(chain) != 3 || !chain[0].Equal(o.Chain[0]) {
		t.Errorf("%d certificates, %v", len(chain), err)
	}
	if ct, cc := w.Header().Get("Content-Type"), w.Header().Get("Cache-Control"); ct != "application/pem-certificate-chain" || cc != "max-age=86400, immutable" {
		t.Errorf("Content-Type %q, Cache-Control %q", ct, cc)
	}
	w = httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", "/ping", nil))
	if w.Code != 200 || w.Body.Len() != 1 {
		t.Errorf("ping: %d, %d bytes", w.Code, w.Body.Len())
	}
}

func ecdsaKey(t testing.TB, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
