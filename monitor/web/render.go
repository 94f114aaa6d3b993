package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"slices"
	"strings"
	"time"

	"tallywood/monitor/rule"
)

//go:embed templates
var files embed.FS

// The one style sheet and the one script are in each page, and allowed by their hashes alone.
var (
	style    = embedded("style.css")
	script   = embedded("stale.js")
	security = fmt.Sprintf("default-src 'none'; img-src data:; style-src '%s'; script-src '%s'; base-uri 'none'; form-action 'none'",
		sourceHash(style), sourceHash(script))
)

var pages = template.Must(template.New("").Funcs(template.FuncMap{
	"policy": func() string { return security },
	"style":  func() template.CSS { return template.CSS(style) },
	"script": func() template.JS { return template.JS(script) },
	"clock":  clock, "code": code, "stamp": stamp, "bytes": bytesText,
}).ParseFS(files, "templates/*.html"))

func embedded(name string) string {
	data, err := files.ReadFile("templates/" + name)
	if err != nil {
		panic(err) // it is compiled in
	}
	return strings.TrimSpace(string(data))
}

func sourceHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}

// A top is what all pages have.
type top struct {
	Title   string
	Root    string    // the way from the page to the directory of all
	Written time.Time // zero: the page does not depend on the time
	Alarm   bool
	Feed    bool
}

// write renders a page into a file.
func (p *Pages) write(name, page string, data any) error {
	var b bytes.Buffer
	if err := pages.ExecuteTemplate(&b, page, data); err != nil {
		return fmt.Errorf("rendering %s: %w", name, err)
	}
	return p.tree.put(name, b.Bytes(), false)
}

// render writes all pages that are not as they have to be. After an alert, which is urgent, those
// of everything else may wait for the next time.
func (p *Pages) render(now time.Time, urgent bool) error {
	handled, handledErr := p.handled()
	for _, a := range p.alerts {
		if key := p.vkey(a.Origin); a.Handled != handled[a.ID] || a.vkey != key {
			a.Handled, a.vkey, a.rendered = handled[a.ID], key, false
		}
	}
	shape := p.shapeOf(handledErr)
	since := now.Sub(p.written)
	if urgent && since < urgentEvery || shape == p.shape && since >= 0 && since < refreshEvery {
		return p.renderAlerts()
	}
	s := p.summary(now, handledErr)
	err := errors.Join(p.renderAlerts(), p.renderLists(s), p.renderDetails(s), p.renderStatus(s))
	if err == nil {
		p.written, p.shape = now, shape
	}
	return err
}

// shapeOf returns what tells whether the pages would say something new, apart from the time.
func (p *Pages) shapeOf(trouble error) string {
	var b strings.Builder
	for _, v := range p.views {
		fmt.Fprintln(&b, v.Origin, v.Size, v.Scanned, v.Cosigned.Unix(), v.Err, v.Checked.IsZero(), v.GivenUp, len(v.Waiting), len(v.Usage.Days))
	}
	for _, a := range p.alerts {
		fmt.Fprintln(&b, a.ID, a.Handled)
	}
	for _, t := range p.rest.Trust {
		fmt.Fprintln(&b, t.Name, t.Err)
	}
	for _, l := range p.rest.Late {
		fmt.Fprintln(&b, l.Sink, l.Since.Unix(), l.Events)
	}
	fmt.Fprintln(&b, p.views == nil, p.dropped, p.rest.GivenUp, trouble)
	return b.String()
}

// urgentEvery is how often an alert has all pages written at most.
const urgentEvery = 2 * time.Second

// renderAlerts writes the pages of alerts that are not there yet.
func (p *Pages) renderAlerts() error {
	for _, a := range p.alerts {
		if a.rendered {
			continue
		}
		e, err := p.event(a.ID)
		if err != nil {
			return err
		}
		d, err := p.alertData(e, a.Handled)
		if err != nil {
			return err
		}
		if err := p.write("alerts/"+a.ID+".html", "alert", d); err != nil {
			return err
		}
		a.rendered = true
	}
	return nil
}

