package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"tallywood/internal/stack"
	"tallywood/monitor"
)

func monitorTestAlertCommand() command {
	return command{name: "monitor test-alert", args: "--config FILE [--notify NAME]... [--json]",
		short: "send a test event to the sinks, and say which took it",
		long: `
Sends one event that is marked as a test, and is critical otherwise, to every sink below "notify"
of the configuration, or to those that --notify names: with the same code, secrets and connections
as an alert, but past "min_severity", "digest" and "limit". Each sink is tried once, all at the
same time. The monitor may run meanwhile; its state is not touched.

That a sink took it means that a file was written, a program ended with 0, or a server answered that
it has it; whether somebody sees it is for you to look at.

Exit codes: 0 every sink took it; 2 usage or configuration; 5 one did not.`,
		run: monitorTestAlert}
}

func monitorTestAlert(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := monitorConfig(fs)
	asJSON := fs.Bool("json", false, "print the result as JSON")
	var names list
	fs.Var(&names, "notify", "the sink of `NAME` alone (may be repeated)")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	cfg, err := loadMonitor(fs, *path)
	if err != nil {
		return err
	}
	sinks := slices.Sorted(maps.Keys(cfg.Notify))
	for _, name := range names {
		if _, ok := cfg.Notify[name]; !ok {
			return usagef("--notify %q is none of %s", name, strings.Join(sinks, ", "))
		}
	}
	if len(names) > 0 {
		slices.Sort(names)
		sinks = slices.Compact([]string(names))
	}
	routes, err := stack.OpenSinks(cfg, logger(t.err, slog.LevelWarn, false))
	if err != nil {
		return usagef("%w", err)
	}
	trials, event := monitor.Try(ctx, routes, sinks)
	if *asJSON {
		err := json.NewEncoder(t.out).Encode(struct {
			Event  string          `json:"event"`
			Trials []monitor.Trial `json:"sinks"`
		}{event.ID, trials})
		if err != nil {
			return fmt.Errorf("printing result: %w", err)
		}
	}
	taken := 0
	for _, r := range trials {
		if r.Taken {
			taken++
		}
		if *asJSON {
			continue
		}
		how := "taken after " + r.Took.Round(time.Millisecond).String()
		if !r.Taken {
			how = "NOT TAKEN: " + r.Err
		}
		fmt.Fprintf(t.out, "%s (%s): %s\n", r.Sink, cfg.Notify[r.Sink].Kind(), how)
	}
	if taken < len(trials) {
		return &exitError{code: exitOperational, err: fmt.Errorf("%d of %d sinks did not take test event %s", len(trials)-taken, len(trials), event.ID)}
	}
	return nil
}
