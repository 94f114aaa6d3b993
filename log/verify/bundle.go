package verify

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"sync"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	common "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	rekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"
	"github.com/sigstore/sigstore-go/pkg/bundle"
	"github.com/sigstore/sigstore-go/pkg/fulcio/certificate"
	sigstore "github.com/sigstore/sigstore-go/pkg/verify"
	"google.golang.org/protobuf/encoding/protojson"
)

// Limits on what is looked at; each bounds the work an attacker's bundle can cause. Those on log
// entries and timestamps are sigstore-go's own.
const (
	MaxBundle      = 16 << 20 // bytes of JSON: room for an attestation with an SBOM inside
	maxTlogEntries = 32
	maxTimestamps  = 32
	maxProofHashes = 64      // a tree of 2^63 leaves
	maxCheckpoint  = 1 << 20 // 100 ML-DSA signature lines, the most there may be, are a third of it
	maxCertificate = 64 << 10
	maxTimestamp   = 16 << 10 // one of which can hold a key that takes long to verify with
	maxStamps      = 64 << 10 // bytes of all timestamps
	maxChain       = 10       // certificates
)

// A material is a bundle taken apart: complete, within the limits, and not verified at all.
type material struct {
	bundle *bundle.Bundle
	leaf   *x509.Certificate // nil: signed with a managed key
	key    crypto.PublicKey  // leaf's, or else the one that is expected

	predicate string                 // type of an attestation, once subjects has read it
	body      func() ([]byte, error) // rebuild, done once for all entries
	content   sigstore.SignatureContent
	entries   []*rekor.TransparencyLogEntry
}

// parse takes a bundle apart. The JSON is read as strictly as clients do: an unknown field, a
// duplicate one or anything after the object is an error.
func parse(data []byte) (*material, error) {
	if len(data) > MaxBundle {
		return nil, refusef(CheckBundle, "%d bytes, and at most %d are read", len(data), MaxBundle)
	}
	// sigstore-go's own UnmarshalJSON would decode canonicalizedBody as well, and call damage to
	// it a malformed bundle. Here it waits for its own check.
	pb := new(protobundle.Bundle)
	if err := protojson.Unmarshal(data, pb); err != nil {
		return nil, refuse(CheckBundle, fmt.Errorf("decoding JSON: %w", err))
	}
	m := &material{bundle: &bundle.Bundle{Bundle: pb}}
	m.body = sync.OnceValues(m.rebuild)
	version, err := m.bundle.Version()
	if err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if err := m.limited(); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if err := m.certificate(version); err != nil {
		return nil, err
	}
	if m.leaf != nil && m.timestamps() == 0 && !slices.ContainsFunc(m.entries, hasPromise) {
		return nil, refusef(CheckBundle, "there is no timestamp")
	}
	if m.content, err = m.bundle.SignatureContent(); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if len(m.content.Signature()) == 0 {
		return nil, refusef(CheckBundle, "there is no signature")
	}
	return m, nil
}

// limited reports what is missing from the bundle, or is more than anybody needs.
func (m *material) limited() error {
	vm := m.bundle.GetVerificationMaterial()
	m.entries = vm.GetTlogEntries()
	switch {
	case m.bundle.GetMessageSignature() == nil && m.bundle.GetDsseEnvelope() == nil:
		return errors.New("there is no signature")
	case m.bundle.GetDsseEnvelope() != nil && len(m.bundle.GetDsseEnvelope().GetSignatures()) != 1:
		return fmt.Errorf("%d signatures in the envelope, want exactly one", len(m.bundle.GetDsseEnvelope().GetSignatures()))
	case m.timestamps() > maxTimestamps:
		return fmt.Errorf("%d timestamps, and at most %d are read", m.timestamps(), maxTimestamps)
	case len(m.entries) == 0:
		return errors.New("there is no log entry")
	case len(m.entries) > maxTlogEntries:
		return fmt.Errorf("%d log entries, and at most %d are read", len(m.entries), maxTlogEntries)
	}
	total := 0
	for _, t := range vm.GetTimestampVerificationData().GetRfc3161Timestamps() {
		if len(t.GetSignedTimestamp()) > maxTimestamp {
			return fmt.Errorf("timestamp of %d bytes, and at most %d are read", len(t.GetSignedTimestamp()), maxTimestamp)
		}
		total += len(t.GetSignedTimestamp())
	}
	if total > maxStamps {
		return fmt.Errorf("timestamps of %d bytes in all, and at most %d are read", total, maxStamps)
	}
	for _, e := range m.entries {
		switch proof := e.GetInclusionProof(); {
		case proof == nil:
			return errors.New("a log entry comes without inclusion proof")
		case len(proof.GetHashes()) > maxProofHashes:
			return fmt.Errorf("inclusion proof of %d hashes, and no tree needs more than %d", len(proof.GetHashes()), maxProofHashes)
		case len(proof.GetCheckpoint().GetEnvelope()) > maxCheckpoint:
			return fmt.Errorf("checkpoint of %d bytes, and at most %d are read", len(proof.GetCheckpoint().GetEnvelope()), maxCheckpoint)
		}
	}
	return nil
}

