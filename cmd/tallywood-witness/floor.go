package main

import (
	"context"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"tallywood/witness"
	"tallywood/witness/policy"
)

const floorHelp = `tallywood-witness floor set goes on with a log that is frozen: the witness was shown a
cosignature of its own that its state knows nothing of, because an old copy of the
state was restored. It may run while "serve" does. "floor" alone is the same.

  --dir DIR          the witness, made by init
  --origin ORIGIN    the log
  --logs FILE        logs, as given to serve; may be repeated
  --list URL         a log list, as given to serve; may be repeated. Lists are read, once,
                     if no file names the log
  --checkpoint FILE  the largest checkpoint you know this witness has cosigned, as the log
                     published it; without it, the one by which the log was frozen
  --json             print JSON

From then on the witness signs only what is consistent with that checkpoint. If it ever
signed a larger one that you do not know of, a log could get a fork past it: look for the
largest in the log, its monitors and its other witnesses first.
`

func floorCommand(args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 && args[0] == "set" {
		args = args[1:]
	}
	var f serveFlags
	set := flag.NewFlagSet("floor", flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", "", "")
	set.Var(&f.logs, "logs", "")
	set.Var(&f.lists, "list", "")
	origin := set.String("origin", "", "")
	file := set.String("checkpoint", "", "")
	asJSON := set.Bool("json", false, "")
	if err := parseFlags(set, args, floorHelp, stdout); err != nil {
		return err
	}
	if f.dir == "" || *origin == "" {
		return usageError(`read "tallywood-witness floor set --help" first`, "floor set needs --dir and --origin")
	}
	var note []byte
	if *file != "" {
		var err error
		if note, err = readFile(*file, maxConfig); err != nil {
			return usageError("", "reading checkpoint: %w", err)
		}
	}
	s, err := openService(f, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	tree, err := s.setFloor(context.Background(), *origin, note)
	if err := errors.Join(err, giveToOwner(s.dir, s.config.State)); err != nil {
		return err
	}
	if *asJSON {
		return printJSON(stdout, struct {
			Origin string `json:"origin"`
			Size   int64  `json:"size"`
			Root   string `json:"root"`
		}{*origin, tree.Size, base64.StdEncoding.EncodeToString(tree.Root[:])})
	}
	fmt.Fprintf(stdout, "%s goes on from size %d\n", *origin, tree.Size)
	return nil
}

// setFloor sets a floor.
func (s *service) setFloor(ctx context.Context, origin string, note []byte) (policy.Tree, error) {
	tree, err := s.lists.SetFloor(ctx, origin, note)
	_, refused := errors.AsType[*witness.FloorError](err)
	switch {
	case errors.Is(err, witness.ErrUnknownLog):
		return policy.Tree{}, &commandError{
			code: exitRefused, err: err,
			hint: "name its list with --list, or put its vkey into a file for --logs, in the format that serve --help shows",
		}
	case refused:
		return policy.Tree{}, &commandError{code: exitRefused, err: err}
	case err != nil:
		return policy.Tree{}, operational("", err)
	}
	return tree, nil
}
