package entry_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/cyberphone/json-canonicalization/go/src/webpki.org/jsoncanonicalizer"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/rekor-tiles/v2/pkg/types/hashedrekord"
	"github.com/sigstore/sigstore/pkg/signature"
	"github.com/transparency-dev/merkle/rfc6962"
	"google.golang.org/protobuf/encoding/protojson"

	"tallywood/log/entry"
)

// peerBytes is what the peer logs for a hashedrekord request: its own validation, then
// protojson, then JCS.
func peerBytes(t testing.TB, request []byte) ([]byte, error) {
	var r pb.CreateEntryRequest
	if err := protojson.Unmarshal(request, &r); err != nil {
		return nil, err
	}
	registry, err := signature.NewAlgorithmRegistryConfig([]common.PublicKeyDetails{
		common.PublicKeyDetails_PKIX_RSA_PKCS1V15_2048_SHA256, common.PublicKeyDetails_PKIX_RSA_PKCS1V15_3072_SHA256,
		common.PublicKeyDetails_PKIX_RSA_PKCS1V15_4096_SHA256, common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256,
		common.PublicKeyDetails_PKIX_ECDSA_P384_SHA_384, common.PublicKeyDetails_PKIX_ECDSA_P521_SHA_512,
		common.PublicKeyDetails_PKIX_ED25519_PH,
	})
	if err != nil {
		t.Fatal(err)
	}
	e, err := hashedrekord.ToLogEntry(r.GetHashedRekordRequestV002(), registry)
	if err != nil {
		return nil, err
	}
	return renderPeer(t, e), nil
}

