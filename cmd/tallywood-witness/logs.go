package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"tallywood/internal/keys"
	"tallywood/witness"
)

const logsHelp = `tallywood-witness logs shows and changes which logs the witness cosigns. All of it may
be used while "serve" runs, which takes a change on within a second or two.

  logs list         every log that is known: its size, when it was last cosigned, its
                    requests per day, which file or list names it, and what is wrong
  logs add          add a single log: --vkey, --contact, and if need be --origin and --qpd.
                    It goes into DIR/added-logs.txt
  logs disable      do not cosign a log any more: --origin. It is answered 404, like an
                    unknown one; nothing of its state is deleted
  logs enable       cosign it again, from where it was: --origin
  logs diff SOURCE  what a list, a URL or a file, would change. Changes nothing. Exit code
                    1 if it names another key for a known log
  logs acknowledge  end the alarm that a list has named another key for a log: --origin.
                    The log stays as it is. To take the key, add it with --another-key

  --dir DIR         the witness, made by init
  --logs FILE       logs, as given to serve; may be repeated. Those of DIR/config.yaml
                    and of "logs add" are known without
  --list URL        a log list, as given to serve; may be repeated. It is not read: what
                    serve has read of it is known
  --origin ORIGIN   the log; for add only if it is not the name in the vkey
  --vkey VKEY       its public key
  --qpd N           requests that it may make per day, 1 to 2^31-1 (default 86400, or what
                    a log that is known has)
  --contact TEXT    how to reach its operator
  --another-key     add a key to a log that is known under others: it may be signed with
                    any of them then. Ask its operator before you do
  --json            print JSON

No command removes a log: a witness that forgets one can be made to sign a fork of it. A
log that a list has named once stays as long as that list is configured, whatever becomes
of the list.
`

// logsFlags are the flags of all of "logs".
type logsFlags struct {
	serveFlags
	origin, vkey, contact string
	qpd                   int64
	qpdSet                bool // --qpd was given
	anotherKey, json      bool
}

// logsCommands are what "logs" can do, by the next word.
var logsCommands = map[string]func(context.Context, *service, logsFlags, io.Writer) error{
	"list": logsList, "add": logsAdd, "disable": logsDisable, "enable": logsEnable,
	"diff": logsDiff, "acknowledge": logsAcknowledge,
}

func logsCommand(args []string, stdout, stderr io.Writer) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if slices.ContainsFunc(args, func(a string) bool { return strings.TrimLeft(a, "-") == "help" || a == "-h" }) {
			fmt.Fprint(stdout, logsHelp)
			return nil
		}
		return usageError(`run "tallywood-witness logs --help"`, "logs needs one of list, add, disable, enable, diff, acknowledge, and flags after it")
	}
	run, ok := logsCommands[args[0]]
	if !ok {
		return usageError(`run "tallywood-witness logs --help"`, "logs has no command %q", args[0])
	}
	f, err := parseLogsFlags(args[0], args[1:], stdout)
	if err != nil {
		return err
	}
	s, err := openRegister(f.serveFlags, slog.New(slog.NewTextHandler(stderr, &slog.HandlerOptions{Level: slog.LevelError})))
	if err != nil {
		return err
	}
	err = run(context.Background(), s, f, stdout)
	return errors.Join(err, giveToOwner(s.dir, s.config.State))
}

// openRegister opens a service for what is said about logs alone. It cannot sign: the keys in it are
// nobody's, so that no passphrase is asked for and no agent has to be there.
func openRegister(f serveFlags, logger *slog.Logger) (*service, error) {
	c, err := readConfig(f.dir)
	if err != nil {
		return nil, err
	}
	var o witness.Options
	var seed [32]byte
	_, _ = rand.Read(seed[:]) // never fails
	if o.Keys, err = keys.WitnessFromSeed(c.Name, seed); err != nil {
		return nil, usageError("", "%w", err)
	}
	if o.Bucket, err = c.openState(f.dir); err != nil {
		return nil, err
	}
	return newService(f, c, o, logger)
}

func parseLogsFlags(name string, args []string, stdout io.Writer) (logsFlags, error) {
	var f logsFlags
	set := flag.NewFlagSet("logs "+name, flag.ContinueOnError)
	set.StringVar(&f.dir, "dir", "", "")
	set.Var(&f.logs, "logs", "")
	set.Var(&f.lists, "list", "")
	set.BoolVar(&f.json, "json", false, "")
	switch name {
	case "add":
		set.StringVar(&f.vkey, "vkey", "", "")
		set.StringVar(&f.contact, "contact", "", "")
		set.Int64Var(&f.qpd, "qpd", 86400, "")
		set.BoolVar(&f.anotherKey, "another-key", false, "")
		fallthrough
	case "disable", "enable", "acknowledge":
		set.StringVar(&f.origin, "origin", "", "")
	case "diff":
		set.SetOutput(io.Discard)
		if err := set.Parse(args); err == nil && set.NArg() > 0 { // the source is before, between or after the flags
			at := len(args) - set.NArg()
			f.vkey, args = set.Arg(0), slices.Concat(args[:at], args[at+1:])
		}
		f.logs, f.lists = nil, nil // they are parsed again
	}
	if err := parseFlags(set, args, logsHelp, stdout); err != nil {
		return f, err
	}
	set.Visit(func(g *flag.Flag) { f.qpdSet = f.qpdSet || g.Name == "qpd" })
	hint := `run "tallywood-witness logs --help"`
	switch {
	case f.dir == "":
		return f, usageError(hint, "logs %s needs --dir", name)
	case name == "diff" && f.vkey == "":
		return f, usageError(hint, "logs diff needs a list: a URL or a file")
	case name == "add" && (f.vkey == "" || f.contact == ""):
		return f, usageError(hint, "logs add needs --vkey and --contact")
	case slices.Contains([]string{"disable", "enable", "acknowledge"}, name) && f.origin == "":
		return f, usageError(hint, "logs %s needs --origin", name)
	}
	return f, nil
}

