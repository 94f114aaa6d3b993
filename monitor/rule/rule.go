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
