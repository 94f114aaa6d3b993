// Package rule says what a monitor reports: the catalogue of rules with their severities and exit
// classes, and the judgement of one decoded log entry against the identities that are watched.
//
// In go identities, once, and then entries: certificates in any state of repair, keys, raw bytes.
// Out come findings. The package is pure: no clock, no I/O, no state between two entries.
//
// Nothing here proves that an entry is in a log; the caller reports a finding only once it has
// bound the entry to a verified root.
package rule

import "fmt"

// An ID names a rule. The set is closed; [Lookup] knows all of it.
type ID string

// The rules. Those with a log or witness prefix are raised by the tailing itself.
const (
	LogSplitView      ID = "log.split-view"       // two validly signed checkpoints that cannot both be true
	LogRollback       ID = "log.rollback"         // the signed size shrank
	LogInconsistent   ID = "log.inconsistent"     // the hash tiles do not make the signed root
	LogBadSignature   ID = "log.bad-signature"    // a checkpoint that does not verify
	LogBundleMismatch ID = "log.bundle-mismatch"  // entry bytes do not hash into the tree
	LogKeyChange      ID = "log.key-change"       // signed under the log's name by another key
	QuorumLost        ID = "witness.quorum-lost"  // too few cosignatures for the policy
	LogMalformedEntry ID = "log.malformed-entry"  // an entry that cannot be parsed
	LogUnreachable    ID = "log.unreachable"      // fetching has failed for a while
	LogStale          ID = "log.stale"            // the newest cosignature is too old
	IDSeen            ID = "id.seen"              // a watched identity, explained
	IDUnexpected      ID = "id.unexpected-issuer" // a watched identity, certified for another issuer
	IDNoIssuer        ID = "id.no-issuer"         // a watched identity that no issuer vouches for
	IDUnknownCA       ID = "id.unknown-ca"        // a watched identity from a CA that is not pinned
)

// A Severity orders findings.
type Severity int

// The severities, the least first.
const (
	Info Severity = iota
	Warning
	Critical
)

var severityNames = [...]string{"info", "warning", "critical"}

// String returns "info", "warning" or "critical".
func (s Severity) String() string {
	if s < Info || s > Critical {
		return fmt.Sprintf("severity %d", int(s))
	}
	return severityNames[s]
}

// MarshalText writes the word that String returns.
func (s Severity) MarshalText() ([]byte, error) {
	if s < Info || s > Critical {
		return nil, fmt.Errorf("marshaling unknown severity %d", int(s))
	}
	return []byte(severityNames[s]), nil
}

// UnmarshalText reads what MarshalText writes.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, name := range severityNames {
		if name == string(text) {
			*s = Severity(i)
			return nil
		}
	}
	return fmt.Errorf("%q is none of info, warning, critical", text)
}

// A Class says what kind of trouble a run has met. Its value is the exit code of `monitor check`.
type Class int

// The classes. Clean covers findings that are for information only.
const (
	Clean         Class = 0
	IdentityAlert Class = 3 // an identity alert: warning or critical
	Misbehaved    Class = 4 // a log or its witnesses broke a promise
	Operational   Class = 5 // unreachable, stale, behind, undelivered
)

// Worse returns the class that is reported when both a and b hold: the first of Misbehaved,
// IdentityAlert, Operational that applies.
func Worse(a, b Class) Class {
	for _, c := range []Class{Misbehaved, IdentityAlert, Operational} {
		if a == c || b == c {
			return c
		}
	}
	return Clean
}

// A Rule is one line of the catalogue.
type Rule struct {
	ID       ID
	Severity Severity // the usual one; a finding may carry a higher one
	Class    Class    // of a finding that is more than information
	OptIn    bool     // silent unless an identity names it, see [Identity].Rules
}

var catalogue = map[ID]Rule{
	LogSplitView:      {LogSplitView, Critical, Misbehaved, false},
	LogRollback:       {LogRollback, Critical, Misbehaved, false},
	LogInconsistent:   {LogInconsistent, Critical, Misbehaved, false},
	LogBadSignature:   {LogBadSignature, Critical, Misbehaved, false},
	LogBundleMismatch: {LogBundleMismatch, Critical, Misbehaved, false},
	LogKeyChange:      {LogKeyChange, Critical, Misbehaved, false},
	QuorumLost:        {QuorumLost, Critical, Misbehaved, false},
	LogMalformedEntry: {LogMalformedEntry, Info, IdentityAlert, false},
	LogUnreachable:    {LogUnreachable, Warning, Operational, false},
	LogStale:          {LogStale, Warning, Operational, false},
	IDSeen:            {IDSeen, Info, IdentityAlert, true},
	IDUnexpected:      {IDUnexpected, Critical, IdentityAlert, false},
	IDNoIssuer:        {IDNoIssuer, Critical, IdentityAlert, false},
	IDUnknownCA:       {IDUnknownCA, Critical, IdentityAlert, false},
}

// Lookup returns the catalogue's line for id, and whether there is one.
func Lookup(id ID) (Rule, bool) {
	r, ok := catalogue[id]
	return r, ok
}

// ClassOf returns the class of a finding of rule id with severity s: Clean if it is for
// information only.
func ClassOf(id ID, s Severity) Class {
	if s == Info {
		return Clean
	}
	return catalogue[id].Class
}