// A logRow is a line of "logs list".
type logRow struct {
	Origin   string     `json:"origin"`
	VKeys    []string   `json:"vkeys"`
	Size     int64      `json:"size"`
	Cosigned *time.Time `json:"cosigned,omitempty"` // last
	QPD      int64      `json:"qpd"`                // 0: no limit
	Contact  string     `json:"contact,omitempty"`
	Source   string     `json:"source,omitempty"`
	Disabled bool       `json:"disabled"`
	Frozen   bool       `json:"frozen"`
	KeyAlarm bool       `json:"key_alarm"`
	Error    string     `json:"error,omitempty"` // of reading its state
}

// state says in a few words what is special about a log.
func (r logRow) state() string {
	var out []string
	for _, s := range []struct {
		is   bool
		word string
	}{{r.Disabled, "disabled"}, {r.Frozen, "frozen"}, {r.KeyAlarm, "key alarm"}, {r.Error != "", "unreadable"}} {
		if s.is {
			out = append(out, s.word)
		}
	}
	if len(out) == 0 {
		return "-"
	}
	return strings.Join(out, ", ")
}

func logsList(ctx context.Context, s *service, f logsFlags, stdout io.Writer) error {
	alarms, err := s.witness.KeyAlarms(ctx)
	if err != nil {
		return operational("", err)
	}
	disabled := s.witness.Disabled()
	rows := []logRow{}
	for _, l := range s.witness.Logs() {
		r := logRow{Origin: l.Origin, QPD: l.QPD, Contact: l.Contact, Source: l.Source}
		for _, k := range l.Keys {
			r.VKeys = append(r.VKeys, k.String())
		}
		_, r.Disabled = slices.BinarySearch(disabled, l.Origin)
		r.KeyAlarm = slices.ContainsFunc(alarms, func(a witness.KeyAlarm) bool { return a.Origin == l.Origin && a.Acknowledged == nil })
		state, err := s.witness.Recorded(ctx, l.Origin)
		if err != nil {
			r.Error = err.Error()
		}
		r.Size, r.Frozen = state.Size, state.Frozen
		if !state.Cosigned.IsZero() {
			r.Cosigned = &state.Cosigned
		}
		rows = append(rows, r)
	}
	if f.json {
		return printJSON(stdout, rows)
	}
	tab := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tab, "ORIGIN\tSIZE\tCOSIGNED\tPER DAY\tSTATE\tSOURCE")
	for _, r := range rows {
		cosigned, qpd := "never", "no limit"
		if r.Cosigned != nil {
			cosigned = r.Cosigned.Format(time.RFC3339)
		}
		if r.QPD != 0 {
			qpd = strconv.FormatInt(r.QPD, 10)
		}
		fmt.Fprintf(tab, "%s\t%d\t%s\t%s\t%s\t%s\n", printable(r.Origin), r.Size, cosigned, qpd, r.state(), r.Source)
	}
	return tab.Flush()
}

func printJSON(stdout io.Writer, v any) error {
	e := json.NewEncoder(stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

// printable makes what others have written fit for a terminal.
func printable(s string) string {
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return strconv.Quote(s)
	}
	return s
}

func logsDiff(ctx context.Context, s *service, f logsFlags, stdout io.Writer) error {
	source := f.vkey
	var logs []witness.Log
	var err error
	if strings.Contains(source, "://") {
		if err := witness.CheckListURL(source); err != nil {
			return usageError("", "%w", err)
		}
		if logs, err = s.lists.Fetch(ctx, source); err != nil {
			return operational("", err)
		}
	} else {
		at, err := newSources(f.dir, []string{source})
		if err == nil {
			source = at.files[0].source
			logs, err = readLogFile(at.files[0])
		}
		if err != nil {
			return usageError("", "%w", err)
		}
	}
	changes, err := s.lists.Diff(ctx, source, logs)
	if err != nil {
		return operational("", err)
	}
	if f.json {
		err = printJSON(stdout, slices.Concat([]witness.Change{}, changes))
	} else {
		printChanges(stdout, len(logs), changes)
	}
	if i := slices.IndexFunc(changes, func(c witness.Change) bool { return c.Kind == witness.ChangeKey }); i >= 0 && err == nil {
		return &commandError{code: exitRefused, err: fmt.Errorf("the list names another key for %s", printable(changes[i].Origin)),
			hint: "ask the operator of that log; the witness goes on with the key it knows"}
	}
	return err
}

func printChanges(stdout io.Writer, n int, changes []witness.Change) {
	for _, c := range changes {
		origin := printable(c.Origin)
		switch c.Kind {
		case witness.ChangeNew:
			fmt.Fprintf(stdout, "new      %s: %d requests per day, %s, %s\n", origin, c.QPD, c.Key, printable(c.Contact))
		case witness.ChangeKey:
			fmt.Fprintf(stdout, "KEY      %s: another key, %s; it would raise an alarm, and change nothing\n", origin, c.Key)
		case witness.ChangeQuota:
			fmt.Fprintf(stdout, "quota    %s: %d requests per day; it keeps its %d\n", origin, c.QPD, c.Known)
		case witness.ChangeDropped:
			fmt.Fprintf(stdout, "dropped  %s: it stays\n", origin)
		}
	}
	fmt.Fprintf(stdout, "%s in the list, %s\n", counted(n, "log", "logs"), counted(len(changes), "difference", "differences"))
}

// counted is a number and the word for one or for many.
func counted(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %s", n, many)
}
