package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"tallywood/internal/bench"
)

// An abuseRun is one call of "bench abuse".
type abuseRun struct {
	rate            float64
	from, attackers string
	attacks         string
	attackOnly      bool
}

// abuseFlags adds the flags of "bench abuse".
func abuseFlags(fs *flag.FlagSet) *abuseRun {
	a := new(abuseRun)
	fs.Float64Var(&a.rate, "good-rate", 100, "abuse: `N` entries per second of the well-behaved")
	fs.StringVar(&a.from, "from", "", "abuse: `ADDRESS` that the well-behaved connect from (default: the machine's choice)")
	fs.StringVar(&a.attackers, "attackers", "", "abuse: `ADDRESSES` that attackers connect from (default: 127.0.0.2 to 127.0.0.5)")
	fs.StringVar(&a.attacks, "attacks", "", "abuse: `NAMES` with commas between them (default: each by itself, then all at once)")
	fs.BoolVar(&a.attackOnly, "attack-only", false, "abuse: attack until the standard input ends, and print what attackers got")
	return a
}

// run measures the log at o.URL for o.Duration in each phase, with as many well-behaved clients as the
// first of counts says, if there is one.
func (a abuseRun) run(ctx context.Context, t terminal, o bench.LogOptions, counts []int, asJSON bool) error {
	ao := bench.AbuseOptions{
		URL: o.URL, Rate: a.rate, Duration: o.Duration, From: a.from, PID: o.PID,
		Log: logger(t.err, slog.LevelInfo, false),
	}
	if len(counts) > 0 {
		ao.Clients = counts[0]
	}
	if a.attackers != "" {
		ao.Attackers = strings.Split(a.attackers, ",")
	}
	if a.attacks != "" {
		ao.Attacks = strings.Split(a.attacks, ",")
	}
	if a.attackOnly {
		return attackOnly(ctx, t, ao)
	}
	ao.Start = func(ctx context.Context, names []string) (func() (map[string]int, error), error) {
		return startAttackers(ctx, o.URL, a.attackers, names)
	}
	result, err := bench.MeasureAbuse(ctx, ao)
	if err != nil {
		return err
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(result)
	}
	_, err = fmt.Fprint(t.out, result)
	return err
}

// attackOnly attacks until the standard input ends.
func attackOnly(ctx context.Context, t terminal, o bench.AbuseOptions) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // its end is all there is to it
		cancel()
	}()
	got, err := bench.Attack(ctx, o)
	if err != nil {
		return err
	}
	return json.NewEncoder(t.out).Encode(got)
}

// startAttackers attacks from another process, of the lowest priority: the work of attackers is not
// the server's, and would be done by other machines.
func startAttackers(ctx context.Context, url, from string, names []string) (func() (map[string]int, error), error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("finding this program: %w", err)
	}
	cmd := exec.Command(self, "bench", "abuse", url, "--attack-only", "--attacks", strings.Join(names, ","), "--attackers", from)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("starting another process: %w", err)
	}
	if err := bench.StartLowest(cmd); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = in.Close() }) // it sees the end, or has ended
	return func() (map[string]int, error) {
		if err := cmd.Wait(); err != nil {
			return nil, fmt.Errorf("attacking: %w", err)
		}
		got := map[string]int{}
		if err := json.Unmarshal(out.Bytes(), &got); err != nil {
			return nil, fmt.Errorf("reading what attackers got: %w", err)
		}
		return got, nil
	}, nil
}