// timestamps counts the RFC 3161 timestamps.
func (m *material) timestamps() int {
	return len(m.bundle.GetVerificationMaterial().GetTimestampVerificationData().GetRfc3161Timestamps())
}

// hasPromise reports whether a log signed for the time of e.
func hasPromise(e *rekor.TransparencyLogEntry) bool {
	return len(e.GetInclusionPromise().GetSignedEntryTimestamp()) > 0
}

// certificate reads the signing certificate, unless the bundle says that a managed key signed. Of
// a chain, which bundles before 0.3 have, it is the first; the others are the trusted root's to say.
func (m *material) certificate(version string) error {
	vm := m.bundle.GetVerificationMaterial()
	var der []*common.X509Certificate
	switch chain := vm.GetX509CertificateChain().GetCertificates(); {
	case vm.GetPublicKey() != nil:
		return nil
	case vm.GetCertificate() != nil:
		der = []*common.X509Certificate{vm.GetCertificate()}
	case vm.GetX509CertificateChain() != nil && version != "v0.1" && version != "v0.2":
		return refusef(CheckBundle, "a certificate chain, and bundles since 0.3 have the signing certificate alone")
	case len(chain) > maxChain:
		return refusef(CheckBundle, "%d certificates, and at most %d are read", len(chain), maxChain)
	default:
		der = chain
	}
	if len(der) == 0 {
		return refusef(CheckBundle, "there is no signing certificate")
	}
	for i, d := range der {
		if len(d.GetRawBytes()) > maxCertificate {
			return refusef(CheckBundle, "certificate of %d bytes, and at most %d are read", len(d.GetRawBytes()), maxCertificate)
		}
		cert, err := x509.ParseCertificate(d.GetRawBytes())
		switch {
		case err != nil:
			return refuse(CheckCertificate, err)
		case i == 0:
			m.leaf, m.key = cert, cert.PublicKey
		case bytes.Equal(cert.RawIssuer, cert.RawSubject):
			// > Signers MUST NOT include root CA certificates in bundles
			// (dev.sigstore.bundle.v1.VerificationMaterial)
			return refusef(CheckBundle, "the certificate chain holds the root certificate %q, which only the trusted root can vouch for", cert.Subject)
		}
	}
	return nil
}

// entity is the bundle as sigstore-go's verifier wants it, checked by sigstore-go's own rules.
func (m *material) entity() (*bundle.Bundle, error) { return bundle.NewBundle(m.bundle.Bundle) }

var oidSAN = asn1.ObjectIdentifier{2, 5, 29, 17}

// Signer returns the identity that cert was issued to and the OpenID Connect issuer that vouched
// for it, as Sigstore clients read them. It verifies nothing. A certificate that names nobody, or
// more than one, is an error: clients look at the first name only and disagree on which that is.
func Signer(cert *x509.Certificate) (identity, issuer string, err error) {
	names := len(cert.URIs) + len(cert.EmailAddresses) + len(cert.DNSNames) + len(cert.IPAddresses)
	others, err := otherNames(cert)
	if err != nil {
		return "", "", err
	}
	if names+others != 1 {
		return "", "", fmt.Errorf("the certificate has %d subject alternative names, want exactly one", names+others)
	}
	summary, err := certificate.SummarizeCertificate(cert)
	if err != nil {
		return "", "", fmt.Errorf("reading certificate: %w", err)
	}
	return summary.SubjectAlternativeName, summary.Issuer, nil
}

// otherNames counts the subject alternative names crypto/x509 does not parse.
func otherNames(cert *x509.Certificate) (int, error) {
	n := 0
	for _, ext := range cert.Extensions {
		if !ext.Id.Equal(oidSAN) {
			continue
		}
		var names []asn1.RawValue
		if rest, err := asn1.Unmarshal(ext.Value, &names); err != nil || len(rest) != 0 {
			return 0, errors.New("the certificate's subject alternative names are malformed")
		}
		for _, name := range names {
			switch name.Tag {
			case 1, 2, 6, 7: // rfc822Name, dNSName, URI, iPAddress: parsed by crypto/x509
			default:
				n++
			}
		}
	}
	return n, nil
}
