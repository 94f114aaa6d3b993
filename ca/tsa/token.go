package tsa

import (
	"bytes"
	"cmp"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	// The digests a client may ask for.
	_ "crypto/sha512"
)

// DER tags.
const (
	tagInteger         = 0x02
	tagOctets          = 0x04
	tagUTF8            = 0x0c
	tagUTCTime         = 0x17
	tagGeneralizedTime = 0x18
	tagSequence        = 0x30
	tagSet             = 0x31
	tagContext0        = 0xa0 // [0] constructed
	tagContext4        = 0xa4
)

// Object identifiers, DER.
var (
	oidSignedData    = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2})
	oidTSTInfo       = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4})
	oidContentType   = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 3})
	oidMessageDigest = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 4})
	oidSigningTime   = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 5})
	oidSigningCertV2 = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47})
	oidRSA           = mustDER(asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 1})
	oidEd25519       = mustDER(asn1.ObjectIdentifier{1, 3, 101, 112})
	oidECDSA         = map[crypto.Hash][]byte{
		crypto.SHA256: mustDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 2}),
		crypto.SHA384: mustDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 3}),
		crypto.SHA512: mustDER(asn1.ObjectIdentifier{1, 2, 840, 10045, 4, 3, 4}),
	}
)

var (
	derV1       = []byte{tagInteger, 1, 1}
	derV3       = []byte{tagInteger, 1, 3}
	derAccuracy = []byte{tagSequence, 3, tagInteger, 1, 1} // one second: times are whole seconds
	derGranted  = []byte{tagSequence, 3, tagInteger, 1, 0}
)

// format makes tokens. Nearly all of one is the same for every request and prepared here; what
// changes is imprint, serial number, times, nonce, digest and signature.
type format struct {
	signer crypto.Signer
	digest crypto.Hash
	pure   bool // the signature scheme hashes for itself (Ed25519)

	imprints     map[crypto.Hash][]byte // AlgorithmIdentifier of a digest, parameters NULL
	tsa          []byte                 // [0] GeneralName of the leaf's subject
	digests      []byte                 // AlgorithmIdentifier of the signature's digest
	contentType  []byte                 // Attribute
	signingCert  []byte                 // Attribute
	signer1      []byte                 // SignerInfo up to the signed attributes
	algorithm    []byte                 // AlgorithmIdentifier of the signature
	certificates []byte                 // [0] CertificateSet
}

func newFormat(o Options) (*format, error) {
	f := &format{signer: o.Signer, digest: o.Digest, imprints: map[crypto.Hash][]byte{}}
	if err := f.chooseAlgorithm(); err != nil {
		return nil, err
	}
	hashOIDs := map[crypto.Hash][]byte{}
	for _, h := range hashes {
		hashOIDs[h.hash] = append([]byte{6, byte(len(h.oid))}, h.oid...)
		f.imprints[h.hash] = tlv(tagSequence, hashOIDs[h.hash], asn1.NullBytes)
	}
	leaf := o.Chain[0]
	serial, err := asn1.Marshal(leaf.SerialNumber)
	if err != nil {
		return nil, fmt.Errorf("encoding serial number of the leaf: %w", err)
	}
	f.tsa = tlv(tagContext0, tlv(tagContext4, leaf.RawSubject))
	f.digests = tlv(tagSequence, hashOIDs[f.digest])
	f.contentType = attribute(oidContentType, oidTSTInfo)
	hash := sha256.Sum256(leaf.Raw) // SHA-256 is the default of ESSCertIDv2 and left out (RFC 5035)
	issuer := tlv(tagSequence, tlv(tagSequence, tlv(tagContext4, leaf.RawIssuer)), serial)
	f.signingCert = attribute(oidSigningCertV2,
		tlv(tagSequence, tlv(tagSequence, tlv(tagSequence, tlv(tagOctets, hash[:]), issuer))))
	f.signer1 = slices.Concat(derV1, tlv(tagSequence, leaf.RawIssuer, serial), f.digests)
	certificates := leaf.Raw
	if o.FullChain {
		for _, cert := range o.Chain[1:] {
			certificates = append(certificates[:len(certificates):len(certificates)], cert.Raw...)
		}
	}
	f.certificates = tlv(tagContext0, certificates)
	return f, nil
}

// chooseAlgorithm sets digest and signature algorithm from the key, unless the digest is given.
func (f *format) chooseAlgorithm() error {
	byKey := crypto.SHA256
	switch key := f.signer.Public().(type) {
	case *ecdsa.PublicKey:
		switch key.Curve {
		case elliptic.P256():
		case elliptic.P384():
			byKey = crypto.SHA384
		case elliptic.P521():
			byKey = crypto.SHA512
		default:
			return fmt.Errorf("signer's curve is %s; want P-256, P-384 or P-521", key.Params().Name)
		}
	case *rsa.PublicKey:
		f.algorithm = tlv(tagSequence, oidRSA, asn1.NullBytes)
	case ed25519.PublicKey:
		// With signed attributes its digest is SHA-512 always (RFC 8419 section 3).
		byKey = crypto.SHA512
		f.algorithm, f.pure = tlv(tagSequence, oidEd25519), true
	default:
		return fmt.Errorf("signer's key is %T; want ECDSA, RSA or Ed25519", key)
	}
	f.digest = cmp.Or(f.digest, byKey)
	ecdsaOID, ok := oidECDSA[f.digest]
	if !ok || f.pure && f.digest != byKey {
		return fmt.Errorf("digest %v does not go with a key of type %T", f.digest, f.signer.Public())
	}
	if f.algorithm == nil {
		f.algorithm = tlv(tagSequence, ecdsaOID)
	}
	return nil
}

