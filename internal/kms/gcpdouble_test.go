package kms_test

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"cloud.google.com/go/kms/apiv1/kmspb"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

// A gcpDouble is OUR OWN stand-in for Cloud KMS, not an emulator by others: of those that there are,
// none can be had from the module proxy. It speaks the REST protocol of the service
// (https://cloud.google.com/kms/docs/reference/rest) in Google's own message types, which refuse
// unknown fields, and TestGCPDoubleIsGoodEnoughForGoogle has Google's own client use it.
type gcpDouble struct {
	*httptest.Server
	token string // that requests must carry; "": they must carry none

	mu     sync.Mutex
	keys   map[string]doubleKey // by the name of the version
	page   int                  // versions in a page of a list
	faults []gcpFault           // the next answers, before any other
	calls  int
	down   bool // connections end without an answer
}

// A gcpFault is an answer in place of the right one.
type gcpFault struct {
	status        int
	code, message string
}

const doubleKeyName = "projects/p/locations/global/keyRings/r/cryptoKeys/k"

func newGCPDouble(t testing.TB) *gcpDouble {
	d := &gcpDouble{keys: map[string]doubleKey{}, page: 2}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.Close)
	return d
}

func (d *gcpDouble) uri(name string) string { return "gcpkms://" + name + "?endpoint=" + d.URL }

func versionName(n int) string { return fmt.Sprintf("%s/cryptoKeyVersions/%d", doubleKeyName, n) }

// set gives a version of a key.
func (d *gcpDouble) set(name, algorithm, state string, private crypto.Signer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.keys[name] = doubleKey{name: name, kind: algorithm, key: private, state: state}
}

// fail makes the next answers faults.
func (d *gcpDouble) fail(faults ...gcpFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = faults
}

// called returns how many requests there were, and forgets them.
func (d *gcpDouble) called() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.calls
	d.calls = 0
	return n
}

// setDown takes the service away, or brings it back.
func (d *gcpDouble) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *gcpDouble) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		panic(http.ErrAbortHandler)
	}
	d.calls++
	want := ""
	if d.token != "" {
		want = "Bearer " + d.token
	}
	if got := r.Header.Get("Authorization"); got != want {
		refuseGCP(w, gcpFault{401, "UNAUTHENTICATED", "Request had invalid authentication credentials."})
		return
	}
	if len(d.faults) > 0 {
		f := d.faults[0]
		d.faults = d.faults[1:]
		refuseGCP(w, f)
		return
	}
	path, ok := strings.CutPrefix(r.URL.Path, "/v1/")
	version, public := strings.CutSuffix(path, "/publicKey")
	signed, sign := strings.CutSuffix(path, ":asymmetricSign")
	key, list := strings.CutSuffix(path, "/cryptoKeyVersions")
	switch {
	case ok && public && r.Method == http.MethodGet:
		d.publicKey(w, version)
	case ok && sign && r.Method == http.MethodPost:
		d.sign(w, r, signed)
	case ok && list && r.Method == http.MethodGet:
		d.list(w, r, key)
	default:
		refuseGCP(w, gcpFault{404, "NOT_FOUND", r.Method + " " + r.URL.Path})
	}
}

func (d *gcpDouble) enabled(w http.ResponseWriter, name string) (doubleKey, bool) {
	k, ok := d.keys[name]
	switch {
	case !ok:
		refuseGCP(w, gcpFault{404, "NOT_FOUND", "CryptoKeyVersion " + name + " not found."})
	case k.state != "ENABLED":
		refuseGCP(w, gcpFault{400, "FAILED_PRECONDITION", name + " is not enabled, current state is: " + k.state + "."})
		return k, false
	}
	return k, ok
}

func (d *gcpDouble) publicKey(w http.ResponseWriter, name string) {
	k, ok := d.enabled(w, name)
	if !ok {
		return
	}
	spki, err := x509.MarshalPKIXPublicKey(k.key.Public())
	if err != nil {
		panic(err)
	}
	answerGCP(w, &kmspb.PublicKey{Name: name, Pem: string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: spki})),
		Algorithm:       kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm(kmspb.CryptoKeyVersion_CryptoKeyVersionAlgorithm_value[k.kind]),
		ProtectionLevel: kmspb.ProtectionLevel_SOFTWARE})
}

func (d *gcpDouble) sign(w http.ResponseWriter, r *http.Request, name string) {
	k, ok := d.enabled(w, name)
	if !ok {
		return
	}
	body, err := io.ReadAll(r.Body)
	var in kmspb.AsymmetricSignRequest
	if err == nil {
		err = protojson.Unmarshal(body, &in)
	}
	// The name is in the path. EC_SIGN_ED25519 takes data, the others the digest of their hash.
	message, hash := in.Data, crypto.Hash(0)
	switch {
	case in.Digest.GetSha256() != nil && strings.HasSuffix(k.kind, "_SHA256"):
		message, hash = in.Digest.GetSha256(), crypto.SHA256
	case in.Digest.GetSha384() != nil && strings.HasSuffix(k.kind, "_SHA384"):
		message, hash = in.Digest.GetSha384(), crypto.SHA384
	}
	if err != nil || in.Name != "" && in.Name != name || len(message) == 0 || (in.Digest == nil) != (hash == 0) ||
		(hash == 0) != (k.kind == "EC_SIGN_ED25519") || hash != 0 && len(message) != hash.Size() {
		refuseGCP(w, gcpFault{400, "INVALID_ARGUMENT", fmt.Sprintf("%v for a key of %s, %v", &in, k.kind, err)})
		return
	}
	signature, err := k.key.Sign(rand.Reader, message, hash)
	if err != nil {
		panic(err)
	}
	answerGCP(w, &kmspb.AsymmetricSignResponse{Name: name, Signature: signature})
}

// list answers with versions in the order of their names as texts, as the service may.
func (d *gcpDouble) list(w http.ResponseWriter, r *http.Request, key string) {
	var out kmspb.ListCryptoKeyVersionsResponse
	for _, name := range slices.Sorted(maps.Keys(d.keys)) {
		k := d.keys[name]
		if !strings.HasPrefix(name, key+"/cryptoKeyVersions/") || name <= r.FormValue("pageToken") || r.FormValue("filter") == "state=ENABLED" && k.state != "ENABLED" {
			continue
		}
		if len(out.CryptoKeyVersions) == d.page {
			out.NextPageToken = out.CryptoKeyVersions[d.page-1].Name
			break
		}
		out.CryptoKeyVersions = append(out.CryptoKeyVersions, &kmspb.CryptoKeyVersion{Name: name,
			State: kmspb.CryptoKeyVersion_CryptoKeyVersionState(kmspb.CryptoKeyVersion_CryptoKeyVersionState_value[k.state])})
	}
	answerGCP(w, &out)
}

func answerGCP(w http.ResponseWriter, m proto.Message) {
	body, err := protojson.Marshal(m)
	if err != nil {
		panic(err)
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	_, _ = w.Write(body) // the client may be gone
}

func refuseGCP(w http.ResponseWriter, f gcpFault) {
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(f.status)
	fmt.Fprintf(w, `{"error":{"code":%d,"message":%q,"status":%q}}`, f.status, f.message, f.code)
}
