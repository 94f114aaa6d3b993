package main

import (
	"context"
	"flag"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"tallywood/internal/stack"
)

func monitorRunCommand() command {
	return command{name: "monitor run", args: "--config FILE",
		short: "go on until it is stopped",
		long: `
Follows the logs of the configuration, and tells the sinks what it finds, until it is stopped
(SIGTERM or Ctrl-C). What it does is logged to the standard error as JSON. metrics_address of the
configuration serves metrics for Prometheus.`,
		serves: true, run: monitorRun}
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
	log := logger(t.err, slog.LevelInfo, true)
	m, err := openMonitor(cfg, log)
	if err != nil {
		return err
	}
	log.Info("following logs until stopped", "size", len(cfg.Logs))
	g, ctx := errgroup.WithContext(ctx)
	if cfg.MetricsAddress != "" {
		g.Go(func() error { return stack.ServeMonitorMetrics(ctx, m, cfg.MetricsAddress, log) })
	}
	g.Go(func() error { return m.Run(ctx) })
	return g.Wait()
}
