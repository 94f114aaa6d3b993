package stack

import (
	"crypto"
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
	if err := s.alone(c, signer.Public()); err != nil {
		return k, err
	}
	k.Ed25519 = signer
	if _, ok := signer.(unasked); ok { // nothing is known of it, and nothing will be signed with this
		k.Ed25519 = ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
	}
	return k, nil
}

// alone refuses a witness's Ed25519 key that another field names by another path or URI, where the
// configuration cannot tell that it is the same: a cosignature does not name its cosigner, and a log's
// key signs other things.
func (s *Stack) alone(c config.Witness, public crypto.PublicKey) error {
	mine, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil // nothing is known of it, or it is refused for its type
	}
	for _, k := range s.cfg.Keys() {
		if k.Field == "witness "+c.Name+": ed25519" {
			continue
		}
		if other, err := s.key(k.Location); err == nil && mine.Equal(other.Public()) {
			return fmt.Errorf("ed25519: %s is the key of %s too; a witness's key is nothing else's", c.Ed25519, k.Field)
		}
	}
	return nil
}
