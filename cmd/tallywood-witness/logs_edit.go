package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"tallywood/witness"
	"tallywood/witness/policy"
)

// changed reports what a command of "logs" has done.
func changed(stdout io.Writer, f logsFlags, what, origin string) error {
	if f.json {
		return printJSON(stdout, struct {
			Origin string `json:"origin"`
			Change string `json:"change"`
		}{origin, what})
	}
	_, err := fmt.Fprintf(stdout, "%s: %s\n", printable(origin), what)
	return err
}

// newLog is the log that the flags of "logs add" describe. It is rendered and parsed, so that what
// is written can be read again. A log that is known keeps its requests per day unless --qpd is given.
func newLog(f logsFlags, known []witness.Log) (witness.Log, error) {
	key, err := policy.ParseVKey(f.vkey)
	if err != nil {
		return witness.Log{}, usageError("the vkey is what the log's operator publishes, such as log.example.org+1d7dbb14+AR…", "--vkey: %w", err)
	}
	if f.qpd < 1 || f.qpd > math.MaxInt32 {
		return witness.Log{}, usageError("", "--qpd %d is not a number from 1 to 2^31-1", f.qpd)
	}
	l := witness.Log{Origin: f.origin, Keys: []policy.Key{key}, QPD: f.qpd, Contact: f.contact}
	if l.Origin == "" {
		l.Origin = key.Name()
	}
	for _, k := range known {
		if k.Origin == l.Origin && k.QPD != 0 && !f.qpdSet {
			l.QPD = k.QPD
		}
	}
	for name, text := range map[string]string{"--origin": l.Origin, "--contact": l.Contact} {
		if text != strings.TrimSpace(text) || strings.Contains(text, "\n") {
			return witness.Log{}, usageError("", "%s %q must be one line, without space at its ends", name, text)
		}
	}
	logs, err := witness.ParseLogs(witness.FormatList([]witness.Log{l}))
	if err != nil {
		return witness.Log{}, usageError("", "%w", err)
	}
	if len(logs) != 1 || logs[0].Origin != l.Origin || logs[0].QPD != l.QPD || logs[0].Contact != l.Contact {
		return witness.Log{}, usageError("", "--origin and --contact cannot be written into a list of logs, and read again")
	}
	return l, nil
}

func logsAdd(ctx context.Context, s *service, f logsFlags, stdout io.Writer) error {
	l, err := newLog(f, s.witness.Logs())
	if err != nil {
		return err
	}
	what := "added"
	var other *witness.KeyError
	fresh, err := s.witness.AddLog(l)
	switch {
	case errors.As(err, &other) && !f.anotherKey:
		return &commandError{code: exitRefused, err: err,
			hint: "if its operator tells you that it has this key as well, add it with --another-key"}
	case errors.As(err, &other):
		what = "has another key"
	case err != nil:
		return usageError("", "%w", err)
	case !fresh:
		what = "was known; quota and contact set"
	}
	err = s.sources.edit(func() error {
		logs, err := s.sources.readAdded()
		if err != nil {
			return usageError("", "%w", err)
		}
		return s.sources.writeAdded(put(logs, l))
	})
	if err != nil {
		return err
	}
	if what == "has another key" {
		if _, err := s.witness.AcknowledgeKeys(ctx, l.Origin); err != nil {
			return operational("", err)
		}
	}
	return changed(stdout, f, what, l.Origin)
}

// put adds a log to those that were added; if its origin was, that one gets its key, quota and contact.
func put(logs []witness.Log, l witness.Log) []witness.Log {
	i := slices.IndexFunc(logs, func(o witness.Log) bool { return o.Origin == l.Origin })
	if i < 0 {
		return append(logs, l)
	}
	for _, k := range l.Keys {
		if !slices.ContainsFunc(logs[i].Keys, k.Equal) {
			logs[i].Keys = append(logs[i].Keys, k)
		}
	}
	logs[i].QPD, logs[i].Contact = l.QPD, l.Contact
	return logs
}

func logsDisable(_ context.Context, s *service, f logsFlags, stdout io.Writer) error {
	what := "disabled"
	if !slices.ContainsFunc(s.witness.Logs(), func(l witness.Log) bool { return l.Origin == f.origin }) {
		what = "disabled; no such log is known, so it will be when a list brings it"
	}
	err := s.editDisabled(func(logs []disabledLog) ([]disabledLog, error) {
		if slices.ContainsFunc(logs, func(d disabledLog) bool { return d.Origin == f.origin }) {
			what = "was disabled already"
			return logs, nil
		}
		return append(logs, disabledLog{Origin: f.origin, Since: time.Now().UTC().Truncate(time.Second)}), nil
	})
	if err != nil {
		return err
	}
	return changed(stdout, f, what, f.origin)
}

func logsEnable(_ context.Context, s *service, f logsFlags, stdout io.Writer) error {
	err := s.editDisabled(func(logs []disabledLog) ([]disabledLog, error) {
		n := len(logs)
		logs = slices.DeleteFunc(logs, func(d disabledLog) bool { return d.Origin == f.origin })
		if len(logs) == n {
			return nil, &commandError{code: exitRefused, err: fmt.Errorf("log %q is not disabled", f.origin),
				hint: "tallywood-witness logs list --dir " + f.dir}
		}
		return logs, nil
	})
	if err != nil {
		return err
	}
	return changed(stdout, f, "enabled", f.origin)
}

// editDisabled replaces the logs that are disabled by what change makes of them. Where that is the same,
// serve is not made to read it again.
func (s *service) editDisabled(change func([]disabledLog) ([]disabledLog, error)) error {
	return s.sources.edit(func() error {
		logs, err := s.sources.readDisabled()
		if err != nil {
			return usageError("", "%w", err)
		}
		next, err := change(slices.Clone(logs))
		if err != nil || slices.Equal(next, logs) {
			return err
		}
		return s.sources.writeDisabled(next)
	})
}

func logsAcknowledge(ctx context.Context, s *service, f logsFlags, stdout io.Writer) error {
	n, err := s.witness.AcknowledgeKeys(ctx, f.origin)
	switch {
	case err != nil:
		return operational("", err)
	case n == 0:
		return &commandError{code: exitRefused, err: fmt.Errorf("no list has named another key for %q, or that was acknowledged", f.origin)}
	}
	return changed(stdout, f, fmt.Sprintf("%d alarms acknowledged; the log stays as it is", n), f.origin)
}
