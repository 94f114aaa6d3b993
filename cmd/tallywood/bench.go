package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
	"time"

	"tallywood/internal/bench"
	"tallywood/witness/policy"
)

func benchCommand() command {
	return command{name: "bench", args: "log|storage|witness|fill|floor|abuse|monitor URL [FLAGS]",
		short: "measure a log, a witness, a store or the monitor under load",
		long: `
"bench storage URL" writes a log of its own into the bucket or directory at URL, through the
storage driver alone, without HTTP, signatures or witnesses, and removes it again. It prints entries
per second, times until entries are durable and published, bytes written, and requests with what
they cost in an object store. With --against DIR a log of Tessera's own POSIX driver is measured in
turns with it. Its flags are those that say so, --duration, --warmup, --pairs and --json.

"bench fill URL" makes a log of --entries valid, different signatures in the bucket or directory at
URL, with the key --key, for "tallywood serve" to go on with: to see how it fares with a long log.
No witness cosigns it. Cut short, it goes on where it was; it adds to no log but its own.

"bench floor DIR" measures what no log can be faster than: one sync of a small file in DIR, and one
round trip to the witnesses of --policy, with a log of its own (--key, --origin) that they know.

"bench log URL" posts hashedrekord entries that were signed beforehand to a log with the Rekor v2
write API, and prints throughput, latency percentiles and errors. Each of --concurrency connections
has one request under way; or, with --rate, requests are sent evenly, late or not, and their latency
counts from when they were due. --corpus certificate signs each entry with a key and certificate of
its own. With --known, most requests repeat an entry that the log has, which must get its index.
Replies are verified: an index given twice, a proof that does not hold or a checkpoint that does
not meet --policy fails the run.

With --against URL a second log is measured in turns with the first, at each of the concurrencies,
and a table with the ratios of paired runs is printed. --pid and --against-pid name the servers'
processes on this machine, whose use of CPU, memory and disk is then reported too.

"bench witness URL" lets --logs logs of its own grow at the same time, each by ten entries when the
witness at URL has cosigned its last checkpoint, and prints updates per second, latencies and
errors. --policy names a file whose "witness" lines have the keys of the witness, by its URL; every
answer must hold a cosignature by each of them, or the run fails. The witness must know the logs:
--write-list FILE writes them as a list in the format logs/v0, or as YAML for omniwitness if FILE
ends in .yaml. With --against URLs, commas between them, further witnesses of the policy are
measured in turns with it, at each number of logs. Besides, its flags are --duration, --warmup,
--pairs, --pid, --against-pid, --seed and --json.

"bench abuse URL" posts entries at a steady rate to a log of yours, in turns alone and beside each
of several attacks from other addresses: oversize, slow and garbage requests, wrong signatures and
floods of connections. It prints what the well-behaved saw, the server's memory (--pid) and what
attackers got. Its flags are those that say so, --concurrency (8), --duration, --pid and --json.

"bench monitor DIR" has a process of this program follow the log in DIR from its beginning, with
full verification, and prints what CPU time and memory it took, and whether it told exactly of the
entries that were planted. "bench monitor DIR --generate" makes such a log: --entries signatures,
each with a certificate of its own, chain and SCT; --kind ct makes a certificate log of them.
--plant FILE says what is planted and who is watched (docs/performance.md), otherwise it is some
of each kind. With --against COMMAND another monitor is measured after it, told by LOG_URL,
LOG_ORIGIN, LOG_VKEY and LOG_DIR in its environment; of its output the lines "found NAME at INDEX"
count.

The load goes where you point it: point it at servers of your own. Tallywood limits what one address
may send; limits.exempt in its configuration lets the load through.`,
		run: runBench}
}

// A benchRun is one call of "bench".
type benchRun struct {
	load                         bench.LogOptions
	concurrency, policy, against string
	pid, againstPID              string
	pairs                        int
	asJSON                       bool

	storage *bench.StorageOptions
	fill    *fillRun
	abuse   *abuseRun
	witness *witnessRun
	monitor *monitorBench
}

