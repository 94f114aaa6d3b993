package web

import (
	"fmt"
	"html/template"
	"strings"

	"tallywood/monitor/rule"
)

// A guide is what people need to know of a rule: it makes the pages of alerts, the page of all rules
// and docs/monitor-rules.md.
type guide struct {
	headline string   // what happened, one sentence
	fires    string   // when it fires, to be read after "when"
	example  string   // one case, a sentence or two
	mine     []string // what to do if it was meant to be, or is harmless
	foreign  []string // what to do if it was not, in order
}

// guideOf returns the guide of a rule. One of a rule that this program does not know, in an alert of
// a newer one, says so.
func guideOf(id rule.ID) guide {
	for _, set := range []map[rule.ID]guide{logGuides, identityGuides, patternGuides, entryGuides} {
		if g, ok := set[id]; ok {
			return g
		}
	}
	return guide{headline: "A rule that this program does not know has fired.",
		mine:    []string{"Look at what the alert says."},
		foreign: []string{"Look at the evidence, and write the pages with the program that raised the alert."}}
}

// anchor returns the name of the section about a rule.
func anchor(id rule.ID) string { return strings.ReplaceAll(string(id), ".", "-") }

// aboutLogs reports whether a rule is about a log, its witnesses or trust material, and not about an
// identity: nobody can have been "me".
func aboutLogs(id rule.ID) bool {
	return strings.HasPrefix(string(id), "log.") || strings.HasPrefix(string(id), "witness.") || strings.HasPrefix(string(id), "tuf.") || strings.HasPrefix(string(id), "authorize.")
}

// modeText says when a rule is on.
func modeText(m rule.Mode) string {
	switch m {
	case rule.Core:
		return "always"
	case rule.Default:
		return "on"
	case rule.If:
		return "if expected"
	}
	return "when named"
}

// code returns a text of a guide as HTML: what is between backquotes is code.
func code(text string) template.HTML {
	var b strings.Builder
	for i, part := range strings.Split(text, "`") {
		if i%2 == 1 {
			b.WriteString("<code>" + template.HTMLEscapeString(part) + "</code>")
		} else {
			b.WriteString(template.HTMLEscapeString(part))
		}
	}
	return template.HTML(b.String())
}

// Markdown returns docs/monitor-rules.md: the catalogue, and what to do when a rule fires.
func Markdown() string {
	var b strings.Builder
	b.WriteString(rulesHead)
	b.WriteString("| rule | severity | on | fires when | for example |\n| --- | --- | --- | --- | --- |\n")
	for _, r := range rule.All() {
		g := guideOf(r.ID)
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s | %s | %s | %s |\n", r.ID, anchor(r.ID), r.Severity, modeText(r.Mode), g.fires, g.example)
	}
	b.WriteString(rulesMiddle)
	for _, r := range rule.All() {
		writeGuide(&b, r)
	}
	return b.String()
}

func writeGuide(b *strings.Builder, r rule.Rule) {
	g := guideOf(r.ID)
	mine, foreign := titles(r.ID)
	fmt.Fprintf(b, "\n<a id=\"%s\"></a>\n\n### `%s`\n\n%s", anchor(r.ID), r.ID, g.headline)
	if d := details[r.ID]; d != "" {
		fmt.Fprintf(b, " %s", d)
	}
	fmt.Fprintf(b, "\n\n%s:\n\n", mine)
	for _, s := range inOrder(g.mine) {
		fmt.Fprintf(b, "- %s\n", s)
	}
	fmt.Fprintf(b, "\n%s:\n\n", foreign)
	for i, s := range inOrder(g.foreign) {
		fmt.Fprintf(b, "%d. %s\n", i+1, s)
	}
}

const rulesHead = `# The rules, and what to do

What the [monitor](monitor.md) alerts of, and a runbook for each alert. This page is made from the program
("go test ./monitor/web -run RulesPage -update"); the pages that the monitor writes have the same.

Severity is the usual one. **On** says when a rule is: *always* is a result of verification and cannot be
switched off; *on* can be, with {off: true} under rules; *if expected* is silent until the configuration says
what to compare with; *when named* is off until rules of the identity, or of the whole configuration, name it. A project that behaves as it says hears nothing from the rules that are on.
Several rules that one entry breaks make one alert, of the highest severity, with all reasons. Numbers such as
1.14 are those of the certificate's extensions, below 1.3.6.1.4.1.57264.

`

const rulesMiddle = `
## What to do

Every alert names its evidence, a directory that was on disk before anybody was told. ` + "`tallywood show --evidence DIR`" + `
verifies it again, offline, and says what is in it. What a certificate says was chosen, in part, by whoever
asked for it: read it as a claim.

Exit codes of ` + "`tallywood monitor check`" + `: 3 for id.*, cert.*, entry.* and x.*, 4 for what a log or a witness
did, 5 for what could not be done; information alone is 0.
`

// Steps that several guides share.
const (
	keepEvidence = "Keep the evidence directory: it holds what the log has signed, which the log cannot take back, and anyone can verify it without you."
	stopTrusting = "Do not rely on anything new from this log until its operator has explained this; what was verified before stays verified."
	askOthers    = "Ask other monitors and the log's witnesses what they saw at this size, and send the log's operator the evidence."
	findRun      = "Find the run: the certificate's extensions below name workflow, commit and run. Compare them with what your forge shows."
	stopAccount  = "Stop it: end the sessions of the account, rotate its credentials, look at who may push, approve and run workflows."
	withdraw     = "Take back what was signed: its SHA-256 digest is on this page. Tell those who may have it not to accept it, although its signature verifies."
	lookForMore  = "Look for more: other entries of this identity around the same time, and other identities that the same account can use."
	widen        = "If this is how you release now, add it to `expect` of the identity, so that the next one is explained."
	justOnce     = "If it was this once, leave the configuration as it is, and say that the alert has been dealt with."
)

// lastSteps are those of them that come after all others, in their order.
var lastSteps = []string{widen, justOnce, stopAccount, withdraw, lookForMore, stopTrusting, askOthers}
