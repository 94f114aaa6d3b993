package witness

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"filippo.io/mldsa"
	"github.com/cloudflare/circl/sign/mldsa/mldsa44"

	"tallywood/internal/keys"
	"tallywood/witness/policy"
)

// An ownKey is one key of the witness: of a seed, or of the past.
type ownKey struct {
	policy.Key
	idText string        // the key ID as the state has it
	signer crypto.Signer // nil: the key is only recognized
	from   int64         // Unix seconds of the first timestamp it signs
	until  int64         // of the first one that it does not sign any more; 0: none
	remote bool          // it may be slow, fail, and sign the same in other bytes
}

// validAt reports whether the key signs at a timestamp.
func (k *ownKey) validAt(timestamp int64) bool {
	return k.signer != nil && timestamp >= k.from && (k.until == 0 || timestamp < k.until)
}

// sign signs a message. The error of a remote key is a *keyError.
func (k *ownKey) sign(msg []byte) ([]byte, error) {
	sig, err := k.signer.Sign(rand.Reader, msg, crypto.Hash(0))
	switch {
	case err != nil && k.remote:
		return nil, &keyError{err}
	case err != nil:
		return nil, fmt.Errorf("signing with key %s: %w", k.idText, err)
	}
	return sig, nil
}

// openKeys checks the keys of a witness, and sorts Ed25519 before ML-DSA-44, of each the older first.
func openKeys(o Options) ([]*ownKey, error) {
	var own []*ownKey
	var errs []error
	add := func(keys []*ownKey, err error) {
		if err != nil {
			errs = append(errs, err)
		}
		for _, k := range keys {
			if slices.ContainsFunc(own, func(other *ownKey) bool { return other.idText == k.idText }) {
				errs = append(errs, fmt.Errorf("key %s is given twice", k.idText))
			}
			own = append(own, k)
		}
	}
	add(openSet(o.Keys, o.Keys.Name))
	for _, set := range o.Rotation {
		add(openSet(set, o.Keys.Name))
	}
	for _, vkey := range o.PastKeys {
		add(openPast(vkey, o.Keys.Name))
	}
	if len(own) > maxKeys {
		errs = append(errs, fmt.Errorf("%d keys; a witness has %d at most", len(own), maxKeys))
	}
	slices.SortStableFunc(own, func(a, b *ownKey) int {
		if a.Alg() != b.Alg() {
			return int(a.Alg()) - int(b.Alg())
		}
		return int(min(1, max(-1, a.from-b.from)))
	})
	return own, errors.Join(errs...)
}

// openSet returns the keys that are given together, of the witness called name.
func openSet(k keys.Witness, name string) ([]*ownKey, error) {
	switch {
	case k.Name != name:
		return nil, fmt.Errorf("a key of %q: all keys of a witness have its name, %q", k.Name, name)
	case k.Ed25519 == nil && k.MLDSAPublic == nil:
		return nil, errors.New("no key")
	case !k.NotAfter.IsZero() && !k.NotBefore.Before(k.NotAfter):
		return nil, fmt.Errorf("a key that signs until %s does so from %s on only",
			k.NotAfter.UTC().Format(time.RFC3339), k.NotBefore.UTC().Format(time.RFC3339))
	}
	var own []*ownKey
	if k.Ed25519 != nil {
		public, ok := k.Ed25519.Public().(ed25519.PublicKey)
		if !ok {
			return nil, fmt.Errorf("the key is a %T; a witness has an Ed25519 key", k.Ed25519.Public())
		}
		_, here := k.Ed25519.(ed25519.PrivateKey)
		own = append(own, &ownKey{signer: k.Ed25519, remote: !here})
		if err := own[0].parse(keys.VKey(name, keys.AlgCosignatureV1, public)); err != nil {
			return nil, err
		}
	}
	if k.MLDSAPublic != nil {
		_, private := mldsa44.NewKeyFromSeed((*[mldsa44.SeedSize]byte)(&k.MLDSASeed))
		pq := &ownKey{signer: private}
		if err := pq.parse(keys.VKey(name, keys.AlgMLDSA44, k.MLDSAPublic)); err != nil {
			return nil, err
		}
		if err := pq.crossCheck(); err != nil {
			return nil, err
		}
		own = append(own, pq)
	}
	for _, o := range own {
		// A timestamp is a whole second: the first that is not before NotBefore, and so on.
		if !k.NotBefore.IsZero() {
			o.from = k.NotBefore.Add(time.Second - 1).Unix()
		}
		if !k.NotAfter.IsZero() {
			o.until = k.NotAfter.Add(time.Second - 1).Unix()
		}
	}
	return own, nil
}

// openPast returns a key that is only recognized.
func openPast(vkey, name string) ([]*ownKey, error) {
	k := &ownKey{}
	if err := k.parse(vkey); err != nil {
		return nil, err
	}
	switch {
	case k.Name() != name:
		return nil, fmt.Errorf("a past key of %q: all keys of a witness have its name, %q", k.Name(), name)
	case k.Alg() != policy.AlgCosignatureV1 && k.Alg() != policy.AlgMLDSA44:
		return nil, fmt.Errorf("a past key of type %#02x: a witness signs with 0x04 (Ed25519) and 0x06 (ML-DSA-44)", k.Alg())
	}
	return []*ownKey{k}, nil
}

// parse sets the verifier key.
func (k *ownKey) parse(vkey string) error {
	var err error
	if k.Key, err = policy.ParseVKey(vkey); err != nil {
		return fmt.Errorf("parsing own key: %w", err)
	}
	k.idText = fmt.Sprintf("%08x", k.ID())
	return nil
}

// crossCheck signs with the implementation we use, which is fast, and verifies with another one:
// a witness that signs what nobody can verify should say so before it is relied on.
func (k *ownKey) crossCheck() error {
	msg := []byte("tallywood witness start-up check")
	sig, err := k.sign(msg)
	if err != nil {
		return err
	}
	public, err := mldsa.NewPublicKey(mldsa.MLDSA44(), k.Public())
	if err != nil {
		return fmt.Errorf("parsing own ML-DSA-44 key: %w", err)
	}
	if err := mldsa.Verify(public, msg, sig, nil); err != nil {
		return fmt.Errorf("verifying a signature by key %s, whose seed is perhaps another's: %w", k.idText, err)
	}
	return nil
}
