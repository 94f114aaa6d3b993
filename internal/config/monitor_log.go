package config

import (
	"cmp"
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
	// The first entry to look at: its index; the word head for the next one that is logged; or a time,
	// such as 2026-12-01T00:00:00Z, since when nothing is missed. The last two need "tallywood monitor
	// init". Default: 0.
	Start Start `yaml:"start,omitempty"`
	// How old its newest cosignature may be. Default: see Freshness.
	Freshness Freshness `yaml:"freshness,omitempty"`
	// When the log was frozen, or is to be: from then on its newest cosignature may be old. Default:
	// none; it must be fresh.
	End Time `yaml:"end,omitempty"`
}

// Freshness says from when on a log is stale.
type Freshness struct {
	// The newest cosignature is older: a warning. Default: 15m.
	Warn Duration `yaml:"warn,omitempty"`
	// Likewise: critical. Default: 1h.
	Critical Duration `yaml:"critical,omitempty"`
}

// check says what is wrong with f, with the defaults of package monitor in place of what is not set.
func (f Freshness) check() error {
	warn, critical := cmp.Or(f.Warn, Duration(15*time.Minute)), cmp.Or(f.Critical, Duration(time.Hour))
	if warn > critical {
		return fmt.Errorf("freshness: warn %s comes after critical %s", time.Duration(warn), time.Duration(critical))
	}
	return nil
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
		if err := l.Freshness.check(); err != nil {
			errs = append(errs, fmt.Errorf("log %d (%q): %w", i+1, l.Origin, err))
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
