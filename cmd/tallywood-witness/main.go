// Command tallywood-witness runs a witness for transparency logs (c2sp.org/tlog-witness), and
// nothing else: no certificate authority, no cloud SDK, no database. All it writes is below one
// directory.
//
//	tallywood-witness init  --dir DIR --name NAME
//	tallywood-witness serve --dir DIR --listen HOST:PORT --logs FILE
//	tallywood-witness logs list|add|disable|enable|diff|acknowledge --dir DIR …
//	tallywood-witness floor set --dir DIR --origin ORIGIN
//	tallywood-witness keys --dir DIR
//	tallywood-witness take-over --dir DIR
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
)

// Exit codes, as all Tallywood commands have them.
const (
	exitFine        = 0
	exitRefused     = 1 // a negative result
	exitUsage       = 2 // usage or configuration
	exitOperational = 5 // an address in use, a directory not writable
)

// A commandError is an error with its exit code, and what to do about it.
type commandError struct {
	code int
	hint string // optional
	err  error
}

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

func usageError(hint, format string, args ...any) error {
	return &commandError{code: exitUsage, hint: hint, err: fmt.Errorf(format, args...)}
}

func operational(hint string, err error) error {
	return &commandError{code: exitOperational, hint: hint, err: err}
}

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is main with its effects as parameters.
func run(args []string, stdout, stderr io.Writer) int {
	err := dispatch(args, stdout, stderr)
	var ce *commandError
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitFine
	case !errors.As(err, &ce):
		ce = &commandError{code: exitOperational, err: err}
	}
	for line := range strings.Lines(ce.err.Error()) {
		fmt.Fprintf(stderr, "tallywood-witness: error: %s\n", strings.TrimSuffix(line, "\n"))
	}
	if ce.hint != "" {
		fmt.Fprintf(stderr, "tallywood-witness: hint: %s\n", ce.hint)
	}
	return ce.code
}

const usage = `tallywood-witness cosigns the checkpoints of transparency logs.

A witness remembers the largest tree of every log it knows and signs a new one
only if it is provably an extension of that. Who demands cosignatures of several
witnesses cannot be shown a log that forks or forgets.

Commands:
  init       make the keys and the configuration of a new witness
  serve      answer the logs
  logs       show and change which logs are cosigned
  floor      go on with a log that is frozen because state of it was lost
  keys       print the vkeys, and make keys that are to follow
  take-over  go on where another instance has the same keys and other state
  selftest   ask a witness every question of the specifications
  version    print the version

Run "tallywood-witness COMMAND --help" for its flags. To begin:

  tallywood-witness init --dir ./witness --name witness.example.org
  tallywood-witness serve --dir ./witness --logs logs.txt
`

func dispatch(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return usageError("", "no command given")
	}
	switch name, rest := args[0], args[1:]; name {
	case "init":
		return initCommand(rest, stdout)
	case "serve":
		return serveCommand(rest, stdout, stderr)
	case "logs":
		return logsCommand(rest, stdout, stderr)
	case "floor":
		return floorCommand(rest, stdout, stderr)
	case "keys":
		return keysCommand(rest, stdout)
	case "take-over":
		return takeOverCommand(rest, stdout, stderr)
	case "selftest":
		return selftestCommand(rest, stdout, stderr)
	case "version", "--version", "-version":
		fmt.Fprintln(stdout, version())
		return nil
	case "help", "--help", "-help", "-h":
		fmt.Fprint(stdout, usage)
		return nil
	default:
		return usageError(`run "tallywood-witness help" for what there is`, "unknown command %q", name)
	}
}

func version() string {
	v := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return fmt.Sprintf("tallywood-witness %s %s %s/%s", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// parseFlags parses flags only: these commands take no arguments. The help goes to stdout.
func parseFlags(fs *flag.FlagSet, args []string, help string, stdout io.Writer) error {
	fs.SetOutput(io.Discard)
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, help)
		return err
	case err != nil:
		return usageError(fmt.Sprintf(`run "tallywood-witness %s --help" for its flags`, fs.Name()), "%w", flagError(err))
	case fs.NArg() > 0:
		return usageError(fmt.Sprintf(`run "tallywood-witness %s --help" for its flags`, fs.Name()), "unexpected argument %q", fs.Arg(0))
	}
	return nil
}

// flagError says what package flag says about a flag, with two hyphens as in the help.
func flagError(err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return fmt.Errorf("there is no flag --%s", strings.TrimLeft(name, "-"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("flag --%s needs a value", strings.TrimLeft(name, "-"))
	}
	return errors.New(strings.Replace(text, " flag -", " flag --", 1))
}
