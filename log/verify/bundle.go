package verify

import (
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
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
	maxProofHashes = 64 // a tree of 2^63 leaves
	maxCheckpoint  = 64 << 10
	maxCertificate = 64 << 10
)

// A material is a bundle taken apart: complete, within the limits, and not verified at all.
type material struct {
	bundle  *bundle.Bundle
	leaf    *x509.Certificate
	content sigstore.SignatureContent
	entries []*rekor.TransparencyLogEntry
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
	if _, err := m.bundle.Version(); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	if err := m.limited(); err != nil {
		return nil, refuse(CheckBundle, err)
	}
	var err error
	if m.leaf, err = x509.ParseCertificate(m.bundle.GetVerificationMaterial().GetCertificate().GetRawBytes()); err != nil {
		return nil, refuse(CheckCertificate, err)
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
	timestamps := vm.GetTimestampVerificationData().GetRfc3161Timestamps()
	switch {
	case m.bundle.GetMessageSignature() == nil && m.bundle.GetDsseEnvelope() == nil:
		return errors.New("there is no signature")
	case m.bundle.GetDsseEnvelope() != nil && len(m.bundle.GetDsseEnvelope().GetSignatures()) != 1:
		return fmt.Errorf("%d signatures in the envelope, want exactly one", len(m.bundle.GetDsseEnvelope().GetSignatures()))
	case vm.GetPublicKey() != nil:
		return errors.New("signed with a bare key, which says nothing about who signed")
	case vm.GetCertificate() == nil:
		return errors.New("there is no signing certificate")
	case len(vm.GetCertificate().GetRawBytes()) > maxCertificate:
		return fmt.Errorf("certificate of %d bytes, and at most %d are read", len(vm.GetCertificate().GetRawBytes()), maxCertificate)
	case len(timestamps) == 0:
		return errors.New("there is no timestamp")
	case len(timestamps) > maxTimestamps:
		return fmt.Errorf("%d timestamps, and at most %d are read", len(timestamps), maxTimestamps)
	case len(m.entries) == 0:
		return errors.New("there is no log entry")
	case len(m.entries) > maxTlogEntries:
		return fmt.Errorf("%d log entries, and at most %d are read", len(m.entries), maxTlogEntries)
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
