package ca

import (
	"crypto"
	"crypto/sha1"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"time"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"

	"tallywood/ca/oidc"
	"tallywood/log/ctentry"
)

var (
	oidKeyUsage       = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage    = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidSubjectKeyID   = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidAuthorityKeyID = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidCodeSigning    = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3}
)

// Arcs below 1.3.6.1.4.1.57264.1 with a meaning of their own. Values are raw bytes up to arc 6,
// as the first clients read them, and DER UTF8String from arc 8 on.
const (
	arcIssuerV1 = 1
	lastRawArc  = 6
	arcUsername = 7 // no extension: the otherName type of user names
	arcIssuerV2 = 8
	arcSubject  = 24
)

// sigstoreOID is an extension of https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md.
func sigstoreOID(arc int) asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 57264, 1, arc}
}

// extension is one certificate extension; the zero value is none.
type extension struct {
	id       asn1.ObjectIdentifier
	critical bool
	value    []byte // the content of extnValue
}

// poison marks a precertificate (RFC 6962 section 3.1).
var poison = extension{id: ctentry.OIDPoison, critical: true, value: []byte{byte(cbasn1.NULL), 0}}

// profile is a certificate but for what comes last: the poison, or the SCT list in its place.
type profile struct {
	serial              []byte
	algorithm           []byte // DER AlgorithmIdentifier
	issuer              []byte // DER Name
	spki                []byte
	notBefore, notAfter time.Time
	extensions          []extension
}

// profile lays out the certificate for a key and an identity.
func (c *CA) profile(pub crypto.PublicKey, id oidc.Identity, now time.Time) (*profile, error) {
	spki, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil, fmt.Errorf("encoding public key: %w", err)
	}
	p := &profile{
		serial: newSerial(), algorithm: c.signer.algorithm, issuer: c.chain[0].RawSubject, spki: spki,
		notBefore: now, notAfter: now.Add(lifetime),
	}
	if p.notAfter.After(c.notAfter) {
		p.notAfter = c.notAfter
	}
	keyID, err := subjectKeyID(spki)
	if err != nil {
		return nil, err
	}
	san, err := subjectAltName(id.SAN)
	if err != nil {
		return nil, err
	}
	p.extensions = []extension{
		{oidKeyUsage, true, []byte{byte(cbasn1.BIT_STRING), 2, 7, 0x80}}, // digitalSignature, the first of 8 bits
		{oidExtKeyUsage, false, der(func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1ObjectIdentifier(oidCodeSigning) })
		})},
		{oidSubjectKeyID, false, der(func(b *cryptobyte.Builder) { b.AddASN1OctetString(keyID) })},
		{oidAuthorityKeyID, false, der(func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.Tag(0).ContextSpecific(), func(b *cryptobyte.Builder) {
					b.AddBytes(c.chain[0].SubjectKeyId)
				})
			})
		})},
		{oidSubjectAltName, true, san},
	}
	identity, err := identityExtensions(id)
	if err != nil {
		return nil, err
	}
	p.extensions = append(p.extensions, identity...)
	return p, nil
}

// identityExtensions renders issuer, subject and what the identity adds, by ascending arc.
func identityExtensions(id oidc.Identity) ([]extension, error) {
	if id.Issuer == "" || id.Subject == "" {
		return nil, errors.New("identity without issuer or subject")
	}
	values := map[int]string{arcIssuerV1: id.Issuer, arcIssuerV2: id.Issuer, arcSubject: id.Subject}
	for arc, v := range id.Extensions {
		if _, ours := values[arc]; ours || arc < arcIssuerV1 || arc > arcSubject || arc == arcUsername {
			return nil, fmt.Errorf("identity sets extension %d", arc)
		}
		values[arc] = v
	}
	var extensions []extension
	for arc := arcIssuerV1; arc <= arcSubject; arc++ {
		v := values[arc]
		if v == "" {
			continue
		}
		e := extension{id: sigstoreOID(arc), value: []byte(v)}
		if arc > lastRawArc {
			e.value = der(func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(v)) })
			})
		}
		extensions = append(extensions, e)
	}
	return extensions, nil
}

