package entry_test

import (
	"bytes"
	"strings"
	"testing"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	pb "github.com/sigstore/rekor-tiles/v2/pkg/generated/protobuf"
	"github.com/sigstore/sigstore/pkg/signature"

	"tallywood/log/entry"
)

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
		want, err := canonicalize(&pb.Entry{Kind: "hashedrekord", ApiVersion: "0.0.2", Spec: &pb.Spec{
			Spec: &pb.Spec_HashedRekordV002{HashedRekordV002: &pb.HashedRekordLogEntryV002{
				Data:      &common.HashOutput{Algorithm: alg.GetProtoHashType(), Digest: digest},
				Signature: &pb.Signature{Content: sig, Verifier: v},
			}},
		}})
		if err != nil {
			t.Fatal(err)
		}
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

// FuzzParseRequest: whatever we accept, the peer logs as the same bytes; whatever we refuse is refused
// in few words, and by the peer too; but for the differences that have a name.
func FuzzParseRequest(f *testing.F) {
	p, s := newPeer(f), accepted(f)[0]
	request := s.request(f, false)
	f.Add(marshal(f, request))
	f.Add(marshal(f, s.request(f, true)))
	f.Add(marshal(f, s.dsseRequest(f, []byte(`{"a":1}`))))
	text := string(marshal(f, request))
	f.Add([]byte(strings.ReplaceAll(text, "hashedRekordRequestV002", "hashed_rekord_request_v002")))
	f.Add([]byte(strings.ReplaceAll(text, `"PKIX_ECDSA_P256_SHA_256"`, " 5 ")))
	f.Add([]byte(strings.ReplaceAll(text, "=", "")))
	f.Add([]byte(strings.ReplaceAll(text, "d", `\u0064`)))
	for _, h := range holders(f) {
		f.Add(h.signed[0].hashedrekord())
	}
	for _, bad := range []string{``, `{}`, `null`, `{"hashedRekordRequestV002":null}`, `{"a":"\ud800"}`, `{"a":`, "{\"a\xff\":1}"} {
		f.Add([]byte(bad))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, accepted, _ := p.compare(t, body)
		if accepted {
			if entry.DuplicateKey(e.Canonical) != e.Key {
				t.Error("key from the request and from the entry differ")
			}
			return
		}
		if _, err := entry.ParseRequest(body); err == nil || len(err.Error()) > 400 {
			t.Errorf("refused with %.500v", err)
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
