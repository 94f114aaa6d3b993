package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/stack"
	"tallywood/monitor"
)

func monitorCommand() command {
	return command{name: "monitor", args: "run|check --config FILE",
		short: "watch logs for identities that are misused",
		long: `
Follows logs through their public files alone, verifies every checkpoint, cosignature and entry,
and raises an event for each entry of a watched identity that nothing explains, and for each
promise a log breaks. Evidence is on disk before an event is told.

"monitor run" goes on until it is stopped. "monitor check" brings every log up to its current
checkpoint, delivers what is due and ends. Exit codes of check: 0 clean; 3 identity alert
(warning or critical); 4 log misbehaviour; 5 unreachable, behind, a state that cannot be used (the
other logs are checked all the same), or an event undelivered; of
several, the first of 4, 3, 5. 2: the configuration is wrong.

A delivery that is given up, after 72 hours or because its sink is no longer configured, is shown
by every check, which ends with 5, until one is run with --acknowledge.`,
		run: runMonitor}
}

func runMonitor(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := fs.String("config", "", "`FILE` with the monitor's configuration")
	asJSON := fs.Bool("json", false, "check: print the result as JSON")
	acknowledge := fs.Bool("acknowledge", false, "check: forget the failed deliveries it shows, so that the next does not")
	operands, err := parse(fs, args, 1, 1)
	if err != nil {
		return err
	}
	if operands[0] != "run" && operands[0] != "check" {
		return usagef("monitor %s: want run or check", operands[0])
	}
	if *acknowledge && operands[0] == "run" {
		return usagef("--acknowledge is for monitor check")
	}
	if err := wantFlags(fs, "config"); err != nil {
		return hinted(exitUsage, err, "\"tallywood up\" writes a monitor.yaml to begin with")
	}
	cfg, err := config.LoadMonitor(*path)
	if err != nil {
		return usagef("%w", err)
	}
	level := slog.LevelWarn
	if operands[0] == "run" {
		level = slog.LevelInfo
	}
	m, err := stack.OpenMonitor(cfg, logger(t.err, level, operands[0] == "run"))
	if err != nil {
		return usagef("%w", err)
	}
	if operands[0] == "run" {
		return m.Run(ctx)
	}
	return check(ctx, t, m, *asJSON, *acknowledge)
}

func check(ctx context.Context, t terminal, m *monitor.Monitor, asJSON, acknowledge bool) error {
	result, err := m.Check(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		if err := json.NewEncoder(t.out).Encode(result); err != nil {
			return fmt.Errorf("printing result: %w", err)
		}
	} else {
		printCheck(t.out, result)
	}
	if acknowledge {
		if err := m.Acknowledge(ctx); err != nil {
			return err
		}
	}
	if result.Class == 0 {
		return nil
	}
	return &exitError{code: int(result.Class)}
}

func printCheck(w io.Writer, r monitor.Result) {
	for _, e := range r.Events {
		fmt.Fprintf(w, "%s: %s: %s\n", e.Severity, e.Rule, e.Summary)
		if e.Evidence != "" {
			fmt.Fprintf(w, "    evidence: %s\n", e.Evidence)
		}
	}
	for _, l := range r.Logs {
		state := "verified"
		if l.Err != "" {
			state = "NOT VERIFIED: " + l.Err
		}
		fmt.Fprintf(w, "%s: %d of %d entries %s\n", l.Origin, l.Scanned, l.Size, state)
	}
	if r.Undelivered > 0 {
		fmt.Fprintf(w, "%d events are undelivered\n", r.Undelivered)
	}
	if r.GivenUp == 0 {
		return
	}
	for _, l := range r.Logs {
		for _, f := range l.Failures {
			fmt.Fprintf(w, "not delivered to %q: %s: %s: %s\n    evidence: %s\n    given up %s: %s\n", f.Sink, f.Event.Severity,
				f.Event.Rule, f.Event.Summary, f.Event.Evidence, f.Time.Format(time.RFC3339), f.Error)
		}
	}
	fmt.Fprintf(w, "%d deliveries were given up; --acknowledge forgets them\n", r.GivenUp)
}
