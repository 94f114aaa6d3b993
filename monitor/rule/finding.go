package rule

import (
	"fmt"
	"slices"
	"strings"
)

// A Finding is what one identity has to do with one entry. If several rules fire it is still one
// finding: Rule and Severity are those of the worst, Reasons are all.
type Finding struct {
	Rule     ID
	Severity Severity
	Reasons  []Reason // at least one, the worst first

	Identity string   // name of the identity
	Notify   []string // the identity's sinks, empty for all
	Subject  string   // the name or key that matched, as it is in the entry, clipped
	Expected []string // issuers that would have explained it
	Seen     string   // the issuer that is there, clipped; several are joined by ", "
}

// A Reason is one rule that fired.
type Reason struct {
	Rule     ID       `json:"rule"`
	Severity Severity `json:"severity"`
	Text     string   `json:"text"` // a sentence, safe to print

	// What was compared, if the rule compares: what would have explained the entry beside what is in
	// it, clipped.
	Field    string   `json:"field,omitempty"` // such as "issuer", "workflow", "ref"
	Expected []string `json:"expected,omitempty"`
	Seen     string   `json:"seen,omitempty"`
}

// A Match is an entry that concerns an identity. Its Finding holds what the entry alone tells: no
// reasons if that is as expected.
type Match struct {
	Finding
	Facts  Facts
	watch  *watch
	signer int // of the entry
}

// Summary returns the finding in one line, safe to print. Whose certificate it is, which most reasons
// begin with, is said once.
func (f Finding) Summary() string {
	whose := fmt.Sprintf("certificate for %q ", f.Subject)
	texts := make([]string, len(f.Reasons))
	for i, r := range f.Reasons {
		texts[i] = r.Text
		if i > 0 && strings.HasPrefix(texts[0], whose) {
			texts[i] = strings.TrimPrefix(r.Text, whose)
		}
	}
	return strings.Join(texts, "; ")
}

// add appends a reason, with the rule's usual severity unless it has a higher one, and keeps the
// worst first: rule and severity of the finding.
func (f *Finding) add(r Reason) {
	r.Severity = max(r.Severity, catalogue[r.Rule].Severity)
	f.Reasons = append(f.Reasons, r)
	slices.SortStableFunc(f.Reasons, func(a, b Reason) int { return int(b.Severity) - int(a.Severity) })
	f.Rule, f.Severity = f.Reasons[0].Rule, f.Reasons[0].Severity
}

// complete adds id.seen to a finding without reasons, if w wants to see it.
func (s *Set) complete(f *Finding, w *watch, e *Signer) {
	if len(f.Reasons) > 0 || !w.on(IDSeen) {
		return
	}
	text := fmt.Sprintf("key %q was used", f.Subject)
	switch {
	case e.Certificate != nil && f.Seen != "":
		text = fmt.Sprintf("certificate for %q from issuer %q", f.Subject, f.Seen)
	case e.Certificate != nil:
		text = fmt.Sprintf("certificate for %q, no issuer", f.Subject)
	}
	f.add(Reason{Rule: IDSeen, Text: text})
}

// Clip cuts text of a log entry to what fits an event: an entry may hold 64 kB of it, and events
// are kept in memory. The evidence has all of it.
func Clip(text string) string {
	const most = 512
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
