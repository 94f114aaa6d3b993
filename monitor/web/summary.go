package web

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// days is how far back the sentences about identities go.
const days = 30

// A summary is how things stand: what the first page and status.json show, and what is behind it.
type summary struct {
	now        time.Time
	Starting   bool
	Needs      []need // what somebody has to do something about
	Fine       string // what is said when there is nothing
	Trouble    string // about the pages themselves
	Identities []identityRow
	Logs       []logRow
	Failures   []failureRow // deliveries given up of what is of no single log
	identities []*identityData
	logs       []*logData
}

// A need is one thing that somebody has to do something about.
type need struct{ Text, Detail, Link string }

type identityRow struct{ Name, Watches, Link, Sentence, Class string }

type logRow struct{ Origin, Link, Size, Age, State, Class string }

// summary looks at everything.
func (p *Pages) summary(now time.Time, trouble error) *summary {
	s := &summary{now: now, Starting: p.views == nil}
	if trouble != nil {
		s.Trouble = visible(trouble.Error())
	}
	for _, v := range p.views {
		d := newLogData(v, now)
		s.logs = append(s.logs, d)
		s.Logs = append(s.Logs, logRow{d.Origin, "logs/" + d.file, d.Size, d.age, d.State, d.Class})
	}
	for _, id := range p.o.Identities {
		d := p.identityData(id, now)
		s.identities = append(s.identities, d)
		s.Identities = append(s.Identities, identityRow{d.Name, d.Watches, "identities/" + d.file, d.Sentence, d.Class})
	}
	for _, f := range p.rest.Failures {
		row := failureRow{"", visible(f.Event.Summary), visible(f.Sink), visible(f.Error)}
		if slices.ContainsFunc(p.alerts, func(a *alert) bool { return a.ID == f.Event.ID }) {
			row.Link = "alerts/" + f.Event.ID + ".html"
		}
		s.Failures = append(s.Failures, row)
	}
	s.Needs = p.needs(s, now)
	s.Fine = s.fine()
	return s
}

// shownNeeds is how many alerts are listed as needing somebody.
const shownNeeds = 10

// needs lists what somebody has to do something about, the gravest first.
func (p *Pages) needs(s *summary, now time.Time) []need {
	var open []*alert
	for _, a := range slices.Backward(p.alerts) {
		if a.needs(now) {
			open = append(open, a)
		}
	}
	slices.SortStableFunc(open, func(a, b *alert) int { return int(b.Severity) - int(a.Severity) })
	var out []need
	for i, a := range open {
		if i == shownNeeds {
			out = append(out, need{Text: fmt.Sprintf("and %d more alerts", len(open)-i), Link: "alerts.html"})
			break
		}
		about := a.Origin
		if a.Identity != "" {
			about = a.Identity
		}
		out = append(out, need{Text: guideOf(a.Rule).headline, Detail: visible(about) + ", " + clock(a.Time), Link: "alerts/" + a.ID + ".html"})
	}
	for _, d := range s.logs {
		if d.Err != "" {
			out = append(out, need{Text: d.Origin + " was not found in order the last time.", Detail: d.Err, Link: "logs/" + d.file})
		}
		if d.givenUp > 0 {
			out = append(out, need{Text: count(d.givenUp, "delivery was", "deliveries were") + " given up: alerts about " + d.Origin + ".", Link: "logs/" + d.file})
		}
	}
	for _, t := range p.rest.Trust {
		if t.Err != "" {
			out = append(out, need{Text: "The trust material " + visible(t.Name) + " was not read the last time.", Detail: visible(t.Err)})
		}
	}
	for _, l := range p.rest.Late {
		out = append(out, need{Text: count(int64(l.Events), "alert has", "alerts have") + " not reached the sink " + visible(l.Sink) + " since " + clock(l.Since) + ".",
			Detail: "It is tried again for three days. The last time: " + visible(l.Error)})
	}
	if n := p.rest.GivenUp; n > 0 {
		out = append(out, need{Text: count(n, "delivery was", "deliveries were") + " given up: alerts about several logs, or about trust material.", Link: "#given-up"})
	}
	return out
}

// fine is what is said when nothing needs anybody.
func (s *summary) fine() string {
	switch {
	case len(s.identities) == 0:
		return fmt.Sprintf("%s in order. No identity is watched.", are(len(s.logs), "log"))
	default:
		return fmt.Sprintf("%s in order, and nothing unexplained was found for %s.", are(len(s.logs), "log"), plural(len(s.identities), "identity", "identities"))
	}
}

func are(n int, what string) string {
	switch n {
	case 1:
		return "The " + what + " is"
	case 2:
		return "Both " + what + "s are"
	}
	return fmt.Sprintf("All %d %ss are", n, what)
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "the " + one
	}
	return fmt.Sprintf("the %d %s", n, many)
}

