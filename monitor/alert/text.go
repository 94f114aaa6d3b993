package alert

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

const (
	maxListed = 20  // members of a group that a message lists; the others are counted
	maxLine   = 240 // bytes of what is said of each
)

// aboutPage is what there is on the page of an event.
const aboutPage = "What it means, and what to do"

// A Fact is one line of what is known about an event.
type Fact struct{ Name, Value string }

// title returns an event in a few words that are ours or the configuration's, not the log's.
func title(e monitor.Event) string {
	var b strings.Builder
	if e.Test {
		b.WriteString("TEST ")
	}
	fmt.Fprintf(&b, "[%s] ", e.Severity)
	if e.Count > 0 {
		fmt.Fprintf(&b, "%d events, the gravest ", e.Count)
	}
	b.WriteString(string(e.Rule))
	if e.Identity != "" {
		b.WriteString(": " + e.Identity)
	}
	if e.Origin != "" {
		b.WriteString(" (" + e.Origin + ")")
	}
	return oneLine(b.String())
}

// facts returns what an event says, in the order in which a person wants it, without what it does
// not say.
func facts(e monitor.Event) []Fact {
	var all []Fact
	add := func(name, value string) {
		if value != "" {
			all = append(all, Fact{name, oneLine(value)})
		}
	}
	add("Rule", fmt.Sprintf("%s (%s)", e.Rule, e.Severity))
	add("Identity", e.Identity)
	if e.Count > 0 {
		add("Events", fmt.Sprint(e.Count))
		add("Log", e.Origin)
		return all
	}
	compared, issuer := false, false
	for _, r := range e.Reasons {
		if r.Field != "" {
			compared, issuer = true, issuer || r.Field == "issuer"
			add("Expected "+r.Field, strings.Join(r.Expected, " or "))
			add("Seen "+r.Field, orNone(r.Seen))
		}
	}
	switch {
	case !compared && len(e.Expected) > 0:
		add("Expected issuer", strings.Join(e.Expected, " or "))
		add("Seen issuer", orNone(e.Issuer))
	case !issuer:
		add("Issuer", e.Issuer)
	}
	add("Subject", e.Subject)
	add("Log", e.Origin)
	if e.Index != monitor.NoIndex {
		add("Entry", fmt.Sprint(e.Index))
	}
	if !e.LoggedBefore.IsZero() {
		logged := "before " + stamp(e.LoggedBefore)
		if !e.LoggedAfter.IsZero() {
			logged = "between " + stamp(e.LoggedAfter) + " and " + stamp(e.LoggedBefore)
		}
		add("Logged", logged)
	}
	add("Digest", e.Digest)
	add("Certificate", e.Certificate)
	add("Run", e.RunURL)
	add("Found", stamp(e.Time))
	add("Evidence", e.Evidence)
	add("Event", e.ID)
	return all
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}

func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// listed returns the members of a group that a message lists, one line each, and how many more
// there are.
func listed(e monitor.Event) (lines []string, more int) {
	for _, m := range e.Group[:min(len(e.Group), maxListed)] {
		lines = append(lines, clip(maxLine, oneLine(fmt.Sprintf("%s %s %s: %s", stamp(m.Time), m.Severity, m.Rule, m.Summary))))
	}
	return lines, max(0, e.Count-len(lines))
}

// plain returns an event as the text of a message.
func plain(e monitor.Event) string {
	var b strings.Builder
	if e.Test {
		b.WriteString("This is a test of the way to you. Nothing has happened.\n\n")
	}
	b.WriteString(oneLine(e.Summary) + "\n\n")
	if e.Page != "" {
		b.WriteString(aboutPage + ": " + oneLine(e.Page) + "\n\n")
	}
	for _, f := range facts(e) {
		fmt.Fprintf(&b, "%-20s %s\n", f.Name+":", f.Value)
	}
	if e.Evidence != "" && provable(e) {
		fmt.Fprintf(&b, "\nTo verify it again, where the monitor runs:\n  tallywood show --evidence %s\n", oneLine(e.Evidence))
	}
	lines, more := listed(e)
	if len(lines) > 0 {
		b.WriteString("\n")
	}
	for _, l := range lines {
		b.WriteString("- " + l + "\n")
	}
	if more > 0 {
		fmt.Fprintf(&b, "and %d more\n", more)
	}
	return b.String()
}

// provable reports whether there is something to verify in the evidence of an event: that of an observation
// is the monitor's word.
func provable(e monitor.Event) bool {
	switch e.Rule {
	case rule.LogUnreachable, rule.LogBehind, rule.AuthorizeUnusable, rule.WitnessMissing, rule.IDMissing,
		rule.TUFRootChanged, rule.TUFLogAdded, rule.TUFLogRemoved, rule.TUFExpiring:
		return false
	}
	return true
}

// oneLine returns text without what could begin another line, a terminal's sequence or another
// direction of writing: events have passed through files and other programs' hands.
func oneLine(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\r' || r == '\t' || r == '\u2028' || r == '\u2029':
			return ' '
		case r < ' ' || r >= 0x7f && r < 0xa0 || r == utf8.RuneError:
			return '\ufffd'
		case r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069' || r == '\u200e' || r == '\u200f':
			return '\ufffd'
		}
		return r
	}, text)
}

// clip cuts text after so many bytes, and says so by its end.
func clip(most int, text string) string {
	if len(text) <= most {
		return text
	}
	const end = "…"
	cut := max(0, most-len(end))
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + end
}
