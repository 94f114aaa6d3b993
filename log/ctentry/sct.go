package ctentry

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"errors"
	"fmt"
	"math"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Algorithms of DigitallySigned (RFC 5246 section 7.4.1.4.1).
const (
	HashSHA256     = 4
	SignatureECDSA = 3
)

// SCT is a SignedCertificateTimestamp of version v1 (RFC 6962 section 3.2).
type SCT struct {
	LogID      [32]byte // SHA-256 of the log key's SubjectPublicKeyInfo
	Timestamp  int64    // milliseconds since the Unix epoch, not negative
	Extensions []byte   // CtExtensions without outer length; empty in SCTs of RFC 6962 logs
	Hash       uint8    // hash algorithm; 4 = SHA-256
	Algorithm  uint8    // signature algorithm; 3 = ECDSA
	Signature  []byte   // for ECDSA the ASN.1 form
}

// ParseSCT decodes one SCT and refuses whatever follows it.
func ParseSCT(sct []byte) (SCT, error) {
	var out SCT
	var version uint8
	var ms uint64
	s := cryptobyte.String(sct)
	if !s.ReadUint8(&version) {
		return SCT{}, errors.New("parsing SCT: empty")
	}
	if version != 0 {
		return SCT{}, fmt.Errorf("parsing SCT: unknown version %d", version)
	}
	if !s.CopyBytes(out.LogID[:]) || !s.ReadUint64(&ms) ||
		!s.ReadUint16LengthPrefixed((*cryptobyte.String)(&out.Extensions)) ||
		!s.ReadUint8(&out.Hash) || !s.ReadUint8(&out.Algorithm) ||
		!s.ReadUint16LengthPrefixed((*cryptobyte.String)(&out.Signature)) {
		return SCT{}, errors.New("parsing SCT: truncated")
	}
	if !s.Empty() {
		return SCT{}, fmt.Errorf("parsing SCT: %d trailing bytes", len(s))
	}
	if ms > math.MaxInt64 {
		return SCT{}, fmt.Errorf("parsing SCT: timestamp %d is above 2^63-1", ms)
	}
	out.Timestamp = int64(ms)
	return out, nil
}

// Marshal encodes s in its TLS form.
func (s SCT) Marshal() ([]byte, error) {
	if s.Timestamp < 0 {
		return nil, fmt.Errorf("encoding SCT: timestamp %d is negative", s.Timestamp)
	}
	b := cryptobyte.NewBuilder(make([]byte, 0, 47+len(s.Extensions)+len(s.Signature)))
	b.AddUint8(0) // version v1
	b.AddBytes(s.LogID[:])
	b.AddUint64(uint64(s.Timestamp))
	addVector16(b, s.Extensions)
	s.addSigned(b)
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding SCT: %w", err)
	}
	return out, nil
}

// DigitallySigned encodes the algorithms and the signature of s (RFC 5246 section 4.7).
func (s SCT) DigitallySigned() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 4+len(s.Signature)))
	s.addSigned(b)
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding signature: %w", err)
	}
	return out, nil
}

func (s SCT) addSigned(b *cryptobyte.Builder) {
	b.AddUint8(s.Hash)
	b.AddUint8(s.Algorithm)
	addVector16(b, s.Signature)
}

// Index returns the leaf index the SCT promises. SCTs of RFC 6962 logs have none: an error.
func (s SCT) Index() (int64, error) { return ParseExtensions(s.Extensions) }

// Verify returns nil if s is the promise of the log with the given ECDSA key to include e.
// Of e it takes what the SCT does not carry itself: Precert, IssuerKeyHash and Certificate.
func (s SCT) Verify(key crypto.PublicKey, e Entry) error {
	pub, ok := key.(*ecdsa.PublicKey)
	if !ok {
		return fmt.Errorf("verifying SCT: log key is %T, want ECDSA", key)
	}
	id, err := LogID(pub)
	if err != nil {
		return fmt.Errorf("verifying SCT: %w", err)
	}
	if s.LogID != id {
		return fmt.Errorf("verifying SCT: it is from log %x, the key is of log %x", s.LogID[:4], id[:4])
	}
	if s.Hash != HashSHA256 || s.Algorithm != SignatureECDSA {
		return fmt.Errorf("verifying SCT: algorithms %d and %d, want SHA-256 and ECDSA", s.Hash, s.Algorithm)
	}
	signed, err := s.signedBytes(e)
	if err != nil {
		return fmt.Errorf("verifying SCT: %w", err)
	}
	digest := sha256.Sum256(signed)
	if !ecdsa.VerifyASN1(pub, digest[:], s.Signature) {
		return errors.New("verifying SCT: signature does not match")
	}
	return nil
}

