package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"tallywood/internal/stack"
	"tallywood/storage"
	"tallywood/storage/driver"
	"tallywood/storage/posix"
)

func storageCommand() command {
	return command{name: "storage", args: "check|state|fsck|import URL [--log NAME] [--json]",
		short: "try a store; show and verify what is in it",
		long: `
URL is what a configuration has as its storage: s3://BUCKET/PREFIX?region=REGION (&endpoint=URL for
other stores than Amazon's), gs://BUCKET/PREFIX, or a directory.

"storage check" tries everything that logs and witnesses need of a store, conditional writes above
all, on objects of its own that it removes, and prints a line for each guarantee. "tallywood serve"
does the same at every start.
"storage state" shows for every log, or the one that --log names, how far it is: its newest record,
who leads it, what may be deleted, its checkpoint, and how many entries wait for publication.
"storage fsck" reads every object of every log and verifies it, down to the last entry and up to
the signature on the checkpoint, and names the first one that is damaged or missing.

"storage import" copies a published log, one that a driver of Tessera's own wrote for instance, from
--from into the storage, under the name --log and with its signing key --key, and verifies every
entry; "tallywood serve" then goes on as its writer.

state and fsck only read, and a log may be in use meanwhile. No key is needed but that of the store.

Exit codes: 0 fine; 1 a guarantee is missing, something is damaged, or there is no log; 2 usage;
5 the store cannot be reached or read.`,
		run: runStorage}
}

// A storageRun is one call of the command.
type storageRun struct {
	t      terminal
	url    string
	log    string // --log; "": all
	asJSON bool
}

func runStorage(ctx context.Context, t terminal, flags *flag.FlagSet, args []string) error {
	r := storageRun{t: t}
	var imp importRun
	flags.StringVar(&r.log, "log", "", "state, fsck: only the log with this `NAME`; import: its name here")
	flags.StringVar(&imp.from, "from", "", "import: `SOURCE`, a directory or URL that has checkpoint and tile/")
	flags.StringVar(&imp.key, "key", "", "import: `FILE` with the log's key, PKCS#8 PEM, or the URI of a key in a KMS")
	flags.BoolVar(&r.asJSON, "json", false, "print JSON")
	operands, err := parse(flags, args, 2, 2)
	if err != nil {
		return err
	}
	verb := operands[0]
	r.url = operands[1]
	open := stack.ViewBucket
	switch {
	case verb == "check" && r.log != "":
		return usagef("--log is for storage state and storage fsck")
	case verb == "check", verb == "import":
		open = stack.OpenBucket
	case verb != "state" && verb != "fsck":
		return usagef("storage %s: want check, state, fsck or import", verb)
	}
	b, err := open(ctx, r.url)
	if err != nil {
		return bucketError(err)
	}
	switch verb {
	case "check":
		return r.check(ctx, b)
	case "state":
		return r.eachLog(ctx, b, r.state)
	case "import":
		imp.name = r.log
		return imp.run(ctx, r.t, b)
	}
	return r.eachLog(ctx, b, r.fsck)
}

// bucketError gives an error that kept a bucket from opening its exit code.
func bucketError(err error) error {
	switch {
	case errors.Is(err, posix.ErrOpenToOthers):
		return hinted(exitNegative, err, "")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission):
		return hinted(exitOperational, err, "")
	}
	return hinted(exitUsage, err, "")
}

// check prints what a store guarantees.
func (r storageRun) check(ctx context.Context, b storage.Bucket) error {
	type line struct {
		Guarantee string `json:"guarantee"`
		Result    string `json:"result"` // ok, warning, fails, unknown
		Reason    string `json:"reason,omitempty"`
	}
	checks, err := stack.ProbeBucket(ctx, b)
	out := struct {
		Storage string `json:"storage"`
		Usable  bool   `json:"usable"`
		Checks  []line `json:"checks"`
	}{r.url, err == nil, nil}
	for _, c := range checks {
		l := line{c.Guarantee, "ok", c.Note}
		broken, isBroken := errors.AsType[*storage.BrokenError](c.Err)
		switch {
		case isBroken:
			l.Result, l.Reason = "fails", broken.Unwrap().Error()
		case c.Err != nil:
			l.Result, l.Reason = "unknown", c.Err.Error()
		case c.Warning != "":
			l.Result, l.Reason = "warning", c.Warning
		}
		out.Checks = append(out.Checks, l)
		if !r.asJSON {
			if l.Result == "unknown" {
				l.Reason = "" // the error says it, once
			}
			printGuarantee(r.t.out, l.Result, l.Guarantee, l.Reason)
		}
	}
	if r.asJSON {
		if err := json.NewEncoder(r.t.out).Encode(out); err != nil {
			return err
		}
	}
	if _, broken := errors.AsType[*storage.BrokenError](err); broken {
		return hinted(exitNegative, err, "\"tallywood serve\" refuses this store: two processes could write one log, or strangers read what is private")
	}
	for _, c := range checks {
		if c.Err != nil {
			return fmt.Errorf("probing %s: %w", r.url, c.Err) // the others say the same
		}
	}
	return err
}

func printGuarantee(w io.Writer, result, guarantee, reason string) {
	if result == "fails" {
		result = "FAILS"
	}
	if reason != "" {
		reason = " (" + strings.ReplaceAll(reason, "\n", "; ") + ")"
	}
	fmt.Fprintf(w, "%-7s  %s%s\n", result, guarantee, reason)
}

