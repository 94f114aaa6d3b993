package entry

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
	"slices"
)

// CheckForm returns nil unless s cannot be a signature by its key, whatever was signed: it is for
// entries that do not hold what was signed, such as those of kind dsse. Of ECDSA and Ed25519 it tells
// numbers that are none of the key's curve; of RSA with PKCS #1 v1.5 it tells that the holder of the key
// signed the hash of something. An error that wraps [ErrUnverifiable] is about a key that is not known.
func (s Signature) CheckForm() error {
	key, err := s.key()
	if err != nil {
		return fmt.Errorf("checking form of signature: %w", ErrUnverifiable)
	}
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		err = formECDSA(key, s.Content)
	case ed25519.PublicKey:
		err = formEd25519(s.Content)
	case *rsa.PublicKey:
		err = formRSA(key, s.Content, slices.Contains(pss, s.KeyDetails))
	default:
		err = ErrUnverifiable
	}
	if err != nil {
		return fmt.Errorf("checking form of signature: %w", err)
	}
	return nil
}

// pss are the schemes of RSA with another padding, which does not show what hash was signed.
var pss = []KeyDetails{2, 4, pssRSA2048, pssRSA3072, pssRSA4096}

// formECDSA checks that r and s are numbers of the curve's order, and r the coordinate of a point.
func formECDSA(key *ecdsa.PublicKey, sig []byte) error {
	r, s, ok := parseECDSA(sig)
	if !ok {
		return errors.New("it is not the DER of two positive numbers")
	}
	c := key.Curve.Params()
	if r.Cmp(c.N) >= 0 || s.Cmp(c.N) >= 0 {
		return fmt.Errorf("its numbers are not below the order of %s", c.Name)
	}
	// > r = x mod n, of a point (x, y) (SEC 1, section 4.1.3)
	for x := r; x.Cmp(c.P) < 0; x = new(big.Int).Add(x, c.N) {
		y2 := new(big.Int).Mul(x, x)
		y2.Sub(y2, big.NewInt(3)).Mul(y2, x).Add(y2, c.B).Mod(y2, c.P)
		if big.Jacobi(y2, c.P) >= 0 {
			return nil
		}
	}
	return fmt.Errorf("no point of %s has its first number", c.Name)
}

// orderEd25519 is the order of the base point.
//
//	> 2^252+27742317777372353535851937790883648493 (RFC 8032, section 5.1)
var orderEd25519 = func() *big.Int {
	low, _ := new(big.Int).SetString("27742317777372353535851937790883648493", 10)
	return low.Add(low, new(big.Int).Lsh(big.NewInt(1), 252))
}()

// formEd25519 checks the length, and that S is in range.
//
//	> Decode the second half as an integer S, in the range 0 <= s < L (RFC 8032, section 5.1.7)
func formEd25519(sig []byte) error {
	if len(sig) != ed25519.SignatureSize {
		return fmt.Errorf("it has %d bytes, one by Ed25519 has %d", len(sig), ed25519.SignatureSize)
	}
	s := bytes.Clone(sig[ed25519.SignatureSize/2:])
	slices.Reverse(s) // it is little-endian
	if new(big.Int).SetBytes(s).Cmp(orderEd25519) >= 0 {
		return errors.New("its second half is not below the order of Ed25519")
	}
	return nil
}

// digestInfos are what is before the hash in RSA signatures: of SHA-256, SHA-384 and SHA-512 (RFC 8017,
// section 9.2, note 1), by the length of the hash.
var digestInfos = map[int][]byte{
	32: {0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20},
	48: {0x30, 0x41, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02, 0x05, 0x00, 0x04, 0x30},
	64: {0x30, 0x51, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03, 0x05, 0x00, 0x04, 0x40},
}

// formRSA checks that the key makes of sig what it is made of: padding and the hash of something. Of
// another padding only the size is checked.
func formRSA(key *rsa.PublicKey, sig []byte, otherPadding bool) error {
	size := key.Size()
	c := new(big.Int).SetBytes(sig)
	if len(sig) != size || c.Cmp(key.N) >= 0 {
		return fmt.Errorf("it is not a number of %d bytes below the key's", size)
	}
	if otherPadding {
		return nil
	}
	em := c.Exp(c, big.NewInt(int64(key.E)), key.N).FillBytes(make([]byte, size))
	for n, info := range digestInfos {
		// > EM = 0x00 || 0x01 || PS || 0x00 || T (RFC 8017, section 9.2)
		t := size - len(info) - n
		if t < 11 || em[0] != 0 || em[1] != 1 || em[t-1] != 0 || !bytes.Equal(em[t:t+len(info)], info) {
			continue
		}
		if len(bytes.TrimLeft(em[2:t-1], "\xff")) == 0 {
			return nil
		}
	}
	return errors.New("the key does not make the hash of anything of it")
}
