package main

import (
	"context"
	"flag"
	"log/slog"

	"tallywood/internal/config"
	"tallywood/internal/stack"
	"tallywood/monitor"
)

func monitorCommand() command {
	c := command{name: "monitor", args: "SUBCOMMAND [FLAGS]",
		short: "watch logs for identities that are misused",
		long: `
Follows logs through their public files alone, verifies every checkpoint, cosignature and entry,
and raises an event for each entry of a watched identity that nothing explains, and for each
promise a log breaks. Evidence is on disk before an event is told.`,
		subs: []command{monitorInitCommand(), monitorRunCommand(), monitorCheckCommand(), monitorAuthorizeCommand(), monitorTestAlertCommand(),
			monitorImportCommand()}}
	c.run = func(_ context.Context, _ terminal, fs *flag.FlagSet, args []string) error {
		return wantSub(c, fs, args)
	}
	return c
}

// monitorConfig is the flag that names a monitor configuration.
func monitorConfig(fs *flag.FlagSet) *string {
	return fs.String("config", "", "`FILE` with the monitor's configuration")
}

// loadMonitor loads the configuration that the flag of monitorConfig names.
func loadMonitor(fs *flag.FlagSet, path string) (*config.Monitor, error) {
	if err := wantFlags(fs, "config"); err != nil {
		return nil, hinted(exitUsage, err, "\"tallywood up\" writes a monitor.yaml to begin with")
	}
	cfg, err := config.LoadMonitor(path)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return cfg, nil
}

// monitorGCPercent is GOGC where the environment has none: most of what a monitor has in memory are
// buffers that it uses again, and little is made beside them.
const monitorGCPercent = 30

// openMonitor opens the monitor of a configuration.
func openMonitor(cfg *config.Monitor, l *slog.Logger) (*monitor.Monitor, error) {
	collectOften(monitorGCPercent)
	m, err := stack.OpenMonitor(cfg, l)
	if err != nil {
		return nil, usagef("%w", err)
	}
	return m, nil
}
