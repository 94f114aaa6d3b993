package stack

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"tallywood/internal/config"
)

// A change is what one part would take on. A zero change is none.
type change struct {
	what  []string     // for people: what is another than before
	apply func() error // puts it in force, all of it or nothing
}

// A reloader is a part that can take on changes while it runs.
type reloader struct {
	part string
	// read reads the part's files again, where next says they are, and checks them as Open does. It
	// changes nothing: what it returns does. An error leaves all of the part as it is.
	read func(ctx context.Context, next *config.Config) (change, error)
}

// reloaders lists the parts, in the order in which they are reloaded.
func (s *Stack) reloaders() []reloader {
	all := []reloader{
		{"configuration", s.rereadFixed},
		{"tls", s.rereadTLS},
		{"logs", s.rereadLogs},
	}
	for _, l := range s.parts() {
		all = append(all, reloader{"policy of log " + l.cfg.Name, s.rereadRules(l)})
		if l.guard != nil {
			all = append(all, reloader{"add_token of log " + l.cfg.Name, s.rereadToken(l)})
		}
	}
	return append(all, reloader{"ca", s.rereadCA}, reloader{"tsa", s.rereadTSA}, reloader{"monitor", s.rereadMonitor})
}

// Reload reads the configuration and the files it names again and takes on what can change without a
// restart, all or nothing of each part. What changes is logged. What is refused stays as it was, and
// is in the error, which joins one for each part. Reload may be called while Run is running.
func (s *Stack) Reload(ctx context.Context) error {
	s.reloading.Lock()
	defer s.reloading.Unlock()
	err := s.reload(ctx)
	ending := "done"
	if err != nil {
		ending = "refused"
	}
	s.metrics.reloads.WithLabelValues(ending).Inc()
	return err
}

// reload is Reload.
func (s *Stack) reload(ctx context.Context) error {
	next := s.cfg
	if s.reread != nil {
		var err error
		if next, err = s.reread(); err != nil {
			return fmt.Errorf("reading the configuration again: %w", err)
		}
	}
	var errs []error
	for _, r := range s.reloaders() {
		c, err := r.read(ctx, next)
		if err == nil && c.apply != nil {
			err = c.apply()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("reloading %s: %w", r.part, err))
		}
		if err != nil || c.apply == nil {
			continue
		}
		s.log.InfoContext(ctx, "reloaded", "part", r.part, "changed", strings.Join(c.what, ", "))
	}
	if changed, err := s.WriteClientFiles(ctx); err != nil {
		errs = append(errs, fmt.Errorf("reloading client files: %w", err))
	} else if len(changed) > 0 {
		s.log.InfoContext(ctx, "reloaded", "part", "client files", "changed", strings.Join(changed, ", "))
	}
	return errors.Join(errs...)
}

// rereadFixed refuses what only a restart can change.
func (s *Stack) rereadFixed(_ context.Context, next *config.Config) (change, error) {
	changed := changedKeys(s.inForce(), next)
	if len(changed) == 0 {
		return change{}, nil
	}
	return change{}, fmt.Errorf("a restart is needed for: %s", strings.Join(changed, ", "))
}

// changedKeys names the keys that have other values in next than in old, as they are written in a file.
func changedKeys(old, next *config.Config) []string {
	changed := differences(*old, *next, "", "logs", "ca", "tls", "dir")
	if old.CA != nil && next.CA != nil {
		changed = append(changed, differences(*old.CA, *next.CA, "ca: ", "ct_log")...)
	} else if old.CA != next.CA {
		changed = append(changed, "ca")
	}
	for _, l := range old.Logs {
		if n, ok := next.LogNamed(l.Name); ok {
			changed = append(changed, differences(l, n, "log "+l.Name+": ", "policy", "add_token", "state", "start", "end", "successor", "url")...)
		} else {
			changed = append(changed, "log "+l.Name+" (gone)")
		}
	}
	return changed
}

// differences names the fields of two structs of a configuration that differ, but for those with the
// given keys.
func differences[T any](old, next T, prefix string, but ...string) []string {
	var out []string
	a, b := reflect.ValueOf(old), reflect.ValueOf(next)
	for i := range a.NumField() {
		f := a.Type().Field(i)
		key, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if key == "-" {
			key = strings.ToLower(f.Name)
		}
		if !slices.Contains(but, key) && !reflect.DeepEqual(a.Field(i).Interface(), b.Field(i).Interface()) {
			out = append(out, prefix+key)
		}
	}
	return out
}
