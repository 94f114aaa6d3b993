package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"fmt"
	"math/big"
	"sync"
)

// KeyError reports a public key that is too weak to certify.
type KeyError struct{ Problem string }

func (e *KeyError) Error() string { return "insecure public key: " + e.Problem }

func weak(format string, args ...any) error { return &KeyError{fmt.Sprintf(format, args...)} }

// CheckKey returns nil for the public keys the profile allows: ECDSA on P-256, P-384 and P-521,
// RSA of 2048 to 4096 bits with exponent 65537 and no known weakness, and Ed25519. Otherwise it
// returns a *[KeyError].
func CheckKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		switch k.Curve {
		case elliptic.P256(), elliptic.P384(), elliptic.P521():
			return nil
		}
		return weak("curve %s", k.Curve.Params().Name)
	case *rsa.PublicKey:
		return checkRSA(k)
	case ed25519.PublicKey:
		return nil
	}
	return weak("key type %T", pub)
}

func checkRSA(k *rsa.PublicKey) error {
	switch bits := k.N.BitLen(); {
	case bits < 2048 || bits > 4096 || bits%8 != 0:
		return weak("RSA modulus of %d bits", bits)
	case k.E != 65537:
		return weak("RSA exponent %d", k.E)
	case new(big.Int).GCD(nil, nil, k.N, smallPrimes()).Cmp(big.NewInt(1)) != 0:
		return weak("RSA modulus with a small factor")
	case isROCA(k.N):
		return weak("RSA modulus made by a defective chip (CVE-2017-15361)")
	case hasCloseFactors(k.N):
		return weak("RSA modulus with factors close to each other")
	}
	return nil
}

// smallPrimes is the product of the primes below 752.
var smallPrimes = sync.OnceValue(func() *big.Int {
	product := big.NewInt(1)
	for i := int64(2); i < 752; i++ {
		if p := big.NewInt(i); p.ProbablyPrime(0) {
			product.Mul(product, p)
		}
	}
	return product
})

// isROCA reports whether n has the fingerprint of the vulnerable Infineon generator: modulo each
// of the first 39 primes but 2 it is a power of 65537.
func isROCA(n *big.Int) bool {
	for p := int64(3); p <= 167; p += 2 {
		if !big.NewInt(p).ProbablyPrime(0) {
			continue
		}
		want := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		power, found := int64(1), false
		for range p {
			found = found || power == want
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}

// hasCloseFactors tries Fermat's factorization for a few steps, which is all it needs when a
// generator took neighbouring primes (CVE-2022-26320), or one twice.
func hasCloseFactors(n *big.Int) bool {
	const steps = 100
	a := new(big.Int).Sqrt(n)
	if new(big.Int).Mul(a, a).Cmp(n) == 0 {
		return true
	}
	a.Add(a, big.NewInt(1))
	for range steps {
		rest := new(big.Int).Mul(a, a)
		rest.Sub(rest, n)
		root := new(big.Int).Sqrt(rest)
		if root.Mul(root, root).Cmp(rest) == 0 {
			return true
		}
		a.Add(a, big.NewInt(1))
	}
	return false
}
