package mint

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"sync"

	"tallywood/internal/keys"
	"tallywood/log/ctentry"
	"tallywood/log/entry"
	"tallywood/witness/policy"
)

// witnesses is how many witnesses a world has; quorum is how many of them its logs need.
const (
	witnesses = 3
	quorum    = 2
)

// A World is what logs rest on: an authority, the key of a certificate log, witnesses. It may be used
// concurrently.
type World struct {
	CA *CA       // certifies whoever does not ask for another one
	CT *Promiser // signs the promises of certificates that do not ask for another

	seed      [8]byte
	stranger  *Promiser
	witnesses []Witness

	mu  sync.Mutex
	rsa map[string]*rsa.PrivateKey // by name; slow to make, and not derived from the seed
}

// A Witness of a world.
type Witness struct {
	Name string
	VKey string
	key  ed25519.PrivateKey
	id   uint32
}

// A Promiser is the key of a certificate log, which signs SCTs.
type Promiser struct {
	ID [32]byte // of the log, as in its SCTs

	key *ecdsa.PrivateKey
}

// Public returns the key that verifies the SCTs.
func (p *Promiser) Public() *ecdsa.PublicKey { return &p.key.PublicKey }

// New derives a world from a seed.
func New(seed uint64) (*World, error) {
	w := &World{rsa: map[string]*rsa.PrivateKey{}}
	binary.BigEndian.PutUint64(w.seed[:], seed)
	var err error
	if w.CA, err = w.Authority("mint"); err != nil {
		return nil, err
	}
	if w.CT, err = w.Promiser("certificate log"); err != nil {
		return nil, err
	}
	if w.stranger, err = w.Promiser("unknown certificate log"); err != nil {
		return nil, err
	}
	for i := range witnesses {
		name := fmt.Sprintf("witness-%d.example.org", i+1)
		made, err := keys.WitnessFromSeed(name, w.hash("witness "+name))
		if err != nil {
			return nil, fmt.Errorf("making witness %d: %w", i, err)
		}
		vkey := made.VKeys()[0]
		k, err := policy.ParseVKey(vkey)
		if err != nil {
			return nil, fmt.Errorf("making witness %d: %w", i, err)
		}
		w.witnesses = append(w.witnesses, Witness{name, vkey, made.Ed25519.(ed25519.PrivateKey), k.ID()})
	}
	return w, nil
}

// Witnesses returns the witnesses that cosign the world's logs.
func (w *World) Witnesses() []Witness { return w.witnesses }

// Promiser derives the key of a certificate log from its name.
func (w *World) Promiser(name string) (*Promiser, error) {
	key, err := w.ecdsa(elliptic.P256(), "promises "+name)
	if err != nil {
		return nil, err
	}
	id, err := ctentry.LogID(key.Public())
	if err != nil {
		return nil, fmt.Errorf("making key of certificate log %q: %w", name, err)
	}
	return &Promiser{id, key}, nil
}

// hash derives 32 bytes from the seed and a label.
func (w *World) hash(label string) [32]byte { return sha256.Sum256(append(w.seed[:8:8], label...)) }

// ecdsa derives the key of that name.
func (w *World) ecdsa(curve elliptic.Curve, name string) (*ecdsa.PrivateKey, error) {
	for attempt := byte(0); ; attempt++ { // a hash is no valid scalar once in a while, of P-521 seldom one
		long := sha512.Sum512(append(append(w.seed[:8:8], attempt), name...))
		more := sha256.Sum256(long[:])
		scalar := append(more[:2:2], long[:]...)
		size := (curve.Params().BitSize + 7) / 8
		scalar = scalar[len(scalar)-size:]
		scalar[0] &= byte(1<<(curve.Params().BitSize-8*(size-1)) - 1)
		key, err := ecdsa.ParseRawPrivateKey(curve, scalar)
		if err == nil {
			return key, nil
		}
		if attempt == 8 {
			return nil, fmt.Errorf("deriving key %q: %w", name, err)
		}
	}
}

// key returns the key of that name and kind. RSA keys are made anew in each process.
func (w *World) key(k entry.KeyDetails, name string) (crypto.Signer, error) {
	switch k {
	case entry.ECDSAP256:
		return w.ecdsa(elliptic.P256(), name)
	case entry.ECDSAP384:
		return w.ecdsa(elliptic.P384(), name)
	case entry.ECDSAP521:
		return w.ecdsa(elliptic.P521(), name)
	case entry.Ed25519ph:
		seed := w.hash("ed25519 " + name)
		return ed25519.NewKeyFromSeed(seed[:]), nil
	}
	bits := map[entry.KeyDetails]int{entry.RSA2048: 2048, entry.RSA3072: 3072, entry.RSA4096: 4096}[k]
	if bits == 0 {
		return nil, fmt.Errorf("making key %q: key details %s are not supported", name, k)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	label := fmt.Sprint(bits, " ", name)
	if key := w.rsa[label]; key != nil {
		return key, nil
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, fmt.Errorf("making key %q: %w", name, err)
	}
	w.rsa[label] = key
	return key, nil
}