// A logLine is what is printed of one log.
type logLine struct {
	Name   string         `json:"name"`
	State  *driver.Status `json:"state,omitempty"`
	Age    *float64       `json:"checkpoint_age_seconds,omitempty"`
	Report *driver.Report `json:"report,omitempty"`
	Object string         `json:"object,omitempty"` // that is damaged or missing
	Error  string         `json:"error,omitempty"`
}

// eachLog looks at the logs that are asked for, all of them whatever is wrong with one, and prints
// what it finds.
func (r storageRun) eachLog(ctx context.Context, b storage.Bucket, look func(context.Context, storage.Bucket, *logLine) error) error {
	names := []string{r.log}
	if r.log == "" {
		var err error
		if names, err = driver.Names(ctx, b); err != nil {
			return err
		}
	}
	if len(names) == 0 {
		return hinted(exitNegative, fmt.Errorf("%s: %w", r.url, driver.ErrNoLog), "logs are found below state/ there; is the prefix right?")
	}
	var errs []error
	out := struct {
		Storage string     `json:"storage"`
		Logs    []*logLine `json:"logs"`
	}{r.url, nil}
	for _, name := range names {
		l := &logLine{Name: name}
		if err := look(ctx, b, l); err != nil {
			l.Error = err.Error()
			if bad, ok := errors.AsType[*driver.ObjectError](err); ok {
				l.Object = bad.Key
			}
			errs = append(errs, err)
		}
		out.Logs = append(out.Logs, l)
	}
	if r.asJSON {
		if err := json.NewEncoder(r.t.out).Encode(out); err != nil {
			return err
		}
	}
	return logError(errors.Join(errs...))
}

// logError gives an error of looking at logs its exit code and a hint.
func logError(err error) error {
	_, object := errors.AsType[*driver.ObjectError](err)
	_, damage := errors.AsType[*driver.DamageError](err)
	switch {
	case err == nil:
		return nil
	case object || damage:
		return hinted(exitNegative, err, "nothing was changed; docs/storage.md says what can be put back, and what must not be")
	case errors.Is(err, driver.ErrNoLog):
		return hinted(exitNegative, err, "")
	case errors.Is(err, driver.ErrFormat):
		return hinted(exitUsage, err, openHint(err))
	}
	return hinted(exitOperational, err, "")
}

// state shows how far a log is.
func (r storageRun) state(ctx context.Context, b storage.Bucket, l *logLine) error {
	s, err := driver.Inspect(ctx, b, l.Name)
	if err != nil {
		return err
	}
	l.State = &s
	if s.Checkpoint != nil && s.Checkpoint.Written != nil {
		age := max(0, time.Since(*s.Checkpoint.Written)).Seconds()
		l.Age = &age
	}
	if !r.asJSON {
		printState(r.t.out, s, l.Age)
	}
	return nil
}

func printState(w io.Writer, s driver.Status, age *float64) {
	fmt.Fprintf(w, "%s: %s, %s\n", s.Name, s.Origin, s.Layout)
	if s.HeadSlot < 0 {
		fmt.Fprintln(w, "  head        no record yet")
		return
	}
	fmt.Fprintf(w, "  head        slot %d, size %d\n", s.HeadSlot, s.HeadSize)
	leader := s.Leader
	if leader == "" {
		leader = "a process without URL"
	}
	if s.Released {
		leader += ", which has left,"
	}
	fmt.Fprintf(w, "  leader      %s since slot %d, epoch %d\n", leader, s.Since, s.Epoch)
	fmt.Fprintf(w, "  floor       slot %d, swept below slot %d\n", s.Floor, s.Swept)
	switch {
	case s.Checkpoint == nil:
		fmt.Fprintln(w, "  checkpoint  not published yet")
	case age == nil:
		fmt.Fprintf(w, "  checkpoint  size %d\n", s.Checkpoint.Size)
	default:
		fmt.Fprintf(w, "  checkpoint  size %d, written %v ago\n", s.Checkpoint.Size, time.Duration(*age)*time.Second)
	}
	fmt.Fprintf(w, "  lag         %d\n", s.Lag)
	switch {
	case s.Frozen != nil:
		fmt.Fprintf(w, "  frozen      since %s, at size %d; successor %s\n", s.Frozen.Time.UTC().Format(time.RFC3339), s.Frozen.Size, orDash(s.Frozen.Next.Origin))
	case s.Freezing:
		fmt.Fprintln(w, "  frozen      asked for, and not yet")
	}
}

// fsck verifies a log.
func (r storageRun) fsck(ctx context.Context, b storage.Bucket, l *logLine) error {
	bar := newBar(r.t.err, "verifying "+l.Name)
	report, err := driver.Verify(ctx, b, l.Name, bar.tell)
	bar.end()
	l.Report = &report
	if err != nil {
		return err
	}
	if !r.asJSON {
		fmt.Fprintf(r.t.out, "%s: whole: %d objects; checkpoint of size %d with root %s; %d entries committed; %d records from the floor on; %d leaderships",
			l.Name, report.Objects, report.Size, report.Root, report.Head, report.Records, report.Leaders)
		if report.Strays > 0 {
			fmt.Fprintf(r.t.out, "; %d records that are no longer needed", report.Strays)
		}
		fmt.Fprintln(r.t.out)
	}
	return nil
}
