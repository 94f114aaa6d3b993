// Command tallywood runs, uses and watches transparency logs.
//
// "tallywood up" starts a whole stack for development, "tallywood serve" one for use;
// "tallywood sign" and "tallywood verify" make and check keyless signatures; "tallywood monitor"
// watches logs. Each sub-command has its file here, which parses its arguments and calls the
// package that does the work.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"unicode"

	"k8s.io/klog/v2"
)

func main() { os.Exit(run(os.Args[1:], os.Stdin, os.Stdout, os.Stderr)) }

// Exit codes: what a command's result means to a script. "monitor check" has 3 and 4 besides.
const (
	exitFine        = 0
	exitNegative    = 1 // does not verify, damage found, refused
	exitUsage       = 2 // usage or configuration
	exitOperational = 5 // unreachable, stale, behind, undelivered
)

// A terminal is what a command talks to.
type terminal struct {
	in       io.Reader
	out, err io.Writer
}

// A command is one sub-command.
type command struct {
	name  string
	args  string    // its arguments, for the first line of its help
	short string    // one line for the list of commands
	long  string    // what a stranger needs to know, below the first line
	subs  []command // for a command of several: each has flags and help of its own, and "NAME SUB" as name
	// serves says that the command goes on until a signal ends it, which is its success.
	serves bool
	run    func(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error
}

// commands in the order of the help.
func commands() []command {
	return []command{demoCommand(), upCommand(), signCommand(), verifyCommand(), serveCommand(), monitorCommand(), showCommand(),
		logCommand(), peerCommand(), witnessCommand(), keyCommand(), configCommand(), storageCommand(), benchCommand(), versionCommand()}
}

// An exitError ends the program with a code and, unless err is nil, a message.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string {
	if e.err == nil {
		return fmt.Sprintf("exit code %d", e.code)
	}
	return e.err.Error()
}
func (e *exitError) Unwrap() error { return e.err }

// usagef is an error of usage or configuration.
func usagef(format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...)}
}

// hinted adds a hint to an error that ends with code.
func hinted(code int, err error, hint string) error { return &exitError{code, err, hint} }

func run(args []string, in io.Reader, out, errw io.Writer) int {
	t := terminal{in, out, errw}
	// Tessera logs through klog, to the standard error of its own making.
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	if len(args) == 0 {
		usage(errw)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		if len(args) > 1 && args[0] == "help" && !strings.HasPrefix(args[1], "-") {
			args = append(args[1:len(args):len(args)], "--help")
			break
		}
		usage(out)
		return exitFine
	case "--version":
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.execute(t, args[1:])
		}
	}
	return report(errw, hinted(exitUsage, fmt.Errorf("unknown command %q", args[0]), "\"tallywood help\" lists the commands"))
}

// execute runs c, or the one of its subs that args name, with the signals that end it bound to its
// context.
func (c command) execute(t terminal, args []string) int {
	for _, sub := range c.subs {
		if len(args) > 0 && sub.name == c.name+" "+args[0] {
			return sub.execute(t, args[1:])
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer func() {
		if ctx.Err() == nil { // else the next signal must not change how the program ends
			stop()
		}
	}()
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	err := c.run(ctx, t, fs, args)
	if errors.Is(err, flag.ErrHelp) {
		c.help(t.out, fs)
		return exitFine
	}
	if ctx.Err() != nil {
		err = c.ended(err, context.Cause(ctx))
	}
	return report(t.err, err)
}

// wantSub is the run of a command whose subs were not named rightly.
func wantSub(c command, fs *flag.FlagSet, args []string) error {
	words := make([]string, len(c.subs))
	for i, sub := range c.subs {
		words[i] = strings.TrimPrefix(sub.name, c.name+" ")
	}
	want := strings.Join(words[:len(words)-1], ", ") + " or " + words[len(words)-1]
	hint := fmt.Sprintf("\"tallywood %s --help\" explains them", c.name)
	if len(args) == 0 {
		return hinted(exitUsage, fmt.Errorf("%s takes one argument at least, got 0: want %s", c.name, want), hint)
	}
	if strings.HasPrefix(args[0], "-") {
		if err := fs.Parse(args[:1]); errors.Is(err, flag.ErrHelp) {
			return err
		}
		return hinted(exitUsage, fmt.Errorf("%s: %s stands before the subcommand; want %s first, and flags after it", c.name, args[0], want), hint)
	}
	return hinted(exitUsage, fmt.Errorf("%s %s: want %s", c.name, args[0], want), hint)
}

// report prints err, if there is one to print, and returns the exit code.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitFine
	}
	code, hint := exitOperational, ""
	if e, ok := errors.AsType[*exitError](err); ok {
		code, hint = e.code, e.hint
		if e.err == nil {
			return code
		}
	}
	// Error texts repeat what files and servers say.
	lines := strings.Split(err.Error(), "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	fmt.Fprintf(w, "tallywood: error: %s\n", strings.Join(lines, "\n    "))
	if hint != "" {
		fmt.Fprintf(w, "tallywood: hint: %s\n", hint)
	}
	return code
}

// printable replaces what a terminal would act on instead of printing it, such as what turns the
// direction of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, s)
}