// signedBytes is the input of the SCT's signature: that of a MerkleTreeLeaf, but with the
// extensions of the SCT whatever they are, because RFC 6962 logs leave them empty.
func (s SCT) signedBytes(e Entry) ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, 57+len(e.Certificate)+len(s.Extensions)))
	b.AddUint8(0) // version v1
	b.AddUint8(0) // signature_type certificate_timestamp
	b.AddUint64(uint64(s.Timestamp))
	if e.Precert {
		b.AddUint16(entryPrecert)
		b.AddBytes(e.IssuerKeyHash[:])
	} else {
		b.AddUint16(entryX509)
	}
	addVector24(b, e.Certificate)
	addVector16(b, s.Extensions)
	return b.Bytes()
}

// LogID returns SHA-256 of the key's SubjectPublicKeyInfo.
func LogID(key crypto.PublicKey) ([32]byte, error) {
	spki, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return [32]byte{}, fmt.Errorf("encoding log key: %w", err)
	}
	return sha256.Sum256(spki), nil
}

// ParseSCTList decodes a SignedCertificateTimestampList (RFC 6962 section 3.3) into the encoded
// SCTs it holds, of which there is at least one.
func ParseSCTList(list []byte) ([][]byte, error) {
	s := cryptobyte.String(list)
	var body cryptobyte.String
	if !s.ReadUint16LengthPrefixed(&body) || !s.Empty() {
		return nil, errors.New("parsing SCT list: its length is not that of the bytes")
	}
	if body.Empty() {
		return nil, errors.New("parsing SCT list: empty")
	}
	var scts [][]byte
	for !body.Empty() {
		var sct cryptobyte.String
		if !body.ReadUint16LengthPrefixed(&sct) || sct.Empty() {
			return nil, fmt.Errorf("parsing SCT list: SCT %d is truncated or empty", len(scts))
		}
		scts = append(scts, sct)
	}
	return scts, nil
}

// MarshalSCTList encodes a list of encoded SCTs.
func MarshalSCTList(scts [][]byte) ([]byte, error) {
	b := cryptobyte.NewBuilder(nil)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, sct := range scts {
			if len(sct) == 0 {
				b.SetError(errors.New("an SCT is empty"))
				return
			}
			addVector16(b, sct)
		}
	})
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("encoding SCT list: %w", err)
	}
	if len(out) == 2 {
		return nil, errors.New("encoding SCT list: empty")
	}
	return out, nil
}

// MarshalSCTExtension returns the value of the SCT list extension of a certificate (the bytes
// inside extnValue: a DER OCTET STRING around the list) for a list of encoded SCTs.
func MarshalSCTExtension(scts [][]byte) ([]byte, error) {
	list, err := MarshalSCTList(scts)
	if err != nil {
		return nil, err
	}
	out, err := asn1.Marshal(list)
	if err != nil {
		return nil, fmt.Errorf("encoding SCT list extension: %w", err)
	}
	return out, nil
}

// SCTs returns the SCTs embedded in a DER certificate. A certificate without the extension has
// none, which is no error.
func SCTs(certificate []byte) ([]SCT, error) {
	tbs, err := TBS(certificate)
	if err != nil {
		return nil, err
	}
	ext, ok, err := findExtension(tbs, OIDSCTList)
	if err != nil || !ok {
		return nil, err
	}
	var list cryptobyte.String
	value := cryptobyte.String(ext.value)
	if !value.ReadASN1(&list, cbasn1.OCTET_STRING) || !value.Empty() {
		return nil, errors.New("parsing SCT list extension: not one OCTET STRING")
	}
	raw, err := ParseSCTList(list)
	if err != nil {
		return nil, err
	}
	scts := make([]SCT, len(raw))
	for i, r := range raw {
		if scts[i], err = ParseSCT(r); err != nil {
			return nil, fmt.Errorf("parsing SCT %d of the list: %w", i, err)
		}
	}
	return scts, nil
}
