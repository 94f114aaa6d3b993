package main

import (
	"context"
	"flag"
	"log/slog"
)

func monitorRunCommand() command {
	return command{name: "monitor run", args: "--config FILE",
		short: "go on until it is stopped",
		long: `
Follows the logs of the configuration, and tells the sinks what it finds, until it is stopped
(SIGTERM or Ctrl-C). What it does is logged to the standard error as JSON.`,
		run: monitorRun}
}

func monitorRun(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := monitorConfig(fs)
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	cfg, err := loadMonitor(fs, *path)
	if err != nil {
		return err
	}
	m, err := openMonitor(cfg, logger(t.err, slog.LevelInfo, true))
	if err != nil {
		return err
	}
	return m.Run(ctx)
}