// renderLists writes the pages that list things.
func (p *Pages) renderLists(s *summary) error {
	all := p.rows("alerts/", func(*alert) bool { return true })
	index := struct {
		top
		*summary
		Alerts  []row
		Dropped int64
	}{p.top("Am I fine?", "", s.now), s, all[:min(len(all), shownAlerts)], p.dropped}
	index.Alarm = len(s.Needs) > 0
	list := struct {
		top
		Alerts  []row
		Dropped int64
	}{p.top("All alerts", "", time.Time{}), all, p.dropped}
	rules := struct {
		top
		Rules []ruleData
	}{p.top("Rules", "", time.Time{}), allRules()}
	return errors.Join(p.write("index.html", "index", index), p.write("alerts.html", "alerts", list), p.write("rules.html", "rules", rules))
}

// shownAlerts is how many alerts the first page shows.
const shownAlerts = 10

func (p *Pages) top(title, root string, written time.Time) top {
	return top{Title: title, Root: root, Written: written, Feed: p.o.Feed != nil && len(p.alerts) > 0}
}

// A row is an alert in a list.
type row struct {
	Link     string // from where the pages of alerts are
	Severity rule.Severity
	Handled  bool
	Headline string
	Identity string
	Summary  string
	Time     time.Time
	Rule     string
}

// rows returns the alerts that are wanted, the newest first, with prefix before their links.
func (p *Pages) rows(prefix string, want func(*alert) bool) []row {
	var out []row
	for _, a := range slices.Backward(p.alerts) {
		if want(a) {
			out = append(out, row{Link: prefix + a.ID + ".html", Severity: a.Severity, Handled: a.Handled, Headline: guideOf(a.Rule).headline,
				Identity: visible(a.Identity), Summary: visible(a.Summary), Time: a.Time, Rule: visible(string(a.Rule))})
		}
	}
	return out
}

// ruleData is a rule as the page of rules shows it.
type ruleData struct {
	ID                               rule.ID
	Anchor                           string
	Severity                         rule.Severity
	Mode                             string
	Headline, Fires, Example, Detail string
	MineTitle, ForeignTitle          string
	Mine, Foreign                    []string
}

func allRules() []ruleData {
	var out []ruleData
	for _, r := range rule.All() {
		g := guideOf(r.ID)
		mine, foreign := titles(r.ID)
		out = append(out, ruleData{r.ID, anchor(r.ID), r.Severity, modeText(r.Mode), g.headline, g.fires, g.example, details[r.ID], mine, foreign, inOrder(g.mine), inOrder(g.foreign)})
	}
	return out
}

// titles returns what stands over the two lists of a guide.
func titles(id rule.ID) (mine, foreign string) {
	if aboutLogs(id) {
		return "What may explain it", "What to do"
	}
	return "This was me", "This was not me"
}

// renderDetails writes the pages of identities and logs, and the checkpoints, and removes those of
// what is not there any more.
func (p *Pages) renderDetails(s *summary) error {
	identities, logs, checkpoints := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var errs []error
	for _, d := range s.identities {
		d.Alerts = p.rows("../alerts/", func(a *alert) bool { return a.Identity == d.name })
		d.top = p.top(d.Name, "../", time.Time{})
		identities[d.file] = true
		errs = append(errs, p.write("identities/"+d.file, "identity", d))
	}
	for _, d := range s.logs {
		d.Alerts = p.rows("../alerts/", func(a *alert) bool { return a.Origin == d.Origin && a.Identity == "" })
		d.top = p.top(d.Origin, "../", time.Time{})
		logs[d.file] = true
		errs = append(errs, p.write("logs/"+d.file, "log", d))
	}
	for _, v := range p.views {
		note := v.Checkpoint.Note()
		if len(note) == 0 {
			continue
		}
		name := checkpointName(v.Origin)
		checkpoints[name] = true
		errs = append(errs, p.tree.put("checkpoints/"+name, note, false))
	}
	if p.views != nil { // else nothing is known yet
		errs = append(errs, p.tree.keepOnly("identities", identities), p.tree.keepOnly("logs", logs), p.tree.keepOnly("checkpoints", checkpoints))
	}
	return errors.Join(errs...)
}

// checkpointName is how other monitors find a log's checkpoint.
func checkpointName(origin string) string {
	sum := sha256.Sum256([]byte(origin))
	return hex.EncodeToString(sum[:])
}
