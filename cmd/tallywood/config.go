package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"tallywood/internal/config"
	"tallywood/internal/stack"
)

func configCommand() command {
	return command{name: "config", args: "check|print FILE [--monitor]",
		short: "check a configuration file, or print every value in force",
		long: `
"config check FILE" parses a server configuration strictly, reads the keys, policies, certificate
chains, issuers and monitor configuration it names, and says what is wrong with any of them. What
is stored, and what others answer, is not looked at: only "tallywood serve" does that. Keys in a
key management service are listed for that reason; "tallywood key show URI" asks for one. It also
says what the peers of a configuration mean.

"config print FILE" prints it with defaults filled in and paths resolved, as a configuration.
With --monitor, FILE is a monitor configuration. "check" then compiles its identities and reads the
policies, authorities and secrets it names, and says which rules that are on by default are silent,
as the configuration gives them nothing to compare with.`,
		run: configure}
}

func configure(_ context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	mon := fs.Bool("monitor", false, "FILE is a monitor configuration")
	operands, err := parse(fs, args, 2, 2)
	if err != nil {
		return err
	}
	verb, path := operands[0], operands[1]
	if verb != "check" && verb != "print" {
		return usagef("config %s: want check or print", verb)
	}
	c, err := loadConfig(path, *mon, verb == "check")
	if err != nil {
		return usagef("%w", err)
	}
	if verb == "check" {
		fmt.Fprintf(t.out, "%s is a valid configuration\n", filepath.Base(path))
		tellUnasked(t.out, c)
		if server, ok := c.(*config.Config); ok {
			for _, line := range stack.ExplainPeers(server) {
				fmt.Fprintln(t.out, line)
			}
		}
		return tellSilent(t.out, c)
	}
	text, err := config.Format(c)
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
}

// tellSilent lists the rules of a monitor that cannot fire.
func tellSilent(w io.Writer, c any) error {
	m, ok := c.(*config.Monitor)
	if !ok {
		return nil
	}
	lines, err := stack.ExplainMonitor(m)
	for _, line := range lines {
		fmt.Fprintln(w, line)
	}
	return err
}

// tellUnasked lists the keys that the check could not look at.
func tellUnasked(w io.Writer, c any) {
	server, ok := c.(*config.Config)
	if !ok {
		return
	}
	for _, k := range server.Keys() {
		if config.InKMS(k.Location) {
			fmt.Fprintf(w, "not asked for: %s %s\n", k.Field, k.Location)
		}
	}
}

// loadConfig loads a server or monitor configuration; with deep it also checks what is not in the
// file's form alone, and the files that it names.
func loadConfig(path string, monitor, deep bool) (any, error) {
	if monitor {
		return loadDeep(path, deep, config.LoadMonitor, stack.CheckMonitor)
	}
	return loadDeep(path, deep, config.Load, stack.Check)
}

func loadDeep[C any](path string, deep bool, load func(string) (C, error), check func(C) error) (any, error) {
	c, err := load(path)
	if err != nil || !deep {
		return c, err
	}
	if err := check(c); err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// trustDir is the directory of a deployment's trust files: the flag, else the environment, else
// that of a stack started here.
func trustDir(flagValue string) string {
	if flagValue != "" {
		return flagValue
	}
	if dir := os.Getenv("TALLYWOOD_TRUST"); dir != "" {
		return dir
	}
	return filepath.Join("tallywood-data", "client")
}
