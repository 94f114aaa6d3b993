package ctentry

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Object identifiers of RFC 6962 section 3.1 and 3.3. They are not to be changed.
var (
	OIDPoison        = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 3} // marks a precertificate
	OIDSCTList       = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 2} // embedded SCTs
	OIDPrecertSigner = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 11129, 2, 4, 4} // EKU of a precert signing certificate
)

// ErrPrecertSigner reports that a precertificate is signed by a precertificate signing
// certificate (RFC 6962 section 3.1) instead of the final certificate's issuer. Such an entry
// decodes, but [Entry.Check] does not reconstruct its TBSCertificate.
var ErrPrecertSigner = errors.New("signed by a precertificate signing certificate")

// tagExtensions is the [3] of a TBSCertificate.
var tagExtensions = cbasn1.Tag(3).ContextSpecific().Constructed()

// Check returns nil if what e's leaf hash does not cover belongs to what it does: the committed
// issuer key hash is that of issuer, issuer's key verifies the (pre)certificate, the
// pre_certificate without its poison is the committed TBSCertificate, and the first fingerprint
// is issuer's. After it, UnverifiedPrecertificate may be believed.
func (e Entry) Check(issuer *x509.Certificate) error {
	if slices.ContainsFunc(issuer.UnknownExtKeyUsage, OIDPrecertSigner.Equal) {
		return fmt.Errorf("checking entry: %w", ErrPrecertSigner)
	}
	if len(e.UnverifiedFingerprints) > 0 && e.UnverifiedFingerprints[0] != sha256.Sum256(issuer.Raw) {
		return errors.New("checking entry: the first fingerprint is not the issuer's")
	}
	leaf := e.Certificate
	if e.Precert {
		leaf = e.UnverifiedPrecertificate
		if e.IssuerKeyHash != sha256.Sum256(issuer.RawSubjectPublicKeyInfo) {
			return errors.New("checking entry: the issuer key hash is not the issuer's")
		}
		tbs, err := TBS(leaf)
		if err != nil {
			return fmt.Errorf("checking entry: %w", err)
		}
		if tbs, err = RemoveExtension(tbs, OIDPoison); err != nil {
			return fmt.Errorf("checking entry: %w", err)
		}
		if !bytes.Equal(tbs, e.Certificate) {
			return errors.New("checking entry: the precertificate is not that of the logged TBSCertificate")
		}
	}
	cert, err := x509.ParseCertificate(leaf)
	if err != nil {
		return fmt.Errorf("checking entry: %w", err)
	}
	if err := issuer.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		return fmt.Errorf("checking entry: verifying with the issuer's key: %w", err)
	}
	return nil
}

// TBS returns the TBSCertificate of a DER certificate, header included, as it is written.
func TBS(certificate []byte) ([]byte, error) {
	s := cryptobyte.String(certificate)
	var body, tbs cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !s.Empty() ||
		!body.ReadASN1Element(&tbs, cbasn1.SEQUENCE) {
		return nil, errors.New("parsing certificate: not a DER SEQUENCE of a TBSCertificate and more")
	}
	return tbs, nil
}

// PrecertTBS returns the TBSCertificate that a log commits to for a DER certificate: that of a
// precertificate without the poison, that of a final certificate without the SCT list.
func PrecertTBS(certificate []byte) ([]byte, error) {
	tbs, err := TBS(certificate)
	if err != nil {
		return nil, err
	}
	poisoned, err := IsPrecertificate(certificate)
	if err != nil {
		return nil, err
	}
	if poisoned {
		return RemoveExtension(tbs, OIDPoison)
	}
	return RemoveExtension(tbs, OIDSCTList)
}

// IsPrecertificate reports whether a DER certificate carries the poison extension.
// One that is repeated, not critical or not ASN.1 NULL is an error.
func IsPrecertificate(certificate []byte) (bool, error) {
	tbs, err := TBS(certificate)
	if err != nil {
		return false, err
	}
	ext, ok, err := findExtension(tbs, OIDPoison)
	if err != nil || !ok {
		return false, err
	}
	// > a special critical poison extension (OID 1.3.6.1.4.1.11129.2.4.3, whose extnValue OCTET
	// > STRING contains ASN.1 NULL data (0x05 0x00)) (RFC 6962 section 3.1)
	if !ext.critical {
		return false, errors.New("parsing precertificate: the poison extension is not critical")
	}
	if !bytes.Equal(ext.value, asn1.NullBytes) {
		return false, errors.New("parsing precertificate: the poison extension is not NULL")
	}
	return true, nil
}

