package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"tallywood/internal/keys"
	"tallywood/witness"
	"tallywood/witness/conformance"
	"tallywood/witness/policy"
)

const selftestHelp = `tallywood-witness selftest asks a witness that is serving every question that the
specifications answer, more than 600 of them, and prints what it answers otherwise with
their own words. Exit code 0: it passed. 1: it did not. 2, 5: it could not be asked. Where
a SHOULD is not followed, as by a witness without an ML-DSA-44 key, it says so and passes.

The witness of this directory, which goes on serving meanwhile:

  tallywood-witness selftest --dir ./witness

  --dir DIR      the witness, made by init. It is asked through DIR/selftest.sock, which
                 only its own user can open, to cosign throw-away logs as long as this
                 command runs. Their origins begin with selftest.invalid/, their keys are
                 made for this run, and their state is deleted at its end. No other log is
                 touched, and none of it is in the status, the metrics or the export
  --url URL      ask it there, for example where a proxy or a bastion makes it reachable;
                 default: where it listens

Any witness, of any make. It must be told about the throw-away logs as about any others,
and will remember them, so each run needs a new list:

  tallywood-witness selftest --write-list throwaway.txt
  tallywood-witness selftest --list throwaway.txt --url URL --vkey VKEY --vkey VKEY

  --write-list FILE     write a list of new throw-away logs in the witness network's
                        format, and the seed of their keys to FILE.seed
  --list FILE           use the logs of that list
  --vkey VKEY           a verifier key of the witness; may be repeated
  --monitoring-url URL  where it serves what it has cosigned; default: --url

  --only ID      only cases whose ID begins so, for example size/; may be repeated
  --json         print the whole report as JSON

Most of its requests are refused, as they should be. Through an address that is not of the
local network the witness holds back who sends many of those; the test then waits when it
is told to, and takes about two minutes longer.
`

// selftestFlags are the flags of selftest.
type selftestFlags struct {
	dir, url, monitoring string
	list, writeList      string
	vkeys, only          stringList
	json                 bool
}

