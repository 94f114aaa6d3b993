package web

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"tallywood/monitor/rule"
)

// Status is status.json: how things stand, for programs.
type Status struct {
	Written    time.Time        `json:"written"`    // UTC; old: the monitor does not run
	State      string           `json:"state"`      // "starting", "fine", "action": somebody has to do something
	Needs      []string         `json:"needs"`      // what, one sentence each
	Identities []IdentityStatus `json:"identities"` // in the order of the configuration
	Logs       []LogStatus      `json:"logs"`       // likewise
	Alerts     []AlertStatus    `json:"alerts"`     // all that there are pages of, the newest first
	Dropped    int64            `json:"dropped"`    // alerts whose pages were removed to make room
	GivenUp    int64            `json:"given_up"`   // deliveries given up of what is of several logs or of none
}

// IdentityStatus is how an identity stands.
type IdentityStatus struct {
	Name         string    `json:"name"`
	Page         string    `json:"page"`
	Signatures   int64     `json:"signatures"`   // logged in the last 30 days
	Certificates int64     `json:"certificates"` // likewise
	Unexplained  int64     `json:"unexplained"`  // of both
	Last         time.Time `json:"last,omitzero"`
	Ref          string    `json:"ref,omitempty"` // branch or tag of the last one
}

// LogStatus is how a log stands.
type LogStatus struct {
	Origin     string    `json:"origin"`
	URL        string    `json:"url"`
	Page       string    `json:"page"`
	Size       int64     `json:"size"`
	Scanned    int64     `json:"scanned"`
	Cosigned   time.Time `json:"cosigned,omitzero"`
	Checked    time.Time `json:"checked,omitzero"`
	Error      string    `json:"error,omitempty"`
	GivenUp    int64     `json:"given_up"`
	Checkpoint string    `json:"checkpoint"` // file with the newest verified checkpoint
}

// AlertStatus is an alert in short; its page and JSON have all.
type AlertStatus struct {
	ID       string        `json:"id"`
	Time     time.Time     `json:"time"`
	Rule     rule.ID       `json:"rule"`
	Severity rule.Severity `json:"severity"`
	Identity string        `json:"identity,omitempty"`
	Origin   string        `json:"origin"`
	Index    int64         `json:"index"`
	Summary  string        `json:"summary"`
	Handled  bool          `json:"handled"`
	Page     string        `json:"page"`
}

// renderStatus writes status.json.
func (p *Pages) renderStatus(s *summary) error {
	out := Status{Written: s.now.UTC().Truncate(time.Second), State: "fine", Needs: []string{}, Identities: []IdentityStatus{}, Logs: []LogStatus{},
		Alerts: []AlertStatus{}, Dropped: p.dropped, GivenUp: p.rest.GivenUp}
	for _, n := range s.Needs {
		out.State = "action"
		out.Needs = append(out.Needs, n.Text)
	}
	if s.Starting {
		out.State = "starting"
	}
	for _, d := range s.identities {
		out.Identities = append(out.Identities, IdentityStatus{d.name, "identities/" + d.file, d.signatures, d.certificates, d.alerted, d.last.Time, d.last.Ref})
	}
	for _, v := range p.views {
		out.Logs = append(out.Logs, LogStatus{v.Origin, v.URL, "logs/" + fileName(v.Origin), v.Size, v.Scanned, v.Cosigned, v.Checked.UTC(), v.Err, v.GivenUp,
			"checkpoints/" + checkpointName(v.Origin)})
	}
	for _, a := range slices.Backward(p.alerts) {
		out.Alerts = append(out.Alerts, AlertStatus{a.ID, a.Time, a.Rule, a.Severity, a.Identity, a.Origin, a.Index, a.Summary, a.Handled, "alerts/" + a.ID + ".html"})
	}
	data, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return fmt.Errorf("rendering status: %w", err)
	}
	return p.tree.put("status.json", append(data, '\n'), false)
}
