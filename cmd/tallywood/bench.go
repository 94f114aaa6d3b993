package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"tallywood/internal/bench"
)

func benchCommand() command {
	return command{name: "bench", args: "log|storage|fill|abuse URL [FLAGS]",
		short: "measure a log under load, ours or another, or a store",
		long: `
"bench storage URL" writes a log of its own into the bucket or directory at URL, through the
storage driver alone, without HTTP, signatures or witnesses, and removes it again. It prints entries
per second, times until entries are durable and published, bytes written, and requests with what
they cost in an object store. With --against DIR a log of Tessera's own POSIX driver is measured in
turns with it. Its flags are those that say so, --duration, --warmup, --pairs and --json.

"bench fill URL" makes a log of --entries valid, different signatures in the bucket or directory at
URL, with the key --key, for "tallywood serve" to go on with: to see how it fares with a long log.
No witness cosigns it. Cut short, it goes on where it was; it adds to no log but its own.

"bench log URL" posts hashedrekord entries that were signed beforehand to a log with the Rekor v2
write API, in a closed loop, and prints throughput, latency percentiles and errors. Replies are
verified: an index given twice or a proof that does not hold fails the run.

With --against URL a second log is measured in turns with the first, at each of the concurrencies,
and a table with the ratios of paired runs is printed. --pid and --against-pid name the servers'
processes on this machine, whose use of CPU, memory and disk is then reported too.

"bench abuse URL" posts entries at a steady rate to a log of yours, in turns alone and beside each
of several attacks from other addresses: oversize, slow and garbage requests, wrong signatures and
floods of connections. It prints what the well-behaved saw, the server's memory (--pid) and what
attackers got. Its flags are those that say so, --concurrency (8), --duration, --pid and --json.

The load goes where you point it: point it at servers of your own. Tallywood limits what one address
may send; limits.exempt in its configuration lets the load through.`,
		run: runBench}
}

func runBench(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	var o bench.LogOptions
	concurrency := fs.String("concurrency", "1", "`N` connections; several, such as 1,64,512, with --against")
	fs.DurationVar(&o.Duration, "duration", 10*time.Second, "`TIME` of each measurement")
	fs.DurationVar(&o.Warmup, "warmup", time.Second, "`TIME` of load before it")
	fs.IntVar(&o.Count, "count", 0, "end after `N` entries (default: no limit)")
	fs.Uint64Var(&o.Seed, "seed", 0, "`N` picks the corpus; the same seed posts the same entries (default: random; fill: 0)")
	fs.IntVar(&o.PID, "pid", 0, "`PID` of the server")
	against := fs.String("against", "", "`URL` of a log, or DIR of a store, to measure in turns with this one")
	againstPID := fs.Int("against-pid", 0, "`PID` of that log's server")
	pairs := fs.Int("pairs", 5, "`N` pairs of runs at each concurrency, with --against")
	asJSON := fs.Bool("json", false, "print JSON")
	st, fill, abuse := storageFlags(fs), fillFlags(fs), abuseFlags(fs)
	operands, err := parse(fs, args, 2, 2)
	if err != nil {
		return err
	}
	switch operands[0] {
	case "log":
	case "storage":
		st.Duration, st.Warmup, st.Pairs, st.PeerDir = o.Duration, o.Warmup, *pairs, *against
		return benchStorage(ctx, t, *st, operands[1], *asJSON)
	case "fill":
		return fill.run(ctx, t, fs, operands[1], o.Seed, *asJSON)
	case "abuse":
	default:
		return usagef("bench %s: want log, storage, fill or abuse", operands[0])
	}
	counts, err := counts(*concurrency)
	if err != nil {
		return err
	}
	if operands[0] == "abuse" {
		o.URL = operands[1]
		return abuse.run(ctx, t, o, abuseClients(fs, counts), *asJSON)
	}
	o.Warmup = max(o.Warmup, 1) // zero would be the package's default
	o.URL, o.Log = operands[1], logger(t.err, slog.LevelWarn, false)
	if *against != "" {
		return compare(ctx, t, bench.CompareOptions{Concurrency: counts, Pairs: *pairs, Load: o,
			A: bench.Target{Name: "tallywood", URL: o.URL, PID: o.PID}, B: bench.Target{Name: "peer", URL: *against, PID: *againstPID}}, *asJSON)
	}
	if len(counts) != 1 {
		return usagef("--concurrency takes one number without --against")
	}
	o.Concurrency = counts[0]
	result, err := bench.Log(ctx, o)
	if err != nil {
		return benchError(err)
	}
	if *asJSON {
		return json.NewEncoder(t.out).Encode(result)
	}
	_, err = fmt.Fprintln(t.out, strings.TrimSpace(result.String()))
	return err
}

func compare(ctx context.Context, t terminal, o bench.CompareOptions, asJSON bool) error {
	c, err := bench.Compare(ctx, o)
	if err != nil {
		return benchError(err)
	}
	if asJSON {
		return json.NewEncoder(t.out).Encode(c)
	}
	_, err = fmt.Fprint(t.out, c.Markdown())
	return err
}

// benchError gives wrong answers the exit code of a negative result.
func benchError(err error) error {
	if _, wrong := errors.AsType[*bench.WrongError](err); wrong {
		return hinted(exitNegative, err, "")
	}
	return err
}

// counts parses a list of concurrencies.
func counts(text string) ([]int, error) {
	var out []int
	for _, field := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > 65536 {
			return nil, usagef("--concurrency %q: want numbers from 1 to 65536", text)
		}
		out = append(out, n)
	}
	return out, nil
}