func selftestCommand(args []string, stdout, stderr io.Writer) error {
	var f selftestFlags
	set := flag.NewFlagSet("selftest", flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", "", "")
	set.StringVar(&f.url, "url", "", "")
	set.StringVar(&f.monitoring, "monitoring-url", "", "")
	set.StringVar(&f.list, "list", "", "")
	set.StringVar(&f.writeList, "write-list", "", "")
	set.Var(&f.vkeys, "vkey", "")
	set.Var(&f.only, "only", "")
	set.BoolVar(&f.json, "json", false, "")
	if err := parseFlags(set, args, selftestHelp, stdout); err != nil {
		return err
	}
	ways := 0
	for _, way := range []string{f.dir, f.list, f.writeList} {
		if way != "" {
			ways++
		}
	}
	hint := `run "tallywood-witness selftest --help" for examples`
	switch {
	case ways != 1:
		return usageError(hint, "selftest needs one of --dir, --list and --write-list")
	case f.list != "" && (f.url == "" || len(f.vkeys) == 0):
		return usageError(hint, "--list needs --url and --vkey")
	case f.list == "" && len(f.vkeys) > 0:
		return usageError(hint, "--vkey goes with --list; a witness's own directory says its keys")
	}
	if err := f.checkTarget(); err != nil {
		return err
	}
	if f.writeList != "" {
		return writeThrowAway(f.writeList, stdout)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return f.run(ctx, stdout, stderr)
}

// checkTarget checks the URLs and keys of the witness that is asked.
func (f selftestFlags) checkTarget() error {
	var errs []error
	for name, text := range map[string]string{"--url": f.url, "--monitoring-url": f.monitoring} {
		if u, err := url.Parse(text); text != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("%s %q is not a URL such as https://witness.example.org", name, text))
		}
	}
	for _, vkey := range f.vkeys {
		if _, err := policy.ParseVKey(vkey); err != nil {
			errs = append(errs, fmt.Errorf("--vkey %q: %w", vkey, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usageError("", "%w", err)
	}
	return nil
}

// run runs the suite and prints what came of it.
func (f selftestFlags) run(ctx context.Context, stdout, stderr io.Writer) (err error) {
	o := conformance.Options{URL: f.url, Monitoring: f.monitoring, VKeys: f.vkeys, Only: f.only}
	if f.list != "" {
		if o.Logs, err = readThrowAway(f.list); err != nil {
			return err
		}
	} else {
		l, err2 := f.borrow(ctx, &o)
		if err2 != nil {
			return err2
		}
		defer func() {
			if endErr := l.end(); err == nil && endErr != nil {
				err = operational("the log of serve says more", endErr)
			}
		}()
	}
	total, done := 0, 0
	for _, c := range conformance.Cases() {
		if len(f.only) == 0 || slices.ContainsFunc(f.only, func(prefix string) bool { return strings.HasPrefix(c.ID, prefix) }) {
			total++
		}
	}
	o.Each = func(r conformance.Result) {
		if done++; done%50 == 0 {
			fmt.Fprintf(stderr, "tallywood-witness: %d of %d cases\n", done, total)
		}
	}
	report, err := conformance.Run(ctx, o)
	if ctx.Err() != nil {
		return operational("", errors.New("testing: interrupted"))
	}
	if err != nil {
		return operational("", fmt.Errorf("testing: %w", err))
	}
	if err := f.print(report, stdout); err != nil {
		return operational("", fmt.Errorf("writing report: %w", err))
	}
	switch {
	case len(report.Results) == 0:
		return usageError("the IDs are in the report of --json", "no case has an ID that begins with %s", strings.Join(f.only, " or "))
	case !report.OK():
		return &commandError{code: exitRefused, err: fmt.Errorf("the witness failed %d of %d cases", report.Count(conformance.Failed), len(report.Results))}
	}
	return nil
}

func (f selftestFlags) print(r conformance.Report, stdout io.Writer) error {
	if !f.json {
		return r.WriteText(stdout)
	}
	enc := json.NewEncoder(stdout)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(r)
}

// borrow has the serving process of f.dir cosign new throw-away logs until the loan ends, and fills in
// what it says of itself.
func (f selftestFlags) borrow(ctx context.Context, o *conformance.Options) (*loan, error) {
	if _, err := readConfig(f.dir); err != nil {
		return nil, err
	}
	logs, err := newThrowAway(witness.TemporaryPrefix)
	if err != nil {
		return nil, err
	}
	l, err := askForLogs(ctx, f.dir, logs)
	if err != nil {
		return nil, err
	}
	o.Logs, o.VKeys = logs, l.answer.VKeys
	o.Kinds = conformance.Every()
	if o.URL == "" {
		o.URL = l.answer.URL
	}
	if o.URL == "" {
		_ = l.end() // what it could say is less than what we say
		return nil, usageError("for example: --url https://witness.example.org", "the witness does not listen where it could be asked without a name; selftest needs --url")
	}
	return l, nil
}

// newThrowAway makes logs that never were and never will be again.
func newThrowAway(prefix string) (*conformance.Logs, error) {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	logs, err := conformance.NewLogs(prefix+rand.Text(), seed)
	if err != nil {
		return nil, operational("", fmt.Errorf("making throw-away logs: %w", err))
	}
	return logs, nil
}

// listPrefix begins the origins of a list of throw-away logs.
const listPrefix = "conformance.invalid/"

// writeThrowAway writes a list of new logs, and beside it what their keys derive from.
func writeThrowAway(path string, stdout io.Writer) error {
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	logs, err := throwAwayOf(seed)
	if err != nil {
		return err
	}
	// The seed comes first: a list without it is of no use.
	if err := keys.WriteSeed(path+".seed", seed); err != nil {
		return notWritten(err)
	}
	if err := keys.WriteNew(path, logs.List(), 0o644); err != nil {
		return notWritten(err)
	}
	fmt.Fprintf(stdout, "%d throw-away logs in %s, the seed of their keys in %s.seed\n", len(logs.All(conformance.Listed()...)), path, path)
	return nil
}

// notWritten is the error of a new file that could not be written.
func notWritten(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return usageError("name a file that does not exist yet", "%w", err)
	}
	return operational("", err)
}

// readThrowAway reads what writeThrowAway wrote.
func readThrowAway(path string) (*conformance.Logs, error) {
	seed, err := keys.ReadSeed(path + ".seed")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, usageError("make both with --write-list", "there is no seed of the logs' keys beside %s: %w", path, err)
	}
	if err != nil {
		return nil, usageError("", "reading seed of throw-away logs: %w", err)
	}
	list, err := readFile(path, maxLogsFile)
	if err != nil {
		return nil, usageError("", "reading list: %w", err)
	}
	logs, err := throwAwayOf(seed)
	if err != nil {
		return nil, err
	}
	if string(list) != string(logs.List()) {
		return nil, usageError("make both with --write-list", "%s is not the list that belongs to %s.seed", path, path)
	}
	return logs, nil
}

// throwAwayOf returns the logs of a seed, which names them too.
func throwAwayOf(seed [32]byte) (*conformance.Logs, error) {
	public := keys.KeyHash("throw-away logs", 0, seed[:])
	logs, err := conformance.NewLogs(listPrefix+hex.EncodeToString(public[:8]), seed)
	if err != nil {
		return nil, operational("", fmt.Errorf("making throw-away logs: %w", err))
	}
	return logs, nil
}

// socketPath is where a serving witness lends logs to a self-test.
func socketPath(dir string) string { return filepath.Join(dir, "selftest.sock") }
