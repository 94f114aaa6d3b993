package rule

import (
	"errors"
	"fmt"
	"maps"
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

// What parameters may be at most: multiples and sums of them are still numbers.
const (
	mostUsual   = 1_000_000_000
	longestSpan = 100 * 365 * 24 * time.Hour
)

// check says what is wrong with p as the parameters of rule id; perLog is whether it is named for
// all logs, or for an identity.
func (p Params) check(id ID, perLog bool) error {
	r, ok := Lookup(id)
	switch {
	case !ok:
		if near := nearest(string(id)); near != "" {
			return fmt.Errorf("unknown rule %q; is %q meant?", id, near)
		}
		return fmt.Errorf("unknown rule %q", id)
	case r.PerLog && !perLog:
		return fmt.Errorf("rule %q is about logs: name it under the rules of the whole configuration", id)
	case r.Mode == Core:
		return fmt.Errorf("rule %q is always on", id)
	case p.Off && len(p.set()) > 0:
		return fmt.Errorf("rule %q is off, and has parameters", id)
	case p.Max < 0 || p.Window < 0 || p.After < 0 || p.Grace < 0:
		return fmt.Errorf("rule %q has a negative parameter", id)
	case p.Max > mostUsual:
		return fmt.Errorf("rule %q: max %d is more than %d", id, p.Max, mostUsual)
	case max(p.Window, p.After, p.Grace) > longestSpan:
		return fmt.Errorf("rule %q: %s is longer than %s", id, max(p.Window, p.After, p.Grace), longestSpan)
	}
	errs := []error{p.checkValues(r)}
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

// checkValues says what is wrong with the values of parameters, or is missing.
func (p Params) checkValues(r Rule) error {
	var errs []error
	switch {
	case p.Off:
	case r.ID == IDFingerprintUsed && len(p.Keys) == 0:
		errs = append(errs, errors.New("keys is missing: the SHA-256 of each retired key or certificate, in hex"))
	case r.ID == EntryWeakKey:
		errs = append(errs, checkKeyTypes(p.Allow))
	}
	for _, k := range p.Keys {
		_, err := parseFingerprint(k)
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("rule %q: %w", r.ID, err)
	}
	return nil
}

// CheckRules says what is wrong with the rules named for the whole configuration.
func CheckRules(named map[ID]Params) error {
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(named)) {
		errs = append(errs, named[id].check(id, true))
	}
	return errors.Join(errs...)
}

// nearest returns the name of the rule that is likely meant by a word that is none; empty: no idea.
func nearest(word string) string {
	best, least := "", len(word)/2
	for _, r := range rules {
		name := string(r.ID)
		d := distance([]rune(word), []rune(name))
		if _, bare, _ := strings.Cut(name, "."); bare == word {
			d = 0 // without the part before the dot
		}
		if d < least {
			best, least = name, d
		}
	}
	return best
}
