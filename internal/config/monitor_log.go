package config

import (
	"errors"
	"fmt"
	"net/url"
	"time"
)

// MonitorLog is a log that the monitor follows.
type MonitorLog struct {
	// First line of its checkpoints.
	Origin string `yaml:"origin"`
	// Where its checkpoint and tiles are read.
	URL string `yaml:"url"`
	// rekor, ct or tlog. Default: rekor.
	Kind string `yaml:"kind,omitempty"`
	// Its verifier key.
	VKey string `yaml:"vkey"`
	// The tlog-policy its checkpoints must satisfy; the word none is a log without witnesses.
	Policy string `yaml:"policy"`
	// Index of the first entry to look at. Default: 0.
	Start int64 `yaml:"start,omitempty"`
	// When the log was frozen, or is to be: from then on its newest cosignature may be old. Default:
	// none; it must be fresh.
	End Time `yaml:"end,omitempty"`
}

func (m *Monitor) checkLogs() error {
	var errs []error
	if m.State == "" {
		errs = append(errs, errors.New("state is missing"))
	}
	if len(m.Logs) == 0 {
		errs = append(errs, errors.New("logs is empty: there is nothing to follow"))
	}
	local := true
	for i := range m.Logs {
		l := &m.Logs[i]
		u, err := url.Parse(l.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("log %d (%q): url %q is not an http(s) URL", i+1, l.Origin, l.URL))
			continue
		}
		local = local && Loopback(u.Hostname())
		if l.Kind == "" {
			l.Kind = "rekor"
		}
		if l.Policy == "" {
			errs = append(errs, fmt.Errorf("log %d (%q): policy is missing; a log without witnesses says so with \"policy: none\"", i+1, l.Origin))
		}
		if l.Start < 0 {
			errs = append(errs, fmt.Errorf("log %d (%q): start %d is negative", i+1, l.Origin, l.Start))
		}
	}
	if m.Poll == 0 {
		m.Poll = Duration(10 * time.Second)
		if local {
			m.Poll = Duration(2 * time.Second)
		}
	}
	return errors.Join(errs...)
}
