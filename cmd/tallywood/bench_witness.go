package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"tallywood/internal/bench"
	"tallywood/witness/policy"
)

// A witnessRun is one call of "bench witness".
type witnessRun struct {
	logs, list string
}

// witnessFlags adds the flags of "bench witness".
func witnessFlags(fs *flag.FlagSet) *witnessRun {
	w := new(witnessRun)
	fs.StringVar(&w.logs, "logs", "", "witness: `N` logs; several, such as 1,16,256, with --against\n(default: 1; those three with --against)")
	fs.StringVar(&w.list, "write-list", "", "witness: write the logs of --seed and --logs to `FILE`, and measure nothing")
	return w
}

// runWitness is "bench witness".
func (b *benchRun) runWitness(ctx context.Context, t terminal, fs *flag.FlagSet, urls []string) error {
	logs, err := counts("logs", b.witness.logs)
	if err != nil {
		return err
	}
	if b.witness.list != "" {
		if len(urls) > 0 {
			return usagef("--write-list measures nothing: leave the URL %s out", urls[0])
		}
		return writeWitnessList(t.out, b.witness.list, b.load.Seed, logs)
	}
	if len(urls) == 0 {
		return usagef("bench witness: want the URL of a witness, or --write-list FILE")
	}
	if err := wantFlags(fs, "policy"); err != nil {
		return hinted(exitUsage, err, "its \"witness\" lines have the keys of the witnesses, with their URLs")
	}
	p, err := benchPolicy(b.policy)
	if err != nil {
		return usagef("--policy: %w", err)
	}
	o := bench.WitnessOptions{
		Duration: b.load.Duration, Warmup: max(b.load.Warmup, 1), Seed: b.load.Seed,
		Log: logger(t.err, slog.LevelWarn, false),
	}
	if b.against == "" && len(logs) > 1 {
		return usagef("--logs takes one number without --against")
	}
	targets, err := b.witnessTargets(p, urls[0])
	if err != nil {
		return err
	}
	if b.against != "" {
		c, err := bench.CompareWitnesses(ctx, bench.WitnessCompareOptions{Targets: targets, Logs: logs, Pairs: b.pairs, Load: o})
		return printBench(t, c, c.Markdown, b.asJSON, err)
	}
	if len(logs) == 1 {
		o.Logs = logs[0]
	}
	r, err := bench.Witness(ctx, targets[0], o)
	return printBench(t, r, r.String, b.asJSON, err)
}

// printBench prints what a measurement gave, as JSON or text.
func printBench(t terminal, result any, text func() string, asJSON bool, err error) error {
	if err != nil {
		return benchError(err)
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(result)
	}
	_, err = fmt.Fprintln(t.out, strings.TrimSpace(text()))
	return err
}

// witnessTargets returns the witness at url and those of --against, with their keys in the policy.
func (b *benchRun) witnessTargets(p *policy.Policy, url string) ([]bench.WitnessTarget, error) {
	urls, processes := []string{url}, []string{b.pid}
	if b.against != "" {
		urls = append(urls, strings.Split(b.against, ",")...)
		if b.againstPID != "" {
			processes = append(processes, strings.Split(b.againstPID, ",")...)
		}
	}
	if len(processes) > len(urls) {
		return nil, usagef("--against-pid names %d servers, and --against has %d URLs", len(processes)-1, len(urls)-1)
	}
	var targets []bench.WitnessTarget
	for i, u := range urls {
		target := bench.WitnessTarget{URL: u}
		for _, w := range p.Witnesses() {
			if strings.TrimRight(w.URL, "/") != strings.TrimRight(u, "/") {
				continue
			}
			if target.Name == "" {
				target.Name = w.Name
			}
			target.Keys = append(target.Keys, w.Key)
		}
		if len(target.Keys) == 0 {
			return nil, usagef("--policy: there is no witness with the URL %s", u)
		}
		if i < len(processes) && processes[i] != "" {
			for _, text := range strings.Split(processes[i], "+") {
				pid, err := onePID("pid", text)
				if err != nil {
					return nil, err
				}
				target.PIDs = append(target.PIDs, pid)
			}
		}
		targets = append(targets, target)
	}
	return targets, nil
}

// onePID parses the number of a process; 0 if there is none.
func onePID(name, text string) (int, error) {
	if text == "" {
		return 0, nil
	}
	pid, err := strconv.Atoi(text)
	if err != nil || pid < 0 {
		return 0, usagef("--%s %q: want the number of a process", name, text)
	}
	return pid, nil
}

// writeWitnessList writes the logs that "bench witness" lets grow for a witness to know.
func writeWitnessList(out io.Writer, path string, seed uint64, logs []int) error {
	most := 1
	if len(logs) > 0 {
		most = slices.Max(logs)
	}
	list := bench.WitnessList
	if strings.HasSuffix(path, ".yaml") || strings.HasSuffix(path, ".yml") {
		list = bench.WitnessYAML
	}
	if err := os.WriteFile(path, []byte(list(seed, most)), 0o644); err != nil {
		return fmt.Errorf("writing the list of logs: %w", err)
	}
	_, err := fmt.Fprintf(out, "%s of seed %d in %s\n", counted(most, "log", "logs"), seed, path)
	return err
}
