package stack

import (
	"crypto/ed25519"
	"fmt"

	"tallywood/internal/config"
	"tallywood/internal/keys"
)

// witnessKeys returns the keys of a witness: of its seed, with an Ed25519 key from elsewhere in place of
// the one derived.
func (s *Stack) witnessKeys(c config.Witness) (keys.Witness, error) {
	k := keys.Witness{Name: c.Name}
	if c.Seed != "" {
		seed, err := keys.ReadSeed(c.Seed)
		if err != nil {
			return k, fmt.Errorf("reading seed: %w", err)
		}
		if k, err = keys.WitnessFromSeed(c.Name, seed); err != nil {
			return k, err
		}
	}
	if c.Ed25519 == "" {
		return k, nil
	}
	signer, err := s.key(c.Ed25519)
	if err != nil {
		return k, fmt.Errorf("opening Ed25519 key: %w", err)
	}
	k.Ed25519 = signer
	if _, ok := signer.(unasked); ok { // nothing is known of it, and nothing will be signed with this
		k.Ed25519 = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	}
	return k, nil
}
