package main

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"

	"tallywood/internal/bench"
	"tallywood/internal/keys"
	"tallywood/internal/stack"
	"tallywood/storage/driver"
)

// A fillRun is one call of "bench fill", or has the key of "bench floor".
type fillRun struct {
	entries           int64
	key, origin, name string
}

// fillFlags adds the flags of "bench fill".
func fillFlags(fs *flag.FlagSet) *fillRun {
	f := new(fillRun)
	fs.Int64Var(&f.entries, "entries", 1_000_000, "fill, monitor: `N` entries that the log is to have")
	fs.StringVar(&f.key, "key", "", "fill, floor: `FILE` with the log's key, PKCS#8 PEM")
	fs.StringVar(&f.origin, "origin", "", "fill, floor: `NAME` on the log's checkpoints")
	fs.StringVar(&f.name, "log", "signatures", "fill: `NAME` of the log in the storage")
	return f
}

func (f fillRun) run(ctx context.Context, t terminal, fs *flag.FlagSet, location string, seed uint64, asJSON bool) error {
	key, err := f.signer(fs)
	if err != nil {
		return err
	}
	if f.entries < 1 {
		return usagef("--entries %d: want 1 or more", f.entries)
	}
	b, err := stack.OpenBucket(ctx, location)
	if err != nil {
		return usagef("%w", err)
	}
	bar := newBar(t.err, "filling "+f.name)
	r, err := bench.Fill(ctx, bench.FillOptions{
		Bucket: b, Name: f.name, Origin: f.origin, Key: key, Entries: f.entries, Seed: seed, Progress: bar.tell,
	})
	bar.end()
	switch {
	case errors.Is(err, driver.ErrOtherLog), errors.Is(err, bench.ErrOtherEntries):
		return hinted(exitNegative, err, "choose another --log or storage; what is there was left as it is")
	case err != nil:
		return err
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(r)
	}
	fmt.Fprintf(t.out, "filled %s: %d entries, %d of them in %.1f s, root %s\n", r.Origin, r.Size, r.Added, r.Seconds, r.Root)
	fmt.Fprintf(t.out, "vkey %s\n", r.VKey)
	return nil
}

// signer returns the key of --key.
func (f fillRun) signer(fs *flag.FlagSet) (ed25519.PrivateKey, error) {
	if err := wantFlags(fs, "key", "origin"); err != nil {
		return nil, hinted(exitUsage, err, "\"tallywood key generate FILE --origin NAME\" makes a key")
	}
	signer, err := keys.ReadSigner(strings.TrimPrefix(f.key, "file:"))
	if err != nil {
		return nil, usagef("--key: %w", err)
	}
	key, ok := signer.(ed25519.PrivateKey)
	if !ok {
		return nil, usagef("--key: %s is a %T; checkpoints are signed with Ed25519", f.key, signer.Public())
	}
	return key, nil
}

// floor is "bench floor".
func (f fillRun) floor(ctx context.Context, t terminal, fs *flag.FlagSet, dir, policyFile string, rounds int, asJSON bool) error {
	key, err := f.signer(fs)
	if err != nil {
		return err
	}
	if err := wantFlags(fs, "policy"); err != nil {
		return hinted(exitUsage, err, "it lists the log of --key and the witnesses with their URLs")
	}
	p, err := benchPolicy(policyFile)
	if err != nil {
		return usagef("--policy: %w", err)
	}
	r, err := bench.Floor(ctx, bench.FloorOptions{Dir: dir, Origin: f.origin, Key: key, Policy: p, Rounds: rounds})
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(r)
	}
	_, err = fmt.Fprint(t.out, r)
	return err
}