// response returns a granted DER TimeStampResp for req at now, whole seconds in UTC.
func (f *format) response(req request, now time.Time) ([]byte, error) {
	info, err := f.tstInfo(req, now)
	if err != nil {
		return nil, err
	}
	h := f.digest.New()
	h.Write(info)
	attributes := f.signedAttributes(h.Sum(nil), now)

	// > a separate encoding of the signedAttrs field is performed for message digest
	// > calculation. The IMPLICIT [0] tag in the signedAttrs is not used for the DER encoding,
	// > rather an EXPLICIT SET OF tag is used. (RFC 5652 section 5.4)
	signed := tlv(tagSet, attributes)
	opts := f.digest
	if f.pure {
		opts = crypto.Hash(0)
	} else {
		h.Reset()
		h.Write(signed)
		signed = h.Sum(nil)
	}
	signature, err := f.signer.Sign(rand.Reader, signed, opts)
	if err != nil {
		return nil, fmt.Errorf("signing timestamp: %w: %w", errKey, err)
	}

	signer := tlv(tagSequence, f.signer1, tlv(tagContext0, attributes), f.algorithm, tlv(tagOctets, signature))
	content := tlv(tagSequence, oidTSTInfo, tlv(tagContext0, tlv(tagOctets, info)))
	var certificates []byte
	if req.certificates {
		certificates = f.certificates
	}
	data := tlv(tagSequence, derV3, tlv(tagSet, f.digests), content, certificates, tlv(tagSet, signer))
	return tlv(tagSequence, derGranted, tlv(tagSequence, oidSignedData, tlv(tagContext0, data))), nil
}

// tstInfo encodes what is signed about the request (RFC 3161 section 2.4.2). Ordering is false,
// which DER leaves out.
func (f *format) tstInfo(req request, now time.Time) ([]byte, error) {
	imprint := tlv(tagSequence, f.imprints[req.hash], tlv(tagOctets, req.digest))
	serial := make([]byte, 2+20)
	serial[0], serial[1] = tagInteger, 20
	// The two top bits make it positive and 20 bytes long whatever the rest is.
	_, _ = rand.Read(serial[2:]) // never fails
	serial[2] = serial[2]&0x3f | 0x40
	if now.Year() > 9999 {
		return nil, fmt.Errorf("encoding time: year %d", now.Year())
	}
	var buf [17]byte
	at := now.AppendFormat(append(buf[:0], tagGeneralizedTime, 15), "20060102150405Z")
	return tlv(tagSequence, derV1, req.policy, imprint, serial, at, derAccuracy, req.nonce, f.tsa), nil
}

// signedAttributes returns the content of the SET of signed attributes, sorted as DER wants it.
func (f *format) signedAttributes(digest []byte, now time.Time) []byte {
	// > Dates between 1 January 1950 and 31 December 2049 (inclusive) MUST be encoded as UTCTime.
	// > (RFC 5652 section 11.3)
	tag, layout := byte(tagUTCTime), "060102150405Z"
	if now.Year() < 1950 || now.Year() > 2049 {
		tag, layout = tagGeneralizedTime, "20060102150405Z"
	}
	var buf [15]byte
	attributes := [][]byte{
		f.contentType,
		f.signingCert,
		attribute(oidSigningTime, tlv(tag, now.AppendFormat(buf[:0], layout))),
		attribute(oidMessageDigest, tlv(tagOctets, digest)),
	}
	slices.SortFunc(attributes, bytes.Compare)
	return slices.Concat(attributes...)
}

// rejection returns a DER TimeStampResp that refuses a request.
func rejection(f failure, message string) []byte {
	// PKIFailureInfo is a BIT STRING without trailing zeros.
	bits := make([]byte, int(f)/8+1)
	bits[len(bits)-1] = 0x80 >> (f % 8)
	unused := byte(7 - f%8)
	return tlv(tagSequence, tlv(tagSequence,
		[]byte{tagInteger, 1, 2}, // rejection
		tlv(tagSequence, tlv(tagUTF8, []byte(message))),
		tlv(0x03, []byte{unused}, bits)))
}

func attribute(oid, value []byte) []byte { return tlv(tagSequence, oid, tlv(tagSet, value)) }

// tlv returns the DER element of a one-byte tag whose content is the parts one after another.
func tlv(tag byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	out := make([]byte, 0, 4+n)
	switch {
	case n < 0x80:
		out = append(out, tag, byte(n))
	case n <= math.MaxUint8:
		out = append(out, tag, 0x81, byte(n))
	case n <= math.MaxUint16:
		out = append(out, tag, 0x82, byte(n>>8), byte(n))
	default:
		out = append(out, tag, 0x83, byte(n>>16), byte(n>>8), byte(n))
	}
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// mustDER encodes an identifier written in this file.
func mustDER(oid asn1.ObjectIdentifier) []byte {
	der, err := asn1.Marshal(oid)
	if err != nil {
		panic("tsa: " + err.Error())
	}
	return der
}

func seconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }
