package bastion

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// A Status is how a bastion does.
type Status struct {
	Address  string    // host:port
	Prefix   string    // URL at which clients reach the handler, without a slash at the end
	KeyHash  string    // of our key, which its operator has to allow
	Up       bool      // it uses the connection
	Since    time.Time // when Up last changed
	Err      error     // why it is not up; nil while it is, and before the first try has ended
	Connects int64     // connections that it has used
	Failures int64     // connections that could not be made, or ended by themselves
	Requests int64
}

// Status returns how the bastions do, in the order of the configuration.
func (c *Client) Status() []Status {
	var out []Status
	for _, l := range c.current() {
		out = append(out, l.status())
	}
	return out
}

func (l *link) status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Status{
		Address: l.bastion.Address, Prefix: l.bastion.Prefix(), KeyHash: l.bastion.KeyHash(),
		Up: l.up, Since: l.since, Err: l.err, Connects: l.connects, Failures: l.failures, Requests: l.requests.Load(),
	}
}

// WriteMetrics writes how the bastions do in the text format of Prometheus. The only label is the
// address of a bastion that is configured. Without bastions it writes nothing.
func (c *Client) WriteMetrics(out io.Writer) {
	all := c.Status()
	if len(all) == 0 {
		return
	}
	var b strings.Builder
	for _, m := range []struct {
		name, kind, help string
		value            func(Status) float64
	}{
		{"up", "gauge", "1 if the bastion uses our connection to it.", func(s Status) float64 { return map[bool]float64{true: 1}[s.Up] }},
		{"changed_timestamp_seconds", "gauge", "When the connection was last made or lost.", func(s Status) float64 { return float64(s.Since.Unix()) }},
		{"connects_total", "counter", "Connections that the bastion has used.", func(s Status) float64 { return float64(s.Connects) }},
		{"failures_total", "counter", "Connections that could not be made, or ended by themselves.", func(s Status) float64 { return float64(s.Failures) }},
		{"requests_total", "counter", "Requests that came through the bastion.", func(s Status) float64 { return float64(s.Requests) }},
	} {
		fmt.Fprintf(&b, "# HELP tallywood_witness_bastion_%s %s\n# TYPE tallywood_witness_bastion_%s %s\n", m.name, m.help, m.name, m.kind)
		for _, s := range all {
			fmt.Fprintf(&b, "tallywood_witness_bastion_%s{bastion=%q} %.0f\n", m.name, s.Address, m.value(s))
		}
	}
	_, _ = io.WriteString(out, b.String()) // the scraper is gone; nobody to tell
}
