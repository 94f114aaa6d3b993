package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"tallywood/monitor"
)

func monitorCheckCommand() command {
	return command{name: "monitor check", args: "--config FILE [--json] [--acknowledge]",
		short: "do all of it once, and say by the exit code how it went",
		long: `
Brings every log up to its current checkpoint, delivers what is due and ends. Exit codes of check: 0
clean; 3 identity alert (warning or critical); 4 log misbehaviour; 5 unreachable, behind, a state
that cannot be used (the other logs are checked all the same), or an event undelivered; of several,
the first of 4, 3, 5. 2: the configuration is wrong.

A delivery that is given up, after 72 hours or because its sink is no longer configured, is shown
by every check, which ends with 5, until one is run with --acknowledge.`,
		run: monitorCheck}
}

func monitorCheck(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := monitorConfig(fs)
	asJSON := fs.Bool("json", false, "print the result as JSON")
	acknowledge := fs.Bool("acknowledge", false, "forget the failed deliveries it shows, so that the next does not")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	cfg, err := loadMonitor(fs, *path)
	if err != nil {
		return err
	}
	m, err := openMonitor(cfg, logger(t.err, slog.LevelWarn, false))
	if err != nil {
		return err
	}
	return check(ctx, t, m, *asJSON, *acknowledge)
}

func check(ctx context.Context, t terminal, m *monitor.Monitor, asJSON, acknowledge bool) error {
	result, err := m.Check(ctx)
	if err != nil {
		return hinted(exitOperational, err, "what was verified and found is kept: the next check goes on from there")
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

// counted is a number and the word for one or for many.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}

func printCheck(w io.Writer, r monitor.Result) {
	for _, e := range r.Events {
		fmt.Fprintf(w, "%s: %s: %s\n", e.Severity, e.Rule, e.Summary)
		if e.Evidence != "" {
			fmt.Fprintf(w, "    evidence: %s\n", e.Evidence)
		}
	}
	for _, text := range r.Standing {
		said := func(reason string) bool { return reason != "" && strings.HasSuffix(text, reason) }
		if !said(r.Unusable) && !slices.ContainsFunc(r.Logs, func(l monitor.LogStatus) bool { return said(l.Err) }) { // below
			fmt.Fprintf(w, "still %s\n", text)
		}
	}
	for _, l := range r.Logs {
		state := "verified"
		if l.Err != "" {
			state = "NOT VERIFIED: " + l.Err
		}
		fmt.Fprintf(w, "%s: %d of %d entries %s\n", l.Origin, l.Scanned, l.Size, state)
		if l.Waiting > 0 {
			fmt.Fprintf(w, "    %s for an authorization or another explanation, the first until %s\n", counted(l.Waiting, "entry waits", "entries wait"), l.Until.Format(time.RFC3339))
		}
	}
	if r.Unusable != "" {
		fmt.Fprintln(w, r.Unusable)
	}
	printTrust(w, r.Trust)
	if r.Held > 0 {
		fmt.Fprintf(w, "%s for a digest\n", counted(r.Held, "event is held back", "events are held back"))
	}
	if r.Undelivered > 0 {
		fmt.Fprintln(w, counted(r.Undelivered, "event is undelivered", "events are undelivered"))
	}
	if r.GivenUp == 0 {
		return
	}
	for _, f := range r.Failures {
		what := f.Event.Summary
		if f.Event.Rule != "" {
			what = fmt.Sprintf("%s: %s: %s", f.Event.Severity, f.Event.Rule, what)
		}
		fmt.Fprintf(w, "not delivered to %q: %s\n", f.Sink, what)
		if f.Event.Evidence != "" {
			fmt.Fprintf(w, "    evidence: %s\n", f.Event.Evidence)
		}
		fmt.Fprintf(w, "    given up %s: %s\n", f.Time.Format(time.RFC3339), f.Error)
	}
	fmt.Fprintf(w, "%s given up; --acknowledge forgets what is shown\n", counted(int(r.GivenUp), "delivery was", "deliveries were"))
}

// printTrust says which logs of trust material are not followed, and why.
func printTrust(w io.Writer, all []monitor.TrustStatus) {
	for _, t := range all {
		if t.Err != "" {
			fmt.Fprintf(w, "%s: NOT IN ORDER: %s\n", t.Name, t.Err)
		}
		for _, l := range t.LeftOut {
			fmt.Fprintf(w, "%s: not followed: %s\n", l.Log, l.Why)
		}
	}
}