func renderPeer(t testing.TB, e *pb.Entry) []byte {
	data, err := protojson.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	data, err = jsoncanonicalizer.Transform(data)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// TestVerifiersRebuildOurBytes compares our bytes with the peer's, and their leaf hash with the
// one sigstore-go rebuilds from a bundle, for each algorithm, with a key and with a certificate.
func TestVerifiersRebuildOurBytes(t *testing.T) {
	for _, s := range accepted(t) {
		for _, certificate := range []bool{false, true} {
			request := marshal(t, s.request(t, certificate))
			e, err := entry.ParseRequest(request)
			if err != nil {
				t.Errorf("%s: %v", s.name, err)
				continue
			}
			want, err := peerBytes(t, request)
			if err != nil {
				t.Errorf("%s: peer refuses: %v", s.name, err)
				continue
			}
			if !bytes.Equal(e.Canonical, want) {
				t.Errorf("%s:\n got %s\nwant %s", s.name, e.Canonical, want)
			}
			var r pb.CreateEntryRequest
			if err := protojson.Unmarshal(request, &r); err != nil {
				t.Fatal(err)
			}
			h := r.GetHashedRekordRequestV002()
			leaf, err := hashedrekord.ToEntryHash(h.Digest, h.Signature)
			if err != nil || !bytes.Equal(leaf, rfc6962.DefaultHasher.HashLeaf(e.Canonical)) {
				t.Errorf("%s: sigstore-go rebuilds another leaf (%v)", s.name, err)
			}
		}
	}
}

// TestDetailsAgreeWithVerifiers checks KeyDetailsFor against the defaults sigstore-go uses when
// it rebuilds an entry from a bundle's certificate.
func TestDetailsAgreeWithVerifiers(t *testing.T) {
	for _, s := range accepted(t) {
		own, err := entry.KeyDetailsFor(s.key.Public())
		if err != nil || own.String() != s.name {
			t.Errorf("KeyDetailsFor = %s, %v; want %s", own, err, s.name)
		}
		if s.name == "PKIX_ED25519_PH" {
			continue // sigstore's default is the pure form, which no hashedrekord can have
		}
		want, err := signature.GetDefaultPublicKeyDetails(s.key.Public())
		if err != nil || want.String() != s.name {
			t.Errorf("sigstore's default is %s, %v; want %s", want, err, s.name)
		}
	}
}

// FuzzCanonical compares the renderer with protojson and JCS on parts of any content.
func FuzzCanonical(f *testing.F) {
	f.Add(int32(5), []byte("0123456789abcdef0123456789abcdef"), []byte("signature"), []byte("key"), false)
	f.Add(int32(8), bytes.Repeat([]byte{0xff, 0xfe}, 32), []byte{0}, []byte{0xfb, 0xff}, true)
	f.Fuzz(func(t *testing.T, details int32, digest, sig, raw []byte, certificate bool) {
		s := entry.Signature{Content: sig, KeyDetails: entry.KeyDetails(details)}
		v := &pb.Verifier{KeyDetails: common.PublicKeyDetails(details)}
		if certificate {
			s.Certificate = raw
			v.Verifier = &pb.Verifier_X509Certificate{X509Certificate: &common.X509Certificate{RawBytes: raw}}
		} else {
			s.PublicKey = raw
			v.Verifier = &pb.Verifier_PublicKey{PublicKey: &pb.PublicKey{RawBytes: raw}}
		}
		got, err := entry.Canonical(digest, s)
		if err != nil || len(sig) == 0 {
			return
		}
		alg, err := signature.GetAlgorithmDetails(v.KeyDetails)
		if err != nil {
			t.Fatal(err)
		}
		want := renderPeer(t, &pb.Entry{Kind: "hashedrekord", ApiVersion: "0.0.2", Spec: &pb.Spec{
			Spec: &pb.Spec_HashedRekordV002{HashedRekordV002: &pb.HashedRekordLogEntryV002{
				Data:      &common.HashOutput{Algorithm: alg.GetProtoHashType(), Digest: digest},
				Signature: &pb.Signature{Content: sig, Verifier: v},
			}},
		}})
		if !bytes.Equal(got, want) {
			t.Errorf("\n got %s\nwant %s", got, want)
		}
		b, err := entry.Parse(got)
		if err != nil {
			t.Fatalf("own rendering does not parse: %v", err)
		}
		if back := b.Signatures[0]; !bytes.Equal(back.Content, sig) || back.KeyDetails != s.KeyDetails ||
			!bytes.Equal(back.Certificate, s.Certificate) || !bytes.Equal(back.PublicKey, s.PublicKey) {
			t.Error("parsing changed the signature")
		}
	})
}

// FuzzParseRequest: whatever we accept, the peer's decoder accepts with the same result; whatever
// we refuse is refused in few words.
func FuzzParseRequest(f *testing.F) {
	s := accepted(f)[0]
	request := s.request(f, false)
	f.Add(marshal(f, request))
	f.Add(marshal(f, s.request(f, true)))
	f.Add(marshal(f, s.dsseRequest(f, []byte(`{"a":1}`))))
	text := string(marshal(f, request))
	f.Add([]byte(strings.ReplaceAll(text, "hashedRekordRequestV002", "hashed_rekord_request_v002")))
	f.Add([]byte(strings.ReplaceAll(text, `"PKIX_ECDSA_P256_SHA_256"`, " 5 ")))
	f.Add([]byte(strings.ReplaceAll(text, "=", "")))
	f.Add([]byte(strings.ReplaceAll(text, "d", `\u0064`)))
	for _, bad := range []string{``, `{}`, `null`, `{"hashedRekordRequestV002":null}`, `{"a":"\ud800"}`, `{"a":`, "{\"a\xff\":1}"} {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := entry.ParseRequest(body)
		if err != nil {
			if len(err.Error()) > 400 {
				t.Errorf("error text of %d bytes", len(err.Error()))
			}
			return
		}
		if entry.DuplicateKey(e.Canonical) != e.Key {
			t.Error("key from the request and from the entry differ")
		}
		var r pb.CreateEntryRequest
		if err := protojson.Unmarshal(body, &r); err != nil {
			t.Fatalf("protojson refuses what we accept: %v", err)
		}
		if r.GetHashedRekordRequestV002() == nil {
			return
		}
		want, err := peerBytes(t, body)
		if err != nil || !bytes.Equal(want, e.Canonical) {
			t.Errorf("peer: %s, %v\nours: %s", want, err, e.Canonical)
		}
	})
}

// FuzzParse: no bytes make the decoder panic, and what it accepts renders and parses to the same.
func FuzzParse(f *testing.F) {
	for _, s := range accepted(f)[:1] {
		f.Add(mustParse(f, s.request(f, false)).Canonical)
		f.Add(mustParse(f, s.request(f, true)).Canonical)
	}
	f.Add([]byte(dsseEntry))
	f.Add([]byte(`{"apiVersion":"0.0.1","kind":"intoto","spec":{"a":[1,-2.5e3,true,null,{"b":"\u00e9"}]}}`))
	f.Add([]byte(strings.Repeat("[", 1000)))
	f.Fuzz(func(t *testing.T, data []byte) {
		entry.DuplicateKey(data)
		b, err := entry.Parse(data)
		if err != nil || b.Kind != "hashedrekord" {
			return
		}
		again, err := entry.Canonical(b.Digest, b.Signatures[0])
		if err != nil {
			return
		}
		if entry.DuplicateKey(again) != entry.DuplicateKey(data) && bytes.Equal(again, data) {
			t.Error("equal bytes, different keys")
		}
		if _, err := entry.Parse(again); err != nil {
			t.Errorf("rendering what was parsed: %v", err)
		}
	})
}
