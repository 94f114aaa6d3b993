package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"log/slog"
	"strings"

	"tallywood/internal/bench"
)

// An abuseRun is one call of "bench abuse".
type abuseRun struct {
	rate            float64
	from, attackers string
	attacks         string
}

// abuseFlags adds the flags of "bench abuse".
func abuseFlags(fs *flag.FlagSet) *abuseRun {
	a := new(abuseRun)
	fs.Float64Var(&a.rate, "good-rate", 100, "abuse: `N` entries per second of the well-behaved")
	fs.StringVar(&a.from, "from", "", "abuse: `ADDRESS` that the well-behaved connect from (default: the machine's choice)")
	fs.StringVar(&a.attackers, "attackers", "", "abuse: `ADDRESSES` that attackers connect from (default: 127.0.0.2 to 127.0.0.5)")
	fs.StringVar(&a.attacks, "attacks", "", "abuse: `NAMES` with commas between them (default: each by itself, then all at once)")
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
