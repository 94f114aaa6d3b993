package rule

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Params is what a rule is told below rules. Each rule takes some of them, see [Rule].Params; the
// zero value of each stands for the rule's own default.
type Params struct {
	Off       bool          // switches a rule off that is on by default
	Max       int           // how many are still usual
	Window    time.Duration // in which they are counted, or a tolerance
	After     time.Duration // how long something must last, or must have been silent
	Grace     time.Duration // how long something may be late
	Allow     []string      // what is usual all the same: names that are looked alike and ours, key types
	Keys      []string      // hex SHA-256 of keys or certificates
	Witnesses []string      // names of witnesses
	File      string        // a file to compare with
	Hours     string        // "09:00-18:00"
	Days      []string      // mon to sun
	Zone      string        // of the hours, an IANA name; empty: UTC
}

// set returns the names of the parameters that are set, beside off.
func (p Params) set() []string {
	var names []string
	for name, is := range map[string]bool{
		"max": p.Max != 0, "window": p.Window != 0, "after": p.After != 0, "grace": p.Grace != 0,
		"allow": len(p.Allow) > 0, "keys": len(p.Keys) > 0, "witnesses": len(p.Witnesses) > 0,
		"file": p.File != "", "hours": p.Hours != "", "days": len(p.Days) > 0, "zone": p.Zone != "",
	} {
		if is {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// check says what is wrong with p as the parameters of rule id; perLog is whether it is named for
// all logs, or for an identity.
func (p Params) check(id ID, perLog bool) error {
	r, ok := Lookup(id)
	switch {
	case !ok:
		return fmt.Errorf("unknown rule %q", id)
	case r.PerLog && !perLog:
		return fmt.Errorf("rule %q is about logs: name it under the rules of the whole configuration", id)
	case r.Mode == Core:
		return fmt.Errorf("rule %q is always on", id)
	case p.Off && len(p.set()) > 0:
		return fmt.Errorf("rule %q is off, and has parameters", id)
	case p.Max < 0 || p.Window < 0 || p.After < 0 || p.Grace < 0:
		return fmt.Errorf("rule %q has a negative parameter", id)
	}
	var errs []error
	for _, name := range p.set() {
		if !slices.Contains(r.Params, name) {
			takes := "it takes none"
			if len(r.Params) > 0 {
				takes = "it takes " + strings.Join(r.Params, ", ")
			}
			errs = append(errs, fmt.Errorf("rule %q does not take %q; %s", id, name, takes))
		}
	}
	return errors.Join(errs...)
}

// CheckLogRules says what is wrong with the rules named for the whole configuration.
func CheckLogRules(named map[ID]Params) error {
	var errs []error
	for id, p := range named {
		errs = append(errs, p.check(id, true))
	}
	return errors.Join(errs...)
}