// parse reads flags and operands, which may be mixed, and wants between least and most operands.
func parse(fs *flag.FlagSet, args []string, least, most int) ([]string, error) {
	var operands []string
	for {
		if err := fs.Parse(args); err != nil {
			if errors.Is(err, flag.ErrHelp) {
				return nil, err
			}
			return nil, hinted(exitUsage, flagError(err), fmt.Sprintf("\"tallywood %s --help\" lists the flags", fs.Name()))
		}
		if args = fs.Args(); len(args) == 0 {
			break
		}
		operands, args = append(operands, args[0]), args[1:]
	}
	if len(operands) < least || len(operands) > most {
		return nil, hinted(exitUsage, fmt.Errorf("%s takes %s, got %d", fs.Name(), count(least, most), len(operands)),
			fmt.Sprintf("\"tallywood %s --help\" shows how it is called", fs.Name()))
	}
	return operands, nil
}

// flagError says what package flag says about a flag, with two hyphens as in the help.
func flagError(err error) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		if _, err := strconv.Atoi(name); err == nil {
			return fmt.Errorf("-%s is negative; want a number from 0 on", name)
		}
		return fmt.Errorf("there is no flag --%s", strings.TrimLeft(name, "-"))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return fmt.Errorf("flag --%s needs a value", strings.TrimLeft(name, "-"))
	}
	return errors.New(strings.Replace(text, " flag -", " flag --", 1))
}

// wantFlags returns an error that names the flags of names that have no value.
func wantFlags(fs *flag.FlagSet, names ...string) error {
	var missing []string
	for _, name := range names {
		if f := fs.Lookup(name); f.Value.String() == "" {
			kind, _ := flag.UnquoteUsage(f)
			missing = append(missing, "--"+name+" "+kind)
		}
	}
	switch len(missing) {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s is missing", missing[0])
	default:
		return fmt.Errorf("%s are missing", strings.Join(missing, ", "))
	}
}

func count(least, most int) string {
	switch {
	case most == 0:
		return "no arguments"
	case least == most && least == 1:
		return "one argument"
	case least == most:
		return fmt.Sprintf("%d arguments", least)
	default:
		return fmt.Sprintf("%d to %d arguments", least, most)
	}
}

// list is a flag that may be given several times.
type list []string

func (l *list) String() string     { return strings.Join(*l, ", ") }
func (l *list) Set(v string) error { *l = append(*l, v); return nil }

func usage(w io.Writer) {
	fmt.Fprint(w, `Tallywood runs, uses and watches transparency logs for software signatures.

Usage: tallywood COMMAND [ARGUMENTS]

`)
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-9s %s\n", c.name, c.short)
	}
	fmt.Fprint(w, `
"tallywood COMMAND --help" explains a command. To begin: "tallywood up".

Exit codes: 0 fine; 1 a negative result (does not verify, refused); 2 usage or configuration;
3 identity alert; 4 log misbehaviour; 5 operational (unreachable, behind, undelivered).
`)
}

func (c command) help(w io.Writer, fs *flag.FlagSet) {
	fmt.Fprintf(w, "Usage: tallywood %s %s\n\n%s\n", c.name, c.args, strings.TrimSpace(c.long))
	if len(c.subs) > 0 {
		fmt.Fprintln(w)
	}
	for _, sub := range c.subs {
		fmt.Fprintf(w, "  %-11s %s\n", strings.TrimPrefix(sub.name, c.name+" "), sub.short)
	}
	if len(c.subs) > 0 {
		fmt.Fprintf(w, "\n\"tallywood %s SUBCOMMAND --help\" explains one.\n", c.name)
	}
	any := false
	fs.VisitAll(func(f *flag.Flag) {
		if !any {
			fmt.Fprint(w, "\nFlags:\n")
			any = true
		}
		kind, text := flag.UnquoteUsage(f)
		fmt.Fprintf(w, "  %s\n        %s", strings.TrimSpace("--"+f.Name+" "+kind), strings.ReplaceAll(text, "\n", "\n        "))
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" {
			fmt.Fprintf(w, " (default %s)", f.DefValue)
		}
		fmt.Fprintln(w)
	})
}

// logger writes the program's log to the standard error: JSON for machines, text for people.
func logger(w io.Writer, level slog.Level, json bool) *slog.Logger {
	o := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, o)
	if json {
		h = slog.NewJSONHandler(w, o)
	}
	l := slog.New(h)
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	return l
}
