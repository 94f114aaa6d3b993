package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"

	"tallywood/log/verify"
)

func verifyCommand() command {
	return command{name: "verify", args: "FILE --bundle B --certificate-identity I --certificate-oidc-issuer U [FLAGS]\n       tallywood verify FILE --proof P [--policy F]",
		short: "verify a signature, or a log's proof, offline",
		long: `
Verifies that the bundle holds a signature over FILE by the identity, which the issuer vouched
for; that certificate and signature are in their logs; that the certificate was valid when a
timestamp authority saw the signature; and that enough witnesses cosigned the log's checkpoint.
Nothing is fetched: the trust directory and the bundle have all it takes.

Instead of FILE its digest will do: sha256: and 64 hexadecimal digits, or sha384:, sha512:,
whichever the bundle has. A file of such a name is ./sha256:...

A bundle may hold an attestation (in-toto, in a DSSE envelope) instead, of which FILE must be a
subject; --type says of which type it has to be. One that was signed with a managed key has no
identity: --key FILE is the public key that must have signed, and the log's entry must hold it.

Patterns are regular expressions (RE2) and match the WHOLE identity or issuer, unlike cosign's:
what matches anywhere also matches https://evil.example/?https://github.com/you.

With --proof, verifies that FILE is an entry of a log that the policy lists, under a checkpoint
that enough witnesses cosigned.

Exit code 0: all of that holds. 1: something does not; the message says what.`,
		run: verifyFile}
}

func verifyFile(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	f := newVerifyFlags(fs)
	operands, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	if f.proof != "" {
		return verifyProof(ctx, t, fs, f, operands[0])
	}
	o, err := f.options(fs)
	if err != nil {
		return err
	}
	v, err := verify.New(o)
	if err != nil {
		return usagef("%w", err)
	}
	bundle, err := readBundle(f.bundle)
	if err != nil {
		return err
	}
	result, err := verifyArtifact(ctx, v, bundle, operands[0])
	if err != nil {
		return verifyError(operands[0], err)
	}
	return printResult(t.out, result, f.json)
}

// verifyError gives an error of verifying what operand names its exit code, and a hint if another
// call would do.
func verifyError(operand string, err error) error {
	if _, failed := errors.AsType[*verify.Error](err); !failed {
		return err
	}
	hint := ""
	switch {
	case errors.Is(err, verify.ErrManagedKey):
		hint = "--key FILE names the public key, instead of identity and issuer"
	case errors.Is(err, verify.ErrUnwitnessed):
		hint = noPolicyHint
	}
	return hinted(exitNegative, fmt.Errorf("%s does not verify: %w", operand, err), hint)
}

// verifyArtifact verifies bundle for what an operand names, a file or a digest.
func verifyArtifact(ctx context.Context, v *verify.Verifier, bundle []byte, operand string) (*verify.Result, error) {
	algorithm, digest, err := parseDigest(operand)
	if err != nil {
		return nil, err
	}
	if algorithm != 0 {
		return v.Digest(bundle, algorithm, digest)
	}
	artifact, err := openArtifact(ctx, operand)
	if err != nil {
		return nil, err
	}
	defer artifact.Close()
	return v.Bundle(bundle, interruptible(ctx, artifact))
}

// parseDigest reads an operand that begins like a digest; an algorithm of 0 means that it does not.
func parseDigest(operand string) (crypto.Hash, []byte, error) {
	name, digits, found := strings.Cut(operand, ":")
	algorithm := map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}[name]
	if !found || algorithm == 0 {
		return 0, nil, nil
	}
	digest, err := hex.DecodeString(digits)
	if err != nil || len(digest) != algorithm.Size() {
		return 0, nil, hinted(exitUsage, fmt.Errorf("digest %q: want %s: and %d hexadecimal digits", operand, name, 2*algorithm.Size()),
			"a file of that name is ./"+operand)
	}
	return algorithm, digest, nil
}

// readBundle reads a bundle.
func readBundle(path string) ([]byte, error) { return readLimited("bundle", path, verify.MaxBundle) }

// readLimited reads a file of the named kind and refuses what cannot be one before it fills the memory.
func readLimited(kind, path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("opening %s: %w", kind, err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, usagef("reading %s: %w", kind, err)
	}
	if int64(len(data)) > limit {
		return nil, hinted(exitNegative, fmt.Errorf("%s %s is larger than %d bytes", kind, path, limit), "")
	}
	return data, nil
}

func printResult(w io.Writer, r *verify.Result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	if r.Key != "" {
		fmt.Fprintf(w, "verified: signed with the key %s\n", r.Key)
	} else {
		fmt.Fprintf(w, "verified: signed by %s (%s)\n", printable(r.Identity), printable(r.Issuer))
	}
	if r.Predicate != "" {
		fmt.Fprintf(w, "          attestation of type %s\n", printable(r.Predicate))
	}
	at := "without a timestamp"
	if !r.Time.IsZero() {
		at = "at " + r.Time.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	fmt.Fprintf(w, "          %s, entry %d of %s\n", at, r.Index, r.Origin)
	if len(r.Witnesses) > 0 {
		fmt.Fprintf(w, "          checkpoint cosigned by %s\n", strings.Join(r.Witnesses, ", "))
	} else {
		fmt.Fprintln(w, "          WITHOUT WITNESSES, as was asked for")
	}
	return nil
}
