package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"tallywood/internal/bench"
	"tallywood/internal/mint"
)

// A monitorBench is one call of "bench monitor".
type monitorBench struct {
	generate    bool
	kind, plant string
	p384        bool
}

// monitorFlags adds the flags of "bench monitor".
func monitorFlags(fs *flag.FlagSet) *monitorBench {
	m := new(monitorBench)
	fs.BoolVar(&m.generate, "generate", false, "monitor: make the log in DIR, and measure nothing")
	fs.StringVar(&m.kind, "kind", string(mint.Rekor), "monitor: `KIND` of the log to make, rekor or ct")
	fs.BoolVar(&m.p384, "p384", false, "monitor: the authority of its certificates signs with P-384, as Sigstore's public one\n(slower to make; default: P-256)")
	fs.StringVar(&m.plant, "plant", "", "monitor: `FILE` that says what to plant in it")
	return m
}

// benchMonitor is "bench monitor".
func (b *benchRun) benchMonitor(ctx context.Context, t terminal, dir string) error {
	if b.monitor.generate {
		return b.generateLog(ctx, t, dir)
	}
	if _, err := os.Stat(filepath.Join(dir, "log.json")); errors.Is(err, fs.ErrNotExist) {
		return hinted(exitUsage, fmt.Errorf("bench monitor %s: there is no log in it", dir), "--generate makes one")
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	var results []bench.MonitorResult
	var wrong *bench.MonitorError
	for _, peer := range []string{"", b.against} {
		if peer == "" && len(results) > 0 {
			break
		}
		r, err := bench.Monitor(ctx, bench.MonitorOptions{Dir: dir, Program: []string{self}, Peer: peer})
		told, ok := errors.AsType[*bench.MonitorError](err)
		if err != nil && !ok {
			return err
		}
		if results = append(results, r); peer == "" { // what a peer overlooks is its own affair
			wrong = told
		}
	}
	if b.asJSON {
		if err := json.NewEncoder(t.out).Encode(results); err != nil {
			return fmt.Errorf("printing results: %w", err)
		}
	} else {
		for _, r := range results {
			fmt.Fprint(t.out, r)
		}
		if len(results) == 2 {
			fmt.Fprintf(t.out, "ratio of CPU times: %.1f\n", (results[1].User+results[1].System)/(results[0].User+results[0].System))
		}
	}
	if wrong != nil {
		return hinted(exitNegative, wrong, "")
	}
	return nil
}

// generateLog is "bench monitor --generate".
func (b *benchRun) generateLog(ctx context.Context, t terminal, dir string) error {
	o := bench.MonitorLogOptions{Dir: dir, Kind: mint.Kind(b.monitor.kind), Entries: b.fill.entries, Seed: b.load.Seed, P384: b.monitor.p384}
	if o.Kind != mint.Rekor && o.Kind != mint.CT {
		return usagef("--kind %s: want rekor or ct", b.monitor.kind)
	}
	if o.Entries < 1 {
		return usagef("--entries %d: want 1 or more", o.Entries)
	}
	if b.monitor.plant != "" {
		data, err := os.ReadFile(b.monitor.plant)
		if err != nil {
			return usagef("--plant: %w", err)
		}
		p, err := mint.ReadPlan(data)
		if err != nil {
			return usagef("--plant %s: %w", b.monitor.plant, err)
		}
		o.Plan = &p
	}
	bar := newBar(t.err, "making the log")
	o.Progress = bar.tell
	m, err := bench.MakeMonitorLog(ctx, o)
	bar.end()
	if err != nil {
		return hinted(exitNegative, err, "")
	}
	if b.asJSON {
		return json.NewEncoder(t.out).Encode(m)
	}
	_, err = fmt.Fprintf(t.out, "made %s: %d entries of seed %d, root %s; %d planted\n", dir, m.Size, m.Seed, m.Root, len(m.Loud)+len(m.Quiet))
	return err
}
