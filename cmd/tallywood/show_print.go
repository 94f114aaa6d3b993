package main

import (
	"fmt"
	"io"
	"strings"
	"time"

	"tallywood/monitor"
	"tallywood/monitor/rule"
)

// A column prints facts below each other: what they are on the left, and texts of any number of
// lines on the right.
type column struct{ w io.Writer }

func (c column) fact(name, text string) {
	if text == "" {
		return
	}
	fmt.Fprintf(c.w, "%-16s  %s\n", name, printable(text))
}

func (c column) time(name string, t time.Time) {
	if !t.IsZero() {
		c.fact(name, moment(t))
	}
}

func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func printInspection(w io.Writer, i *monitor.Inspection) {
	verdict := "verified"
	if !i.Verified {
		verdict = "NOT VERIFIED"
	}
	fmt.Fprintf(w, "%s: entry %d of %s\n\n", verdict, i.Index, printable(i.Origin))
	printStatement(w, i)
	fmt.Fprintln(w)
	printChecks(w, i.Checks)
}

// printStatement prints what an entry says: what was signed, by whom and when.
func printStatement(w io.Writer, i *monitor.Inspection) {
	c, s := column{w}, i.Statement
	c.fact("what", s.Form)
	c.fact("signed", s.Digest)
	c.fact("unreadable", s.Problem)
	for _, by := range s.Signers {
		printSigner(c, by)
	}
	if !s.Promised.IsZero() {
		c.fact("promised", moment(s.Promised)+", by the log")
	}
	c.time("not there yet", i.LoggedAfter)
	if !i.LoggedBefore.IsZero() {
		c.fact("logged", "before "+moment(i.LoggedBefore)+", when a witness saw it there")
	}
	for _, seen := range i.Cosignatures {
		c.fact("witness", fmt.Sprintf("%s, %s", seen.Witness, moment(seen.Time)))
	}
	c.fact("leaf hash", i.LeafHash)
}

func printSigner(c column, by monitor.SignerReport) {
	for _, n := range by.Names {
		c.fact("by", fmt.Sprintf("%s (%s)", n.Text, n.Name))
	}
	if len(by.Names) == 0 && by.Certificate != "" {
		c.fact("by", "nobody: the certificate has no name")
	}
	for _, issuer := range by.Issuers {
		c.fact("vouched for by", issuer)
	}
	for _, e := range by.Extensions {
		if e.Name != rule.ExtensionName(1) && e.Name != rule.ExtensionName(8) {
			c.fact("  "+e.Name, e.Text)
		}
	}
	c.fact("key", strings.TrimSpace(by.Key+" "+by.KeyHash))
	c.fact("certificate", by.Certificate)
	c.fact("  serial", by.Serial)
	c.fact("  issued by", by.Authority)
	for n, ca := range by.Chain {
		if n > 0 {
			c.fact("  under", ca)
		}
	}
	if !by.NotBefore.IsZero() {
		c.fact("  valid", moment(by.NotBefore)+" to "+moment(by.NotAfter))
	}
}

func printChecks(w io.Writer, checks []monitor.Check) {
	for _, check := range checks {
		mark := map[monitor.Outcome]string{monitor.OK: "ok", monitor.Failed: "FAILED", monitor.Skipped: "--"}[check.Result]
		fmt.Fprintf(w, "%-6s  %s: %s\n", mark, check.What, printable(check.Text))
	}
}

func printEvidence(w io.Writer, ev *monitor.Evidence) {
	verdict, e := "the evidence holds", ev.Event
	if !ev.Holds {
		verdict = "THE EVIDENCE DOES NOT HOLD"
	}
	fmt.Fprintf(w, "%s: %s, %s\n%s\n\n", verdict, e.Rule, e.Severity, printable(e.Summary))
	c := column{w}
	c.fact("identity", e.Identity)
	c.time("found", e.Time)
	c.fact("log", e.Origin)
	for _, r := range e.Reasons {
		c.fact(string(r.Rule), r.Text)
		if len(r.Expected) > 0 {
			c.fact("  expected", strings.Join(r.Expected, ", "))
			c.fact("  seen", orNone(r.Seen))
		}
	}
	if ev.Entry != nil {
		printStatement(w, ev.Entry)
		fmt.Fprintln(w)
		printChecks(w, ev.Entry.Checks)
	} else {
		fmt.Fprintln(w)
	}
	printChecks(w, ev.Checks)
}

func orNone(text string) string {
	if text == "" {
		return "none"
	}
	return text
}
