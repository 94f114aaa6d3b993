package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

func witnessCommand() command {
	return command{name: "witness", args: "floor set --config FILE --origin ORIGIN [FLAGS]",
		short: "have a witness of a server go on with a log that is frozen",
		long: `
A witness freezes a log of which it was shown a cosignature of its own that its state knows nothing
of: an old copy of the storage was restored. "witness floor set" has it go on with that log. What
serves the witness may run meanwhile. Where the storage is a directory, be the user that it runs as:
what root writes there that user cannot read until "chown -R --reference=DIR DIR". For a witness of
its own, "tallywood-witness floor set" is the same.

From then on the witness signs only what is consistent with the checkpoint in --checkpoint. If it
ever signed a larger one that you do not know of, the log could get a fork past it: look for the
largest in the log, its monitors and its other witnesses first.

Exit codes: 0 fine; 1 refused, as the witness is known to have signed another tree, or nothing is
frozen; 2 usage or configuration; 5 the storage cannot be read or written.`,
		run: setFloor}
}

// maxNote bounds the file of a checkpoint, in bytes.
const maxNote = 1 << 20

func setFloor(ctx context.Context, t terminal, flags *flag.FlagSet, args []string) error {
	path := flags.String("config", "", "`FILE` with the configuration of the server")
	name := flags.String("witness", "", "`NAME` of the witness, where the configuration has several")
	origin := flags.String("origin", "", "`ORIGIN` of the log")
	file := flags.String("checkpoint", "", "`FILE` with the largest checkpoint that you know this witness has cosigned, as the log\npublished it (default: the one by which the log was frozen, or that was exported)")
	asJSON := flags.Bool("json", false, "print JSON")
	operands, err := parse(flags, args, 2, 2)
	switch {
	case err != nil:
		return err
	case operands[0] != "floor" || operands[1] != "set":
		return usagef("witness %s %s: want floor set", operands[0], operands[1])
	}
	if err := wantFlags(flags, "config", "origin"); err != nil {
		return hinted(exitUsage, err, "read \"tallywood witness --help\" first")
	}
	var checkpoint []byte
	if *file != "" {
		if checkpoint, err = readLimited("checkpoint", *file, maxNote); err != nil {
			return err
		}
	}
	c, err := config.Load(*path)
	if err != nil {
		return usagef("%w", err)
	}
	b, err := stack.OpenBucket(ctx, c.Storage)
	if err != nil {
		return bucketError(err)
	}
	floors, err := stack.OpenFloors(ctx, c, b, *name, logger(t.err, slog.LevelError, false))
	if err != nil {
		return openError(err)
	}
	tree, err := floors.Set(ctx, *origin, checkpoint)
	_, refused := errors.AsType[*stack.FloorError](err)
	switch {
	case errors.Is(err, stack.ErrUnknownLog):
		return hinted(exitNegative, err, "the witness knows the logs of the configuration, those of its peers, and those of its own lists")
	case refused:
		return hinted(exitNegative, err, "")
	case err != nil:
		return err
	case *asJSON:
		return json.NewEncoder(t.out).Encode(struct {
			Origin string `json:"origin"`
			Size   int64  `json:"size"`
			Root   string `json:"root"`
		}{*origin, tree.Size, base64.StdEncoding.EncodeToString(tree.Root[:])})
	}
	_, err = fmt.Fprintf(t.out, "%s goes on from size %d\n", *origin, tree.Size)
	return err
}
