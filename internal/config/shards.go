package config

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// The states of a log.
const (
	StateActive = "active" // takes entries
	StateFrozen = "frozen" // takes no more from its end on
)

// A Time is a point in time written as in RFC 3339: 2026-12-01T00:00:00Z. The zero Time is none.
type Time struct{ time.Time }

// UnmarshalYAML reads the text form.
func (t *Time) UnmarshalYAML(n *yaml.Node) error {
	v, err := time.Parse(time.RFC3339, n.Value)
	if err != nil || v.Year() < 2000 {
		return fmt.Errorf("line %d: %q is not a time; want one such as 2026-12-01T00:00:00Z", n.Line, n.Value)
	}
	t.Time = v.UTC()
	return nil
}

// MarshalYAML writes the text form.
func (t Time) MarshalYAML() (any, error) {
	if t.IsZero() {
		return nil, nil
	}
	return t.UTC().Format(time.RFC3339), nil
}

// setSuccessors names the successors that are clear: a rekor log's is the active one, a ct log's the
// one that the CA has.
func (c *Config) setSuccessors() {
	of := map[string]string{}
	for _, l := range c.Logs {
		if l.Kind == "rekor" && l.State == StateActive {
			of["rekor"] = l.Name
		}
	}
	if c.CA != nil {
		of["ct"] = c.CA.CTLog
	}
	for i := range c.Logs {
		if l := &c.Logs[i]; l.State == StateFrozen && l.Successor == "" && of[l.Kind] != l.Name {
			l.Successor = of[l.Kind]
		}
	}
}

// checkShards checks what makes several logs one after the other.
func (c *Config) checkShards() error {
	var errs []error
	active := ""
	for i, l := range c.Logs {
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("log %d (%q): %w", i+1, l.Name, fmt.Errorf(format, args...)))
		}
		if u, err := url.Parse(l.URL); l.URL != "" && (err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" ||
			u.RawQuery != "" || u.Fragment != "" || strings.HasSuffix(l.URL, "/")) {
			fail("url %q is not http(s)://HOST[:PORT][/PATH] without a slash at the end", l.URL)
		}
		switch l.State {
		case StateActive:
			if !l.End.IsZero() || l.Successor != "" {
				fail("end and successor are for logs with state: frozen")
			}
			if l.Kind == "rekor" && active != "" {
				fail("log %q of kind rekor is active already; clients know one at a time, and the others have state: frozen", active)
			} else if l.Kind == "rekor" {
				active = l.Name
			}
		case StateFrozen:
			if err := c.checkSuccessor(l); err != nil {
				fail("%w", err)
			}
			// Both are in whole seconds: a log that ends in the second in which it started has lived.
			if !l.End.IsZero() && l.End.Before(l.Start.Time) {
				fail("end %s is before start %s", l.End.Format(time.RFC3339), l.Start.Format(time.RFC3339))
			}
		default:
			fail("state %q is not active or frozen", l.State)
		}
	}
	return errors.Join(errs...)
}

// checkSuccessor follows the successors of a frozen log: each exists, is of its kind, and none comes
// again.
func (c *Config) checkSuccessor(l Log) error {
	seen := map[string]bool{}
	for at := l; at.Successor != ""; {
		seen[at.Name] = true
		next, ok := c.LogNamed(at.Successor)
		switch {
		case !ok:
			return fmt.Errorf("successor %q is not one of the logs", at.Successor)
		case next.Kind != l.Kind:
			return fmt.Errorf("successor %q is of kind %s, not %s", at.Successor, next.Kind, l.Kind)
		case seen[next.Name]:
			return fmt.Errorf("the successors lead back to %q", next.Name)
		}
		at = next
	}
	return nil
}

// LogURL returns where clients reach a log.
func (c *Config) LogURL(l Log) string {
	if l.URL != "" {
		return l.URL
	}
	if u, err := url.Parse(c.URL); err == nil && u.Hostname() == l.Origin {
		return c.URL // requests for that host are the log's
	}
	return c.URL + "/logs/" + l.Name
}
