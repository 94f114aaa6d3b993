package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"

	"tallywood/internal/config"
	"tallywood/internal/httpx"
	"tallywood/internal/stack"
	"tallywood/storage/driver"
)

func serveCommand() command {
	return command{name: "serve", args: "--config FILE",
		short: "run the parts that a configuration file has",
		long: `
Runs what the configuration file has: logs, certificate and timestamp authorities, witnesses, a
monitor. When clients may begin, the line "ready URL CLIENT_DIR" appears on the standard output
(CLIENT_DIR only if client_dir is set). The log is JSON on the standard error.

SIGTERM and SIGINT end it: what has been accepted is published first. SIGHUP makes it read the
configuration and the files it names again and take on what can change without a restart; what
it refuses stays as it was, and the log says why.

A service manager that sets NOTIFY_SOCKET, as systemd does, is told when the listener answers, at
half of WATCHDOG_USEC that the process lives, when it reloads, and when it is about to end.

Traces go where the standard variables of OpenTelemetry say, such as OTEL_EXPORTER_OTLP_ENDPOINT,
by OTLP over HTTP. Without them nothing is traced.`,
		serves: true, run: serve}
}

func serve(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	path := fs.String("config", "", "`FILE` with the configuration; \"tallywood up\" writes one to begin with")
	if _, err := parse(fs, args, 0, 0); err != nil {
		return err
	}
	if err := wantFlags(fs, "config"); err != nil {
		return hinted(exitUsage, err, "\"tallywood up\" needs none, and writes one to begin with")
	}
	cfg, err := config.Load(*path)
	if err != nil {
		return usagef("%w", err)
	}
	manager, err := httpx.NewNotifier(os.Getenv, os.Getpid())
	if err != nil {
		return usagef("%w", err)
	}
	ln, err := listen(cfg.Address, "address in the configuration chooses another")
	if err != nil {
		return err
	}
	if anyPort(cfg.Address) {
		cfg.SetAddress(ln.Addr().String())
	}
	o := stack.Options{Config: cfg, Log: logger(t.err, slog.LevelInfo, true)}
	o.Reread = func() (*config.Config, error) {
		c, err := config.Load(*path)
		if err == nil && anyPort(c.Address) {
			c.SetAddress(ln.Addr().String())
		}
		return c, err
	}
	return serveStack(ctx, o, ln, manager, func(started) {
		if err := manager.Send("STATUS=ready " + cfg.URL); err != nil {
			o.Log.Warn("telling the service manager", "err", err)
		}
		if cfg.ClientDir == "" {
			fmt.Fprintf(t.out, "ready %s\n", cfg.URL)
			return
		}
		fmt.Fprintf(t.out, "ready %s %s\n", cfg.URL, cfg.ClientDir)
	})
}

// gcPercent is GOGC where the environment has none. Under load it takes less memory than the runtime's
// own 100, for little time (docs/performance.md).
const gcPercent = 60

// collectOften sets GOGC where the environment has none.
func collectOften(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// started says what a stack did before it was ready.
type started struct {
	changed []string // names of the client files that changed
	metrics string   // address of the metrics listener; empty without one
}

// serveStack opens a stack, writes its client files and runs it on ln. When clients may begin it
// calls ready. The manager is told when ln answers, which may be long before: without their
// witnesses logs take no entries, and are read all the same.
func serveStack(ctx context.Context, o stack.Options, ln net.Listener, manager httpx.Notifier, ready func(started)) error {
	collectOften(gcPercent)
	var metricsLn net.Listener
	var err error
	var st started
	if o.Config.MetricsAddress != "" {
		if metricsLn, err = listen(o.Config.MetricsAddress, "metrics_address or --metrics-address chooses another"); err != nil {
			return errors.Join(err, ln.Close())
		}
		st.metrics = metricsLn.Addr().String()
		o.Log.Info("serving metrics", "address", st.metrics)
	}
	v := buildVersion()
	o.Build = stack.Build{Version: v.Version, Revision: v.Commit, Go: v.Go}
	tracer, stopTracing, err := startTracing(ctx, os.Getenv, o.Log)
	if err != nil {
		return errors.Join(usagef("%w", err), ln.Close())
	}
	defer stopTracing()
	o.Tracer = tracer
	hup := catchHangups()
	defer hup.close()
	s, err := stack.Open(ctx, o)
	if err != nil {
		return openError(errors.Join(err, ln.Close()))
	}
	if st.changed, err = s.WriteClientFiles(ctx); err != nil {
		return errors.Join(err, ln.Close(), s.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	err = manager.Around(ctx, func() error {
		ended := make(chan struct{})
		var reloads sync.WaitGroup
		reloads.Go(func() { hup.serve(ended, manager, o.Log, func() error { return s.Reload(ctx) }, cancel) })
		if o.Dev { // whose commands run beside it on the same files
			path := filepath.Join(o.Config.Dir, "config.yaml")
			reloads.Go(func() { watchFile(path, ended, func() { refused(o.Log, s.Reload(ctx)) }) })
		}
		err := s.Run(ctx, ln, metricsLn, func() { ready(st) })
		close(ended)
		reloads.Wait()
		return err
	})
	err = errors.Join(err, s.Close())
	if _, damaged := errors.AsType[*driver.DamageError](err); damaged {
		return openError(err)
	}
	return err
}
