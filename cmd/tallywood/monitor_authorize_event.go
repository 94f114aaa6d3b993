package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"

	"tallywood/internal/config"
	"tallywood/monitor"
	"tallywood/monitor/authorize"
)

// maxEvent bounds a file with an event, in bytes.
const maxEvent = 1 << 20

var eventID = regexp.MustCompile(`^[0-9a-f]{32}$`)

// addEvent adds what the alert that --event names is about: the digest, or else the run.
func (r *authorizeRun) addEvent() error {
	e, err := r.readEvent()
	if err != nil {
		return err
	}
	from := fmt.Sprintf("event %.8s, %s", e.ID, e.Rule)
	switch {
	case e.Digest != "":
		r.add(authorize.Digest, e.Digest, from)
	case e.RunURL != "":
		r.add(authorize.Run, e.RunURL, from)
	default:
		return hinted(exitUsage, fmt.Errorf("event %s (%s) has neither a digest nor a run, so that no statement can explain it", e.ID, e.Rule),
			"alerts about logs and witnesses are nobody's releases")
	}
	return nil
}

// readEvent reads the event, from a file, or by its ID from the evidence of the monitor.
func (r *authorizeRun) readEvent() (monitor.Event, error) {
	path := r.event
	if eventID.MatchString(r.event) {
		if r.config == "" {
			return monitor.Event{}, hinted(exitUsage, fmt.Errorf("--event %s is the ID of an event; --config FILE says which monitor raised it", r.event),
				"a file of that name is ./"+r.event)
		}
		cfg, err := config.LoadMonitor(r.config)
		if err != nil {
			return monitor.Event{}, usagef("%w", err)
		}
		path = filepath.Join(cfg.Evidence, r.event, "evidence.json")
		if _, err := os.Stat(path); err != nil {
			return monitor.Event{}, usagef("there is no evidence of event %s: %w", r.event, err)
		}
	} else if r.config != "" {
		return monitor.Event{}, usagef("--config is for an --event that is an ID: 32 hexadecimal digits")
	}
	data, err := readLimited("event", path, maxEvent)
	if err != nil {
		return monitor.Event{}, err
	}
	var e struct {
		monitor.Event
		Evidence json.RawMessage `json:"evidence"` // hides the event's
		Whole    *monitor.Event  `json:"event"`    // of evidence.json
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return monitor.Event{}, usagef("event %s: %w", path, errors.Join(errors.New("want one event as JSON: a line of a jsonl sink, the body of a webhook, or an evidence.json"), err))
	}
	if e.Whole != nil {
		e.Event = *e.Whole
	}
	if !eventID.MatchString(e.Event.ID) || e.Event.Rule == "" {
		return monitor.Event{}, usagef("event %s is JSON, and no event: it has no id and rule", path)
	}
	return e.Event, nil
}
