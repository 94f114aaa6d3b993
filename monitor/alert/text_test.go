package alert_test

import (
	"strings"
	"testing"

	"tallywood/monitor/alert"
	"tallywood/monitor/rule"
)

// TestTextSaysHowToVerifyWhatCanBe: the evidence of an entry proves something, that of a log that did not
// answer does not.
func TestTextSaysHowToVerifyWhatCanBe(t *testing.T) {
	t.Parallel()
	const command = "\n  tallywood show --evidence evidence/x\n"
	for id, want := range map[rule.ID]bool{rule.IDSeen: true, rule.LogRollback: true, rule.LogStale: true, rule.LogUnreachable: false, rule.TUFLogAdded: false} {
		e := event(1)
		e.Rule = id
		text := alert.Plain(e)
		if strings.Contains(text, command) != want || !strings.Contains(text, "evidence/x") {
			t.Errorf("%s: %q", id, text)
		}
	}
}
