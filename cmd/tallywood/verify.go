package main

import (
	"context"
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
	return command{name: "verify", args: "FILE --bundle B --certificate-identity I --certificate-oidc-issuer U [FLAGS]",
		short: "verify a signature offline",
		long: `
Verifies that the bundle holds a signature over FILE by the identity, which the issuer vouched
for; that certificate and signature are in their logs; that the certificate was valid when a
timestamp authority saw the signature; and that enough witnesses cosigned the log's checkpoint.
Nothing is fetched: the trust directory and the bundle have all it takes.

Exit code 0: all of that holds. 1: something does not; the message says what.`,
		run: verifyFile}
}

func verifyFile(_ context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	bundlePath := fs.String("bundle", "", "`FILE` with the Sigstore bundle")
	identity := fs.String("certificate-identity", "", "`IDENTITY` that must have signed, exactly")
	issuer := fs.String("certificate-oidc-issuer", "", "`URL` of the OpenID Connect issuer that must have vouched for it")
	trustFlag := fs.String("trust", "", trustUsage)
	policyPath := fs.String("policy", "", "`FILE` with the tlog-policy the checkpoint must satisfy, or none\n(default policy.txt in the trust directory)")
	asJSON := fs.Bool("json", false, "print the result as JSON")
	operands, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	if err := wantFlags(fs, "bundle", "certificate-identity", "certificate-oidc-issuer"); err != nil {
		return hinted(exitUsage, err, "a signature means something only with the one who made it, and who vouched for them")
	}
	tr, err := readTrust(*trustFlag, *policyPath)
	if err != nil {
		return err
	}
	v, err := verify.New(verify.Options{TrustedRoot: tr.root, Policy: tr.policy, NoPolicy: tr.policy == nil, Identity: *identity, Issuer: *issuer})
	if err != nil {
		return usagef("%w", err)
	}
	bundle, err := readBundle(*bundlePath)
	if err != nil {
		return err
	}
	artifact, err := openArtifact(operands[0])
	if err != nil {
		return err
	}
	defer artifact.Close()
	result, err := v.Bundle(bundle, artifact)
	if err != nil {
		if _, failed := errors.AsType[*verify.Error](err); failed {
			return hinted(exitNegative, fmt.Errorf("%s does not verify: %w", operands[0], err), "")
		}
		return err
	}
	return printResult(t.out, result, *asJSON)
}

// readBundle reads a bundle and refuses what cannot be one before it fills the memory.
func readBundle(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, usagef("opening bundle: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, verify.MaxBundle+1))
	if err != nil {
		return nil, usagef("reading bundle: %w", err)
	}
	if len(data) > verify.MaxBundle {
		return nil, hinted(exitNegative, fmt.Errorf("bundle %s is larger than %d bytes", path, verify.MaxBundle), "")
	}
	return data, nil
}

func printResult(w io.Writer, r *verify.Result, asJSON bool) error {
	if asJSON {
		return json.NewEncoder(w).Encode(r)
	}
	fmt.Fprintf(w, "verified: signed by %s (%s)\n", r.Identity, r.Issuer)
	fmt.Fprintf(w, "          at %s, entry %d of %s\n", r.Time.UTC().Format("2006-01-02 15:04:05 UTC"), r.Index, r.Origin)
	if len(r.Witnesses) > 0 {
		fmt.Fprintf(w, "          checkpoint cosigned by %s\n", strings.Join(r.Witnesses, ", "))
	} else {
		fmt.Fprintln(w, "          WITHOUT WITNESSES, as was asked for")
	}
	return nil
}
