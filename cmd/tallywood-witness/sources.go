package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"tallywood/internal/disk"
	"tallywood/witness"
)

// Files in DIR that "tallywood-witness logs" writes and serve watches. Either may be absent.
const (
	addedFile    = "added-logs.txt"
	disabledFile = "disabled-logs.json"
)

// pollEvery is how often serve looks whether one of its files of logs has changed.
const pollEvery = time.Second

// sources are the files that say which logs the witness cosigns.
type sources struct {
	added, disabled string    // of "tallywood-witness logs"
	files           []logFile // of the configuration and --logs
}

// A logFile is a file of logs by its path, and by its absolute path, under which it is remembered.
type logFile struct{ path, source string }

func newSources(dir string, files []string) (sources, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return sources{}, fmt.Errorf("locating %s: %w", dir, err)
	}
	s := sources{added: filepath.Join(abs, addedFile), disabled: filepath.Join(abs, disabledFile)}
	for _, f := range files {
		source, err := filepath.Abs(f)
		if err != nil {
			return sources{}, fmt.Errorf("locating %s: %w", f, err)
		}
		s.files = append(s.files, logFile{f, source})
	}
	return s, nil
}

// lists returns the names under which the files are remembered.
func (s sources) lists() []string {
	out := make([]string, len(s.files))
	for i, f := range s.files {
		out[i] = f.source
	}
	return out
}

// edit runs change while no other process edits what "logs" writes.
func (s sources) edit(change func() error) error {
	unlock, err := lock(filepath.Dir(s.added))
	if err != nil {
		return err
	}
	defer unlock()
	return change()
}

// readLogs reads all files of logs but the one that "logs add" writes. One that cannot be read or
// parsed is an error for all.
func (s sources) readLogs() ([]witness.Log, error) {
	var logs []witness.Log
	for _, f := range s.files {
		parsed, err := readLogFile(f)
		if err != nil {
			return nil, err
		}
		logs = append(logs, parsed...)
	}
	return logs, nil
}

func readLogFile(f logFile) ([]witness.Log, error) {
	data, err := readFile(f.path, maxLogsFile)
	if err != nil {
		return nil, fmt.Errorf("reading logs: %w", err)
	}
	parsed, err := witness.ParseLogs(data)
	if err != nil {
		return nil, fmt.Errorf("reading logs: %s: %w", f.path, err)
	}
	for i := range parsed {
		parsed[i].Source = f.source
	}
	return parsed, nil
}

// readAdded reads the logs that "logs add" has written.
func (s sources) readAdded() ([]witness.Log, error) {
	logs, err := readLogFile(logFile{s.added, s.added})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return logs, err
}

// A disabledLog is a log that "logs disable" has disabled.
type disabledLog struct {
	Origin string    `json:"origin"`
	Since  time.Time `json:"since"`
}

// readDisabled reads the logs that "logs disable" has disabled.
func (s sources) readDisabled() ([]disabledLog, error) {
	data, err := readFile(s.disabled, maxLogsFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, fmt.Errorf("reading disabled logs: %w", err)
	}
	var logs []disabledLog
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&logs); err != nil || len(bytes.TrimSpace(data[d.InputOffset():])) > 0 {
		return nil, fmt.Errorf("reading disabled logs: %s is not as \"logs disable\" writes it; want a list of {\"origin\": ORIGIN, \"since\": TIME}", s.disabled)
	}
	return logs, nil
}

// apply gives a witness what "logs add" and "logs disable" have written. It returns how many logs are
// new, or known otherwise than before.
func (s sources) apply(w *witness.Witness) (int, error) {
	added, err := s.readAdded()
	if err != nil {
		return 0, err
	}
	disabled, err := s.readDisabled()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, l := range added {
		changed, err := w.ConfirmLog(l)
		if err != nil {
			return n, fmt.Errorf("%s: %w", s.added, err)
		}
		if changed {
			n++
		}
	}
	origins := make([]string, len(disabled))
	for i, d := range disabled {
		origins[i] = d.Origin
	}
	w.SetDisabled(origins)
	return n, nil
}

// A stamp tells whether a file has changed.
type stamp struct {
	time time.Time
	size int64
}

func (s sources) stamps() map[string]stamp {
	out := map[string]stamp{}
	for _, path := range slices.Concat(s.lists(), []string{s.added, s.disabled}) {
		if info, err := os.Stat(path); err == nil { // else it is read as it was, or the reader says why not
			out[path] = stamp{info.ModTime(), info.Size()}
		}
	}
	return out
}

// watch reads the files of logs again at each SIGHUP, and when they have changed.
func (s *service) watch(ctx context.Context, hup <-chan os.Signal) {
	// They were read at the start; now they are remembered, which takes as much memory once more.
	debug.FreeOSMemory()
	if _, err := s.takeFiles(ctx); err != nil && ctx.Err() == nil { // else we are told to end
		s.log.Error("remembering the logs", "err", err)
	}
	debug.FreeOSMemory()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-hup:
			s.rereadBastions()
		case <-tick.C:
			if maps.Equal(s.stamps, s.sources.stamps()) {
				continue
			}
		}
		s.stamps = s.sources.stamps()
		s.reload(ctx)
	}
}

// reload reads the files of logs again. What is wrong with them is logged, and changes nothing: if one
// of them cannot be parsed, nothing is taken from any.
func (s *service) reload(ctx context.Context) {
	n := 0
	_, err := s.sources.readLogs()
	if err == nil {
		n, err = s.takeFiles(ctx)
	}
	m, aerr := s.sources.apply(s.witness)
	if err := errors.Join(err, aerr); err != nil {
		s.log.Error("reading the logs again", "err", err)
		return
	}
	s.log.Info("logs read again", "size", n+m)
}

// takeFiles adds what is new in the files of logs, and returns how many logs that are.
func (s *service) takeFiles(ctx context.Context) (int, error) {
	n := 0
	for _, f := range s.sources.files {
		data, err := readFile(f.path, maxLogsFile)
		if err != nil {
			return n, fmt.Errorf("reading logs: %w", err)
		}
		changes, err := s.lists.Take(ctx, f.source, data)
		if err != nil {
			return n, fmt.Errorf("reading logs: %s: %w", f.path, err)
		}
		for _, c := range changes {
			if c.Kind == witness.ChangeNew {
				n++
			}
		}
	}
	return n, nil
}

// writeAdded replaces the file of "logs add".
func (s sources) writeAdded(logs []witness.Log) error {
	text := "# Logs that \"tallywood-witness logs add\" has added. It rewrites this file; comments are lost.\n" + string(witness.FormatList(logs))
	if _, err := witness.ParseLogs([]byte(text)); err != nil {
		return err
	}
	return disk.Replace(s.added, []byte(text))
}

// writeDisabled replaces the file of "logs disable".
func (s sources) writeDisabled(logs []disabledLog) error {
	slices.SortFunc(logs, func(a, b disabledLog) int { return strings.Compare(a.Origin, b.Origin) })
	data, err := json.MarshalIndent(slices.Concat([]disabledLog{}, logs), "", "  ")
	if err != nil {
		return fmt.Errorf("encoding disabled logs: %w", err)
	}
	return disk.Replace(s.disabled, append(data, '\n'))
}

// lock keeps other processes from editing the files in dir until unlock is called, or this one ends.
func lock(dir string) (unlock func(), err error) {
	d, err := os.Open(dir)
	if err == nil {
		err = syscall.Flock(int(d.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		return nil, operational("", fmt.Errorf("locking %s: %w", dir, err))
	}
	return func() { _ = d.Close() }, nil // which gives the lock back
}
