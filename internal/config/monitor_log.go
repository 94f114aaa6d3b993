package config

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// MonitorLog is a log that the monitor follows; or, with tuf or trusted_root, all logs of a Sigstore
// trusted root.
type MonitorLog struct {
	// First line of its checkpoints. Not with tuf or trusted_root.
	Origin string `yaml:"origin,omitempty"`
	// Where its checkpoint and tiles are read. Not with tuf or trusted_root.
	URL string `yaml:"url,omitempty"`
	// rekor, ct or tlog. Default: rekor. With tuf or trusted_root: rekor or ct, to follow logs of that
	// kind alone; default: both.
	Kind string `yaml:"kind,omitempty"`
	// Its verifier key. Not with tuf or trusted_root.
	VKey string `yaml:"vkey,omitempty"`
	// A trusted_root.json: its logs are followed, also those that it gets while the monitor runs.
	TrustedRoot string `yaml:"trusted_root,omitempty"`
	// A TUF repository with one, likewise.
	TUF *TUF `yaml:"tuf,omitempty"`
	// Where logs of a trusted root are read, by origin. Default: their base URLs.
	URLs map[string]string `yaml:"urls,omitempty"`
	// Origins of logs of a trusted root that are not to be followed.
	LeaveOut []string `yaml:"leave_out,omitempty"`
	// The tlog-policy its checkpoints must satisfy; the word none is a log without witnesses.
	Policy string `yaml:"policy"`
	// The first entry to look at: its index; the word head for the next one that is logged; or a time,
	// such as 2026-12-01T00:00:00Z, since when nothing is missed. The last two need "tallywood monitor
	// init". Default: 0.
	Start Start `yaml:"start,omitempty"`
	// Where witnesses of the policy show which checkpoint they cosigned last: another tree there that
	// the log has signed is a split view.
	Witnesses []MonitorWitness `yaml:"witnesses,omitempty"`
	// How old its newest cosignature may be. Default: see Freshness.
	Freshness Freshness `yaml:"freshness,omitempty"`
	// When the log was frozen, or is to be: from then on its newest cosignature may be old. Default:
	// none; it must be fresh.
	End Time `yaml:"end,omitempty"`
}

// MonitorWitness is a witness that is asked what it knows of a log.
type MonitorWitness struct {
	// Its name in the policy.
	Name string `yaml:"name"`
	// Its monitoring prefix: the checkpoint is at URL/HASH/checkpoint.
	URL string `yaml:"url"`
}

// TUF is a TUF repository that holds a trusted root.
type TUF struct {
	// Of the directory with timestamp.json.
	URL string `yaml:"url"`
	// File with the root.json to begin with; later ones are found from it.
	Root string `yaml:"root"`
	// Name of the trusted root in it. Default: trusted_root.json.
	Target string `yaml:"target,omitempty"`
}

// Listed reports whether l stands for the logs of a trusted root.
func (l MonitorLog) Listed() bool { return l.TUF != nil || l.TrustedRoot != "" }

// checkListed says what is wrong with logs of a trusted root.
func (l MonitorLog) checkListed() error {
	var errs []error
	check := func(bad bool, text string) {
		if bad {
			errs = append(errs, errors.New(text))
		}
	}
	check(l.TUF != nil && l.TrustedRoot != "", "both tuf and trusted_root; want one")
	check(l.Origin != "" || l.URL != "" || l.VKey != "", "origin, url and vkey come from the trusted root; want none of them")
	check(!l.End.IsZero(), "end comes from the trusted root; want none")
	check(l.Kind != "" && l.Kind != "rekor" && l.Kind != "ct", fmt.Sprintf("kind %q is not one of a trusted root; want rekor, ct or none", l.Kind))
	check(l.Start.Index != 0, "start: logs of a trusted root have different sizes; want head, a time or none")
	check(l.TUF != nil && (l.TUF.URL == "" || l.TUF.Root == ""), "tuf: url or root is missing")
	for origin, u := range l.URLs {
		check(!isURL(u), fmt.Sprintf("urls: %q of %q is not an http(s) URL", u, origin))
	}
	return errors.Join(errs...)
}

func (l *MonitorLog) resolve(dir string) {
	l.TrustedRoot = resolve(dir, l.TrustedRoot)
	if l.TUF != nil {
		l.TUF.Root = resolve(dir, l.TUF.Root)
	}
}

func isURL(text string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host != "" && (u.Scheme == "http" || u.Scheme == "https")
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

// checkCommon says what is wrong with what any log has.
func (l MonitorLog) checkCommon() error {
	var err error
	if l.Policy == "" {
		err = errors.New("policy is missing; a log without witnesses says so with \"policy: none\"")
	}
	errs := []error{err, l.Freshness.check()}
	for _, w := range l.Witnesses {
		if !isURL(w.URL) || w.Name == "" {
			errs = append(errs, fmt.Errorf("witness %q: url %q is not an http(s) URL, or the name is missing", w.Name, w.URL))
		}
	}
	if len(l.Witnesses) > 0 && l.Policy == "none" {
		errs = append(errs, errors.New("witnesses: \"policy: none\" knows none"))
	}
	return errors.Join(errs...)
}

func (m *Monitor) checkLogs() error {
	var errs []error
	if m.State == "" {
		errs = append(errs, errors.New("state is missing"))
	}
	if len(m.Logs) == 0 {
		errs = append(errs, errors.New("logs is empty: there is nothing to follow"))
	}
	if m.MetricsAddress != "" {
		if _, _, err := net.SplitHostPort(m.MetricsAddress); err != nil {
			errs = append(errs, fmt.Errorf("metrics_address %q is not HOST:PORT", m.MetricsAddress))
		}
	}
	for _, u := range m.Peers {
		if !isURL(u) {
			errs = append(errs, fmt.Errorf("peers: %q is not an http(s) URL", u))
		}
	}
	local := true
	for i := range m.Logs {
		l := &m.Logs[i]
		if err := l.checkCommon(); err != nil {
			errs = append(errs, fmt.Errorf("log %d (%q): %w", i+1, l.Origin, err))
		}
		if l.Listed() {
			local = false
			if err := l.checkListed(); err != nil {
				errs = append(errs, fmt.Errorf("log %d: %w", i+1, err))
			}
			continue
		}
		if len(l.URLs) > 0 || len(l.LeaveOut) > 0 {
			errs = append(errs, fmt.Errorf("log %d (%q): urls and leave_out are for logs of tuf or trusted_root", i+1, l.Origin))
		}
		u, err := url.Parse(l.URL)
		if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
			errs = append(errs, fmt.Errorf("log %d (%q): url %q is not an http(s) URL", i+1, l.Origin, l.URL))
			continue
		}
		local = local && Loopback(u.Hostname())
		if l.Kind == "" {
			l.Kind = "rekor"
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
