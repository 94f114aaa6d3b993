package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"time"

	"tallywood/internal/stack"
	"tallywood/monitor"
)

func monitorInitCommand() command {
	return command{name: "monitor init", args: "--config FILE [--log ORIGIN]... [--json]",
		short: "verify the logs once and make the monitor's first states",
		long: `
Makes the monitor's own key in the state directory, unless it is there; fetches and verifies each
log's checkpoint, the hash tiles of its newest entries and the newest bundle; writes the first state
of each log, signed with the key; and prints what was found and with which entry the monitor begins.
A state that is there is never replaced: --log names the logs that the configuration has new.

It is needed where "start" of a log is "head" or a time. There a state that is gone later is an
error, as what was logged since would be skipped in silence. With "start: 0", or another entry,
"run" and "check" make the first state themselves.

Exit codes: 0 done; 1 there is a state already; 2 usage or configuration; 4 a log does not verify;
5 a log cannot be read. Unless it is 0, no state was made.`,
		run: monitorInit}
}

func monitorInit(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := monitorConfig(fs)
	asJSON := fs.Bool("json", false, "print what was found as JSON")
	var logs list
	fs.Var(&logs, "log", "the log of `ORIGIN` alone (may be repeated)")
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
	vkey, err := stack.MonitorVKey(cfg)
	if err != nil {
		return usagef("%w", err)
	}
	found, err := m.Init(ctx, logs...)
	if err != nil {
		return initError(err, logs)
	}
	if !*asJSON {
		printInit(t.out, vkey, found)
		printTrust(t.out, m.Trust())
		return nil
	}
	if err := json.NewEncoder(t.out).Encode(struct {
		Key  string              `json:"key"`
		Logs []monitor.Beginning `json:"logs"`
	}{vkey, found}); err != nil {
		return fmt.Errorf("printing result: %w", err)
	}
	return nil
}

// initError gives an error of Init its exit code and, where there is one, a hint.
func initError(err error, logs []string) error {
	switch {
	case errors.Is(err, monitor.ErrUnknownLog):
		return usagef("%w", err)
	case errors.Is(err, monitor.ErrBegun) && len(logs) == 0:
		return hinted(exitNegative, err, "--log ORIGIN makes the state of a log that is new in the configuration")
	case errors.Is(err, monitor.ErrBegun):
		return hinted(exitNegative, err, "to begin anew, move the state away: what was logged since then is not looked at, or events are repeated")
	}
	return &exitError{code: int(monitor.ClassOf(err)), err: err}
}

func printInit(w io.Writer, vkey string, found []monitor.Beginning) {
	fmt.Fprintf(w, "key: %s\n", vkey)
	for _, b := range found {
		fmt.Fprintf(w, "%s: verified, %d entries, root %x\n", b.Origin, b.Size, b.Root)
		if len(b.Witnesses) > 0 {
			fmt.Fprintf(w, "    quorum: cosigned by %s, %s\n", strings.Join(b.Witnesses, ", "), b.Cosigned.UTC().Format(time.RFC3339))
		} else {
			fmt.Fprintln(w, "    quorum: none, the log's own signature is all there is")
		}
		begins := fmt.Sprintf("entry %d", b.Start)
		if b.Start == b.Size {
			begins += ", the next that is logged"
		}
		if b.Why != "" {
			begins += " (" + b.Why + ")"
		}
		fmt.Fprintf(w, "    begins with: %s\n", begins)
	}
}
