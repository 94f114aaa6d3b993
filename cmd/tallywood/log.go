package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"tallywood/internal/config"
	"tallywood/internal/stack"
	"tallywood/storage"
	"tallywood/storage/driver"
)

func logCommand() command {
	return command{name: "log", args: "status|rotate|freeze --config FILE [NAME] [FLAGS]",
		short: "show the logs, have one follow another, end one",
		long: `
"log status" shows each log: its state, how long its entries and signatures have counted, its size,
the age of its checkpoint, and who leads it.

"log rotate" makes another log the successor of the signature log, or of the one NAMEd: new keys
beside the old ones, a line in the policy file of both, the new log in FILE with state: active and
the old one with state: frozen, and the new log in the monitor's configuration if that follows the
old one. Comments and everything else stay. What runs takes it on when it reloads (SIGHUP;
"tallywood up" by itself) or starts: it goes on with the old log until the new one has a checkpoint
that the witnesses have cosigned and --at has come, puts the new one in its place, and freezes the
old one. With replicas, give --at a time by which all of them have been reloaded.

"log freeze NAME" freezes a log at once, without a successor unless FILE names one. Whoever leads it
publishes what was accepted; writes are answered 405 from then on, reads as before. --undo takes it
back: the one way to have a frozen log grow again.

Exit codes: 0 fine; 1 refused, or something is damaged; 2 usage or configuration; 5 the storage
cannot be reached, or a log is not frozen yet.`,
		run: runLog}
}

// A logRun is one call of the command.
type logRun struct {
	t            terminal
	path         string
	rotation     stack.RotateOptions
	at           string
	undo, asJSON bool
}

func runLog(ctx context.Context, t terminal, flags *flag.FlagSet, args []string) error {
	r := logRun{t: t}
	flags.StringVar(&r.path, "config", "", "`FILE` with the configuration of the server")
	flags.StringVar(&r.rotation.To, "to", "", "rotate: `NAME` of the new log (default: the old one's, with the next number)")
	flags.StringVar(&r.rotation.Origin, "origin", "", "rotate: `HOST` name that is the new log's origin\n(default: the old one's, with the next number)")
	flags.StringVar(&r.rotation.Key, "key", "", "rotate: `KEY` of the new log that is there already, as in a configuration: file:PATH or\nin a KMS (default: a new file beside that of the old one)")
	flags.StringVar(&r.rotation.NoteKey, "note-key", "", "rotate: `KEY` for the notes of a new certificate log, likewise")
	flags.StringVar(&r.at, "at", "", "rotate: `TIME` when the new log takes over, such as 2026-12-01T00:00:00Z (default: at once)")
	flags.BoolVar(&r.undo, "undo", false, "freeze: take it back")
	flags.BoolVar(&r.asJSON, "json", false, "status: print JSON")
	operands, err := parse(flags, args, 1, 2)
	if err != nil {
		return err
	}
	if err := wantFlags(flags, "config"); err != nil {
		return hinted(exitUsage, err, "\"tallywood up\" has its configuration in tallywood-data/config.yaml")
	}
	name := ""
	if len(operands) == 2 {
		name = operands[1]
	}
	verb := operands[0]
	if err := r.checkFlags(flags, verb); err != nil {
		return err
	}
	switch {
	case verb == "rotate":
		return r.rotate(ctx, name)
	case verb == "freeze" && name == "":
		return usagef("log freeze: the NAME of a log is missing")
	case verb == "freeze":
		return r.freeze(ctx, name)
	case verb == "status":
		return r.status(ctx, name)
	}
	return usagef("log %s: want status, rotate or freeze", verb)
}

// checkFlags refuses flags of other verbs.
func (r *logRun) checkFlags(flags *flag.FlagSet, verb string) error {
	of := map[string]string{"to": "rotate", "origin": "rotate", "at": "rotate", "key": "rotate", "note-key": "rotate", "undo": "freeze", "json": "status"}
	var errs []error
	flags.Visit(func(f *flag.Flag) {
		if v := of[f.Name]; v != "" && v != verb {
			errs = append(errs, usagef("--%s is for log %s", f.Name, v))
		}
	})
	return errors.Join(errs...)
}

// open loads the configuration and opens its storage.
func (r *logRun) open(ctx context.Context, open func(context.Context, string) (storage.Bucket, error)) (*config.Config, storage.Bucket, error) {
	c, err := config.Load(r.path)
	if err != nil {
		return nil, nil, usagef("%w", err)
	}
	b, err := open(ctx, c.Storage)
	if err != nil {
		return nil, nil, bucketError(err)
	}
	return c, b, nil
}

func (r *logRun) status(ctx context.Context, name string) error {
	c, b, err := r.open(ctx, stack.ViewBucket)
	if err != nil {
		return err
	}
	if name != "" {
		l, ok := c.LogNamed(name)
		if !ok {
			return usagef("there is no log %q in the configuration", name)
		}
		c.Logs = []config.Log{l}
	}
	logs := stack.LogStatuses(ctx, c, b)
	var errs []error
	for _, l := range logs {
		errs = append(errs, l.Err)
	}
	if r.asJSON {
		err = json.NewEncoder(r.t.out).Encode(struct {
			Logs []stack.LogStatus `json:"logs"`
		}{logs})
	} else {
		err = printLogs(r.t.out, logs)
	}
	return errors.Join(err, logError(errors.Join(errs...)))
}

