package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"

	"tallywood/internal/config"
)

func configCommand() command {
	return command{name: "config", args: "check|print FILE [--monitor]",
		short: "check a configuration file, or print every value in force",
		long: `
"config check FILE" parses a server configuration strictly and says what is wrong with it.
"config print FILE" prints it with defaults filled in and paths resolved.
With --monitor FILE is a monitor configuration. The keys and policies that a configuration names
are read when it is run, not here.`,
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
	var c any
	if *mon {
		c, err = config.LoadMonitor(path)
	} else {
		c, err = config.Load(path)
	}
	if err != nil {
		return usagef("%w", err)
	}
	if verb == "check" {
		fmt.Fprintf(t.out, "%s is a valid configuration\n", filepath.Base(path))
		return nil
	}
	text, err := config.Format(c)
	if err != nil {
		return err
	}
	_, err = t.out.Write(text)
	return err
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