// RemoveExtension returns a DER TBSCertificate without the extension of the given identifier,
// which must occur exactly once. Everything else is copied as it is written and only the three
// lengths around the extensions are made anew: structures that are decoded and encoded again
// lose odd encodings, and with them the SCT. If no extension is left, the [3] goes as well.
func RemoveExtension(tbs []byte, oid asn1.ObjectIdentifier) ([]byte, error) {
	before, list, err := splitTBS(tbs)
	if err != nil {
		return nil, err
	}
	id, err := asn1.Marshal(oid)
	if err != nil {
		return nil, fmt.Errorf("encoding %v: %w", oid, err)
	}
	var kept []byte
	removed := 0
	for !list.Empty() {
		var raw cryptobyte.String
		ext, err := readExtension(&list, &raw)
		if err != nil {
			return nil, err
		}
		if bytes.Equal(ext.id, id) {
			removed++
		} else {
			kept = append(kept, raw...)
		}
	}
	if removed != 1 {
		return nil, fmt.Errorf("removing extension %v: it occurs %d times", oid, removed)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(before)
		if len(kept) == 0 {
			return
		}
		b.AddASN1(tagExtensions, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddBytes(kept) })
		})
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("removing extension %v: %w", oid, err)
	}
	return out, nil
}

// WrapTBS returns a DER certificate of tbs with its own signature algorithm and an empty
// signature, for parsers that know only certificates. Nobody signed it.
func WrapTBS(tbs []byte) ([]byte, error) {
	s := cryptobyte.String(tbs)
	var body, algorithm cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !s.Empty() ||
		!body.SkipOptionalASN1(cbasn1.Tag(0).ContextSpecific().Constructed()) ||
		!body.SkipASN1(cbasn1.INTEGER) ||
		!body.ReadASN1Element(&algorithm, cbasn1.SEQUENCE) {
		return nil, errors.New("parsing TBSCertificate: no signature algorithm")
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, len(tbs)+len(algorithm)+9))
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddBytes(tbs)
		b.AddBytes(algorithm)
		b.AddASN1BitString(nil)
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("wrapping TBSCertificate: %w", err)
	}
	return out, nil
}

type extension struct {
	id       []byte // DER OBJECT IDENTIFIER, header included
	critical bool
	value    []byte // inside extnValue
}

// findExtension returns the extension of the given identifier in a DER TBSCertificate.
func findExtension(tbs []byte, oid asn1.ObjectIdentifier) (extension, bool, error) {
	var found extension
	var ok bool
	_, list, err := splitTBS(tbs)
	if err != nil {
		return found, false, err
	}
	id, err := asn1.Marshal(oid)
	if err != nil {
		return found, false, fmt.Errorf("encoding %v: %w", oid, err)
	}
	for !list.Empty() {
		var raw cryptobyte.String
		ext, err := readExtension(&list, &raw)
		if err != nil {
			return found, false, err
		}
		if !bytes.Equal(ext.id, id) {
			continue
		}
		if ok {
			return found, false, fmt.Errorf("parsing TBSCertificate: extension %v is repeated", oid)
		}
		found, ok = ext, true
	}
	return found, ok, nil
}

// splitTBS returns the content of a TBSCertificate before its [3], and the content of the
// SEQUENCE in there. A TBSCertificate without [3] has no extensions.
func splitTBS(tbs []byte) (before []byte, extensions cryptobyte.String, err error) {
	s := cryptobyte.String(tbs)
	var body cryptobyte.String
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) || !s.Empty() {
		return nil, nil, errors.New("parsing TBSCertificate: not one DER SEQUENCE")
	}
	content := []byte(body)
	for !body.Empty() && !body.PeekASN1Tag(tagExtensions) {
		var element cryptobyte.String
		var tag cbasn1.Tag
		if !body.ReadAnyASN1Element(&element, &tag) {
			return nil, nil, errors.New("parsing TBSCertificate: an element is not DER")
		}
	}
	before = content[:len(content)-len(body)]
	if body.Empty() {
		return before, nil, nil
	}
	var wrapper cryptobyte.String
	if !body.ReadASN1(&wrapper, tagExtensions) || !body.Empty() ||
		!wrapper.ReadASN1(&extensions, cbasn1.SEQUENCE) || !wrapper.Empty() {
		return nil, nil, errors.New("parsing TBSCertificate: the extensions are not one DER SEQUENCE at the end")
	}
	return before, extensions, nil
}

// readExtension takes one Extension off list and leaves its encoding in raw. It is lax about what
// it need not understand, because the certificates of foreign logs are as odd as their issuers.
func readExtension(list, raw *cryptobyte.String) (extension, error) {
	var ext extension
	var body, critical, value cryptobyte.String
	if !list.ReadASN1Element(raw, cbasn1.SEQUENCE) {
		return ext, errors.New("parsing TBSCertificate: an extension is not a DER SEQUENCE")
	}
	s := *raw
	if !s.ReadASN1(&body, cbasn1.SEQUENCE) ||
		!body.ReadASN1Element((*cryptobyte.String)(&ext.id), cbasn1.OBJECT_IDENTIFIER) ||
		!body.ReadOptionalASN1(&critical, nil, cbasn1.BOOLEAN) ||
		!body.ReadASN1(&value, cbasn1.OCTET_STRING) || !body.Empty() {
		return ext, errors.New("parsing TBSCertificate: an extension is not identifier, critical flag and value")
	}
	ext.critical = len(critical) == 1 && critical[0] != 0
	ext.value = value
	return ext, nil
}
