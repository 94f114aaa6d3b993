package main

import (
	"bytes"
	"strings"
	"testing"
	"unicode"

	"tallywood/monitor"
)

// TestShowPrintsHostileTextsSafely: what was logged cannot make up a line of the output, or have a
// terminal do anything.
func TestShowPrintsHostileTextsSafely(t *testing.T) {
	const hostile = "x\nverified: entry 9 of evil\x1b[2J\u202egnp.exe\u2028\x00"
	i := &monitor.Inspection{Origin: hostile, Checks: []monitor.Check{{What: "signature", Result: monitor.Failed, Text: hostile}},
		Statement: monitor.Statement{Form: hostile, Problem: hostile, Signers: []monitor.SignerReport{{
			Names: []monitor.NamedText{{Name: "URI", Text: hostile}}, Issuers: []string{hostile}, Authority: hostile,
			Extensions: []monitor.NamedText{{Name: "run", Text: hostile}}, Chain: []string{hostile, hostile}}}}}
	ev := &monitor.Evidence{Entry: i, Checks: i.Checks,
		Event: monitor.Event{Summary: hostile, Identity: hostile, Origin: hostile}}
	var out bytes.Buffer
	printInspection(&out, i)
	printEvidence(&out, ev)
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "verified") {
			t.Errorf("an entry made up the line %q", line)
		}
		if strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) {
			t.Errorf("a terminal would act on %q", line)
		}
	}
	if n := strings.Count(out.String(), "NOT VERIFIED"); n != 1 {
		t.Errorf("the verdict is there %d times", n)
	}
}
