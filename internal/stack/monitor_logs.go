package stack

import (
	"errors"
	"fmt"
	"os"
	"time"

	"tallywood/internal/config"
	"tallywood/monitor"
	"tallywood/witness/policy"
)

// monitorLogs returns the logs that a configuration names one by one.
func monitorLogs(m *config.Monitor) ([]monitor.Log, error) {
	var logs []monitor.Log
	var errs []error
	for _, l := range m.Logs {
		if l.Listed() {
			continue
		}
		ml := configuredLog(l)
		if l.Policy == "none" {
			ml.NoPolicy = true
		} else {
			text, err := os.ReadFile(l.Policy)
			if err == nil {
				ml.Policy, err = policy.Parse(text)
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("log %q: policy %s: %w", l.Origin, l.Policy, err))
			}
		}
		logs = append(logs, ml)
	}
	return logs, errors.Join(errs...)
}

// configuredLog returns a log as a monitor takes it, but for its policy.
func configuredLog(l config.MonitorLog) monitor.Log {
	ml := monitor.Log{Origin: l.Origin, URL: l.URL, Kind: monitor.Kind(l.Kind), VKey: l.VKey, End: l.End.Time,
		Start: l.Start.Index, StartTime: l.Start.Time,
		Freshness: monitor.Freshness{Warn: time.Duration(l.Freshness.Warn), Critical: time.Duration(l.Freshness.Critical)}}
	for _, w := range l.Witnesses {
		ml.Onlookers = append(ml.Onlookers, monitor.Onlooker{Name: w.Name, URL: w.URL, Witness: true})
	}
	if l.Start.Head {
		ml.Start = monitor.StartAtHead
	}
	return ml
}
