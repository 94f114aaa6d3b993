package web

import (
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
	return strings.HasPrefix(string(id), "log.") || strings.HasPrefix(string(id), "witness.") || strings.HasPrefix(string(id), "tuf.")
}

// modeText says when a rule is on.
func modeText(m rule.Mode) string {
	switch m {
	case rule.Core:
		return "always"
	case rule.Default:
		return "on"
	case rule.If:
		return "on where there is something to compare with"
	}
	return "when named"
}

// Steps that several guides share.
const (
	keepEvidence = "Keep the evidence directory: it holds what the log has signed, which the log cannot take back, and anyone can verify it without you."
	stopTrusting = "Do not rely on anything new from this log until its operator has explained this; what was verified before stays verified."
	askOthers    = "Ask other monitors and the log's witnesses what they saw at this size, and send the log's operator the evidence."
	findRun      = "Find the run: the certificate's extensions below name workflow, commit and run. Compare them with what your forge shows."
	stopAccount  = "Stop it: end the sessions of the account, rotate its credentials, look at who may push, approve and run workflows."
	withdraw     = "Take back what was signed: its SHA-256 digest is on this page. Tell those who may have it not to accept it, although its signature verifies."
	lookForMore  = "Look for more: other entries of this identity around the same time, and other identities that the same account can use."
	widen        = "If this is how you release now, add it to the expect of the identity, so that the next one is explained."
	authorizeIt  = "If it was one release and is not to become a habit, authorize that release alone."
)

// lastSteps are those of them that come after all others, in their order.
var lastSteps = []string{widen, authorizeIt, stopAccount, withdraw, lookForMore, stopTrusting, askOthers}
