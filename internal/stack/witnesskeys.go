package stack

import (
	"crypto"
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"

	"tallywood/internal/config"
	"tallywood/internal/keys"
	"tallywood/witness"
)

// witnessKeys returns the keys of a witness as its options have them.
func (s *Stack) witnessKeys(c config.Witness) (witness.Options, error) {
	o := witness.Options{PastKeys: c.PastKeys}
	field := "witness " + c.Name // as the configuration calls it
	var err error
	if o.Keys, err = s.witnessKeySet(c.Name, field, c.Keys()); err != nil {
		return o, err
	}
	for i, k := range c.Rotation {
		set, err := s.witnessKeySet(c.Name, fmt.Sprintf("%s: rotation %d", field, i+1), k)
		if err != nil {
			return o, fmt.Errorf("rotation %d: %w", i+1, err)
		}
		o.Rotation = append(o.Rotation, set)
	}
	return o, nil
}

// witnessKeySet returns keys of the witness of that name: of their seed, with an Ed25519 key from elsewhere
// in place of the one derived.
func (s *Stack) witnessKeySet(name, field string, c config.WitnessKeys) (keys.Witness, error) {
	k := keys.Witness{Name: name}
	if c.Seed != "" {
		seed, err := keys.ReadSeed(c.Seed)
		if err != nil {
			return k, fmt.Errorf("reading seed: %w", err)
		}
		if k, err = keys.WitnessFromSeed(name, seed); err != nil {
			return k, err
		}
	}
	k.NotBefore, k.NotAfter = c.NotBefore.Time, c.NotAfter.Time
	if c.Ed25519 == "" {
		return k.Only(c.Algorithm)
	}
	signer, err := s.key(c.Ed25519)
	if err != nil {
		return k, fmt.Errorf("opening Ed25519 key: %w", err)
	}
	if err := s.alone(field+": ed25519", c.Ed25519, signer.Public()); err != nil {
		return k, err
	}
	k.Ed25519 = signer
	if u, ok := signer.(unasked); ok { // nothing is known of it, and nothing will be signed with this
		seed := sha256.Sum256([]byte(u.uri))
		k.Ed25519 = ed25519.NewKeyFromSeed(seed[:])
	}
	return k.Only(c.Algorithm)
}

// alone refuses a witness's Ed25519 key, at location, that another field than its own names by another path
// or URI, where the configuration cannot tell that it is the same: a cosignature does not name its cosigner,
// and a log's key signs other things.
func (s *Stack) alone(field, location string, public crypto.PublicKey) error {
	mine, ok := public.(ed25519.PublicKey)
	if !ok {
		return nil // nothing is known of it, or it is refused for its type
	}
	for _, k := range s.cfg.Keys() {
		if k.Field == field {
			continue
		}
		if other, err := s.key(k.Location); err == nil && mine.Equal(other.Public()) {
			return fmt.Errorf("ed25519: %s is the key of %s too; a witness's key is nothing else's", location, k.Field)
		}
	}
	return nil
}
