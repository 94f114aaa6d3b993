package entry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	"github.com/grpc-ecosystem/grpc-gateway/v2/runtime"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/rfc6962"
	"golang.org/x/mod/sumdb/tlog"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/log/entry"
)

// A peer is rekor-tiles v2.3.0 up to its log: its gateway decodes a request, its library checks it
// and makes an entry of it, and protojson and JCS make that bytes.
type peer struct {
	pb.UnimplementedRekorServer
	algorithms *signature.AlgorithmRegistryConfig
	gateway    *runtime.ServeMux
}

func newPeer(t testing.TB) *peer {
	algorithms, err := signature.NewAlgorithmRegistryConfig([]common.PublicKeyDetails{ // its default
		common.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256, common.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
		common.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256, common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		common.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384, common.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512,
		common.PublicKeyDetails_PKIX_ED25519, common.PublicKeyDetails_PKIX_ED25519_PH,
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{algorithms: algorithms}
	p.gateway = runtime.NewServeMux(runtime.WithMarshalerOption(runtime.MIMEWildcard, &runtime.HTTPBodyMarshaler{
		Marshaler: &runtime.JSONPb{
			MarshalOptions:   protojson.MarshalOptions{EmitUnpopulated: true},
			UnmarshalOptions: protojson.UnmarshalOptions{DiscardUnknown: false},
		},
	}))
	if err := pb.RegisterRekorHandlerServer(t.Context(), p.gateway, p); err != nil {
		t.Fatal(err)
	}
	return p
}

// CreateEntry does what the peer's does but for the log.
func (p *peer) CreateEntry(_ context.Context, r *pb.CreateEntryRequest) (_ *rekor.TransparencyLogEntry, err error) {
	defer func() {
		if v := recover(); v != nil { // as an interceptor of its server does
			err = fmt.Errorf("panic: %v", v)
		}
	}()
	if r.GetHashedRekordRequestV002() == nil {
		return nil, errors.New("invalid type, must be hashedrekord")
	}
	e, err := hashedrekord.ToLogEntry(r.GetHashedRekordRequestV002(), p.algorithms)
	if err != nil {
		return nil, err
	}
	body, err := canonicalize(e)
	return &rekor.TransparencyLogEntry{CanonicalizedBody: body}, err
}

func canonicalize(e *pb.Entry) ([]byte, error) {
	data, err := protojson.Marshal(e)
	if err != nil {
		return nil, err
	}
	return jsoncanonicalizer.Transform(data)
}

// log returns the bytes that the peer would log for a request, or why it refuses it.
func (p *peer) log(request []byte) ([]byte, error) {
	w := httptest.NewRecorder()
	p.gateway.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/api/v2/log/entries", bytes.NewReader(request)))
	if w.Code != http.StatusOK {
		return nil, fmt.Errorf("%d %s", w.Code, w.Body)
	}
	var answer struct{ CanonicalizedBody []byte }
	err := json.Unmarshal(w.Body.Bytes(), &answer)
	return answer.CanonicalizedBody, err
}

// A difference is a kind of request that we and the peer do not answer alike, on purpose. There are
// two more, which show in the log only: duplicates are answered with their entry, not with 409, and
// entries that fit no entry bundle are refused before they are sequenced, not after.
type difference struct {
	name string
	met  func(ours, theirs error) bool // of the two errors, nil for a request that is accepted
}

var differences = []difference{
	{"DSSE requests are accepted", func(ours, theirs error) bool {
		return ours == nil && says(theirs, "must be hashedrekord")
	}},
	{"keyDetails of another key are refused", func(ours, theirs error) bool {
		return says(ours, "does not match the key") && theirs == nil
	}},
	{"keyDetails that verifiers never rebuild are refused", func(ours, theirs error) bool {
		return says(ours, "is not supported by this log") && theirs == nil
	}},
	{"keyDetails without a prehash are refused with a reason", func(ours, theirs error) bool {
		return says(ours, "has no prehash") && says(theirs, "panic")
	}},
	{"encodings of a key that verifiers do not rebuild are refused", func(ours, theirs error) bool {
		return says(ours, "is not the canonical encoding of its key") && theirs == nil
	}},
	{"data after the request is refused", func(ours, theirs error) bool {
		return says(ours, "has data after its JSON object") && theirs == nil
	}},
	{"enum numbers with a fraction or an exponent are refused", func(ours, theirs error) bool {
		return says(ours, "is not a 32-bit integer") && theirs == nil
	}},
	{"entries that fit no entry bundle are refused", func(ours, theirs error) bool {
		var large *entry.TooLargeError
		return errors.As(ours, &large) && theirs == nil
	}},
}

func says(err error, text string) bool { return err != nil && strings.Contains(err.Error(), text) }

// compare wants that both log the same bytes for request, with the same leaf hash, or that both
// refuse it. Else it returns the difference that explains why not.
func (p *peer) compare(t testing.TB, request []byte) (e entry.Entry, accepted bool, explained string) {
	t.Helper()
	e, ours := entry.ParseRequest(request)
	body, theirs := p.log(request)
	for _, d := range differences {
		if d.met(ours, theirs) {
			return e, ours == nil, d.name
		}
	}
	switch {
	case (ours == nil) != (theirs == nil):
		t.Errorf("ours: %v; the peer: %v; of\n%q", ours, theirs, request)
	case ours == nil && !bytes.Equal(e.Canonical, body):
		t.Errorf("of %q\n got %s\nwant %s", request, e.Canonical, body)
	case ours == nil:
		if leaf := tlog.RecordHash(e.Canonical); !bytes.Equal(leaf[:], rfc6962.DefaultHasher.HashLeaf(body)) {
			t.Errorf("the leaf hash of %s is not the peer's", body)
		}
	}
	return e, ours == nil, ""
}

// rebuilt returns the leaf hash that verifiers compute of a bundle with the parts of e.
func rebuilt(e entry.Entry) ([]byte, error) {
	s := e.Body.Signatures[0]
	v := &pb.Verifier{KeyDetails: common.PublicKeyDetails(s.KeyDetails)}
	if s.Certificate != nil {
		v.Verifier = &pb.Verifier_X509Certificate{X509Certificate: &common.X509Certificate{RawBytes: s.Certificate}}
	} else {
		v.Verifier = &pb.Verifier_PublicKey{PublicKey: &pb.PublicKey{RawBytes: s.PublicKey}}
	}
	return hashedrekord.ToEntryHash(e.Body.Digest, &pb.Signature{Content: s.Content, Verifier: v})
}
