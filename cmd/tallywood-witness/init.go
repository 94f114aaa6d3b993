package main

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"tallywood/internal/keys"
)

const initHelp = `tallywood-witness init makes a new witness: a secret seed and a configuration.

  --dir DIR    where to put them; made if it does not exist
  --name NAME  name of the witness in its keys, by convention a host name and path
               of its operator, such as witness.example.org. It cannot be changed.

Where DIR holds nothing but a seed, because an earlier init was cut short, it goes on
with that.

It prints the two public keys, Ed25519 first and ML-DSA-44 second, one per line, for
the policies of those who rely on the witness; and after them the draft of a page
that tells logs how to reach it.
`

func initCommand(args []string, stdout io.Writer) error {
	set := flag.NewFlagSet("init", flag.ContinueOnError)
	dir := set.String("dir", "", "")
	name := set.String("name", "", "")
	if err := parseFlags(set, args, initHelp, stdout); err != nil {
		return err
	}
	if *dir == "" || *name == "" {
		return usageError("for example: tallywood-witness init --dir ./witness --name witness.example.org", "init needs --dir and --name")
	}
	if err := keys.CheckName(*name); err != nil {
		return usageError("", "name of the witness: %w", err)
	}
	w, err := writeWitness(*dir, *name)
	if err != nil {
		return err
	}
	vkeys := w.VKeys()
	fmt.Fprintf(stdout, "%s\n%s\n", vkeys[0], vkeys[1])
	fmt.Fprintf(stdout, aboutTemplate, *name, vkeys[0], vkeys[1], *dir)
	return nil
}

// writeWitness writes the seed and the configuration, and touches nothing that is there already.
// The configuration comes last: where it is, the witness is whole.
func writeWitness(dir, name string) (keys.Witness, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keys.Witness{}, operational("", fmt.Errorf("making directory: %w", err))
	}
	seed, err := makeSeed(dir)
	if err != nil {
		return keys.Witness{}, err
	}
	w, err := keys.WitnessFromSeed(name, seed)
	if err != nil {
		return keys.Witness{}, usageError("", "deriving keys: %w", err)
	}
	text := fmt.Sprintf(configTemplate, strconv.Quote(name))
	if err := keys.WriteNew(filepath.Join(dir, configFile), []byte(text), 0o644); err != nil {
		return keys.Witness{}, operational("the seed is written; run init again to go on with it", fmt.Errorf("writing configuration: %w", err))
	}
	return w, nil
}

// makeSeed writes a new seed, or reads the one that an init left which was cut short after it. A
// directory that a witness is or was in has more than that, and is refused.
func makeSeed(dir string) (seed [32]byte, err error) {
	path := filepath.Join(dir, "seed")
	for _, file := range []string{configFile, stateDir} {
		hint := "its keys stay what they are; choose another directory for another witness"
		if file == stateDir {
			hint = "if its " + configFile + " was lost, restore that from a backup; choose another directory for another witness"
		}
		if _, err := os.Lstat(filepath.Join(dir, file)); !errors.Is(err, fs.ErrNotExist) {
			return seed, usageError(hint, "%s exists: there is a witness in %s already", filepath.Join(dir, file), dir)
		}
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		if seed, err = keys.ReadSeed(path); err != nil {
			return seed, usageError("choose another directory, or remove that file if no witness uses it", "reading the seed that is there already: %w", err)
		}
		return seed, nil
	}
	_, _ = rand.Read(seed[:]) // never fails
	if err := keys.WriteSeed(path, seed); err != nil {
		return seed, operational("", fmt.Errorf("writing seed: %w", err))
	}
	return seed, nil
}

// aboutTemplate is the page that the witness network asks of an operator. Its verbs are the name,
// the two vkeys and the directory.
const aboutTemplate = `
# About the witness %s

Operator:           (your name, and how to reach you)
Submission prefix:  https://(host and path that reach this witness)/
                    logs POST to add-checkpoint below it
Monitoring prefix:  the same
Log lists:          (URLs of the lists you follow, or how a log applies)
Reconfiguration:    lists are read once an hour; a log is never removed or changed by a list

Public keys, for a witness line of a policy (c2sp.org/tlog-policy):

Ed25519, cosignature/v1:
%s

ML-DSA-44:
%s

(This page is a draft: fill it in and publish it. The secret is %s/seed:
keep a copy offline, and never run two witnesses with it.)
`
