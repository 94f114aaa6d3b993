package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"

	"tallywood/log/verify"
)

// verifyProof verifies that a file is an entry of a log, as a tlog-proof has it. That needs no trusted
// root: a policy has the keys of logs, too.
func verifyProof(ctx context.Context, t terminal, fs *flag.FlagSet, f *verifyFlags, file string) error {
	if err := proofFlags(fs); err != nil {
		return err
	}
	if algorithm, _, err := parseDigest(file); algorithm != 0 || err != nil {
		return hinted(exitUsage, errors.New("a tlog-proof cannot be checked with a digest: what the log hashes is the entry, all of it"),
			"name the file; one that is called so is ./"+file)
	}
	if f.policy == "none" {
		return hinted(exitUsage, errors.New("--policy none leaves nobody whose log counts: the policy has the log's key"),
			"for a log without witnesses write a policy of the lines \"log VKEY\" and \"quorum none\"")
	}
	p, err := readPolicy(trustDir(f.trust), f.policy)
	if err != nil {
		return hinted(exitUsage, err, "--policy FILE names the tlog-policy that lists the log")
	}
	if len(p.Logs()) == 0 {
		return usagef("the policy lists no log, so that no proof satisfies it; it needs the line \"log VKEY\"")
	}
	proof, err := readLimited("tlog-proof", f.proof, verify.MaxProof)
	if err != nil {
		return err
	}
	entry, err := openArtifact(ctx, file)
	if err != nil {
		return err
	}
	defer entry.Close()
	inclusion, err := verify.Proof(proof, interruptible(ctx, entry), p)
	if _, failed := errors.AsType[*verify.Error](err); failed {
		return hinted(exitNegative, fmt.Errorf("%s does not verify: %w", file, err), "")
	} else if err != nil {
		return err
	}
	return printInclusion(t.out, inclusion, f.json)
}

// proofFlags refuses the flags that are for bundles.
func proofFlags(fs *flag.FlagSet) error {
	var surplus []string
	fs.Visit(func(f *flag.Flag) {
		if !slices.Contains([]string{"proof", "policy", "trust", "json"}, f.Name) {
			surplus = append(surplus, "--"+f.Name)
		}
	})
	if len(surplus) > 0 {
		return hinted(exitUsage, fmt.Errorf("--proof does not go with %s", strings.Join(surplus, ", ")),
			"a tlog-proof says that bytes are in a log, not who signed them; a Sigstore bundle says both")
	}
	return nil
}

func printInclusion(w io.Writer, in *verify.Inclusion, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(in)
	}
	fmt.Fprintf(w, "verified: entry %d of %s, under a checkpoint of size %d\n", in.Index, in.Origin, in.Size)
	if len(in.Witnesses) > 0 {
		fmt.Fprintf(w, "          cosigned by %s\n", strings.Join(in.Witnesses, ", "))
	} else {
		fmt.Fprintln(w, "          WITHOUT WITNESSES, as the policy allows")
	}
	if in.UnverifiedExtra != nil {
		fmt.Fprintf(w, "          and extra data of %d bytes, which nobody has signed\n", len(in.UnverifiedExtra))
	}
	return nil
}
