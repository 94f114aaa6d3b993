package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"tallywood/internal/keys"
	"tallywood/witness"
)

// rotationConfig is the part of the configuration that lets one key follow another. While both are
// valid, every answer has a line of each; all have the name of the witness.
type rotationConfig struct {
	NotBefore time.Time      `yaml:"not_before,omitempty"` // when the keys of seed begin to sign; default: at once
	NotAfter  time.Time      `yaml:"not_after,omitempty"`  // when they no longer do; default: never
	Rotation  []rotationSeed `yaml:"rotation,omitempty"`   // further keys; also such as no longer sign
	PastKeys  []string       `yaml:"past_keys,omitempty"`  // vkeys of keys whose seed is gone: what they cosigned still counts as ours
}

// A rotationSeed is the seed of further keys.
type rotationSeed struct {
	Seed      string    `yaml:"seed"`                 // file of the seed
	Algorithm string    `yaml:"algorithm,omitempty"`  // ed25519 or ml-dsa-44; default: both
	NotBefore time.Time `yaml:"not_before,omitempty"` // when the keys begin to sign; default: at once
	NotAfter  time.Time `yaml:"not_after,omitempty"`  // when they no longer do; default: never
}

func (c *rotationConfig) check() error {
	var errs []error
	for i, r := range c.Rotation {
		if r.Seed == "" {
			errs = append(errs, fmt.Errorf("rotation: entry %d names no seed", i+1))
		}
		if _, err := (keys.Witness{}).Only(r.Algorithm); err != nil {
			errs = append(errs, fmt.Errorf("rotation: %w", err))
		}
	}
	return errors.Join(errs...)
}

// open adds to the options of a witness, which have the keys of its seed, all others. The seeds of
// the rotation that are encrypted have the passphrase of that file.
func (c *rotationConfig) open(o *witness.Options, dir, passphraseFile string) error {
	o.Keys.NotBefore, o.Keys.NotAfter, o.PastKeys = c.NotBefore, c.NotAfter, c.PastKeys
	for _, r := range c.Rotation {
		seed, err := readSeed(within(dir, r.Seed), passphraseFile)
		if err != nil {
			return withHint("", "reading seed of the rotation", err)
		}
		k, err := keys.WitnessFromSeed(o.Keys.Name, seed)
		if err == nil {
			k, err = k.Only(r.Algorithm)
		}
		if err != nil {
			return usageError("", "deriving keys: %w", err)
		}
		k.NotBefore, k.NotAfter = r.NotBefore, r.NotAfter
		o.Rotation = append(o.Rotation, k)
	}
	return nil
}

const keysHelp = `tallywood-witness keys prints the vkeys of a witness, each with when it signs.

  --dir DIR               the witness, made by init
  --passphrase-file FILE  the passphrase of its seeds, if they are encrypted
  --new FILE              make a seed of further keys, and print their vkeys and how to go on

To replace a key, make a new one, publish its vkeys, and add it to "rotation" in
config.yaml with a time from which it signs. While both sign, every answer has lines of
both, and policies can change one after the other. Then give the old one a "not_after";
keep it in config.yaml, at least its vkey in "past_keys": what it has cosigned still binds
the witness.
`

func keysCommand(args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("keys", flag.ContinueOnError)
	dir := set.String("dir", "", "")
	file := set.String("new", "", "")
	passphrase := set.String("passphrase-file", "", "")
	if err := parseFlags(set, args, keysHelp, stdout); err != nil {
		return err
	}
	if *dir == "" {
		return usageError("for example: tallywood-witness keys --dir ./witness", "keys needs --dir")
	}
	c, err := readConfig(*dir)
	if err != nil {
		return err
	}
	if *file != "" {
		return newKeys(c.Name, *dir, *file, stdout)
	}
	o, err := c.keyOptions(*dir, *passphrase)
	if err != nil {
		return err
	}
	now := time.Now()
	for _, k := range append([]keys.Witness{o.Keys}, o.Rotation...) {
		for _, vkey := range k.VKeys() {
			fmt.Fprintf(stdout, "%s\t%s\n", vkey, validity(k, now))
		}
	}
	for _, vkey := range o.PastKeys {
		fmt.Fprintf(stdout, "%s\tsigns no more\n", vkey)
	}
	return nil
}

// validity says when the keys sign.
func validity(k keys.Witness, now time.Time) string {
	if !k.NotAfter.IsZero() && !now.Before(k.NotAfter) {
		return "signs no more, since " + k.NotAfter.UTC().Format(time.RFC3339)
	}
	text := "signs"
	if now.Before(k.NotBefore) {
		text += " from " + k.NotBefore.UTC().Format(time.RFC3339)
	}
	if !k.NotAfter.IsZero() {
		text += " until " + k.NotAfter.UTC().Format(time.RFC3339)
	}
	return text
}

// newKeys makes a seed of further keys beside that of the witness.
func newKeys(name, dir, file string, stdout io.Writer) error {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	if err := keys.WriteSeed(within(dir, file), seed); err != nil {
		return notWritten(err)
	}
	k, err := keys.WitnessFromSeed(name, seed)
	if err != nil {
		return usageError("", "deriving keys: %w", err)
	}
	shown := file
	if abs, err := filepath.Abs(within(dir, file)); err == nil && filepath.IsAbs(file) {
		shown = abs
	}
	fmt.Fprintf(stdout, "%s\n\nThey do not sign yet. Publish them, and let them begin in %s:\n\nrotation:\n  - seed: %s\n    not_before: %s\n",
		strings.Join(k.VKeys(), "\n"), filepath.Join(dir, configFile), shown,
		time.Now().Add(30*24*time.Hour).UTC().Truncate(24*time.Hour).Format(time.RFC3339))
	return nil
}