// subjectAltName encodes GeneralNames (RFC 5280 section 4.2.1.6).
func subjectAltName(san oidc.SAN) ([]byte, error) {
	if san.Value == "" {
		return nil, errors.New("identity without subject alternative name")
	}
	var name func(b *cryptobyte.Builder)
	switch san.Kind {
	case oidc.SANEmail, oidc.SANURI:
		if slices.ContainsFunc([]byte(san.Value), func(c byte) bool { return c >= 0x80 }) {
			return nil, errors.New("subject alternative name is not ASCII")
		}
		tag := map[oidc.SANKind]cbasn1.Tag{oidc.SANEmail: 1, oidc.SANURI: 6}[san.Kind]
		name = func(b *cryptobyte.Builder) {
			b.AddASN1(tag.ContextSpecific(), func(b *cryptobyte.Builder) { b.AddBytes([]byte(san.Value)) })
		}
	case oidc.SANUsername:
		explicit := cbasn1.Tag(0).ContextSpecific().Constructed()
		name = func(b *cryptobyte.Builder) {
			b.AddASN1(explicit, func(b *cryptobyte.Builder) { // otherName
				b.AddASN1ObjectIdentifier(sigstoreOID(arcUsername))
				b.AddASN1(explicit, func(b *cryptobyte.Builder) {
					b.AddASN1(cbasn1.UTF8String, func(b *cryptobyte.Builder) { b.AddBytes([]byte(san.Value)) })
				})
			})
		}
	default:
		return nil, fmt.Errorf("unknown kind %d of subject alternative name", san.Kind)
	}
	return der(func(b *cryptobyte.Builder) { b.AddASN1(cbasn1.SEQUENCE, name) }), nil
}

// subjectKeyID is the SHA-1 of the public key's bits (RFC 5280 section 4.2.1.2, method 1): a
// name, not a commitment.
func subjectKeyID(spki []byte) ([]byte, error) {
	in := cryptobyte.String(spki)
	var info, algorithm cryptobyte.String
	var bits asn1.BitString
	if !in.ReadASN1(&info, cbasn1.SEQUENCE) || !info.ReadASN1(&algorithm, cbasn1.SEQUENCE) ||
		!info.ReadASN1BitString(&bits) {
		return nil, errors.New("public key is not a SubjectPublicKeyInfo")
	}
	sum := sha1.Sum(bits.Bytes)
	return sum[:], nil
}

// sctList is the extension that carries one SCT (RFC 6962 section 3.3).
func sctList(sct []byte) (extension, error) {
	if _, err := ctentry.ParseSCT(sct); err != nil {
		return extension{}, fmt.Errorf("reading the certificate log's answer: %w", err)
	}
	value, err := ctentry.MarshalSCTExtension([][]byte{sct})
	if err != nil {
		return extension{}, err
	}
	return extension{id: ctentry.OIDSCTList, value: value}, nil
}

// tbs encodes the TBSCertificate with last at the end of its extensions. Two encodings of one
// profile differ in that extension and the lengths around it alone, which is what verifiers of
// SCTs rely on. DER throughout: DEFAULT values are left out.
func (p *profile) tbs(last extension) []byte {
	return der(func(b *cryptobyte.Builder) {
		b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(cbasn1.Tag(0).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1Int64(2) // v3
			})
			b.AddASN1BigInt(new(big.Int).SetBytes(p.serial))
			b.AddBytes(p.algorithm)
			b.AddBytes(p.issuer)
			b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
				addTime(b, p.notBefore)
				addTime(b, p.notAfter)
			})
			b.AddASN1(cbasn1.SEQUENCE, func(*cryptobyte.Builder) {}) // subject: empty
			b.AddBytes(p.spki)
			b.AddASN1(cbasn1.Tag(3).ContextSpecific().Constructed(), func(b *cryptobyte.Builder) {
				b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
					for _, e := range append(slices.Clone(p.extensions), last) {
						e.add(b)
					}
				})
			})
		})
	})
}

func (e extension) add(b *cryptobyte.Builder) {
	if e.id == nil {
		return
	}
	b.AddASN1(cbasn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1ObjectIdentifier(e.id)
		if e.critical {
			b.AddASN1Boolean(true)
		}
		b.AddASN1OctetString(e.value)
	})
}

// addTime writes a validity time.
//
// > CAs conforming to this profile MUST always encode certificate validity dates through the year
// > 2049 as UTCTime (RFC 5280 section 4.1.2.5)
func addTime(b *cryptobyte.Builder, t time.Time) {
	if t.Year() > 2049 {
		b.AddASN1GeneralizedTime(t)
		return
	}
	b.AddASN1UTCTime(t)
}

// der builds one DER element whose parts cannot fail: they are bounded and well-formed.
func der(f cryptobyte.BuilderContinuation) []byte {
	b := new(cryptobyte.Builder)
	f(b)
	return b.BytesOrPanic()
}