func printLogs(out io.Writer, logs []stack.LogStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "NAME\tKIND\tSTATE\tSIZE\tCHECKPOINT\tFROM\tTO\tLEADER\tORIGIN")
	for _, l := range logs {
		if l.Err != nil {
			fmt.Fprintf(w, "%s\t%s\tunreadable\t\t\t\t\t\t%s\n", l.Name, l.Kind, l.Origin)
			continue
		}
		age := "-"
		if l.Age != nil {
			age = (time.Duration(*l.Age) * time.Second).String() + " old"
		}
		state := l.State
		if l.Successor != "" {
			state += " -> " + l.Successor
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\n", l.Name, l.Kind, state, l.Size, age,
			date(l.Start), date(l.End), orDash(l.Leader), l.Origin)
	}
	return w.Flush()
}

func date(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return t.UTC().Format(time.RFC3339)
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func (r *logRun) rotate(ctx context.Context, name string) error {
	o := r.rotation
	o.Config, o.Log = r.path, name
	if r.at != "" {
		var err error
		if o.At, err = time.Parse(time.RFC3339, r.at); err != nil {
			return usagef("--at %q is not a time such as 2026-12-01T00:00:00Z", r.at)
		}
	}
	rot, err := stack.Rotate(ctx, o)
	if errors.Is(err, config.ErrForm) {
		return hinted(exitUsage, err, "write the new log and state: frozen of the old one into the file yourself; docs/operate.md, \"Rotating a log\", has an example")
	}
	if err != nil {
		return usagef("%w", err)
	}
	printRotation(r.t.out, r.path, rot, r.at != "")
	return nil
}

func printRotation(w io.Writer, path string, r stack.Rotation, later bool) {
	fmt.Fprintf(w, "%s is followed by %s\n", r.Old.Name, r.New.Name)
	fmt.Fprintf(w, "  origin   %s\n  vkey     %s\n  url      %s\n", r.New.Origin, r.VKey, r.URL)
	for _, k := range r.Keys {
		fmt.Fprintf(w, "  key      %s (mode 0600; keep a copy)\n", k)
	}
	for _, f := range r.Changed {
		fmt.Fprintf(w, "  changed  %s\n", f)
	}
	fmt.Fprintf(w, `
What is left to do:
- Witnesses of %s that run elsewhere must know the new log. For their log lists:
    vkey %s
    qpd 86400
    contact YOU
- Reload what runs (SIGHUP, "systemctl reload"), or start it again; "tallywood up" reloads by itself. Each
  replica needs the same lines in its configuration, and the key and the policy:
%s- Monitors that run elsewhere follow the new log at %s besides the old one.
`, r.Policy, r.VKey, indent(r.Lines, "    "), r.URL)
	at := "When the new log has a cosigned checkpoint"
	if later {
		at += " and it is " + r.End.UTC().Format(time.RFC3339)
	}
	fmt.Fprintf(w, "%s, the client files name it and the old one is frozen.\n\"tallywood log status --config %s\" shows how far that is.\n", at, quote(path))
}

// indent puts prefix before each line of text.
func indent(text, prefix string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		out.WriteString(prefix + strings.TrimRight(line, "\n") + "\n")
	}
	return out.String()
}

// freezeWait is how long "log freeze" waits for the process that leads.
const freezeWait = 30 * time.Second

func (r *logRun) freeze(ctx context.Context, name string) error {
	_, b, err := r.open(ctx, stack.OpenBucket)
	if err != nil {
		return err
	}
	c, changed, err := stack.SetFrozen(r.path, name, !r.undo)
	if err != nil {
		return usagef("%w", err)
	}
	if changed {
		fmt.Fprintf(r.t.out, "changed %s\n", r.path)
	}
	if r.undo {
		if err := driver.Unfreeze(ctx, b, name); err != nil {
			return logError(err)
		}
		fmt.Fprintf(r.t.out, "%s takes entries again, as soon as what runs has been reloaded or started\n", name)
		return nil
	}
	if err := stack.FreezeLog(ctx, c, b, name); err != nil {
		return logError(err)
	}
	return r.awaitFrozen(ctx, b, name)
}

// awaitFrozen waits for whoever leads the log.
func (r *logRun) awaitFrozen(ctx context.Context, b storage.Bucket, name string) error {
	for end := time.Now().Add(freezeWait); ; {
		s, err := driver.ReadFrozen(ctx, b, name)
		if err != nil {
			return logError(err)
		}
		if f := s.Frozen; f != nil {
			fmt.Fprintf(r.t.out, "%s is frozen since %s, with %d entries\n", name, f.Time.UTC().Format(time.RFC3339), f.Size)
			return nil
		}
		if time.Now().After(end) {
			return hinted(exitOperational, fmt.Errorf("%s is to be frozen, and is not yet", name),
				"the process that leads it does that when its witnesses have cosigned what was accepted; if none runs, the next one that starts")
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