func benchFlags(fs *flag.FlagSet) *benchRun {
	b := new(benchRun)
	o := &b.load
	fs.StringVar(&b.concurrency, "concurrency", "", "`N` connections; several, such as 1,64,512, with --against\n(default: 1; those three with --against; 1024 with --rate)")
	fs.StringVar(&o.Corpus, "corpus", bench.Keys, "`KIND` of entries, key or certificate")
	fs.DurationVar(&o.Duration, "duration", 10*time.Second, "`TIME` of each measurement")
	fs.DurationVar(&o.Warmup, "warmup", time.Second, "`TIME` of load before it")
	fs.IntVar(&o.Count, "count", 0, "end after `N` entries (default: no limit; floor: 200 rounds)")
	fs.StringVar(&b.policy, "policy", "", "`FILE` with the policy that replies must meet; floor, witness: whose witnesses are asked")
	fs.Uint64Var(&o.Seed, "seed", 0, "`N` picks the corpus; the same seed posts the same entries\n(default: random; fill, witness, --known: 0)")
	fs.Int64Var(&o.Known, "known", 0, "`N` entries that the log has from \"bench fill\" with the same seed: most requests repeat one")
	fs.StringVar(&b.pid, "pid", "", "`PID` of the server; witness: several processes with + between them")
	fs.StringVar(&b.against, "against", "", "`URL` of a log, or DIR of a store, to measure in turns with this one;\nwitness: URLs; monitor: a command")
	fs.StringVar(&b.againstPID, "against-pid", "", "`PID` of that log's server; witness: of each, with commas between them")
	fs.IntVar(&b.pairs, "pairs", 5, "`N` pairs of runs at each concurrency or number of logs, with --against")
	fs.BoolVar(&b.asJSON, "json", false, "print JSON")
	b.storage, b.fill, b.abuse, b.witness, b.monitor = storageFlags(fs), fillFlags(fs), abuseFlags(fs), witnessFlags(fs), monitorFlags(fs)
	return b
}

func runBench(ctx context.Context, t terminal, fs *flag.FlagSet, args []string) error {
	b := benchFlags(fs)
	operands, err := parse(fs, args, 1, 2)
	if err != nil {
		return err
	}
	if operands[0] == "witness" {
		return b.runWitness(ctx, t, fs, operands[1:])
	}
	if len(operands) < 2 {
		return usagef("bench %s: want a URL, or where the log is", operands[0])
	}
	where := operands[1]
	if b.load.PID, err = onePID("pid", b.pid); err != nil {
		return err
	}
	switch operands[0] {
	case "log":
		return b.log(ctx, t, where)
	case "storage":
		o := b.storage
		o.Duration, o.Warmup, o.Pairs, o.PeerDir = b.load.Duration, b.load.Warmup, b.pairs, b.against
		return benchStorage(ctx, t, *o, where, b.asJSON)
	case "fill":
		return b.fill.run(ctx, t, fs, where, b.load.Seed, b.asJSON)
	case "floor":
		return b.fill.floor(ctx, t, fs, where, b.policy, b.load.Count, b.asJSON)
	case "monitor":
		return b.benchMonitor(ctx, t, where)
	case "abuse":
		counts, err := counts("concurrency", b.concurrency)
		if err != nil {
			return err
		}
		b.load.URL = where
		return b.abuse.run(ctx, t, b.load, counts, b.asJSON)
	}
	return usagef("bench %s: want log, storage, witness, fill, floor, abuse or monitor", operands[0])
}

// log is "bench log".
func (b *benchRun) log(ctx context.Context, t terminal, url string) error {
	o := b.load
	counts, err := counts("concurrency", b.concurrency)
	if err != nil {
		return err
	}
	if b.policy != "" {
		if o.Policy, err = benchPolicy(b.policy); err != nil {
			return usagef("--policy: %w", err)
		}
	}
	o.Warmup = max(o.Warmup, 1) // zero would be the package's default
	o.URL, o.Rate, o.Log = url, b.storage.Rate, logger(t.err, slog.LevelWarn, false)
	if b.against != "" {
		againstPID, err := onePID("against-pid", b.againstPID)
		if err != nil {
			return err
		}
		return compare(ctx, t, bench.CompareOptions{Concurrency: counts, Pairs: b.pairs, Load: o,
			A: bench.Target{Name: "tallywood", URL: o.URL, PID: o.PID, Policy: o.Policy},
			B: bench.Target{Name: "peer", URL: b.against, PID: againstPID}}, b.asJSON)
	}
	switch len(counts) {
	case 0:
	case 1:
		o.Concurrency = counts[0]
	default:
		return usagef("--concurrency takes one number without --against")
	}
	result, err := bench.Log(ctx, o)
	if err != nil {
		return benchError(err)
	}
	if b.asJSON {
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
	if errors.Is(err, bench.ErrOptions) {
		return hinted(exitUsage, err, "\"tallywood bench --help\" explains the flags")
	}
	return err
}

// counts parses a flag's list of concurrencies or the like, which may be empty.
func counts(name, text string) ([]int, error) {
	var out []int
	if text == "" {
		return nil, nil
	}
	for _, field := range strings.Split(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(field))
		if err != nil || n < 1 || n > 65536 {
			return nil, usagef("--%s %q: want numbers from 1 to 65536", name, text)
		}
		out = append(out, n)
	}
	return out, nil
}

func benchPolicy(path string) (*policy.Policy, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	return policy.Parse(text)
}
