package verify_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"strings"
	"testing"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"tallywood/log/ctentry"
	"tallywood/log/verify"
)

type pkixExtension = pkix.Extension

var oidSCTList = ctentry.OIDSCTList

func TestNewNamesEverythingWrong(t *testing.T) {
	_, err := verify.New(verify.Options{TrustedRoot: []byte(`{"mediaType":"x"}`)})
	for _, want := range []string{"trusted root", "expected identity", "Policy and NoPolicy"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not mention %q", err, want)
		}
	}
}

func TestNewWantsExactlyOneWitnessRule(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.NoPolicy = true
	if _, err := verify.New(o); err == nil {
		t.Error("a policy and NoPolicy together are accepted")
	}
	o.Policy, o.NoPolicy = nil, false
	if _, err := verify.New(o); err == nil {
		t.Error("neither a policy nor NoPolicy is accepted")
	}
}

func TestNewWantsIdentityAndIssuer(t *testing.T) {
	w := newWorld(t)
	o := w.options()
	o.Identity = ""
	if _, err := verify.New(o); err == nil {
		t.Error("an empty identity is accepted")
	}
	o = w.options()
	o.Issuer = ""
	if _, err := verify.New(o); err == nil {
		t.Error("an empty issuer is accepted")
	}
}

func TestNewWantsOneSigner(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(o *verify.Options){
		"identity and pattern": func(o *verify.Options) { o.IdentityPattern = ".*" },
		"issuer and pattern":   func(o *verify.Options) { o.IssuerPattern = ".*" },
		"identity and key":     func(o *verify.Options) { o.Key = w.ct.Public() },
		"pattern and key": func(o *verify.Options) {
			*o = w.keyOptions(w.ca.certs[0].RawSubjectPublicKeyInfo)
			o.IssuerPattern = ".*"
		},
		"no RE2": func(o *verify.Options) { o.Identity, o.IdentityPattern = "", "(" },
		"a parenthesis that would end the anchoring group": func(o *verify.Options) {
			o.Identity, o.IdentityPattern = "", ".*)|(.*"
		},
		"key that no log takes": func(o *verify.Options) {
			key, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			*o = verify.Options{TrustedRoot: o.TrustedRoot, NoPolicy: true, Key: key.Public()}
		},
	} {
		o := w.options()
		change(&o)
		if _, err := verify.New(o); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPatternsMatchTheWhole(t *testing.T) {
	w := newWorld(t)
	data := marshal(t, w.bundle(artifact, leafSpec{}))
	for _, x := range []struct {
		identity, issuer string
		check            verify.Check // empty: passes
	}{
		{`.*@example\.com`, `https://login\.example\.com`, ""},
		{`^alice@example\.com$`, `.*`, ""},
		{`bob@example\.com|alice@example\.com`, `.*`, ""},
		{`(?i)ALICE@EXAMPLE\.COM`, `.*`, ""},
		{`alice@example`, `.*`, verify.CheckIdentity},     // cosign would take it, and alice@example.evil too
		{`lice@example\.com`, `.*`, verify.CheckIdentity}, // as well as malice@example.com
		{`x|alice`, `.*`, verify.CheckIdentity},           // the anchors hold for each alternative
		{`.*`, `example\.com`, verify.CheckIssuer},
		{`.*`, `https://login\.example\.com/.*`, verify.CheckIssuer},
	} {
		o := w.options()
		o.Identity, o.Issuer, o.IdentityPattern, o.IssuerPattern = "", "", x.identity, x.issuer
		got, err := w.newVerifier(o).Bundle(data, strings.NewReader(artifact))
		t.Run(x.identity+" of "+x.issuer, func(t *testing.T) {
			if x.check != "" {
				wantRefusal(t, got, err, x.check)
			} else if err != nil || got.Identity != alice || got.Issuer != issuer {
				t.Errorf("got %+v, %v", got, err)
			}
		})
	}
}

func TestRefusesMalformedBundles(t *testing.T) {
	for name, alter := range map[string]func(b *protobundle.Bundle){
		"media type":         func(b *protobundle.Bundle) { b.MediaType = "application/json" },
		"future media type":  func(b *protobundle.Bundle) { b.MediaType = "application/vnd.dev.sigstore.bundle.x4+json" },
		"no content":         func(b *protobundle.Bundle) { b.Content = nil },
		"no material":        func(b *protobundle.Bundle) { b.VerificationMaterial = nil },
		"no signature":       func(b *protobundle.Bundle) { b.GetMessageSignature().Signature = nil },
		"no digest":          func(b *protobundle.Bundle) { b.GetMessageSignature().MessageDigest = nil },
		"no timestamp":       func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		"no log entry":       func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		"no inclusion proof": func(b *protobundle.Bundle) { tle(b).InclusionProof = nil },
		"bare key": func(b *protobundle.Bundle) {
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_PublicKey{PublicKey: &common.PublicKeyIdentifier{Hint: "k"}}
		},
		"certificate chain": func(b *protobundle.Bundle) {
			b.VerificationMaterial.Content = &protobundle.VerificationMaterial_X509CertificateChain{X509CertificateChain: &common.X509CertificateChain{
				Certificates: []*common.X509Certificate{certificate(b)}}}
		},
		"certificate of 64 KiB": func(b *protobundle.Bundle) { certificate(b).RawBytes = make([]byte, 64<<10+1) },
		"33 log entries": func(b *protobundle.Bundle) {
			for len(b.VerificationMaterial.TlogEntries) < 33 {
				b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, tle(b))
			}
		},
		"33 timestamps": func(b *protobundle.Bundle) {
			d := b.VerificationMaterial.TimestampVerificationData
			for len(d.Rfc3161Timestamps) < 33 {
				d.Rfc3161Timestamps = append(d.Rfc3161Timestamps, token(b))
			}
		},
		"65 proof hashes": func(b *protobundle.Bundle) { tle(b).InclusionProof.Hashes = make([][]byte, 65) },
		"timestamps of 64 KiB": func(b *protobundle.Bundle) {
			d := b.VerificationMaterial.TimestampVerificationData
			for range 4 {
				d.Rfc3161Timestamps = append(d.Rfc3161Timestamps, &common.RFC3161SignedTimestamp{SignedTimestamp: make([]byte, 16<<10)})
			}
		},
		"timestamp of 16 KiB": func(b *protobundle.Bundle) { token(b).SignedTimestamp = make([]byte, 16<<10+1) },
		"checkpoint of 1 MiB": func(b *protobundle.Bundle) {
			tle(b).InclusionProof.Checkpoint = &rekor.Checkpoint{Envelope: strings.Repeat("x", 1<<20+1)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			b := w.bundle(artifact, leafSpec{})
			alter(b)
			got, err := w.verifier().Bundle(marshal(t, b), strings.NewReader(artifact))
			wantRefusal(t, got, err, verify.CheckBundle)
		})
	}
}

func TestRefusesLooseJSON(t *testing.T) {
	w := newWorld(t)
	good := marshal(t, w.bundle(artifact, leafSpec{}))
	for name, data := range map[string][]byte{
		"empty":         {},
		"unknown field": append([]byte(`{"surplus":1,`), good[1:]...),
		"second value":  append(bytes.Clone(good), '{', '}'),
		"too long":      append(bytes.Clone(good), bytes.Repeat([]byte(" "), verify.MaxBundle)...),
	} {
		got, err := w.verifier().Bundle(data, strings.NewReader(artifact))
		t.Run(name, func(t *testing.T) { wantRefusal(t, got, err, verify.CheckBundle) })
	}
}

func TestSignerReadsTheOnlyName(t *testing.T) {
	w := newWorld(t)
	cert, _ := w.leaf(leafSpec{})
	identity, vouched, err := verify.Signer(cert)
	if identity != alice || vouched != issuer || err != nil {
		t.Errorf("got %q, %q, %v", identity, vouched, err)
	}
	cert, _ = w.leaf(leafSpec{also: "mallory.example.com"})
	if identity, _, err := verify.Signer(cert); err == nil {
		t.Errorf("of two names it read %q", identity)
	}
	if identity, _, err := verify.Signer(new(x509.Certificate)); err == nil {
		t.Errorf("of no name it read %q", identity)
	}
}
