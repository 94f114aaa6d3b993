package verify_test

import (
	"crypto"
	"crypto/x509"
	"time"

	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	trustroot "github.com/sigstore/protobuf-specs/gen/pb-go/trustroot/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/timestamppb"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
)

// trustedRoot is the world as clients are told about it.
func (w *world) trustedRoot() []byte {
	w.t.Helper()
	logID, err := keys.LogID(origin, w.log.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	ctID, err := ctentry.LogID(w.ct.Public())
	if err != nil {
		w.t.Fatal(err)
	}
	data, err := protojson.Marshal(&trustroot.TrustedRoot{
		MediaType: "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
		Tlogs: []*trustroot.TransparencyLogInstance{
			w.logInstance("https://"+origin, w.log.Public(), common.PublicKeyDetails_PKIX_ED25519, logID)},
		Ctlogs: []*trustroot.TransparencyLogInstance{
			w.logInstance("https://ct.example.com", w.ct.Public(), common.PublicKeyDetails_PKIX_ECDSA_P256_SHA_256, ctID)},
		CertificateAuthorities: []*trustroot.CertificateAuthority{w.instance("https://ca.example.com", w.ca)},
		TimestampAuthorities:   []*trustroot.CertificateAuthority{w.instance("https://tsa.example.com", w.tsa)},
	})
	if err != nil {
		w.t.Fatal(err)
	}
	return data
}

func (w *world) since() *common.TimeRange {
	return &common.TimeRange{Start: timestamppb.New(w.now.Add(-time.Hour))}
}

func (w *world) logInstance(url string, key crypto.PublicKey, details common.PublicKeyDetails, id [32]byte) *trustroot.TransparencyLogInstance {
	w.t.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		w.t.Fatal(err)
	}
	return &trustroot.TransparencyLogInstance{
		BaseUrl: url, HashAlgorithm: common.HashAlgorithm_SHA2_256, LogId: &common.LogId{KeyId: id[:]},
		PublicKey: &common.PublicKey{RawBytes: spki, KeyDetails: details, ValidFor: w.since()},
	}
}

func (w *world) instance(uri string, c chain) *trustroot.CertificateAuthority {
	a := &trustroot.CertificateAuthority{
		Uri: uri, Subject: &common.DistinguishedName{Organization: "example", CommonName: uri},
		CertChain: &common.X509CertificateChain{}, ValidFor: w.since(),
	}
	for _, cert := range c.certs {
		a.CertChain.Certificates = append(a.CertChain.Certificates, &common.X509Certificate{RawBytes: cert.Raw})
	}
	return a
}
