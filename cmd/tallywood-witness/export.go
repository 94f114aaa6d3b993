package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"tallywood/storage"
	"tallywood/storage/posix"
	"tallywood/witness"
)

// openExport opens the directory that the configuration names for what is published, or returns nil.
func openExport(c config, dir string) (storage.Bucket, error) {
	if c.Export == "" {
		return nil, nil
	}
	path := within(dir, c.Export)
	if err := checkApart(c.State, path); err != nil {
		return nil, usageError("", "export: %w", err)
	}
	b, err := posix.Open(path)
	if err != nil {
		return nil, operational("", fmt.Errorf("opening export: %w", err))
	}
	return b, nil
}

// checkApart returns an error if one of two directories is in the other: what is published must not
// be restored with the state, nor show it.
func checkApart(state, export string) error {
	a, err := realPath(state)
	if err != nil {
		return err
	}
	b, err := realPath(export)
	if err != nil {
		return err
	}
	if isWithin(a, b) || isWithin(b, a) {
		return fmt.Errorf("%s and the state %s are not apart: one would be lost or restored with the other", export, state)
	}
	return nil
}

// isWithin reports whether a path is dir or below it.
func isWithin(path, dir string) bool {
	rest, ok := strings.CutPrefix(path, strings.TrimSuffix(dir, string(filepath.Separator)))
	return ok && (rest == "" || rest[0] == filepath.Separator)
}

// realPath follows the symbolic links of a path, whose last part need not exist yet.
func realPath(path string) (string, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", err
	}
	real, err := filepath.EvalSymlinks(abs)
	if errors.Is(err, fs.ErrNotExist) {
		if parent, err := filepath.EvalSymlinks(filepath.Dir(abs)); err == nil {
			return filepath.Join(parent, filepath.Base(abs)), nil
		}
		return abs, nil
	}
	return real, err
}

const takeOverHelp = `tallywood-witness take-over lets this witness go on with its state, where "serve" says
that another instance has the lease: that instance has used the same keys with other
state. It may run while "serve" does.

  --dir DIR               the witness, made by init
  --passphrase-file FILE  the passphrase of its seeds, if they are encrypted

Say it only if the other instance is lost, or was stopped, or is to stop for good. One
that still runs stops signing within seconds when it can reach the export; this one begins
some seconds later. What the other has exported is not forgotten: a log whose state here
is behind that is frozen until "floor set" says where it goes on. What it has signed in its last
second may not be exported: if there is any other copy of its state, use that copy.
`

func takeOverCommand(args []string, stdout, stderr io.Writer) error {
	set := flag.NewFlagSet("take-over", flag.ContinueOnError)
	dir := set.String("dir", "", "")
	passphrase := set.String("passphrase-file", "", "")
	if err := parseFlags(set, args, takeOverHelp, stdout); err != nil {
		return err
	}
	if *dir == "" {
		return usageError(`read "tallywood-witness take-over --help" first`, "take-over needs --dir")
	}
	c, err := readConfig(*dir)
	if err != nil {
		return err
	}
	o, err := c.options(*dir, *passphrase)
	if err != nil {
		return err
	}
	o.Log = slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError}))
	w, err := witness.New(o)
	if err != nil {
		return usageError("", "%w", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := w.TakeOver(ctx); err != nil {
		return &commandError{code: exitRefused, err: err}
	}
	fmt.Fprintf(stdout, "%s goes on with %s; serve signs again within %d seconds\n", c.Name, c.State, int(witness.TakeOverTime.Seconds()))
	return nil
}
