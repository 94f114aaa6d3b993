package entry

import (
	"encoding/base64"
	"errors"
	"fmt"
	"math/big"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// Canonical renders the hashedrekord 0.0.2 entry of a signature over digest, as RFC 8785 has it:
// names sorted, no spaces, bytes in padded standard base64, enums by name. All strings are base64
// or enum names, so nothing needs escaping. It is an error if KeyDetails is not an accepted one,
// digest has not the length of its hash, or not exactly one of Certificate and PublicKey is set;
// no signature is verified.
func Canonical(digest []byte, s Signature) ([]byte, error) {
	h := s.KeyDetails.Hash()
	switch {
	case h == 0:
		return nil, fmt.Errorf("key details %s are not supported", s.KeyDetails)
	case len(digest) != h.Size():
		return nil, fmt.Errorf("digest is %d bytes long, %s has %d", len(digest), hashName(h), h.Size())
	case (len(s.Certificate) == 0) == (len(s.PublicKey) == 0):
		return nil, errors.New("exactly one of certificate and public key is needed")
	}
	arm, raw := "publicKey", s.PublicKey
	if len(s.Certificate) > 0 {
		arm, raw = "x509Certificate", s.Certificate
	}
	enc := base64.StdEncoding
	const fixed = 256 // bytes of names and punctuation, rounded up
	b := make([]byte, 0, fixed+enc.EncodedLen(len(digest))+enc.EncodedLen(len(s.Content))+enc.EncodedLen(len(raw)))
	b = append(b, `{"apiVersion":"0.0.2","kind":"hashedrekord","spec":{"hashedRekordV002":{"data":{"algorithm":"`...)
	b = append(b, hashName(h)...)
	b = append(b, `","digest":"`...)
	b = enc.AppendEncode(b, digest)
	b = append(b, `"},"signature":{"content":"`...)
	b = enc.AppendEncode(b, s.Content)
	b = append(b, `","verifier":{"keyDetails":"`...)
	b = append(b, s.KeyDetails.String()...)
	b = append(b, `","`...)
	b = append(b, arm...)
	b = append(b, `":{"rawBytes":"`...)
	b = enc.AppendEncode(b, raw)
	return append(b, `"}}}}}}`...), nil
}

// lowS returns the DER signature (r, n-s) if sig is an ECDSA signature (r, s) with s > n/2, and
// nil if there is nothing to change.
func lowS(k KeyDetails, sig []byte) []byte {
	curve := k.curve()
	if curve == nil {
		return nil
	}
	r, s, ok := parseECDSA(sig)
	if !ok {
		return nil
	}
	low := new(big.Int).Sub(curve.Params().N, s)
	if low.Sign() <= 0 || low.Cmp(s) >= 0 {
		return nil
	}
	var b cryptobyte.Builder
	b.AddASN1(asn1.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1BigInt(r)
		b.AddASN1BigInt(low)
	})
	out, err := b.Bytes()
	if err != nil {
		return nil
	}
	return out
}

func parseECDSA(sig []byte) (r, s *big.Int, ok bool) {
	r, s = new(big.Int), new(big.Int)
	input := cryptobyte.String(sig)
	var inner cryptobyte.String
	ok = input.ReadASN1(&inner, asn1.SEQUENCE) && input.Empty() &&
		inner.ReadASN1Integer(r) && inner.ReadASN1Integer(s) && inner.Empty() && r.Sign() > 0 && s.Sign() > 0
	return r, s, ok
}
