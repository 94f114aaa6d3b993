package kms_test

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// An awsDouble is OUR OWN stand-in for the KMS of AWS, not an emulator by others. It is here for what
// localKMS does not do: Ed25519 keys, refusals and overload. It speaks the wire protocol of the
// service (https://docs.aws.amazon.com/kms/latest/APIReference) and refuses what that would not take;
// the other side of the wire is AWS's own SDK.
type awsDouble struct {
	*httptest.Server
	region string

	mu     sync.Mutex
	keys   map[string]doubleKey // by alias or ID
	faults []awsFault           // the next answers, before any other
	calls  map[string]int       // by operation
}

// A doubleKey is a key of a double.
type doubleKey struct {
	name  string // its ARN, or the name of its version
	kind  string
	key   crypto.Signer
	state string // of Google
}

// An awsFault is an answer in place of the right one.
type awsFault struct {
	status int
	code   string
}

const doubleRegion = "eu-central-1"

func newAWSDouble(t testing.TB) *awsDouble {
	d := &awsDouble{region: doubleRegion, keys: map[string]doubleKey{}, calls: map[string]int{}}
	d.Server = httptest.NewServer(http.HandlerFunc(d.serve))
	t.Cleanup(d.Close)
	return d
}

func (d *awsDouble) uri(key string) string {
	return "awskms:///" + key + "?region=" + d.region + "&endpoint=" + d.URL
}

// set gives key, an alias or ID, a private key.
func (d *awsDouble) set(key, kind string, private crypto.Signer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	spki, err := x509.MarshalPKIXPublicKey(private.Public())
	if err != nil {
		panic(err)
	}
	arn := fmt.Sprintf("arn:aws:kms:%s:111122223333:key/%x", d.region, spki[len(spki)-8:])
	d.keys[key] = doubleKey{name: arn, kind: kind, key: private}
}

// fail makes the next answers faults.
func (d *awsDouble) fail(faults ...awsFault) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.faults = faults
}

// called returns how often an operation was asked for, and forgets it.
func (d *awsDouble) called(operation string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := d.calls[operation]
	d.calls[operation] = 0
	return n
}

func (d *awsDouble) serve(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	defer d.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	operation, ours := strings.CutPrefix(r.Header.Get("X-Amz-Target"), "TrentService.")
	scope := "/" + d.region + "/kms/aws4_request"
	switch {
	case err != nil, r.Method != http.MethodPost, r.URL.Path != "/", r.Header.Get("Content-Type") != "application/x-amz-json-1.1", !ours:
		d.refuse(w, awsFault{400, "UnknownOperationException"}, "this is no request of the protocol")
		return
	case !strings.HasPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 Credential=") || !strings.Contains(r.Header.Get("Authorization"), scope):
		d.refuse(w, awsFault{400, "IncompleteSignature"}, "the request is not signed for this region")
		return
	}
	d.calls[operation]++
	if len(d.faults) > 0 {
		f := d.faults[0]
		d.faults = d.faults[1:]
		d.refuse(w, f, "as the test wanted")
		return
	}
	switch operation {
	case "GetPublicKey":
		d.publicKey(w, body)
	case "Sign":
		d.sign(w, body)
	default:
		d.refuse(w, awsFault{400, "UnknownOperationException"}, operation)
	}
}

func (d *awsDouble) publicKey(w http.ResponseWriter, body []byte) {
	var in struct{ KeyId string }
	k, ok := d.lookup(w, body, &in, &in.KeyId)
	if !ok {
		return
	}
	spki, err := x509.MarshalPKIXPublicKey(k.key.Public())
	if err != nil {
		panic(err)
	}
	d.answer(w, map[string]any{"KeyId": k.name, "KeySpec": k.kind, "KeyUsage": "SIGN_VERIFY", "PublicKey": spki})
}

func (d *awsDouble) sign(w http.ResponseWriter, body []byte) {
	var in struct {
		KeyId, MessageType, SigningAlgorithm string
		Message                              []byte
	}
	k, ok := d.lookup(w, body, &in, &in.KeyId)
	if !ok {
		return
	}
	// > Supported signing algorithms for ECC_NIST_EDWARDS25519: ED25519_SHA_512 with RAW, which signs
	// > the message, ED25519_PH_SHA_512 with DIGEST (AWS KMS Developer Guide, key spec reference)
	want := map[string][2]string{
		"ECC_NIST_EDWARDS25519": {"ED25519_SHA_512", "RAW"},
		"ECC_NIST_P256":         {"ECDSA_SHA_256", "DIGEST"},
		"ECC_NIST_P384":         {"ECDSA_SHA_384", "DIGEST"},
	}[k.kind]
	hash := map[string]crypto.Hash{"ECDSA_SHA_256": crypto.SHA256, "ECDSA_SHA_384": crypto.SHA384}[in.SigningAlgorithm]
	switch {
	case in.SigningAlgorithm != want[0]:
		d.refuse(w, awsFault{400, "InvalidKeyUsageException"}, in.SigningAlgorithm+" is incompatible with key spec "+k.kind)
		return
	case in.MessageType != want[1], len(in.Message) == 0, len(in.Message) > 4096, hash != 0 && len(in.Message) != hash.Size():
		d.refuse(w, awsFault{400, "ValidationException"}, "message type or length is wrong")
		return
	}
	signature, err := k.key.Sign(rand.Reader, in.Message, hash)
	if err != nil {
		panic(err)
	}
	d.answer(w, map[string]any{"KeyId": k.name, "Signature": signature, "SigningAlgorithm": in.SigningAlgorithm})
}

// lookup decodes a request, strictly, and finds its key.
func (d *awsDouble) lookup(w http.ResponseWriter, body []byte, in any, id *string) (doubleKey, bool) {
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.DisallowUnknownFields()
	if err := dec.Decode(in); err != nil {
		d.refuse(w, awsFault{400, "SerializationException"}, err.Error())
		return doubleKey{}, false
	}
	k, ok := d.keys[*id]
	if !ok {
		d.refuse(w, awsFault{400, "NotFoundException"}, *id+" is not found.")
	}
	return k, ok
}

func (d *awsDouble) answer(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		panic(err)
	}
}

func (d *awsDouble) refuse(w http.ResponseWriter, f awsFault, message string) {
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.WriteHeader(f.status)
	fmt.Fprintf(w, `{"__type":%q,"message":%q}`, f.code, message)
}