// identityData is what the page of an identity shows.
type identityData struct {
	top
	name, file string
	Name       string
	Watches    string
	Sentence   string
	Class      string
	Chart      chart
	Expects    []Expect
	Rules      []ruleLink
	Last       []useRow
	Waiting    []waitingRow
	Alerts     []row

	signatures, certificates, alerted int64 // in the last days
	last                              monitor.Use
}

type ruleLink struct{ ID, Anchor string }

type waitingRow struct{ Summary, Due string }

type useRow struct{ Origin, Link, Index, Ref, Time string }

func (p *Pages) identityData(id Identity, now time.Time) *identityData {
	d := &identityData{name: id.Name, file: fileName(id.Name), Name: visible(id.Name), Watches: visible(id.Watches), Expects: id.Expects}
	for _, r := range id.Rules {
		d.Rules = append(d.Rules, ruleLink{r, anchor(rule.ID(r))})
	}
	perDay := map[string]*bar{}
	for _, v := range p.views {
		for _, w := range v.Waiting {
			if w.Event.Identity == id.Name {
				d.Waiting = append(d.Waiting, waitingRow{visible(w.Event.Summary), clock(w.Due)})
			}
		}
		use, ok := v.Usage.Last[id.Name]
		if !ok {
			continue
		}
		d.addLog(v, use)
		d.addDays(v, id.Name, now, perDay)
	}
	open := slices.ContainsFunc(p.alerts, func(a *alert) bool { return a.Identity == id.Name && a.needs(now) })
	d.sentence(len(id.Expects) > 0, open, now)
	d.Chart = newChart(perDay, now, "entries")
	return d
}

// addLog takes in the newest use in one log.
func (d *identityData) addLog(v monitor.View, use monitor.Use) {
	when := "before this monitor began to watch"
	if !use.Time.IsZero() {
		when = clock(use.Time)
	}
	d.Last = append(d.Last, useRow{visible(v.Origin), "../logs/" + fileName(v.Origin), thousands(use.Index), visible(version(use.Ref)), when})
	if d.last.Time.IsZero() || use.Time.After(d.last.Time) {
		d.last = use
	}
}

// addDays counts the entries of one log by day.
func (d *identityData) addDays(v monitor.View, name string, now time.Time, perDay map[string]*bar) {
	since := now.UTC().AddDate(0, 0, 1-days).Format(time.DateOnly)
	for _, day := range v.Usage.Days {
		if day.Date < since {
			continue
		}
		if perDay[day.Date] == nil {
			perDay[day.Date] = &bar{}
		}
		perDay[day.Date].n += day.Used[name]
		perDay[day.Date].alerted += day.Alerted[name]
		d.alerted += day.Alerted[name]
		if v.Kind == monitor.KindCT {
			d.certificates += day.Used[name]
		} else {
			d.signatures += day.Used[name]
		}
	}
}

// sentence says in one line how the identity stands.
func (d *identityData) sentence(expects, open bool, now time.Time) {
	var parts []string
	if d.signatures > 0 {
		parts = append(parts, count(d.signatures, "signature", "signatures"))
	}
	if d.certificates > 0 {
		parts = append(parts, count(d.certificates, "certificate", "certificates"))
	}
	text := "Not used"
	if len(parts) > 0 {
		text = strings.Join(parts, " and ")
	}
	text += fmt.Sprintf(" in %d days", days)
	switch {
	case len(parts) == 0:
	case d.alerted > 0:
		text += ", " + thousands(d.alerted) + " unexplained"
	case len(d.Waiting) > 0:
		text += ", " + thousands(int64(len(d.Waiting))) + " of them waiting for what explains it"
	case !expects:
		text += "; nothing is expected, so nothing is explained"
	default:
		text += ", all explained"
	}
	switch {
	case len(d.Last) == 0:
		text += "; never seen"
	case d.last.Time.IsZero():
		text += "; last " + strings.TrimSpace(visible(version(d.last.Ref))+" before this monitor began to watch")
	default:
		text += "; last " + strings.TrimPrefix(visible(version(d.last.Ref))+", ", ", ") + ago(now, d.last.Time)
	}
	d.Sentence = text + "."
	if open {
		d.Sentence += " An alert waits for you."
	}
	switch {
	case open:
		d.Class = "bad"
	case !expects:
		d.Class = "soft"
	default:
		d.Class = "good"
	}
}

// A fact is a line of a list of facts.
type fact struct {
	Name, Value, Note, Link string
	Code                    bool
}

// link returns text as a link if it is an http or https URL, which is for URLs of the
// configuration alone.
func link(text string) string {
	if u, err := url.Parse(text); err == nil && (u.Scheme == "http" || u.Scheme == "https") {
		return text
	}
	return ""
}
