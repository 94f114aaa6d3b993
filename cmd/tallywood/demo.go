package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"

	"tallywood/internal/demo"
)

func demoCommand() command {
	return command{name: "demo", args: "[--pause] [--keep]",
		short: "show what a transparency log is for, in half a minute",
		long: `
Starts a throw-away stack on this machine and shows, step by step and in plain words: a signature;
a forged one that is refused; a log that shows two pasts, and one that forgets, both found out; and
somebody who signs under another's name, of which the alert arrives within seconds.

All of it is real and nothing leaves the machine: loopback addresses, free ports, a temporary
directory that is removed at the end.

Exit code 0: everything was caught. 1: something was not.`,
		run: runDemo}
}

func runDemo(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	pause := fs.Bool("pause", false, "wait for Enter before each step")
	keep := fs.Bool("keep", false, "leave the files, alerts and evidence, and say where they are")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	o := demo.Options{Out: t.out, Keep: *keep}
	if *pause {
		o.Pause = enter(t)
	}
	err := demo.Run(ctx, o)
	if _, through := errors.AsType[*demo.NotCaughtError](err); through {
		return hinted(exitNegative, err, "this must not happen: please report it")
	}
	if ctx.Err() != nil && onlyInterrupted(err) {
		return hinted(exitOperational, errors.New("the demo was interrupted"), "")
	}
	return err
}

// enter returns a function that waits for a line of input.
func enter(t terminal) func(context.Context) error {
	in := bufio.NewReader(t.in)
	return func(ctx context.Context) error {
		fmt.Fprint(t.out, "\n[Enter] ")
		// At the end of the input nobody is there to wait for.
		_, _ = readLine(ctx, in)
		return ctx.Err()
	}
}
