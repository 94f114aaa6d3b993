package stack

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"tallywood/internal/config"
	"tallywood/monitor"
	"tallywood/monitor/trust"
	"tallywood/witness/policy"
)

// A trustRoster gives a monitor the logs of a trusted root, as the configuration wants them.
type trustRoster struct {
	source *trust.Source
	name   string
	cfg    config.MonitorLog
	policy []byte // text of the policy; nil: none
}

var _ monitor.Roster = (*trustRoster)(nil)

// monitorRosters returns the trusted roots whose logs a configuration has the monitor follow.
func monitorRosters(m *config.Monitor) ([]monitor.Roster, error) {
	var rosters []monitor.Roster
	var errs []error
	for i, l := range m.Logs {
		if !l.Listed() {
			continue
		}
		r, err := newTrustRoster(m, l)
		if err != nil {
			errs = append(errs, fmt.Errorf("log %d: %w", i+1, err))
			continue
		}
		rosters = append(rosters, r)
	}
	return rosters, errors.Join(errs...)
}

func newTrustRoster(m *config.Monitor, l config.MonitorLog) (*trustRoster, error) {
	r := &trustRoster{cfg: l, name: l.TrustedRoot}
	o := trust.Options{File: l.TrustedRoot}
	if l.TUF != nil {
		r.name = l.TUF.URL
		sum := sha256.Sum256([]byte(l.TUF.URL))
		o = trust.Options{URL: l.TUF.URL, Root: l.TUF.Root, Target: l.TUF.Target,
			Cache: filepath.Join(m.State, "tuf", fmt.Sprintf("%x", sum[:8]))}
	}
	var err error
	if r.source, err = trust.New(o); err != nil {
		return nil, err
	}
	if l.TrustedRoot != "" { // it is there, so that it can be looked at now
		data, err := os.ReadFile(l.TrustedRoot)
		if err == nil {
			_, err = trust.Parse(data)
		}
		if err != nil {
			return nil, fmt.Errorf("trusted_root %s: %w", l.TrustedRoot, err)
		}
	}
	if l.Policy != "none" {
		if r.policy, err = os.ReadFile(l.Policy); err == nil {
			_, err = policy.Parse(r.policy)
		}
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", l.Policy, err)
		}
	}
	return r, nil
}

// Name implements monitor.Roster.
func (r *trustRoster) Name() string { return r.name }

// Fetch implements monitor.Roster.
func (r *trustRoster) Fetch(ctx context.Context) (monitor.Material, error) {
	m, err := r.source.Fetch(ctx)
	if errors.Is(err, trust.ErrExpired) {
		err = fmt.Errorf("%w: %w", monitor.ErrExpired, err)
	}
	return monitor.Material{Data: m.Data, Root: m.Root, Role: m.Role, Expires: m.Expires}, err
}

// Logs implements monitor.Roster.
func (r *trustRoster) Logs(material []byte) ([]monitor.Log, []monitor.LeftOut, error) {
	all, err := trust.Parse(material)
	if err != nil {
		return nil, nil, err
	}
	// Of several keys for one log the one that is valid last is the log's.
	slices.SortStableFunc(all, func(a, b trust.Log) int { return b.Begin.Compare(a.Begin) })
	var logs []monitor.Log
	var left []monitor.LeftOut
	for _, l := range all {
		why := l.LeftOut
		switch {
		case r.cfg.Kind != "" && l.Kind != r.cfg.Kind:
			continue // asked for, and not worth a word
		case slices.Contains(r.cfg.LeaveOut, l.Origin):
			why = "the configuration leaves it out"
		case slices.ContainsFunc(logs, func(other monitor.Log) bool { return other.Origin == l.Origin }):
			why = "another key of it is valid later"
		}
		if why == "" {
			log, err := r.log(l)
			if err == nil {
				logs = append(logs, log)
				continue
			}
			why = err.Error()
		}
		left = append(left, monitor.LeftOut{Log: l.Origin, Why: why})
	}
	return logs, left, nil
}

// log returns a log of the trusted root as a monitor takes it.
func (r *trustRoster) log(l trust.Log) (monitor.Log, error) {
	c := r.cfg
	c.Origin, c.URL, c.VKey, c.Kind, c.End = l.Origin, l.URL, l.VKey, l.Kind, config.Time{Time: l.End}
	if u, ok := r.cfg.URLs[l.Origin]; ok {
		c.URL = u
	}
	out := configuredLog(c)
	out.Begin = l.Begin
	if r.policy == nil {
		out.NoPolicy = true
		return out, nil
	}
	p, err := policyFor(r.policy, l.VKey)
	out.Policy = p
	return out, err
}

// policyFor returns the policy of a text, with the log's key among those that it lists: shards that are
// new are in no policy file yet, and have the same witnesses.
func policyFor(text []byte, vkey string) (*policy.Policy, error) {
	key, err := policy.ParseVKey(vkey)
	if err != nil {
		return nil, err
	}
	p, err := policy.Parse(text)
	if err != nil || slices.ContainsFunc(p.Logs(), func(l policy.LogLine) bool { return l.Key.Equal(key) }) {
		return p, err
	}
	return policy.Parse(bytes.Join([][]byte{[]byte("log " + vkey), text}, []byte("\n")))
}
