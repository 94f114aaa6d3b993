package stack

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"tallywood/internal/config"
	"tallywood/monitor"
	"tallywood/monitor/rule"
	"tallywood/storage"
	"tallywood/storage/posix"
)

// openMonitor opens the monitor of the configuration; watch adds mail addresses for this run.
func (s *Stack) openMonitor(watch []string) error {
	if s.cfg.Monitor == nil {
		return nil
	}
	m, err := config.LoadMonitor(s.cfg.Monitor.Config)
	if err != nil {
		return err
	}
	s.watch, s.monitored = watch, *m
	return s.startOver(m)
}

// startOver makes the monitor of m the one that runs next.
func (s *Stack) startOver(m *config.Monitor) error {
	ids := slices.Clone(m.Identities)
	for _, email := range s.watch {
		if watched(m, email) {
			continue
		}
		id := config.Identity{Name: email, Email: email, Rules: map[string]config.RuleParams{string(rule.IDSeen): {}}}
		if s.cfg.DevOIDC != nil {
			id.Expect.Issuers = []string{s.devIssuer()}
		}
		ids = append(ids, id)
	}
	run := *m
	run.Identities = ids
	if m.Pages != nil && m.Pages.URL == "" {
		pages := *m.Pages
		pages.URL = s.cfg.URL + pagesPath
		run.Pages = &pages
	}
	opened, err := OpenMonitor(&run, s.log)
	if err == nil {
		s.monitor.Store(opened)
		s.pages.Store(nil)
		if m.Pages != nil {
			s.pages.Store(&m.Pages.Dir)
		}
	}
	return err
}

// runMonitor runs the monitor until ctx ends, and another one when there is one.
func (s *Stack) runMonitor(ctx context.Context) error {
	for {
		m := s.monitor.Load()
		mctx, cancel := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			select {
			case <-s.remonitor:
				cancel()
			case <-ended:
			}
		}()
		err := m.Run(mctx)
		replaced := mctx.Err() != nil && ctx.Err() == nil
		close(ended)
		cancel()
		switch {
		case replaced:
			continue
		case err != nil:
			return fmt.Errorf("running monitor: %w", err)
		}
		return nil
	}
}

// checkMonitor reads what the monitor of the configuration would, but for its state.
func (s *Stack) checkMonitor() error {
	if s.cfg.Monitor == nil {
		return nil
	}
	m, err := config.LoadMonitor(s.cfg.Monitor.Config)
	if err != nil {
		return err
	}
	return CheckMonitor(m)
}

// CheckMonitor says what is wrong with a monitor configuration and with the files that it names. It
// does not look at state or logs, tells no sink anything, and makes nothing.
func CheckMonitor(m *config.Monitor) error {
	_, err := newMonitor(m, unopened{}, ownKey{}, nil)
	return err
}

func watched(m *config.Monitor, email string) bool {
	for _, id := range m.Identities {
		if id.Email == email {
			return true
		}
	}
	return false
}

// OpenMonitor returns the monitor that a monitor configuration describes. Its key is made if it has
// none.
func OpenMonitor(m *config.Monitor, logger *slog.Logger) (*monitor.Monitor, error) {
	state, err := posix.Open(m.State)
	if err != nil {
		return nil, fmt.Errorf("opening state %s: %w", m.State, err)
	}
	key, err := monitorKey(m)
	if err != nil {
		return nil, err
	}
	return newMonitor(m, state, key, logger)
}

// newMonitor reads the policies, authorities and secrets that m names, and returns the monitor.
func newMonitor(m *config.Monitor, state storage.Bucket, key ownKey, logger *slog.Logger) (*monitor.Monitor, error) {
	logs, lerr := monitorLogs(m)
	rosters, terr := monitorRosters(m)
	rules, rerr := monitorRules(m)
	routes, serr := monitorRoutes(m, key.signer, logger)
	authorizations, aerr := monitorAuthorizations(m, state)
	pulse, every, perr := monitorPulse(m)
	if err := errors.Join(lerr, terr, rerr, serr, aerr, perr); err != nil {
		return nil, err
	}
	if logger != nil {
		for _, line := range silences(rules) {
			logger.Info("rules are silent, as there is nothing to compare with", "key", line)
		}
	}
	logRules, _ := splitRules(m)
	o := monitor.Options{State: state, EvidenceDir: m.Evidence, Logs: logs, Rosters: rosters, Peers: m.Peers, Rules: rules, LogRules: logRules, Authorizations: authorizations,
		Routes: routes, Poll: time.Duration(m.Poll), Key: key.signer, NewKey: key.fresh, Pulse: pulse, PulseEvery: every, Log: logger}
	if err := showPages(&o, m); err != nil {
		return nil, err
	}
	return monitor.New(o)
}
