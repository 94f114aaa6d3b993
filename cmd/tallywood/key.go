package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"tallywood/internal/keys"
	"tallywood/internal/kms"
	"tallywood/internal/stack"
)

func keyCommand() command {
	return command{name: "key", args: "generate FILE | show FILE|URI [--origin NAME] [--type ed25519|p256]",
		short: "make a log's key, or show what others need to know of one",
		long: `
"key generate FILE" writes a new private key to FILE (PKCS#8 PEM, mode 0600; an existing file is
never replaced) and prints what "key show FILE" prints: the public key, and with --origin the
verifier key (vkey) that policies, witnesses and monitors want.

"key show URI" asks a key management service for the same: awskms:///alias/NAME (or a key's ID or
ARN, with ?region=REGION if that is not the environment's), or
gcpkms://projects/P/locations/L/keyRings/R/cryptoKeys/K/cryptoKeyVersions/N. The credentials are
those that other programs find. Nothing is signed.

Logs sign checkpoints with ed25519; a certificate log's SCTs are signed with p256.`,
		run: key}
}

func key(ctx context.Context, t terminal, flags *flag.FlagSet, args []string) error {
	origin := flags.String("origin", "", "`NAME` of the log, for its vkey; a bare host name")
	kind := flags.String("type", "ed25519", "`TYPE` of a new key: ed25519 or p256")
	operands, err := parse(flags, args, 2, 2)
	if err != nil {
		return err
	}
	if *origin != "" {
		if err := keys.CheckOrigin(*origin); err != nil {
			return usagef("--origin: %w", err)
		}
	}
	verb, path := operands[0], operands[1]
	switch verb {
	case "generate":
		signer, err := newKey(*kind)
		if err != nil {
			return err
		}
		if err := keys.WriteSigner(path, signer); err != nil {
			if errors.Is(err, fs.ErrExist) {
				return hinted(exitNegative, fmt.Errorf("%s exists already; keys are never replaced", path), "")
			}
			return fmt.Errorf("writing key: %w", err)
		}
		return showKey(t.out, signer.Public(), *origin)
	case "show":
		public, err := stack.PublicKey(ctx, strings.TrimPrefix(path, "file:"))
		if err != nil {
			return keyError(fmt.Errorf("reading key: %w", err))
		}
		return showKey(t.out, public, *origin)
	default:
		return usagef("key %s: want generate or show", verb)
	}
}

// keyError gives an error of a key its exit code, and a hint if there is one: a service that does not
// answer is a matter of operation, everything else one of configuration.
func keyError(err error) error {
	k, ok := errors.AsType[*kms.Error](err)
	switch {
	case !ok:
		return usagef("%w", err)
	case k.Temporary():
		return hinted(exitOperational, err, k.Hint)
	}
	return hinted(exitUsage, err, k.Hint)
}

func newKey(kind string) (crypto.Signer, error) {
	switch kind {
	case "ed25519":
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	case "p256":
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	default:
		return nil, usagef("--type %q: want ed25519 or p256", kind)
	}
}

func showKey(w io.Writer, pub crypto.PublicKey, origin string) error {
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return fmt.Errorf("encoding public key: %w", err)
	}
	if err := pem.Encode(w, &pem.Block{Type: "PUBLIC KEY", Bytes: der}); err != nil {
		return fmt.Errorf("printing public key: %w", err)
	}
	if origin == "" {
		return nil
	}
	id, err := keys.LogID(origin, pub)
	if err != nil {
		return usagef("%w", err)
	}
	fmt.Fprintf(w, "log ID %x\n", id)
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		fmt.Fprintf(w, "vkey %s\n", keys.VKey(origin, keys.AlgEd25519, pub))
	case *ecdsa.PublicKey:
		// For tree heads of RFC 6962 the key ID is made of the log ID, the vkey of the key itself.
		fmt.Fprintf(w, "vkey %s\n", keys.TreeHeadVKey(origin, id, der))
	}
	return nil
}
