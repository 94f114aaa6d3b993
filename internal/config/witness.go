package config

import (
	"errors"
	"fmt"

	"tallywood/internal/keys"
)

// Witness is a witness in this process.
type Witness struct {
	// Name of its keys.
	Name string `yaml:"name"`
	// Seed its keys are derived from, file:PATH of a file with 64 hexadecimal digits. With ed25519 the
	// ML-DSA-44 key alone; then default: none, and it has no such key.
	Seed string `yaml:"seed,omitempty"`
	// Ed25519 key of it that is not derived from the seed: awskms://… or gcpkms://… of a key in a KMS, or
	// file:PATH of a PKCS#8 PEM file. One key is one witness's, under one name, for ever. Default: none.
	Ed25519 string `yaml:"ed25519,omitempty"`
	// When the keys of seed and ed25519 begin to sign. Default: at once.
	NotBefore Time `yaml:"not_before,omitempty"`
	// When they no longer do. Default: never.
	NotAfter Time `yaml:"not_after,omitempty"`
	// Further keys of it, also such as no longer sign: while several are valid, every answer has a line of
	// each. Default: none.
	Rotation []WitnessKeys `yaml:"rotation,omitempty"`
	// vkeys of keys of it that are gone: what they cosigned still counts as its own. Default: none.
	PastKeys []string `yaml:"past_keys,omitempty"`
	// Log lists of the witness network (logs/v0) to cosign for, beside this process's own logs.
	// Default: none.
	Lists []string `yaml:"lists,omitempty"`
	// Where what it publishes is copied to, and its lease: a bucket like storage, file:DIR or s3://… or
	// gs://…, and not in that nor another witness's. Without it a restored storage, and another instance
	// with this seed, are noticed only when somebody shows what they signed. Default: none.
	Export string `yaml:"export,omitempty"`
}

// WitnessKeys are keys of a witness, which follow others or are followed by them.
type WitnessKeys struct {
	// Seed they are derived from, as that of the witness.
	Seed string `yaml:"seed,omitempty"`
	// Ed25519 key that is not derived from the seed, as that of the witness.
	Ed25519 string `yaml:"ed25519,omitempty"`
	// Which of the two: ed25519 or ml-dsa-44. Default: both.
	Algorithm string `yaml:"algorithm,omitempty"`
	// When they begin to sign. Default: at once.
	NotBefore Time `yaml:"not_before,omitempty"`
	// When they no longer do. Default: never.
	NotAfter Time `yaml:"not_after,omitempty"`
}

// Keys returns the keys that the witness was made with.
func (w Witness) Keys() WitnessKeys {
	return WitnessKeys{Seed: w.Seed, Ed25519: w.Ed25519, NotBefore: w.NotBefore, NotAfter: w.NotAfter}
}

func (c *Config) checkWitnesses() error {
	var errs []error
	seen := map[string]bool{}
	for i, w := range c.Witnesses {
		if err := keys.CheckName(w.Name); err != nil {
			errs = append(errs, fmt.Errorf("witness %d: %w", i+1, err))
		}
		if seen[w.Name] {
			errs = append(errs, fmt.Errorf("witness %d: name %q is taken", i+1, w.Name))
		}
		seen[w.Name] = true
		if err := c.checkWitnessKeys(w.Keys()); err != nil {
			errs = append(errs, fmt.Errorf("witness %d: %w", i+1, err))
		}
		for j, k := range w.Rotation {
			if err := c.checkWitnessKeys(k); err != nil {
				errs = append(errs, fmt.Errorf("witness %d: rotation %d: %w", i+1, j+1, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Config) checkWitnessKeys(k WitnessKeys) error {
	var errs []error
	// An Ed25519 cosignature does not name its cosigner, and a log's key signs other things.
	if k.Ed25519 != "" && c.uses(k.Ed25519) > 1 {
		errs = append(errs, fmt.Errorf("ed25519: %s is used elsewhere too; a witness's key is nothing else's", k.Ed25519))
	}
	if _, err := (keys.Witness{}).Only(k.Algorithm); err != nil {
		errs = append(errs, err)
	}
	if k.Ed25519 != "" && k.Algorithm == keys.OnlyMLDSA44 {
		errs = append(errs, fmt.Errorf("ed25519: %s would sign nothing with algorithm %s", k.Ed25519, k.Algorithm))
	}
	return errors.Join(errs...)
}
